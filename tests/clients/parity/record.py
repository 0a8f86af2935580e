"""Records what MLflow's own scoring server answers to each shape of `shapes.py`, and exports the two models for the box.

    python3 -m venv DIR && DIR/bin/pip install -r tests/clients/parity/requirements.txt
    DIR/bin/python tests/clients/parity/record.py

`labels` is a LogisticRegression of scikit-learn over two named columns, which MLflow serves as it is and the box as ONNX; `scores`
is an ONNX graph over one tensor, which both serve.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import mlflow
import numpy as np
import onnx
import pandas as pd
from mlflow.models import ModelSignature, infer_signature
from mlflow.types import Schema, TensorSpec
from onnx import TensorProto, helper, numpy_helper
from shapes import COLUMNS, SHAPES
from sklearn.linear_model import LogisticRegression

HERE = Path(__file__).resolve().parent
START_SECONDS = 120


def labels() -> tuple[LogisticRegression, ModelSignature, onnx.ModelProto]:
    random = np.random.default_rng(3)
    frame = pd.DataFrame({"amount": random.gamma(2.0, 60.0, 400), "hour": random.integers(0, 24, 400).astype(float)})
    answer = (frame["amount"] / 100 + np.cos(frame["hour"] / 4) + random.normal(0, 0.3, 400) > 1.3).astype(np.int64)
    model = LogisticRegression(max_iter=1000).fit(frame, answer)
    # float32 columns, as the graph has them: the columns are its inputs, by their names.
    signature = infer_signature(frame.astype(np.float32), answer)
    weights = model.coef_[0].astype(np.float32)
    nodes = [
        helper.make_node("Concat", COLUMNS, ["features"], axis=1),
        helper.make_node("MatMul", ["features", "weights"], ["weighed"]),
        helper.make_node("Greater", ["weighed", "threshold"], ["above"]),
        helper.make_node("Cast", ["above"], ["cast"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["cast", "flat"], ["label"]),
    ]
    constants = [
        numpy_helper.from_array(weights.reshape(-1, 1), "weights"),
        numpy_helper.from_array(np.array([-model.intercept_[0]], dtype=np.float32), "threshold"),
        numpy_helper.from_array(np.array([-1], dtype=np.int64), "flat"),
    ]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 1]) for name in COLUMNS]
    outputs = [helper.make_tensor_value_info("label", TensorProto.INT64, ["N"])]
    return model, signature, graph(nodes, inputs, outputs, constants)


def scores() -> tuple[onnx.ModelProto, ModelSignature]:
    random = np.random.default_rng(4)
    weights = random.normal(size=(4, 3)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "weights"], ["weighed"]), helper.make_node("Softmax", ["weighed"], ["y"], axis=1)]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])
    signature = ModelSignature(
        Schema([TensorSpec(np.dtype(np.float32), (-1, 4))]), Schema([TensorSpec(np.dtype(np.float32), (-1, 3), "y")])
    )
    return graph(nodes, [x], [y], [numpy_helper.from_array(weights, "weights")]), signature


def graph(nodes, inputs, outputs, constants) -> onnx.ModelProto:
    made = helper.make_graph(nodes, "parity", inputs, outputs, constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def serve(model: Path):
    """MLflow's server for a model, and its URL once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(model), "--env-manager", "local", "-p", str(port)]
    # It starts its server by name, which is beside this interpreter.
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    process = subprocess.Popen(command, env={**os.environ, "PATH": path})
    url = f"http://127.0.0.1:{port}"
    for _ in range(START_SECONDS):
        try:
            urllib.request.urlopen(f"{url}/ping", timeout=1)
            return process, url
        except OSError:
            time.sleep(1)
    raise RuntimeError(f"{model} is not served")


def ask(url: str, content_type: str, body: str) -> dict:
    request = urllib.request.Request(f"{url}/invocations", body.encode(), {"Content-Type": content_type})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return {"status": response.status, "body": json.loads(response.read())}
    except urllib.error.HTTPError as error:
        text = error.read().decode()
        try:
            answer = json.loads(text)
        except ValueError:
            answer = None
        # Messages hold stack traces and paths: what is compared is the code.
        return {"status": error.code, "error_code": answer.get("error_code") if isinstance(answer, dict) else None}


def main() -> None:
    folder = Path(tempfile.mkdtemp())
    model, signature, exported = labels()
    mlflow.sklearn.save_model(model, folder / "labels", signature=signature, serialization_format="cloudpickle")
    tensors, tensor_signature = scores()
    mlflow.onnx.save_model(tensors, folder / "scores", signature=tensor_signature)
    for name, graph_of, signature_of in [("labels", exported, signature), ("scores", tensors, tensor_signature)]:
        shutil.rmtree(HERE / name, ignore_errors=True)
        saved = folder / f"{name}-onnx"
        mlflow.onnx.save_model(graph_of, saved, signature=signature_of)
        (HERE / name).mkdir()
        for file in ("MLmodel", "model.onnx"):
            shutil.copy(saved / file, HERE / name / file)
    recorded = {"mlflow": mlflow.__version__, "answers": {}}
    for name in ("labels", "scores"):
        process, url = serve(folder / name)
        try:
            for shape, of, content_type, body in SHAPES:
                if of == name:
                    recorded["answers"][shape] = ask(url, content_type, body)
        finally:
            process.terminate()
            process.wait()
    (HERE / "recorded.json").write_text(json.dumps(recorded, indent=1) + "\n")


if __name__ == "__main__":
    main()
