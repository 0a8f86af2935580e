"""schemathesis against what the box says of itself: any request that its documents allow, and many that they do not, gets
an answer that they have. In a box of its own, because what it asks for is done: endpoints are made, changed and deleted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from conftest import GOLDEN, Box, quickstart, reached
from openapi_spec_validator import validate

ENDPOINTS = "/api/2.0/serving-endpoints"
SOAK = "EDGEWARD_SOAK" in os.environ

# Those with 10 and with 64 columns take minutes.
ENDPOINTS_ASKED = ["fraud-detection", *(["diabetes", "digits"] if SOAK else [])]

# Whether a request that fits the document is accepted hangs, for these, on what no schema says: that a name is free, that
# percentages sum to 100, that a key is there once, what columns a model has (its own document says that, see below).
HANGS_ON_MORE = [
    "createEndpoint",
    "createProvisionedThroughputEndpoint",
    "updateConfig",
    "updateProvisionedThroughputConfig",
    "updateTags",
    "setRateLimits",
    "setAiGateway",
    "setPermissions",
    "updatePermissions",
    "query",
    "queryServedEntity",
    "infer",
    "inferOfVersion",
    "createEmbeddings-v1",
    "createEmbeddings-serving-endpoints",
]


# What a box without a model of texts answers well to nobody.
NEVER_GOOD = {"POST /v1/embeddings", "POST /serving-endpoints/embeddings"}

FRAUD = {"name": "champion", "entity_name": "main.default.fraud", "entity_version": "3"}


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A box with endpoints that may be asked, changed, limited and deleted."""
    if "EDGEWARD_URL" in os.environ:
        pytest.skip("the box at EDGEWARD_URL is not ours to change")
    with quickstart(tmp_path_factory.mktemp("schemathesis")) as box:
        for name in ["asked", "changed", "limited", "spare-1", "spare-2", "pt"]:
            call(box, "POST", ENDPOINTS, json={"name": name, "config": {"served_entities": [FRAUD]}})
        yield box


def call(box: Box, method: str, path: str, **body):
    answer = requests.request(method, box.url + path, headers={"Authorization": f"Bearer {box.token}"}, timeout=60, **body)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture(scope="module")
def document(own):
    """The document of the server, which is for everybody."""
    answer = requests.get(f"{own.url}/openapi.json", timeout=60)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    return answer.json()


def test_the_document_is_valid(document):
    validate(document)
    assert document["info"]["version"]
    assert len(document["paths"]) >= 42


def aimed(document: dict, box: Box) -> dict:
    """The document with the names of what is there: names that nobody has find nothing but a 404."""
    document = json.loads(json.dumps(document))
    ids = {endpoint["name"]: endpoint["id"] for endpoint in call(box, "GET", ENDPOINTS)["endpoints"]}
    operations = {each["operationId"]: each for path in document["paths"].values() for each in path.values()}

    def aim(parameter: str, values: list, ids_of_operations: list[str]):
        whole = document["components"]["parameters"][parameter]
        # What may be deleted is said: an endpoint that is gone answers nothing but 404 from then on.
        any_other = [] if ids_of_operations == ["deleteEndpoint"] else [whole["schema"]]
        narrow = {**whole, "schema": {"anyOf": [{"enum": values}, *any_other]}}
        for name in ids_of_operations:
            parameters = operations[name].get("parameters", [])
            reference = {"$ref": f"#/components/parameters/{parameter}"}
            operations[name]["parameters"] = [narrow if each == reference else each for each in parameters]

    changes = ["updateConfig", "updateProvisionedThroughputConfig", "updateTags"]
    limits = ["setRateLimits", "setAiGateway"]
    others = [name for name in operations if name not in changes + limits + ["deleteEndpoint"]]
    aim("name", ["changed", "pt"], changes)
    aim("name", ["limited"], limits)
    aim("name", ["spare-1", "spare-2", "nobody"], ["deleteEndpoint"])
    aim("name", ["asked", "limited", "fraud-detection"], others)
    aim("model", ["asked", "digits"], others)
    aim("version", ["3"], others)
    aim("entity", ["champion"], others)
    aim("id", [ids["asked"], ids["limited"]], others)
    schemas = document["components"]["schemas"]
    schemas["ModelName"]["enum"] = ["main.default.fraud", "main.default.tumour"]
    schemas["ModelVersion"] = {"enum": ["3", "4", 3, "9"]}
    schemas["NewEndpoint"]["properties"]["name"] = {"enum": ["units", "new-1", "new-2"]}
    schemas["EmbeddingsRequest"]["properties"]["model"] = {"enum": ["asked", "nobody"]}

    # What no schema leads to is shown.
    def example(name: str, body: dict):
        operations[name]["requestBody"]["content"]["application/json"]["example"] = body

    units = {"served_entities": [{**FRAUD, "provisioned_model_units": 1}]}
    example("createProvisionedThroughputEndpoint", {"name": "units", "config": units})
    rows = {"dataframe_records": GOLDEN["fraud", 3].records}
    tensors = [tensor(each) for each in call(box, "GET", "/v2/models/asked")["inputs"]]
    for suffix in ["", "OfVersion"]:
        example(f"infer{suffix}", {"inputs": tensors})
    for name in ["query", "queryServedEntity"]:
        example(name, rows)
    return document


def tensor(metadata: dict) -> dict:
    """One row for an input of a model."""
    value = {"BYTES": "online", "BOOL": True}.get(metadata["datatype"], 1)
    return {**metadata, "shape": [1 if extent < 0 else extent for extent in metadata["shape"]], "data": [value]}


def run(document: dict, box: Box, folder: Path, examples: int, seconds: int, *, hangs_on_more: list[str]) -> int:
    """How many cases passed; fails with what schemathesis printed when one did not."""
    (folder / "document.json").write_text(json.dumps(document))
    ids = ", ".join(json.dumps(name) for name in hangs_on_more)
    checks = "checks.positive_data_acceptance.enabled = false\n"
    (folder / "schemathesis.toml").write_text(f"[[operations]]\ninclude-operation-id = [{ids}]\n{checks}" if ids else "")
    schemathesis = Path(sys.executable).with_name("schemathesis")
    command = [schemathesis, "--config-file", folder / "schemathesis.toml", "run", folder / "document.json"]
    command += ["--url", box.url, "--header", f"Authorization: Bearer {box.token}", "--no-color"]
    command += ["--report-json-path", folder / "report.json", "--warnings", "off"]
    if SOAK:
        command += ["--max-time", str(seconds)]
    else:
        command += ["--generation-deterministic", "--max-examples", str(examples), "--report-ndjson-path", folder / "events"]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=seconds + 900)
    assert ran.returncode == 0, f"{ran.stdout[-20000:]}\n{ran.stderr[-2000:]}"
    report = json.loads((folder / "report.json").read_text())
    assert report["complete"] and report["operations"]["tested"] == report["operations"]["total"], report["operations"]
    return report["test_cases"]["generated"]


def by_rows(document: dict) -> dict:
    """The document with the form alone of which a schema says the whole: a table in one piece, or by its columns, has as many
    values for each column, and CSV is a language of its own."""
    document = json.loads(json.dumps(document))
    for name, schema in document["components"]["schemas"].items():
        if name.endswith(".request"):
            schema["oneOf"] = [form for form in schema["oneOf"] if form["required"] == ["instances"]]
    for path in document["paths"].values():
        del path["post"]["requestBody"]["content"]["text/csv"]
    return document


def test_endpoints_answer_as_their_documents_say(own, tmp_path):
    cases = 0
    for name in ENDPOINTS_ASKED:
        document = call(own, "GET", f"{ENDPOINTS}/{name}/openapi")
        ids = [path["post"]["operationId"] for path in document["paths"].values()]
        for form, hangs_on_more in [(document, ids), (by_rows(document), [])]:
            folder = tmp_path / f"{name}-{len(hangs_on_more)}"
            folder.mkdir()
            cases += run(form, own, folder, 15, 50, hangs_on_more=hangs_on_more)
    reached("clients.schemathesis_cases.endpoints", cases)


def answered_well(events: Path) -> set[str]:
    """The operations that were answered with 200 once at least."""
    with events.open() as lines:
        finished = [event["ScenarioFinished"]["recorder"] for event in map(json.loads, lines) if "ScenarioFinished" in event]
    answers = [(each["label"], call["response"]) for each in finished for call in each.get("interactions", {}).values()]
    return {label for label, answer in answers if answer and answer["status_code"] == 200}


def test_the_server_answers_as_its_document_says(own, document, tmp_path):
    cases = run(aimed(document, own), own, tmp_path, 10, 900, hangs_on_more=HANGS_ON_MORE)
    if not SOAK:
        labels = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
        assert labels - answered_well(tmp_path / "events") == NEVER_GOOD
    reached("clients.schemathesis_cases.server", cases)
