"""tritonclient over HTTP: health, metadata, inference in JSON and in raw tensors, statistics, repository."""

import numpy as np
import pytest
import requests
import tritonclient.http as triton
from conftest import GOLDEN
from tritonclient.utils import InferenceServerException

FRAUD, TUMOUR = GOLDEN["fraud", 3], GOLDEN["tumour", 1]
ROWS = 8


@pytest.fixture(scope="module")
def client(box):
    with triton.InferenceServerClient(box.url.removeprefix("http://"), concurrency=4) as client:
        yield client


@pytest.fixture(scope="module")
def headers(box):
    # The client writes into what it is given, and would send it again with the next request.
    return lambda: {"Authorization": f"Bearer {box.token}"}


def tensor(name: str, values: np.ndarray, datatype: str, binary: bool) -> triton.InferInput:
    given = triton.InferInput(name, list(values.shape), datatype)
    given.set_data_from_numpy(values, binary_data=binary)
    return given


def fraud(binary: bool) -> list[triton.InferInput]:
    """Rows of numbers, texts and whole numbers: a tensor for each column, as the model has them."""
    column = {name: [row[index] for row in FRAUD.data[:ROWS]] for index, name in enumerate(FRAUD.columns)}
    of = lambda name, dtype: np.array(column[name], dtype=dtype).reshape(-1, 1)
    return [
        tensor("amount", of("amount", np.float32), "FP32", binary),
        tensor("merchant_category", of("merchant_category", np.object_), "BYTES", binary),
        tensor("hour", of("hour", np.int64), "INT64", binary),
        tensor("is_foreign", of("is_foreign", np.float32), "FP32", binary),
    ]


def tumour(dtype=np.float32, datatype: str = "FP32") -> list[triton.InferInput]:
    return [tensor("X", np.array(TUMOUR.data, dtype=dtype), datatype, True)]


def test_health(client, headers):
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("fraud-detection", headers=headers())
    assert client.is_model_ready("fraud-detection", "3", headers=headers())
    assert not client.is_model_ready("fraud-detection", "99", headers=headers())
    assert not client.is_model_ready("stranger", headers=headers())


def test_metadata(client, headers):
    server = client.get_server_metadata(headers=headers())
    assert server["name"] == "edgeward" and "binary_tensor_data" in server["extensions"]
    model = client.get_model_metadata("fraud-detection", headers=headers())
    assert model["name"] == "fraud-detection" and model["versions"] == ["3", "4"]
    assert {spec["name"]: (spec["datatype"], spec["shape"]) for spec in model["inputs"]} == {
        "amount": ("FP32", [-1, 1]),
        "merchant_category": ("BYTES", [-1, 1]),
        "hour": ("INT64", [-1, 1]),
        "is_foreign": ("FP32", [-1, 1]),
    }
    assert model["outputs"] == [{"name": "fraud_probability", "datatype": "FP32", "shape": [-1]}]
    config = client.get_model_config("tumour", headers=headers())
    assert config["input"] == [{"name": "X", "data_type": "TYPE_FP32", "dims": [-1, 30]}]


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_inference_gives_the_frameworks_answers(client, headers, binary_in, binary_out):
    wanted = [triton.InferRequestedOutput("fraud_probability", binary_data=binary_out)]
    answer = client.infer("fraud-detection", fraud(binary_in), "3", outputs=wanted, request_id="r-9", headers=headers())
    described = answer.get_response()
    assert (described["model_name"], described["model_version"], described["id"]) == ("fraud-detection", "3", "r-9")
    values = answer.as_numpy("fraud_probability")
    assert values.dtype == np.float32 and values.shape == (ROWS,)
    assert values == pytest.approx(FRAUD.predictions[:ROWS], rel=1e-5, abs=1e-6)


def test_all_outputs_come_raw_when_none_is_named(client, headers):
    answer = client.infer("tumour", tumour(), headers=headers())
    assert answer.as_numpy("malignant_probability") == pytest.approx(TUMOUR.predictions, rel=1e-5, abs=1e-6)
    assert answer.get_output("malignant_probability")["parameters"]["binary_data_size"] == 4 * len(TUMOUR.predictions)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_bodies_are_compressed_both_ways(client, headers, algorithm):
    answer = client.infer(
        "tumour",
        tumour(),
        headers=headers(),
        request_compression_algorithm=algorithm,
        response_compression_algorithm=algorithm,
    )
    assert answer.as_numpy("malignant_probability") == pytest.approx(TUMOUR.predictions, rel=1e-5, abs=1e-6)


def test_numbers_of_16_bits_widen(client, headers):
    half = client.infer("tumour", tumour(np.float16, "FP16"), headers=headers()).as_numpy("malignant_probability")
    wide = np.array(TUMOUR.data, dtype=np.float16).astype(np.float32)
    whole = client.infer("tumour", [tensor("X", wide, "FP32", True)], headers=headers()).as_numpy("malignant_probability")
    assert half.tolist() == whole.tolist()


def test_classes_are_the_largest_scores(client, headers):
    image = np.random.default_rng(5).uniform(0, 16, (2, 64)).astype(np.float32)
    given = [tensor("X", image, "FP32", True)]
    version = client.get_model_metadata("digits", headers=headers())["versions"][0]
    scores = client.infer("digits", given, version, headers=headers()).as_numpy("scores")
    wanted = [triton.InferRequestedOutput("scores", class_count=3)]
    classes = client.infer("digits", given, version, outputs=wanted, headers=headers()).as_numpy("scores")
    assert classes.shape == (2, 3)
    for row, named in zip(scores, classes):
        places = [int(one.decode().split(":")[1]) for one in named]
        assert places == np.argsort(-row)[:3].tolist()
        assert float(named[0].decode().split(":")[0]) == pytest.approx(row[places[0]], abs=1e-6)


def test_many_at_once(client, headers):
    under_way = [client.async_infer("tumour", tumour(), headers=headers()) for _ in range(20)]
    for answer in under_way:
        values = answer.get_result().as_numpy("malignant_probability")
        assert values == pytest.approx(TUMOUR.predictions, rel=1e-5, abs=1e-6)


def test_statistics_count(client, headers):
    success = lambda: [
        (model["inference_stats"]["success"]["count"], model["inference_count"])
        for model in client.get_inference_statistics("tumour", "1", headers=headers())["model_stats"]
    ]
    [(before, rows_before)] = success()
    client.infer("tumour", tumour(), "1", headers=headers())
    assert success() == [(before + 1, rows_before + len(TUMOUR.data))]
    every = client.get_inference_statistics(headers=headers())["model_stats"]
    assert {"tumour", "fraud-detection", "digits", "diabetes"} <= {model["name"] for model in every}


def message(box):
    """What the endpoint's one served entity says of its state."""
    headers = {"Authorization": f"Bearer {box.token}"}
    endpoint = requests.get(f"{box.url}/api/2.0/serving-endpoints/tumour", headers=headers, timeout=60).json()
    return endpoint["config"]["served_entities"][0]["state"]["deployment_state_message"]


def test_repository(box, client, headers):
    index = client.get_model_repository_index(headers=headers())
    assert {"name": "fraud-detection", "version": "3", "state": "READY", "reason": ""} in index
    client.load_model("tumour", headers=headers())
    with pytest.raises(InferenceServerException, match=r"^\[400\].*import a model version"):
        client.load_model("tumour", headers=headers(), config="{}")
    # Its memory goes, and comes back with the next request.
    client.unload_model("tumour", headers=headers())
    assert client.is_model_ready("tumour", headers=headers())
    assert message(box) == "Scaled to zero"
    answer = client.infer("tumour", tumour(), headers=headers())
    assert answer.as_numpy("malignant_probability") == pytest.approx(TUMOUR.predictions, rel=1e-5, abs=1e-6)
    assert message(box) == ""


@pytest.mark.parametrize(
    ("model", "version", "message"),
    [
        ("stranger", "", r"^\[404\].*does not exist"),
        ("tumour", "99", r"^\[404\].*serves no version"),
    ],
)
def test_what_is_not_there_is_named(client, headers, model, version, message):
    with pytest.raises(InferenceServerException, match=message):
        client.infer(model, tumour(), version, headers=headers())


def test_what_does_not_fit_is_named(client, headers):
    with pytest.raises(InferenceServerException, match=r"^\[400\].*has shape \[1, 29\], the model takes \[-1, 30\]"):
        client.infer("tumour", [tensor("X", np.zeros((1, 29), dtype=np.float32), "FP32", True)], headers=headers())
    with pytest.raises(InferenceServerException, match=r"^\[400\].*is FP64, the model takes FP32"):
        client.infer("tumour", tumour(np.float64, "FP64"), headers=headers())
    with pytest.raises(InferenceServerException, match=r"^\[400\].*priority.*is not supported"):
        client.infer("tumour", tumour(), priority=3, headers=headers())


def test_no_token_and_a_wrong_one(client):
    with pytest.raises(InferenceServerException, match=r"^\[401\]"):
        client.infer("tumour", tumour())
    with pytest.raises(InferenceServerException, match=r"^\[403\]"):
        client.infer("tumour", tumour(), headers={"Authorization": "Bearer edgeward_wrong"})
