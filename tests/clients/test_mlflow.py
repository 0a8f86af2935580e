"""mlflow deployments client, unmodified, with its dictionaries."""

import pytest
from conftest import FORMS, GOLDEN, SAMPLES, wait_until
from mlflow.deployments import get_deploy_client
from mlflow.models import Model
from requests import HTTPError


@pytest.fixture(scope="module")
def deployments(box):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABRICKS_HOST", box.url)
        patch.setenv("DATABRICKS_TOKEN", box.token)
        # A retried error must fail the test at once.
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        patch.setenv("MLFLOW_DATABRICKS_ENDPOINT_HTTP_RETRY_TIMEOUT", "10")
        yield get_deploy_client("databricks")


def config(version: int) -> dict:
    return {
        "served_entities": [
            {
                "name": "only",
                "entity_name": "main.default.fraud",
                "entity_version": str(version),
                "workload_size": "Small",
                "scale_to_zero_enabled": True,
            }
        ],
        "traffic_config": {"routes": [{"served_model_name": "only", "traffic_percentage": 100}]},
    }


@pytest.fixture
def endpoint(deployments, name):
    deployments.create_endpoint(config={"name": name, "config": config(3)})
    wait_ready(deployments, name)
    yield name
    deployments.delete_endpoint(name)


def wait_ready(deployments, name: str) -> dict:
    def settled():
        found = deployments.get_endpoint(name)
        return found if found["state"] == {"ready": "READY", "config_update": "NOT_UPDATING"} else None

    return wait_until(settled, 60, f"{name} ready")


def test_list_endpoints(deployments):
    assert {"fraud-detection", "tumour", "diabetes"} <= {endpoint["name"] for endpoint in deployments.list_endpoints()}


def test_get_endpoint(deployments):
    found = deployments.get_endpoint("fraud-detection")
    shares = {route["served_model_name"]: route["traffic_percentage"] for route in found["config"]["traffic_config"]["routes"]}
    assert shares == {"champion": 80, "challenger": 20}


@pytest.mark.parametrize("form", FORMS)
def test_predict_fraud_detection(deployments, form):
    answer = deployments.predict(endpoint="fraud-detection", inputs={form: GOLDEN["fraud", 3].forms[form]})
    assert any(GOLDEN["fraud", version].matches(answer["predictions"]) for version in (3, 4))


@pytest.mark.parametrize("form", FORMS)
def test_predict_tumour(deployments, form):
    answer = deployments.predict(endpoint="tumour", inputs={form: GOLDEN["tumour", 1].forms[form]})
    assert any(GOLDEN["tumour", version].matches(answer["predictions"]) for version in (1, 2))


def test_create_update_predict_delete(deployments, endpoint):
    old = deployments.predict(endpoint=endpoint, inputs={"dataframe_split": GOLDEN["fraud", 3].split})
    assert GOLDEN["fraud", 3].matches(old["predictions"])
    deployments.update_endpoint_config(endpoint=endpoint, config=config(4))
    updated = wait_ready(deployments, endpoint)
    assert updated["config"]["served_entities"][0]["entity_version"] == "4"
    new = deployments.predict(endpoint=endpoint, inputs={"dataframe_split": GOLDEN["fraud", 4].split})
    assert GOLDEN["fraud", 4].matches(new["predictions"])


@pytest.mark.filterwarnings("ignore:Passing 'name':UserWarning")
def test_create_in_the_old_form(deployments, name):
    """The form without a `config` wrapper, which the client rewrites."""
    deployments.create_endpoint(name=name, config=config(3))
    assert wait_ready(deployments, name)["name"] == name
    deployments.delete_endpoint(name)


def test_errors_keep_their_status_and_code(deployments, endpoint):
    """The client rebuilds the status from our error code: a code it does not know would reach its user as 500."""
    missing = {"dataframe_records": [{"amount": 1.0, "hour": 3}]}
    cases = [
        (404, "RESOURCE_DOES_NOT_EXIST", lambda: deployments.get_endpoint("no-such-endpoint")),
        (404, "RESOURCE_DOES_NOT_EXIST", lambda: deployments.delete_endpoint("no-such-endpoint")),
        (400, "RESOURCE_ALREADY_EXISTS", lambda: deployments.create_endpoint(config={"name": endpoint, "config": config(3)})),
        (400, "merchant_category", lambda: deployments.predict(endpoint=endpoint, inputs=missing)),
    ]
    for status, text, call in cases:
        with pytest.raises(HTTPError, match=text) as error:
            call()
        assert error.value.response.status_code == status


@pytest.mark.parametrize(("model", "version"), list(GOLDEN))
def test_the_samples_are_mlflow_models(model, version):
    """mlflow's own loader reads our model directories: the signature accepts the golden rows, the example is one."""
    found = Model.load(SAMPLES / model / str(version))
    assert found.signature.inputs.input_names() == GOLDEN[model, version].columns
    assert found.flavors["onnx"]["data"] == "model.onnx"
    assert found.load_input_example(str(SAMPLES / model / str(version))).columns.tolist() == GOLDEN[model, version].columns
