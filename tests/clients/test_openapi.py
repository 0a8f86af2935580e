"""The OpenAPI document of an endpoint: valid, and true of what the endpoint takes and answers."""

import json

import pytest
import requests
from conftest import FORMS, GOLDEN
from databricks.sdk import WorkspaceClient
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

ENDPOINTS = {"fraud-detection": ("fraud", 3), "tumour": ("tumour", 1), "diabetes": ("diabetes", 1), "digits": None}


@pytest.fixture(scope="module")
def documents(box):
    """The documents of all sample endpoints, as databricks-sdk reads them."""
    serving = WorkspaceClient(host=box.url, token=box.token).serving_endpoints
    return {name: json.loads(serving.get_open_api(name).contents.read()) for name in ENDPOINTS}


def validator(document: dict, part: str) -> Draft202012Validator:
    """Of the requests or answers of the endpoint itself."""
    post = document["paths"][f"/serving-endpoints/{document['info']['title']}/invocations"]["post"]
    content = post["requestBody"] if part == "request" else post["responses"]["200"]
    return Draft202012Validator({**content["content"]["application/json"]["schema"], "components": document["components"]})


@pytest.mark.parametrize("name", ENDPOINTS)
def test_the_document_is_valid(documents, name):
    validate(documents[name])


@pytest.mark.parametrize("name", [name for name, golden in ENDPOINTS.items() if golden])
@pytest.mark.parametrize("form", FORMS)
def test_what_the_document_allows_is_answered_as_it_says(box, documents, name, form):
    body = {form: GOLDEN[ENDPOINTS[name]].forms[form], "client_request_id": "r-1"}
    validator(documents[name], "request").validate(body)
    url = f"{box.url}/serving-endpoints/{name}/invocations"
    response = requests.post(url, json=body, headers={"Authorization": f"Bearer {box.token}"}, timeout=30)
    assert response.status_code == 200, response.text
    validator(documents[name], "answer").validate(response.json())


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"instances": []},
        {"inputs": [[1.0, 2.0]]},
        {"dataframe_records": [{"amount": "much", "merchant_category": "online", "hour": 3, "is_foreign": True}]},
        {"instances": [], "inputs": {}},
        {"dataframe_split": {"columns": ["amount"]}},
        {"unknown": 1},
    ],
)
def test_what_is_refused_is_not_allowed(box, documents, body):
    assert not validator(documents["fraud-detection"], "request").is_valid(body)
    url = f"{box.url}/serving-endpoints/fraud-detection/invocations"
    response = requests.post(url, json=body, headers={"Authorization": f"Bearer {box.token}"}, timeout=30)
    assert response.status_code == 400, response.text


def test_an_endpoint_that_nobody_made(box):
    url = f"{box.url}/api/2.0/serving-endpoints/nobody/openapi"
    response = requests.get(url, headers={"Authorization": f"Bearer {box.token}"}, timeout=30)
    assert (response.status_code, response.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
