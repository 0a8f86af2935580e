"""tritonclient over gRPC: health, metadata, inference one by one, at once and in streams, statistics, repository, and who may."""

import json
import os
import queue
import subprocess
import urllib.request

import grpc
import ml_dtypes
import numpy as np
import pytest
import tritonclient.grpc as triton
from conftest import GOLDEN
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

FRAUD, TUMOUR = GOLDEN["fraud", 3], GOLDEN["tumour", 1]
ROWS = 8
PROBABILITY = "malignant_probability"


@pytest.fixture(scope="module")
def client(box):
    with triton.InferenceServerClient(box.url.removeprefix("http://")) as client:
        yield client


@pytest.fixture(scope="module")
def headers(box):
    return {"authorization": f"Bearer {box.token}"}


@pytest.fixture(scope="module")
def rest(box):
    """A call of the REST API: this environment has no client of it."""

    def ask(method: str, path: str, body: dict | None = None) -> dict:
        request = urllib.request.Request(box.url + path, method=method, data=json.dumps(body or {}).encode())
        request.add_header("Authorization", f"Bearer {box.token}")
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or b"{}")

    return ask


@pytest.fixture
def endpoint(rest, name):
    """An endpoint of one's own, with its id."""
    entity = {"name": "only", "entity_name": "main.default.tumour", "entity_version": "1"}
    made = rest("POST", "/api/2.0/serving-endpoints", {"name": name, "config": {"served_entities": [entity]}})
    yield name, made["id"]
    rest("DELETE", f"/api/2.0/serving-endpoints/{name}")


def tensor(name: str, values: np.ndarray, datatype: str) -> triton.InferInput:
    given = triton.InferInput(name, list(values.shape), datatype)
    given.set_data_from_numpy(values)
    return given


def fraud() -> list[triton.InferInput]:
    """Rows of numbers, texts and whole numbers: a tensor for each column, as the model has them."""
    column = {name: [row[index] for row in FRAUD.data[:ROWS]] for index, name in enumerate(FRAUD.columns)}
    of = lambda name, dtype: np.array(column[name], dtype=dtype).reshape(-1, 1)
    return [
        tensor("amount", of("amount", np.float32), "FP32"),
        tensor("merchant_category", of("merchant_category", np.object_), "BYTES"),
        tensor("hour", of("hour", np.int64), "INT64"),
        tensor("is_foreign", of("is_foreign", np.float32), "FP32"),
    ]


def tumour(dtype=np.float32, datatype: str = "FP32", rows: int | None = None) -> list[triton.InferInput]:
    return [tensor("X", np.array(TUMOUR.data[:rows], dtype=dtype), datatype)]


def right(answer: triton.InferResult) -> bool:
    return answer.as_numpy(PROBABILITY) == pytest.approx(TUMOUR.predictions, rel=1e-5, abs=1e-6)


def refused(code: str, message: str):
    return pytest.raises(InferenceServerException, match=rf"(?s)^\[StatusCode\.{code}\].*{message}")


def test_health(client, headers):
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("fraud-detection", headers=headers)
    assert client.is_model_ready("fraud-detection", "3", headers=headers)
    assert not client.is_model_ready("fraud-detection", "99", headers=headers)
    assert not client.is_model_ready("stranger", headers=headers)


def test_metadata(client, headers):
    server = client.get_server_metadata(headers=headers)
    assert server.name == "edgeward" and "binary_tensor_data" in server.extensions
    model = client.get_model_metadata("fraud-detection", headers=headers)
    assert model.name == "fraud-detection" and list(model.versions) == ["3", "4"]
    assert {spec.name: (spec.datatype, list(spec.shape)) for spec in model.inputs} == {
        "amount": ("FP32", [-1, 1]),
        "merchant_category": ("BYTES", [-1, 1]),
        "hour": ("INT64", [-1, 1]),
        "is_foreign": ("FP32", [-1, 1]),
    }
    assert [(spec.name, spec.datatype, list(spec.shape)) for spec in model.outputs] == [("fraud_probability", "FP32", [-1])]


def test_config(client, headers):
    config = client.get_model_config("fraud-detection", headers=headers, as_json=True)["config"]
    assert config["name"] == "fraud-detection" and config["backend"] == config["platform"]
    types = {spec["name"]: (spec["data_type"], spec["dims"]) for spec in config["input"]}
    assert types["merchant_category"] == ("TYPE_STRING", ["-1", "1"])
    assert types["hour"] == ("TYPE_INT64", ["-1", "1"])
    assert config["output"][0]["data_type"] == "TYPE_FP32"


def test_inference_gives_the_frameworks_answers(client, headers):
    wanted = [triton.InferRequestedOutput("fraud_probability")]
    answer = client.infer("fraud-detection", fraud(), "3", outputs=wanted, request_id="r-9", headers=headers)
    described = answer.get_response()
    assert (described.model_name, described.model_version, described.id) == ("fraud-detection", "3", "r-9")
    values = answer.as_numpy("fraud_probability")
    assert values.dtype == np.float32 and values.shape == (ROWS,)
    assert values == pytest.approx(FRAUD.predictions[:ROWS], rel=1e-5, abs=1e-6)
    assert right(client.infer("tumour", tumour(), headers=headers))


def test_typed_contents_give_them_too(box, headers):
    column = {name: [row[index] for row in FRAUD.data[:ROWS]] for index, name in enumerate(FRAUD.columns)}
    request = service_pb2.ModelInferRequest(model_name="fraud-detection", model_version="3")
    for name, datatype, kind, to in [
        ("amount", "FP32", "fp32_contents", float),
        ("merchant_category", "BYTES", "bytes_contents", str.encode),
        ("hour", "INT64", "int64_contents", int),
        ("is_foreign", "FP32", "fp32_contents", float),
    ]:
        given = request.inputs.add(name=name, datatype=datatype, shape=[ROWS, 1])
        getattr(given.contents, kind).extend(map(to, column[name]))
    with grpc.insecure_channel(box.url.removeprefix("http://")) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        answer, call = stub.ModelInfer.with_call(request, metadata=list(headers.items()))
    values = np.frombuffer(answer.raw_output_contents[0], dtype="<f4")
    assert values == pytest.approx(FRAUD.predictions[:ROWS], rel=1e-5, abs=1e-6)
    assert dict(call.initial_metadata())["served-model-name"] and dict(call.initial_metadata())["x-request-id"]


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_messages_are_compressed(client, headers, algorithm):
    assert right(client.infer("tumour", tumour(), headers=headers, compression_algorithm=algorithm))


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_numbers_of_16_bits_widen(client, headers, datatype):
    narrow = np.array(TUMOUR.data, dtype={"FP16": np.float16, "BF16": ml_dtypes.bfloat16}[datatype])
    half = client.infer("tumour", [tensor("X", narrow, datatype)], headers=headers).as_numpy(PROBABILITY)
    wide = [tensor("X", narrow.astype(np.float32), "FP32")]
    whole = client.infer("tumour", wide, headers=headers).as_numpy(PROBABILITY)
    assert half.tolist() == whole.tolist()


def test_classes_are_the_largest_scores(client, headers):
    image = np.random.default_rng(5).uniform(0, 16, (2, 64)).astype(np.float32)
    given = [tensor("X", image, "FP32")]
    version = client.get_model_metadata("digits", headers=headers).versions[0]
    scores = client.infer("digits", given, version, headers=headers).as_numpy("scores")
    wanted = [triton.InferRequestedOutput("scores", class_count=3)]
    classes = client.infer("digits", given, version, outputs=wanted, headers=headers).as_numpy("scores")
    assert classes.shape == (2, 3)
    for row, named in zip(scores, classes):
        assert [int(one.decode().split(":")[1]) for one in named] == np.argsort(-row)[:3].tolist()


def test_many_at_once(client, headers):
    arrived = queue.Queue()
    for _ in range(40):
        client.async_infer("tumour", tumour(), lambda result, error: arrived.put((result, error)), headers=headers)
    for _ in range(40):
        result, error = arrived.get(timeout=60)
        assert error is None and right(result)


def test_a_stream_answers_in_order_and_outlives_a_mistake(client, headers):
    arrived = queue.Queue()
    client.start_stream(lambda result, error: arrived.put((result, error)), headers=headers)
    for number in range(10):
        client.async_stream_infer("tumour", tumour(rows=number + 1), request_id=str(number))
    client.async_stream_infer("stranger", tumour(), request_id="x")
    client.async_stream_infer("tumour", tumour(), request_id="last")
    for number in range(10):
        result, error = arrived.get(timeout=60)
        assert error is None and result.get_response().id == str(number)
        assert result.as_numpy(PROBABILITY) == pytest.approx(TUMOUR.predictions[: number + 1], rel=1e-5, abs=1e-6)
    result, error = arrived.get(timeout=60)
    assert result is None and "does not exist" in str(error)
    result, error = arrived.get(timeout=60)
    assert error is None and right(result)
    client.stop_stream()


def test_a_long_message_travels(client, headers):
    rows = np.tile(np.array(TUMOUR.data, dtype=np.float32), (400, 1))
    answer = client.infer("tumour", [tensor("X", rows, "FP32")], headers=headers).as_numpy(PROBABILITY)
    assert rows.nbytes > 1 << 20
    assert answer[-len(TUMOUR.predictions) :] == pytest.approx(TUMOUR.predictions, rel=1e-5, abs=1e-6)


def test_statistics_count(client, headers):
    success = lambda: [
        (model.inference_stats.success.count, model.inference_count)
        for model in client.get_inference_statistics("tumour", "1", headers=headers).model_stats
    ]
    [(before, rows_before)] = success()
    client.infer("tumour", tumour(), "1", headers=headers)
    assert success() == [(before + 1, rows_before + len(TUMOUR.data))]
    every = client.get_inference_statistics(headers=headers).model_stats
    assert {"tumour", "fraud-detection", "digits", "diabetes"} <= {model.name for model in every}


def test_repository(client, headers):
    index = client.get_model_repository_index(headers=headers).models
    assert ("fraud-detection", "3", "READY", "") in {(one.name, one.version, one.state, one.reason) for one in index}
    client.load_model("tumour", headers=headers)
    with refused("INVALID_ARGUMENT", "import a model version"):
        client.load_model("tumour", headers=headers, config="{}")
    client.unload_model("tumour", headers=headers)
    assert client.is_model_ready("tumour", headers=headers)


def test_what_is_not_there_is_named(client, headers):
    with refused("NOT_FOUND", "does not exist"):
        client.infer("stranger", tumour(), headers=headers)
    with refused("NOT_FOUND", "serves no version"):
        client.infer("tumour", tumour(), "99", headers=headers)
    with refused("UNIMPLEMENTED", "not through shared memory"):
        client.get_system_shared_memory_status(headers=headers)
    with refused("UNIMPLEMENTED", "LogSettings is not answered"):
        client.get_log_settings(headers=headers)


def test_what_does_not_fit_is_named(client, headers):
    with refused("INVALID_ARGUMENT", r"has shape \[1, 29\], the model takes \[-1, 30\]"):
        client.infer("tumour", [tensor("X", np.zeros((1, 29), dtype=np.float32), "FP32")], headers=headers)
    with refused("INVALID_ARGUMENT", "is FP64, the model takes FP32"):
        client.infer("tumour", tumour(np.float64, "FP64"), headers=headers)
    with refused("INVALID_ARGUMENT", "priority.*is not supported"):
        client.infer("tumour", tumour(), priority=3, headers=headers)


def test_no_token_and_a_wrong_one(client):
    with refused("UNAUTHENTICATED", "send a token"):
        client.infer("tumour", tumour())
    with refused("PERMISSION_DENIED", ""):
        client.infer("tumour", tumour(), headers={"authorization": "Bearer edgeward_wrong"})
    with refused("UNAUTHENTICATED", "send a token"):
        client.get_model_metadata("tumour")


def test_permissions(box, client, rest, endpoint):
    if box.landing is None:
        pytest.skip("the tokens of this box are made elsewhere")
    name, identity = endpoint
    rest("PUT", f"/api/2.0/permissions/serving-endpoints/{identity}", {"access_control_list": []})
    command = [os.environ["EDGEWARD_BIN"], "token", "create", "--principal", "stranger"]
    command += ["--state", str(box.landing.parent / "state")]
    token = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    theirs = {"authorization": f"Bearer {token}"}
    assert right(client.infer("tumour", tumour(), headers=theirs))
    with refused("PERMISSION_DENIED", "stranger has no CAN_QUERY permission"):
        client.infer(name, tumour(), headers=theirs)
    with refused("PERMISSION_DENIED", "stranger has no CAN_VIEW permission"):
        client.get_model_config(name, headers=theirs)
    index = client.get_model_repository_index(headers=theirs).models
    assert name not in {one.name for one in index}


def test_rate_limits_say_when_to_come_again(box, rest, endpoint, headers):
    name, _ = endpoint
    limits = [{"calls": 2, "key": "endpoint", "renewal_period": "minute"}]
    rest("PUT", f"/api/2.0/serving-endpoints/{name}/rate-limits", {"rate_limits": limits})
    values = np.array(TUMOUR.data, dtype="<f4")
    request = service_pb2.ModelInferRequest(model_name=name, raw_input_contents=[values.tobytes()])
    request.inputs.add(name="X", datatype="FP32", shape=values.shape)
    with grpc.insecure_channel(box.url.removeprefix("http://")) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        # Two minutes' worth may pass around the change of minutes.
        with pytest.raises(grpc.RpcError) as error:
            for _ in range(5):
                stub.ModelInfer(request, metadata=list(headers.items()))
    assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert 1 <= int(dict(error.value.trailing_metadata())["retry-after"]) <= 60


def test_a_client_says_how_long_it_waits(client, headers):
    assert right(client.infer("tumour", tumour(), headers=headers, client_timeout=60))
