"""Writes one trained pipeline as a version folder: an MLflow model directory of flavour onnx, with its known answers.

Owns the layout and the formats described in README.md. Must never compute a golden output with anything but the
framework that trained the model, and never write a byte that depends on when or where it runs.
"""

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pandas
import sklearn
import yaml
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.metrics import r2_score

OPSET = {"": 17, "ai.onnx.ml": 3}
IR_VERSION = 8
# The absolute term is for onnxruntime alone: in float32 its linear classifier forms a logistic as 0.5 + y and its trees
# as 1 - p, so a small probability is a multiple of 2^-25 or 2^-24 (tumour 1: 203 / 2^25 for 5.9985e-6, 8.6e-3 off).
RTOL, ATOL = 1e-5, 1e-6
GOLDEN_ROWS = 96


@dataclass(frozen=True)
class Column:
    """One column of the signature: its MLflow type, and whether a request must carry it."""

    name: str
    type: str
    required: bool = True

    def schema(self) -> dict:
        return {"type": self.type, "name": self.name, "required": self.required}


def by_skl2onnx(sample: "Sample") -> onnx.ModelProto:
    """What skl2onnx makes of a pipeline: label and probabilities of a classifier, or the value of a regressor."""
    options = {} if sample.regression else {"options": {id(sample.model[-1]): {"zipmap": False}}}
    return to_onnx(sample.model, initial_types=sample.onnx_inputs, target_opset=OPSET, name=sample.name, **options)


@dataclass(frozen=True)
class Sample:
    """A trained model with what is needed to export and check it.

    `heldout` holds the rows kept from training, in the dtypes that the framework saw; the first `GOLDEN_ROWS` of them
    become the golden rows. `tensors` turns such a frame into the ONNX inputs by name, `as_sent` into the cells a client
    puts in its JSON. A classifier answers the probability of class 1, a regressor its value.
    """

    folder: Path
    name: str
    version: int
    model: Any
    onnx_inputs: list
    columns: list[Column]
    output: str
    heldout: pandas.DataFrame
    labels: np.ndarray
    example: pandas.DataFrame
    tensors: Callable[[pandas.DataFrame], dict[str, np.ndarray]]
    as_sent: Callable[[pandas.DataFrame], pandas.DataFrame] = lambda frame: frame
    framework: str = f"scikit-learn {sklearn.__version__}"
    export: Callable[["Sample"], onnx.ModelProto] = by_skl2onnx
    regression: bool = False

    def answer(self, frame: pandas.DataFrame) -> np.ndarray:
        """What the framework answers, one number a row."""
        return self.model.predict(frame) if self.regression else self.model.predict_proba(frame)[:, 1]

    def quality(self, answers: np.ndarray) -> dict:
        """How good the answers are on the held-out rows."""
        if self.regression:
            return {"r2": {"framework": round(float(r2_score(self.labels, answers)), 6), "rows": len(self.labels)}}
        right = float(np.mean((answers >= 0.5) == self.labels))
        return {"accuracy": {"framework": round(right, 6), "rows": len(self.labels)}}


def write_version(sample: Sample) -> None:
    """Writes the version folder of `sample`, and fails if onnxruntime disagrees with the framework anywhere."""
    folder = sample.folder
    folder.mkdir(parents=True, exist_ok=True)
    model = one_number_graph(sample)
    (folder / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))

    framework = sample.answer(sample.heldout)
    tensors = sample.tensors(sample.heldout)
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    (runtime,) = session.run([sample.output], tensors)
    check_agreement(sample, framework, runtime)

    quality = sample.quality(framework)
    sent = sample.as_sent(sample.heldout)
    write_json(
        folder / "golden.json",
        {
            "framework": sample.framework,
            "inputs": split(sent.head(GOLDEN_ROWS)),
            "outputs": {sample.output: doubles(framework[:GOLDEN_ROWS])},
            **quality,
        },
    )
    write_json(
        folder / "ort.json",
        {
            "engine": f"onnxruntime {onnxruntime.__version__}",
            "inputs": {name: tensor(values[:GOLDEN_ROWS]) for name, values in tensors.items()},
            "outputs": {sample.output: tensor(runtime[:GOLDEN_ROWS])},
        },
    )
    write_json(
        folder / "heldout.json",
        {
            "framework": sample.framework,
            "inputs": split(sent),
            "labels": [float(label) if sample.regression else int(label) for label in sample.labels],
            "outputs": {sample.output: doubles(framework, digits=9)},
            **quality,
        },
    )
    write_json(folder / "input_example.json", split(sample.example))
    write_json(folder / "serving_input_example.json", {"dataframe_split": split(sample.example)})
    write_mlmodel(sample)
    operators = sorted({f"{node.domain or 'ai.onnx'}.{node.op_type}" for node in model.graph.node})
    size = (folder / "model.onnx").stat().st_size
    worst = np.max(np.abs(runtime - framework) / np.maximum(framework, 1e-9))
    ((measure, found),) = quality.items()
    print(
        f"{sample.name} {sample.version}: {size} bytes, {measure} {found['framework']:.4f} over {found['rows']} rows, "
        f"onnxruntime differs by at most {np.max(np.abs(runtime - framework)):.1e} ({worst:.1e} relative)\n"
        f"    operators: {', '.join(operators)}"
    )


def one_number_graph(sample: Sample) -> onnx.ModelProto:
    """The model as ONNX with one output of shape [N]: the probability of class 1, or the value.

    A converter gives a label and a probability per class, or a matrix of values; a serving reply wants the one number.
    """
    model = sample.export(sample)
    graph = model.graph
    if sample.regression:
        graph.initializer.append(numpy_helper.from_array(np.array([1], dtype=np.int64), "axis_1"))
        node = helper.make_node("Squeeze", [graph.output[0].name, "axis_1"], [sample.output], "value")
    else:
        graph.initializer.append(numpy_helper.from_array(np.array(1, dtype=np.int64), "class_1"))
        node = helper.make_node("Gather", ["probabilities", "class_1"], [sample.output], "class_1_probability", axis=1)
    graph.node.append(node)
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(sample.output, TensorProto.FLOAT, ["N"]))
    for value in graph.input:
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    del graph.value_info[:]
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(domain, version) for domain, version in OPSET.items())
    del model.metadata_props[:]
    model.doc_string = ""
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model, full_check=True)
    return model


def check_agreement(sample: Sample, framework: np.ndarray, runtime: np.ndarray) -> None:
    """Fails unless onnxruntime reproduces the framework on every held-out row, and every decision at 0.5 with it."""
    if len(sample.heldout) < GOLDEN_ROWS:
        raise AssertionError(f"{sample.name}: {len(sample.heldout)} held-out rows, golden needs {GOLDEN_ROWS}")
    if runtime.shape != framework.shape:
        raise AssertionError(f"{sample.name}: output has shape {runtime.shape}, expected {framework.shape}")
    np.testing.assert_allclose(runtime, framework, rtol=RTOL, atol=ATOL, err_msg=f"{sample.name} {sample.version}")
    if not sample.regression:
        np.testing.assert_array_equal(runtime >= 0.5, framework >= 0.5, err_msg=f"{sample.name}: a decision flipped")


def write_mlmodel(sample: Sample) -> None:
    identity = uuid.uuid5(uuid.NAMESPACE_URL, f"edgeward:{sample.name}/{sample.version}")
    content = {
        "artifact_path": "model",
        "flavors": {
            "onnx": {
                "code": None,
                "data": "model.onnx",
                "onnx_session_options": None,
                "onnx_version": onnx.__version__,
                "providers": ["CPUExecutionProvider"],
            },
            "python_function": {"data": "model.onnx", "loader_module": "mlflow.onnx", "python_version": "3.11"},
        },
        "mlflow_version": "3.17.2",
        "model_uuid": identity.hex,
        "saved_input_example_info": {
            "artifact_path": "input_example.json",
            "pandas_orient": "split",
            "serving_input_path": "serving_input_example.json",
            "type": "dataframe",
        },
        "signature": {
            "inputs": json.dumps([column.schema() for column in sample.columns]),
            "outputs": json.dumps([Column(sample.output, "float").schema()]),
            "params": None,
        },
        "utc_time_created": "2026-01-01 00:00:00.000000",
    }
    (sample.folder / "MLmodel").write_text(yaml.safe_dump(content, default_flow_style=False))


def split(frame: pandas.DataFrame) -> dict:
    """A frame in MLflow's `split` form; a missing cell is null."""
    rows = [[cell(value) for value in row] for row in frame.itertuples(index=False, name=None)]
    return {"columns": list(frame.columns), "data": rows}


def cell(value):
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return None
    if isinstance(value, np.generic):
        value = value.item()
    return shortest(value) if isinstance(value, float) else value


def tensor(values: np.ndarray) -> dict:
    """A tensor as dtype, shape and its elements in row-major order; NaN, which JSON lacks, is null."""
    dtype = "string" if values.dtype.kind in "OU" else str(values.dtype)
    return {"dtype": dtype, "shape": list(values.shape), "data": [cell(value) for value in values.ravel().tolist()]}


def shortest(value: float) -> float:
    """The shortest decimal that reads back as the same float32, for values that are float32 exactly."""
    return float(str(np.float32(value))) if float(np.float32(value)) == value else value


def doubles(values: np.ndarray, digits: int = 17) -> list[float]:
    return [float(f"{value:.{digits}g}") for value in values]


def write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, separators=(",", ":"), allow_nan=False) + "\n")
