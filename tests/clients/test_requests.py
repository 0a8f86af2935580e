"""requests: the documented HTTP itself, its headers, and what every kind of bad request gets."""

import json

import pandas
import pytest
import requests
from conftest import FORMS, GOLDEN

API = "/api/2.0/serving-endpoints"
INVOCATIONS = "/serving-endpoints/fraud-detection/invocations"
ROW = {"amount": 12.5, "merchant_category": "online", "hour": 3, "is_foreign": True}


class Session(requests.Session):
    """A session whose paths are relative to the box."""

    def __init__(self, box, token: str | None):
        super().__init__()
        self.base = box.url.rstrip("/")
        self.trust_env = False
        if token:
            self.headers["Authorization"] = f"Bearer {token}"

    def request(self, method, url, **options):
        return super().request(method, self.base + url, **options | {"timeout": 30, "allow_redirects": False})


@pytest.fixture(scope="module")
def http(box):
    return Session(box, box.token)


@pytest.fixture(scope="module")
def stranger(box):
    return Session(box, None)


def assert_error(response, status: int, code: str) -> str:
    """An error in the documented shape; gives its message."""
    assert response.status_code == status, response.text
    body = response.json()
    assert body["error_code"] == code
    assert "error" not in body, "databricks-sdk shows the wrong text when this key is present"
    assert body["message"]
    return body["message"]


@pytest.mark.parametrize("form", FORMS)
def test_fraud_detection(http, form):
    response = http.post(INVOCATIONS, json={form: GOLDEN["fraud", 3].forms[form]})
    assert response.status_code == 200
    assert list(response.json()) == ["predictions"]
    version = {"champion": 3, "challenger": 4}[response.headers["Served-Model-Name"]]
    assert GOLDEN["fraud", version].matches(response.json()["predictions"])
    assert response.headers["x-request-id"]


@pytest.mark.parametrize("form", FORMS)
def test_tumour(http, form):
    response = http.post("/serving-endpoints/tumour/invocations", json={form: GOLDEN["tumour", 1].forms[form]})
    assert response.status_code == 200
    assert any(GOLDEN["tumour", version].matches(response.json()["predictions"]) for version in (1, 2))


@pytest.mark.parametrize("form", FORMS)
def test_diabetes(http, form):
    response = http.post("/serving-endpoints/diabetes/invocations", json={form: GOLDEN["diabetes", 1].forms[form]})
    assert response.status_code == 200
    assert GOLDEN["diabetes", 1].matches(response.json()["predictions"])


@pytest.mark.parametrize(("served", "version"), [("champion", 3), ("challenger", 4)])
def test_one_served_entity(http, served, version):
    path = f"/serving-endpoints/fraud-detection/served-models/{served}/invocations"
    response = http.post(path, json={"dataframe_split": GOLDEN["fraud", version].split})
    assert response.status_code == 200
    assert GOLDEN["fraud", version].matches(response.json()["predictions"])


def test_the_sample_of_the_reference_document(http):
    """Its rows as they stand there: whole numbers for a double, and one row without `is_foreign`."""
    for row in (
        {"amount": 50000, "merchant_category": "online", "hour": 3, "is_foreign": True},
        {"amount": 50000, "merchant_category": "online", "hour": 3},
    ):
        response = http.post(INVOCATIONS, json={"dataframe_records": [row]})
        assert response.status_code == 200
        (probability,) = response.json()["predictions"]
        assert 0.5 < probability <= 1.0


def test_columns_in_any_order_extra_ones_ignored(http):
    row = dict(reversed(ROW.items())) | {"colour": "green"}
    answers = {}
    for body in ({"dataframe_records": [row]}, {"dataframe_records": [ROW]}):
        path = "/serving-endpoints/fraud-detection/served-models/champion/invocations"
        answers[json.dumps(body)] = http.post(path, json=body).json()["predictions"]
    first, second = answers.values()
    assert first == second


def test_keys_that_ride_along(http):
    body = {"dataframe_records": [ROW], "client_request_id": "r-1", "usage_context": {"team": "risk"}, "params": {}}
    assert http.post(INVOCATIONS, json=body).status_code == 200


def test_no_content_type_is_json(http):
    request = requests.Request("POST", http.base + INVOCATIONS, data=json.dumps({"dataframe_records": [ROW]}).encode())
    prepared = http.prepare_request(request)
    prepared.headers.pop("Content-Type", None)
    assert http.send(prepared, timeout=30).status_code == 200


# One version, whatever the traffic split says.
CHAMPION = "/serving-endpoints/fraud-detection/served-models/champion/invocations"


def csv(http, body, content_type="text/csv; charset=utf-8"):
    return http.post(CHAMPION, data=body.encode(), headers={"Content-Type": content_type})


def test_csv_answers_as_the_same_rows_in_json(http):
    table = pandas.DataFrame([ROW, {**ROW, "amount": 980.0}]).assign(**{"never seen": 1})
    expected = http.post(CHAMPION, json={"dataframe_split": table.to_dict(orient="split")}).json()
    for body in (table.to_csv(index=False), table.to_csv(), table[table.columns[::-1]].to_csv(index=False)):
        response = csv(http, body)
        assert response.status_code == 200, response.text
        assert response.json() == expected


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        ("", "BAD_REQUEST", "empty"),
        ("amount\n1\n", "INVALID_PARAMETER_VALUE", "Model is missing inputs"),
        ("amount,hour\n1,2,3\n", "BAD_REQUEST", "line 2 has 3 fields"),
        ("a,b", "INVALID_PARAMETER_VALUE", "Model is missing inputs"),
    ],
)
def test_csv_that_is_no_table_for_the_model(http, body, code, says):
    response = csv(http, body)
    assert response.status_code == 400, response.text
    assert response.json()["error_code"] == code
    assert says in response.json()["message"]


def test_other_types_are_refused_with_what_is_supported(http):
    for content_type in ("text/plain", "text/csv; charset=latin-1", "application/json; format=pandas-split"):
        response = csv(http, "amount\n1\n", content_type)
        assert response.status_code == 415, response.text
        assert "send application/json or text/csv" in response.json()["message"]


BAD_BODIES = {
    "empty body": b"",
    "broken JSON": b'{"dataframe_records": [',
    "a list": b"[1, 2]",
    "a number": b"7",
    "no input form": b"{}",
    "unknown input form": b'{"rows": [[1]]}',
    "two input forms": json.dumps({"dataframe_records": [ROW], "instances": [ROW]}).encode(),
    "no record": b'{"dataframe_records": []}',
    "records that are no objects": b'{"dataframe_records": [1, 2]}',
    "split without data": b'{"dataframe_split": {"columns": ["amount"]}}',
    "split with a short row": b'{"dataframe_split": {"columns": ["amount", "hour"], "data": [[1.0]]}}',
    "matrix without names": b'{"inputs": [[1.0, 2.0, 3.0, 4.0]]}',
    "columns of different length": b'{"inputs": {"amount": [1.0, 2.0], "merchant_category": ["online"], "hour": [1, 2]}}',
    "missing column": json.dumps({"dataframe_records": [{"amount": 1.0}]}).encode(),
    "text for a double": json.dumps({"dataframe_records": [ROW | {"amount": "a"}]}).encode(),
    "a fraction for a long": json.dumps({"dataframe_records": [ROW | {"hour": 3.5}]}).encode(),
    "a number for a string": json.dumps({"dataframe_records": [ROW | {"merchant_category": 3}]}).encode(),
    "text for a boolean": json.dumps({"dataframe_records": [ROW | {"is_foreign": "yes"}]}).encode(),
    "null for a required column": json.dumps({"dataframe_records": [ROW | {"hour": None}]}).encode(),
    "NaN, which is not JSON": b'{"dataframe_records": [{"amount": NaN, "merchant_category": "online", "hour": 3}]}',
    "deep nesting": b'{"inputs": ' + b"[" * 5000 + b"]" * 5000 + b"}",
}


@pytest.mark.parametrize("what", BAD_BODIES)
def test_bad_body_is_400(http, what):
    response = http.post(INVOCATIONS, data=BAD_BODIES[what], headers={"Content-Type": "application/json"})
    assert response.status_code == 400, response.text
    assert response.json()["error_code"] in {"BAD_REQUEST", "INVALID_PARAMETER_VALUE"}
    assert response.json()["message"]


def test_a_missing_column_is_named(http):
    response = http.post(INVOCATIONS, json={"dataframe_records": [{"amount": 1.0}]})
    message = response.json()["message"]
    assert message.startswith('Model is missing inputs ["merchant_category", "hour"];')


@pytest.mark.parametrize("kind", ["application/xml", "application/octet-stream", "application/json; format=pandas-split"])
def test_other_content_types_are_415(http, kind):
    assert http.post(INVOCATIONS, data=b"{}", headers={"Content-Type": kind}).status_code == 415


def test_a_body_over_16_mb_is_413(http):
    body = b'{"dataframe_records": [' + b" " * (17 << 20) + b"]}"
    try:
        response = http.post(INVOCATIONS, data=body, headers={"Content-Type": "application/json"})
    except requests.exceptions.ConnectionError:
        pytest.fail("the connection was reset before the answer could be read")
    assert_error(response, 413, "BAD_REQUEST")


def test_no_token_is_401(stranger):
    assert_error(stranger.get(API), 401, "UNAUTHENTICATED")
    assert_error(stranger.post(INVOCATIONS, json={"dataframe_records": [ROW]}), 401, "UNAUTHENTICATED")


def test_a_wrong_token_is_403(box):
    assert_error(Session(box, "wrong").get(API), 403, "PERMISSION_DENIED")


@pytest.mark.parametrize("path", ["/ping", "/health", "/version", "/.well-known/databricks-config"])
def test_probes_need_no_token(stranger, path):
    response = stranger.get(path)
    assert response.status_code == 200
    if path in ("/ping", "/health"):
        assert response.text == "\n"


def test_unknown_things_are_404(http):
    assert_error(http.get("/no/such/route"), 404, "ENDPOINT_NOT_FOUND")
    assert_error(http.get(f"{API}/nobody"), 404, "RESOURCE_DOES_NOT_EXIST")
    path = "/serving-endpoints/fraud-detection/served-models/nobody/invocations"
    assert_error(http.post(path, json={"dataframe_records": [ROW]}), 404, "RESOURCE_DOES_NOT_EXIST")


def test_a_wrong_method_is_405(http):
    assert_error(http.get(INVOCATIONS), 405, "BAD_REQUEST")


def test_a_trailing_slash_is_no_redirect(http):
    """mlflow adds one; a redirect would turn its POST into a GET."""
    assert http.get(f"{API}/").json()["endpoints"]
    assert_error(http.post(f"{API}/", json={"name": "bad name"}), 400, "INVALID_PARAMETER_VALUE")


def test_an_endpoint_from_creation_to_deletion(http, name):
    entity = {"entity_name": "main.default.fraud", "entity_version": "3", "workload_size": "Small", "scale_to_zero_enabled": False}
    created = http.post(API, json={"name": name, "config": {"served_entities": [entity]}})
    assert created.status_code == 200, created.text
    assert created.json()["name"] == name and created.json()["state"]["config_update"]
    assert name in [endpoint["name"] for endpoint in http.get(API).json()["endpoints"]]
    assert_error(http.post(API, json={"name": name, "config": {"served_entities": [entity]}}), 400, "RESOURCE_ALREADY_EXISTS")
    deleted = http.delete(f"{API}/{name}")
    assert (deleted.status_code, deleted.json()) == (200, {})
    assert_error(http.delete(f"{API}/{name}"), 404, "RESOURCE_DOES_NOT_EXIST")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"name": 3}',
        b'{"name": "x", "config": {"served_entities": "all"}}',
        b'{"name": "x", "config": {"served_entities": []}}',
        b'{"name": "x", "config": {"served_entities": [{"entity_name": "main.default.fraud", "entity_version": "3", "workload_size": "Gigantic"}]}}',
    ],
)
def test_a_bad_creation_is_400(http, body):
    response = http.post(API, data=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 400, response.text
    assert response.json()["error_code"] in {"BAD_REQUEST", "INVALID_PARAMETER_VALUE"}


def test_what_is_not_enforced_is_refused_by_name(http, name):
    entity = {"entity_name": "main.default.fraud", "entity_version": "3"}
    gateway = {"guardrails": {"input": {"safety": True}}}
    body = {"name": name, "config": {"served_entities": [entity]}, "ai_gateway": gateway}
    assert "guardrails" in assert_error(http.post(API, json=body), 400, "INVALID_PARAMETER_VALUE")
