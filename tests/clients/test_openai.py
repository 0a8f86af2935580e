"""openai: models and embeddings, of a small encoder that is made here and imported by the box."""

import json
import os
import subprocess

import numpy as np
import onnx
import openai
import pytest
import requests
from databricks.sdk import WorkspaceClient
from databricks.sdk.service.serving import (
    AiGatewayRateLimit,
    AiGatewayRateLimitKey,
    AiGatewayRateLimitRenewalPeriod,
    EndpointCoreConfigInput,
    ServedEntityInput,
)
from onnx import TensorProto, helper, numpy_helper

WORDS = ["[PAD]", "[UNK]", "the", "box", "has", "no", "network", "for", "weeks"]
WIDTH = 16
VECTORS = np.random.default_rng(7).normal(size=(len(WORDS), WIDTH)).astype(np.float32)
NAME = "sentences"


def vector(text: str) -> np.ndarray:
    """What the model means by a text: the mean of its words' vectors, of length 1."""
    mean = np.mean([VECTORS[WORDS.index(word) if word in WORDS else 1] for word in text.split()], axis=0)
    return mean / np.linalg.norm(mean)


def export(folder) -> None:
    """A model of texts as sentence-transformers saves one with its ONNX backend."""
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["rows", "tokens"])
    hidden = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["rows", "tokens", WIDTH])
    node = helper.make_node("Gather", ["vectors", "input_ids"], ["last_hidden_state"], axis=0)
    graph = helper.make_graph([node], "words", [ids], [hidden], [numpy_helper.from_array(VECTORS, "vectors")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (folder / "onnx").mkdir(parents=True)
    onnx.save(model, folder / "onnx" / "model.onnx")
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": {word: at for at, word in enumerate(WORDS)}, "unk_token": "[UNK]"},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    described = [
        {"idx": at, "name": str(at), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for at, (path, kind) in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(described))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 32, "do_lower_case": False}))
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": WIDTH, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))


@pytest.fixture(scope="module")
def workspace(box, tmp_path_factory):
    """A workspace in which the endpoint `sentences` serves the encoder."""
    if box.landing is None:
        pytest.skip("the models of this box come from elsewhere")
    folder = tmp_path_factory.mktemp("sentences") / "model"
    export(folder)
    state = str(box.landing.parent / "state")
    command = [os.environ["EDGEWARD_BIN"], "model", "import", str(folder), "--name", "main.default.sentences", "--version", "1", "--state", state]
    made = subprocess.run(command, capture_output=True, text=True)
    assert made.returncode == 0, made.stdout + made.stderr
    workspace = WorkspaceClient(host=box.url, token=box.token)
    entity = ServedEntityInput(name="words", entity_name="main.default.sentences", entity_version="1")
    workspace.serving_endpoints.create_and_wait(NAME, config=EndpointCoreConfigInput(name=NAME, served_entities=[entity]))
    yield workspace
    workspace.serving_endpoints.delete(NAME)


@pytest.fixture(scope="module", params=["v1", "serving-endpoints"])
def client(request, box, workspace):
    return openai.OpenAI(base_url=f"{box.url}/{request.param}", api_key=box.token, max_retries=0)


def test_models(client):
    models = {model.id: model for model in client.models.list()}
    assert {NAME, "fraud-detection", "tumour"} <= set(models)
    assert models[NAME].object == "model" and models[NAME].owned_by and models[NAME].created > 1_700_000_000
    assert client.models.retrieve(NAME) == models[NAME]
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        client.models.retrieve("stranger")


@pytest.mark.parametrize("encoding_format", [openai.NOT_GIVEN, "float", "base64"])
def test_embeddings(client, encoding_format):
    texts = ["the box has no network", "for weeks", "something else"]
    answer = client.embeddings.create(model=NAME, input=texts, encoding_format=encoding_format)
    assert (answer.object, answer.model, [one.index for one in answer.data]) == ("list", NAME, [0, 1, 2])
    for text, one in zip(texts, answer.data):
        values = one.embedding
        if isinstance(values, str):
            values = np.frombuffer(__import__("base64").b64decode(values), dtype="<f4")
        assert np.array(values) == pytest.approx(vector(text), abs=1e-6)
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (9, 9)


def test_a_text_alone_and_tokens(client):
    alone = client.embeddings.create(model=NAME, input="for weeks").data
    assert len(alone) == 1 and np.array(alone[0].embedding) == pytest.approx(vector("for weeks"), abs=1e-6)
    tokens = client.embeddings.create(model=NAME, input=[[7, 8], [3]]).data
    assert np.array(tokens[0].embedding) == pytest.approx(vector("for weeks"), abs=1e-6)
    assert np.array(tokens[1].embedding) == pytest.approx(vector("box"), abs=1e-6)


def test_vectors_have_the_width_of_the_model(client):
    client.embeddings.create(model=NAME, input="for weeks", dimensions=WIDTH)
    with pytest.raises(openai.BadRequestError, match="dimensions must be 16"):
        client.embeddings.create(model=NAME, input="for weeks", dimensions=8)


@pytest.mark.parametrize(
    ("model", "given", "error", "message"),
    [
        ("stranger", "a", openai.NotFoundError, "does not exist"),
        ("tumour", "a", openai.BadRequestError, "no model of texts"),
        (NAME, [], openai.BadRequestError, "at least one"),
        (NAME, [[999]], openai.BadRequestError, "no token 999"),
    ],
)
def test_what_cannot_be_embedded_is_named(client, model, given, error, message):
    with pytest.raises(error, match=message) as raised:
        client.embeddings.create(model=model, input=given)
    assert raised.value.request_id


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("v1/embeddings", {"model": NAME, "input": "the box has no network"}),
        (f"serving-endpoints/{NAME}/invocations", {"input": "the box has no network"}),
        (f"serving-endpoints/{NAME}/invocations", {"inputs": ["the box has no network"]}),
        (
            f"v2/models/{NAME}/infer",
            {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["the box has no network"]}]},
        ),
    ],
)
def test_tokens_count_in_every_dialect(box, workspace, path, body):
    minute = AiGatewayRateLimitRenewalPeriod.MINUTE
    headers = {"Authorization": f"Bearer {box.token}"}
    ask = lambda: requests.post(f"{box.url}/{path}", json=body, headers=headers, timeout=30).status_code
    limit = AiGatewayRateLimit(tokens=7, renewal_period=minute, key=AiGatewayRateLimitKey.ENDPOINT)
    # A limit that is new counts from nothing.
    workspace.serving_endpoints.put_ai_gateway(NAME)
    workspace.serving_endpoints.put_ai_gateway(NAME, rate_limits=[limit])
    try:
        # Two calls of five tokens cross it; a minute of the box may end in between.
        statuses = [ask() for _ in range(6)]
        assert 2 <= statuses.count(200) <= 4 and statuses.count(429) == 6 - statuses.count(200), statuses
    finally:
        workspace.serving_endpoints.put_ai_gateway(NAME)


@pytest.mark.parametrize("beside", [{"inputs": ["a"]}, {"model": NAME}, {"unknown": 1}])
def test_input_stands_alone_in_an_invocation(box, workspace, beside):
    url = f"{box.url}/serving-endpoints/{NAME}/invocations"
    answer = requests.post(url, json={"input": "a", **beside}, headers={"Authorization": f"Bearer {box.token}"}, timeout=30)
    assert answer.status_code == 400 and "cannot stand beside input" in answer.text, answer.text


def test_a_request_has_a_bound_on_its_texts(client):
    with pytest.raises(openai.BadRequestError, match="at most 2048 texts"):
        client.embeddings.create(model=NAME, input=["a"] * 2049)


def test_a_wrong_token(box, workspace):
    with pytest.raises(openai.PermissionDeniedError):
        openai.OpenAI(base_url=f"{box.url}/v1", api_key="edgeward_wrong").models.list()


def test_errors_below_v1_have_openais_form(box, workspace):
    with pytest.raises(openai.NotFoundError) as raised:
        openai.OpenAI(base_url=f"{box.url}/v1", api_key=box.token).models.retrieve("stranger")
    assert (raised.value.type, raised.value.code) == ("not_found_error", "RESOURCE_DOES_NOT_EXIST")


def test_the_workspace_asks_the_same_endpoint(workspace):
    assert workspace.serving_endpoints.get(NAME).task == "llm/v1/embeddings"
    answer = workspace.serving_endpoints.query(NAME, input=["for weeks", "box"])
    assert [one.index for one in answer.data] == [0, 1] and answer.object.value == "list"
    assert np.array(answer.data[1].embedding) == pytest.approx(vector("box"), abs=1e-6)
    assert answer.usage.prompt_tokens == 3
    rows = workspace.serving_endpoints.query(NAME, inputs=["for weeks"]).predictions
    assert np.array(rows["embedding"]).reshape(-1) == pytest.approx(vector("for weeks"), abs=1e-6)
