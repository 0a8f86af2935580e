"""Writes one trained pipeline as a version folder: an MLflow model directory of flavour onnx, with its known answers.

Owns the layout and the formats described in README.md. Must never compute a golden output with anything but the
framework that trained the model, and never write a byte that depends on when or where it runs.
"""

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pandas
import sklearn
import yaml
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.pipeline import Pipeline

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


@dataclass(frozen=True)
class Sample:
    """A trained pipeline with what is needed to export and check it.

    `heldout` holds the rows kept from training, in the dtypes that the framework saw; the first `GOLDEN_ROWS` of them
    become the golden rows. `tensors` turns such a frame into the ONNX inputs by name, `as_sent` into the cells a client
    puts in its JSON.
    """

    folder: Path
    name: str
    version: int
    pipeline: Pipeline
    onnx_inputs: list
    columns: list[Column]
    output: str
    heldout: pandas.DataFrame
    labels: np.ndarray
    example: pandas.DataFrame
    tensors: Callable[[pandas.DataFrame], dict[str, np.ndarray]]
    as_sent: Callable[[pandas.DataFrame], pandas.DataFrame] = lambda frame: frame


def write_version(sample: Sample) -> None:
    """Writes the version folder of `sample`, and fails if onnxruntime disagrees with the framework anywhere."""
    folder = sample.folder
    folder.mkdir(parents=True, exist_ok=True)
    model = probability_graph(sample)
    (folder / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))

    framework = sample.pipeline.predict_proba(sample.heldout)[:, 1]
    tensors = sample.tensors(sample.heldout)
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    (runtime,) = session.run([sample.output], tensors)
    check_agreement(sample, framework, runtime)

    accuracy = {
        "framework": round(float(np.mean((framework >= 0.5) == sample.labels)), 6),
        "rows": len(sample.labels),
    }
    sent = sample.as_sent(sample.heldout)
    write_json(
        folder / "golden.json",
        {
            "framework": f"scikit-learn {sklearn.__version__}",
            "inputs": split(sent.head(GOLDEN_ROWS)),
            "outputs": {sample.output: doubles(framework[:GOLDEN_ROWS])},
            "accuracy": accuracy,
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
            "framework": f"scikit-learn {sklearn.__version__}",
            "inputs": split(sent),
            "labels": [int(label) for label in sample.labels],
            "outputs": {sample.output: doubles(framework, digits=9)},
            "accuracy": accuracy,
        },
    )
    write_json(folder / "input_example.json", split(sample.example))
    write_json(folder / "serving_input_example.json", {"dataframe_split": split(sample.example)})
    write_mlmodel(sample)
    operators = sorted({f"{node.domain or 'ai.onnx'}.{node.op_type}" for node in model.graph.node})
    size = (folder / "model.onnx").stat().st_size
    worst = np.max(np.abs(runtime - framework) / np.maximum(framework, 1e-9))
    print(
        f"{sample.name} {sample.version}: {size} bytes, accuracy {accuracy['framework']:.4f} over {accuracy['rows']} rows, "
        f"onnxruntime differs by at most {np.max(np.abs(runtime - framework)):.1e} ({worst:.1e} relative)\n"
        f"    operators: {', '.join(operators)}"
    )


def probability_graph(sample: Sample) -> onnx.ModelProto:
    """The pipeline as ONNX with one output, the probability of class 1 with shape [N].

    skl2onnx gives a label and a probability per class; a serving reply wants the one number.
    """
    classifier = sample.pipeline[-1]
    model = to_onnx(
        sample.pipeline,
        initial_types=sample.onnx_inputs,
        options={id(classifier): {"zipmap": False}},
        target_opset=OPSET,
        name=sample.name,
    )
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(np.array(1, dtype=np.int64), "class_1"))
    graph.node.append(helper.make_node("Gather", ["probabilities", "class_1"], [sample.output], "class_1_probability", axis=1))
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
