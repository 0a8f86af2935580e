"""Trains main.default.digits on the 8 x 8 images of handwritten digits that ship with scikit-learn.

Version 1 is a small convolutional network of PyTorch, version 2 the same network in int8, by onnxruntime's static quantiser
(QDQ, a scale for each channel). 64 pixels go in, a score for each of the ten digits comes out; the largest one is the answer.
"""

import json
import sys
import tempfile
import uuid
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pandas
import torch
import yaml
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from export import GOLDEN_ROWS, IR_VERSION, Column, doubles, split, tensor, write_json  # noqa: E402

HERE = Path(__file__).resolve().parent
NAME = "main.default.digits"
OUTPUT = "scores"
SCORES = [Column(f"score_{digit}", "float") for digit in range(10)]
EPOCHS = 40
# The scores of the network are of the order of 10; float32 sums of some hundred products are this close.
ATOL = 1e-4


class Network(nn.Module):
    """Convolutions of each kind: over all channels, over each channel alone, over single pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1, groups=16),
            nn.Conv2d(16, 32, 1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, padding=1, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(128, 10),
        )

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.layers((pixels / 16.0).reshape(-1, 1, 8, 8))


def trained(images: np.ndarray, labels: np.ndarray) -> Network:
    torch.manual_seed(1)
    network = Network()
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    images, labels = torch.from_numpy(images), torch.from_numpy(labels)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images)).split(64):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(images[batch]), labels[batch]).backward()
            optimiser.step()
    return network.eval()


def exported(network: Network) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        example = torch.zeros(2, 64)
        names = {"input_names": ["X"], "output_names": [OUTPUT], "dynamic_axes": {"X": {0: "N"}, OUTPUT: {0: "N"}}}
        torch.onnx.export(network, (example,), path, opset_version=17, dynamo=False, **names)
        return anonymous(onnx.load(path))


class Rows(CalibrationDataReader):
    """Calibration rows, 64 at a time."""

    def __init__(self, images: np.ndarray) -> None:
        self.batches = iter([{"X": images[at : at + 64]} for at in range(0, len(images), 64)])

    def get_next(self) -> dict | None:
        return next(self.batches, None)


def quantised(model: onnx.ModelProto, images: np.ndarray) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        source.write_bytes(model.SerializeToString())
        kinds = {"activation_type": QuantType.QInt8, "weight_type": QuantType.QInt8, "per_channel": True}
        quantize_static(source, target, Rows(images), quant_format=QuantFormat.QDQ, **kinds)
        return anonymous(onnx.load(target))


def anonymous(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without what says where and by whom it was written."""
    model.producer_name = model.producer_version = model.doc_string = ""
    del model.metadata_props[:]
    del model.graph.value_info[:]
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", 17))
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model, full_check=True)
    return model


def write_version(version: int, model: onnx.ModelProto, framework: str, scores, kept: pandas.DataFrame, labels: np.ndarray) -> None:
    """Writes one version folder; `scores` are the answers of `framework` for all rows of `kept`."""
    folder = HERE / str(version)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    images = kept.to_numpy(np.float32)
    (runtime,) = session.run([OUTPUT], {"X": images})
    if version == 1:
        np.testing.assert_allclose(runtime, scores, rtol=1e-5, atol=ATOL)
        np.testing.assert_array_equal(runtime.argmax(1), scores.argmax(1))
    right = round(float(np.mean(scores.argmax(1) == labels)), 6)
    accuracy = {"framework": right, "rows": len(labels)}
    # What one step of the last DequantizeLinear is worth; 0 where there is none.
    step = {"step": step_of(model)}
    rows = lambda values, digits=17: [doubles(row, digits) for row in values]
    golden = {"inputs": split(kept.head(GOLDEN_ROWS)), "outputs": {OUTPUT: rows(scores[:GOLDEN_ROWS])}}
    write_json(folder / "golden.json", {"framework": framework, **golden, "accuracy": accuracy, **step})
    recorded = {"inputs": {"X": tensor(images[:GOLDEN_ROWS])}, "outputs": {OUTPUT: tensor(runtime[:GOLDEN_ROWS])}}
    write_json(folder / "ort.json", {"engine": f"onnxruntime {onnxruntime.__version__}", **recorded})
    held = {"inputs": split(kept), "labels": labels.tolist(), "outputs": {OUTPUT: rows(scores, 9)}}
    write_json(folder / "heldout.json", {"framework": framework, **held, "accuracy": accuracy, **step})
    write_json(folder / "input_example.json", split(kept.head(2)))
    write_json(folder / "serving_input_example.json", {"dataframe_split": split(kept.head(2))})
    write_mlmodel(folder, version, list(kept.columns))
    operators = sorted({node.op_type for node in model.graph.node})
    size = (folder / "model.onnx").stat().st_size
    print(
        f"{NAME} {version}: {size} bytes, accuracy {right:.4f} over {len(labels)} rows, step {step['step']:.3g}, "
        f"onnxruntime differs by at most {np.max(np.abs(runtime - scores)):.1e}\n    operators: {', '.join(operators)}"
    )


def step_of(model: onnx.ModelProto) -> float:
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    makers = {output: node for node in model.graph.node for output in node.output}
    last = makers[OUTPUT]
    return float(constants[last.input[1]]) if last.op_type == "DequantizeLinear" else 0.0


def write_mlmodel(folder: Path, version: int, columns: list[str]) -> None:
    onnx_flavor = {"code": None, "data": "model.onnx", "onnx_session_options": None, "onnx_version": onnx.__version__}
    content = {
        "artifact_path": "model",
        "flavors": {
            "onnx": {**onnx_flavor, "providers": ["CPUExecutionProvider"]},
            "python_function": {"data": "model.onnx", "loader_module": "mlflow.onnx", "python_version": "3.11"},
        },
        "mlflow_version": "3.17.2",
        "model_uuid": uuid.uuid5(uuid.NAMESPACE_URL, f"edgeward:{NAME}/{version}").hex,
        "saved_input_example_info": {
            "artifact_path": "input_example.json",
            "pandas_orient": "split",
            "serving_input_path": "serving_input_example.json",
            "type": "dataframe",
        },
        "signature": {
            "inputs": json.dumps([Column(name, "double").schema() for name in columns]),
            "outputs": json.dumps([column.schema() for column in SCORES]),
            "params": None,
        },
        "utc_time_created": "2026-01-01 00:00:00.000000",
    }
    (folder / "MLmodel").write_text(yaml.safe_dump(content, default_flow_style=False))


def main() -> None:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    data = load_digits(as_frame=True)
    images = data.data.astype(np.float64)
    rows, kept, label, kept_label = train_test_split(images, data.target.to_numpy(), test_size=0.25, random_state=7, stratify=data.target)
    pixels = rows.to_numpy(np.float32)
    network = trained(pixels, label)
    model = exported(network)
    with torch.no_grad():
        scores = network.double()(torch.from_numpy(kept.to_numpy(np.float64))).numpy()
    write_version(1, model, f"PyTorch {torch.__version__.partition('+')[0]}", scores, kept, kept_label)
    small = quantised(model, pixels[:512])
    session = onnxruntime.InferenceSession(small.SerializeToString(), providers=["CPUExecutionProvider"])
    (scores,) = session.run([OUTPUT], {"X": kept.to_numpy(np.float32)})
    write_version(2, small, f"onnxruntime {onnxruntime.__version__}", scores, kept, kept_label)


if __name__ == "__main__":
    main()
