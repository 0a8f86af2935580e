"""databricks-sdk, unmodified, with typed objects: what a script written for a workspace does against a box."""

import json
from datetime import timedelta

import pytest
from conftest import FORMS, GOLDEN, SAMPLES
from databricks.sdk import WorkspaceClient
from databricks.sdk.config import Config
from databricks.sdk.errors import (
    BadRequest,
    InvalidParameterValue,
    NotFound,
    PermissionDenied,
    ResourceAlreadyExists,
    ResourceDoesNotExist,
)
from databricks.sdk.service.serving import (
    DataframeSplitInput,
    EndpointCoreConfigInput,
    EndpointStateConfigUpdate,
    EndpointStateReady,
    PtEndpointCoreConfig,
    PtServedModel,
    Route,
    ServedEntityInput,
    TrafficConfig,
)

MINUTE = timedelta(minutes=1)


def client(url: str, token: str) -> WorkspaceClient:
    # A retried error must fail the test at once instead of after the client's five minutes.
    return WorkspaceClient(config=Config(host=url, token=token, retry_timeout_seconds=10))


@pytest.fixture(scope="module")
def serving(box):
    return client(box.url, box.token).serving_endpoints


def entity(version: int, model: str = "main.default.fraud", name: str | None = None) -> ServedEntityInput:
    return ServedEntityInput(
        name=name, entity_name=model, entity_version=str(version), workload_size="Small", scale_to_zero_enabled=False
    )


def routes(**percentages: int) -> TrafficConfig:
    return TrafficConfig([Route(served_entity_name=name, traffic_percentage=share) for name, share in percentages.items()])


@pytest.fixture
def endpoint(serving, name):
    """An endpoint with one version of the fraud model, created through the waiter and deleted after the test."""
    serving.create_and_wait(name, config=EndpointCoreConfigInput(name=name, served_entities=[entity(3)]), timeout=MINUTE)
    yield name
    try:
        serving.delete(name)
    except ResourceDoesNotExist:
        pass


def query(serving, endpoint: str, form: str, golden):
    value = golden.forms[form]
    return serving.query(endpoint, **{form: DataframeSplitInput(**value) if form == "dataframe_split" else value})


def test_list_names_the_endpoints_of_the_quickstart(serving):
    assert {"fraud-detection", "tumour", "diabetes"} <= {endpoint.name for endpoint in serving.list()}


def test_get_describes_the_split(serving):
    found = serving.get("fraud-detection")
    assert found.state.ready is EndpointStateReady.READY
    assert found.state.config_update is EndpointStateConfigUpdate.NOT_UPDATING
    assert {(e.name, e.entity_name, e.entity_version) for e in found.config.served_entities} == {
        ("champion", "main.default.fraud", "3"),
        ("challenger", "main.default.fraud", "4"),
    }
    assert {(m.name, m.model_name, m.model_version) for m in found.config.served_models} == {
        ("champion", "main.default.fraud", "3"),
        ("challenger", "main.default.fraud", "4"),
    }
    shares = {route.served_model_name: route.traffic_percentage for route in found.config.traffic_config.routes}
    assert shares == {"champion": 80, "challenger": 20}
    assert found.creation_timestamp > 1_600_000_000_000, "timestamps are epoch milliseconds"


@pytest.mark.parametrize("form", FORMS)
def test_fraud_detection_answers_as_the_framework_does(serving, form):
    versions = {"champion": GOLDEN["fraud", 3], "challenger": GOLDEN["fraud", 4]}
    answer = query(serving, "fraud-detection", form, GOLDEN["fraud", 3])
    assert versions[answer.served_model_name].matches(answer.predictions)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("model", "version"), list(GOLDEN))
def test_each_version_answers_as_the_framework_does(serving, name, model, version, form):
    config = EndpointCoreConfigInput(name=name, served_entities=[entity(version, f"main.default.{model}")])
    serving.create_and_wait(name, config=config, timeout=MINUTE)
    try:
        answer = query(serving, name, form, GOLDEN[model, version])
        assert GOLDEN[model, version].matches(answer.predictions)
        assert answer.served_model_name == f"{model}-{version}"
    finally:
        serving.delete(name)


@pytest.mark.parametrize(("model", "version"), [key for key in GOLDEN if key[0] != "diabetes"])
def test_accuracy_on_heldout_rows_is_the_frameworks_own(serving, name, model, version):
    heldout = json.loads((SAMPLES / model / str(version) / "heldout.json").read_text())
    config = EndpointCoreConfigInput(name=name, served_entities=[entity(version, f"main.default.{model}")])
    serving.create_and_wait(name, config=config, timeout=MINUTE)
    try:
        answer = serving.query(name, dataframe_split=DataframeSplitInput(**heldout["inputs"]))
    finally:
        serving.delete(name)
    right = sum((probability >= 0.5) == bool(label) for probability, label in zip(answer.predictions, heldout["labels"], strict=True))
    assert round(right / len(heldout["labels"]), 6) == heldout["accuracy"]["framework"]


def test_tumour_answers_as_one_of_its_versions(serving):
    answer = query(serving, "tumour", "dataframe_split", GOLDEN["tumour", 1])
    assert any(GOLDEN["tumour", version].matches(answer.predictions) for version in (1, 2))


def test_the_waiter_sees_a_created_endpoint_become_ready(serving, name):
    waiter = serving.create(name, config=EndpointCoreConfigInput(name=name, served_entities=[entity(4)]))
    assert waiter.name == name
    done = waiter.result(timeout=MINUTE)
    assert done.state.ready is EndpointStateReady.READY
    assert done.config.config_version == 1
    assert [(route.served_model_name, route.traffic_percentage) for route in done.config.traffic_config.routes] == [("fraud-4", 100)]
    serving.delete(name)
    assert name not in {endpoint.name for endpoint in serving.list()}


def test_update_config_replaces_entities_and_routes(serving, endpoint):
    updated = serving.update_config_and_wait(
        endpoint,
        served_entities=[entity(3, name="old"), entity(4, name="new")],
        traffic_config=routes(old=0, new=100),
        timeout=MINUTE,
    )
    assert updated.config.config_version == 2
    assert {route.served_entity_name: route.traffic_percentage for route in updated.config.traffic_config.routes} == {"old": 0, "new": 100}
    answer = query(serving, endpoint, "dataframe_split", GOLDEN["fraud", 4])
    assert answer.served_model_name == "new"
    assert GOLDEN["fraud", 4].matches(answer.predictions)


def units(version: int, units: int, burst: bool | None = None) -> PtEndpointCoreConfig:
    model = PtServedModel(
        name="champion",
        entity_name="main.default.fraud",
        entity_version=str(version),
        provisioned_model_units=units,
        burst_scaling_enabled=burst,
    )
    return PtEndpointCoreConfig(served_entities=[model])


def test_provisioned_throughput_is_kept_and_shown(serving, name):
    made = serving.create_provisioned_throughput_endpoint_and_wait(name, units(3, 50, burst=False), timeout=MINUTE)
    try:
        (entity,) = made.config.served_entities
        assert (entity.provisioned_model_units, entity.burst_scaling_enabled) == (50, False)
        assert made.state.ready == EndpointStateReady.READY
        wait = serving.update_provisioned_throughput_endpoint_config(name, units(4, 100))
        (entity,) = wait.result(MINUTE).config.served_entities
        assert (entity.entity_version, entity.provisioned_model_units, entity.burst_scaling_enabled) == ("4", 100, None)
        assert serving.get(name).config.config_version == 2
        golden = GOLDEN["fraud", 4]
        assert golden.matches(serving.query(name, dataframe_records=golden.records).predictions)
    finally:
        serving.delete(name)


def test_provisioned_throughput_wants_model_units(serving, name):
    with pytest.raises(InvalidParameterValue, match=r"served_entities\[0\].provisioned_model_units` is 0: use a whole number from 1"):
        serving.create_provisioned_throughput_endpoint(name, units(3, 0))
    with pytest.raises(ResourceDoesNotExist):
        serving.get(name)


def test_a_refused_update_changes_nothing(serving, endpoint):
    before = serving.get(endpoint).config
    with pytest.raises(InvalidParameterValue):
        serving.update_config(endpoint, served_entities=[entity(3), entity(4)], traffic_config=routes(**{"fraud-3": 70, "fraud-4": 20}))
    after = serving.get(endpoint)
    assert after.config.as_dict() == before.as_dict()
    assert after.state.config_update is EndpointStateConfigUpdate.NOT_UPDATING


def test_request_ids_and_usage_context_ride_along(serving, endpoint):
    golden = GOLDEN["fraud", 3]
    answer = serving.query(
        endpoint, dataframe_records=golden.records, client_request_id="ride-along", usage_context={"team": "risk"}
    )
    assert golden.matches(answer.predictions)


def test_unknown_endpoint_is_resource_does_not_exist(serving):
    for call in (
        lambda: serving.get("no-such-endpoint"),
        lambda: serving.delete("no-such-endpoint"),
        lambda: serving.query("no-such-endpoint", dataframe_records=[{}]),
        lambda: serving.update_config("no-such-endpoint", served_entities=[entity(3)]),
    ):
        with pytest.raises(ResourceDoesNotExist) as error:
            call()
        assert error.value.error_code == "RESOURCE_DOES_NOT_EXIST"
        assert "no-such-endpoint" in str(error.value)


def test_unknown_version_is_resource_does_not_exist(serving, name):
    with pytest.raises(ResourceDoesNotExist):
        serving.create(name, config=EndpointCoreConfigInput(name=name, served_entities=[entity(99)]))
    with pytest.raises(NotFound):
        serving.get(name)


def test_a_taken_name_is_resource_already_exists(serving, endpoint):
    with pytest.raises(ResourceAlreadyExists):
        serving.create(endpoint, config=EndpointCoreConfigInput(name=endpoint, served_entities=[entity(3)]))


def test_bad_configurations_are_invalid_parameter_value(serving, name):
    two = [entity(3, name="a"), entity(4, name="b")]
    configs = {
        "percentages that sum to 90": {"served_entities": two, "traffic_config": routes(a=80, b=10)},
        "a route to nothing": {"served_entities": two, "traffic_config": routes(a=80, c=20)},
        "two entities and no route": {"served_entities": two},
        "the same entity name twice": {"served_entities": [entity(3, name="a"), entity(4, name="a")], "traffic_config": routes(a=100)},
    }
    for what, config in configs.items():
        with pytest.raises(InvalidParameterValue):
            serving.create(name, config=EndpointCoreConfigInput(name=name, **config))
            pytest.fail(f"accepted {what}")


def test_a_bad_name_is_invalid_parameter_value(serving):
    for bad in ("white space", "dots.are.not", "x" * 64):
        with pytest.raises(InvalidParameterValue):
            serving.create(bad, config=EndpointCoreConfigInput(name=bad, served_entities=[entity(3)]))


def test_a_missing_column_is_a_bad_request_that_names_it(serving):
    with pytest.raises(BadRequest, match="merchant_category"):
        serving.query("fraud-detection", dataframe_records=[{"amount": 1.0, "hour": 3}])


def test_a_wrong_token_is_permission_denied(box):
    with pytest.raises(PermissionDenied):
        list(client(box.url, "not-the-token").serving_endpoints.list())
