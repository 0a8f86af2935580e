"""databricks-sdk and mlflow: permissions, tokens of others, rate limits, tags, metrics and logs."""

import os
import re
import subprocess
import time

import pytest
import requests
from databricks.sdk import WorkspaceClient
from databricks.sdk.config import Config
from databricks.sdk.errors import InvalidParameterValue, NotFound, PermissionDenied
from databricks.sdk.service.serving import (
    AiGatewayRateLimit,
    AiGatewayRateLimitKey,
    AiGatewayRateLimitRenewalPeriod,
    EmailNotifications,
    EndpointCoreConfigInput,
    EndpointTag,
    FallbackConfig,
    RateLimit,
    RateLimitKey,
    RateLimitRenewalPeriod,
    ServedEntityInput,
    ServingEndpointAccessControlRequest,
    ServingEndpointPermissionLevel,
)
from mlflow.deployments import get_deploy_client

ROW = {"amount": 1250.0, "merchant_category": "online", "hour": 3, "is_foreign": True}
LEVEL = ServingEndpointPermissionLevel


def client(url: str, token: str):
    return WorkspaceClient(config=Config(host=url, token=token, retry_timeout_seconds=5)).serving_endpoints


@pytest.fixture(scope="module")
def serving(box):
    return client(box.url, box.token)


@pytest.fixture(scope="module")
def token_of(box):
    """Makes tokens for others, as an operator does."""
    if box.landing is None:
        pytest.skip("the tokens of this box are made elsewhere")

    def make(principal: str, *options: str) -> str:
        command = [os.environ["EDGEWARD_BIN"], "token", "create", "--principal", principal, *options]
        command += ["--state", str(box.landing.parent / "state")]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    return make


@pytest.fixture
def endpoint(serving, name):
    entity = ServedEntityInput(name="only", entity_name="main.default.fraud", entity_version="3")
    yield serving.create_and_wait(
        name,
        config=EndpointCoreConfigInput(name=name, served_entities=[entity]),
        tags=[EndpointTag("team", "risk"), EndpointTag("beta")],
        description="Is it fraud?",
    )
    serving.delete(name)


def ask(box, token: str, name: str) -> requests.Response:
    url = f"{box.url}/serving-endpoints/{name}/invocations"
    return requests.post(url, json={"dataframe_records": [ROW]}, headers={"Authorization": f"Bearer {token}"}, timeout=30)


def test_tags_and_description(serving, endpoint):
    assert endpoint.description == "Is it fraud?"
    assert {tag.key: tag.value for tag in endpoint.tags} == {"team": "risk", "beta": None}
    tags = serving.patch(endpoint.name, add_tags=[EndpointTag("team", "ops")], delete_tags=["beta"]).tags
    assert [(tag.key, tag.value) for tag in tags] == [("team", "ops")]
    [listed] = [one for one in serving.list() if one.name == endpoint.name]
    assert [(tag.key, tag.value) for tag in listed.tags] == [("team", "ops")]


def test_permission_levels(serving, endpoint):
    levels = serving.get_permission_levels(endpoint.id).permission_levels
    assert [level.permission_level for level in levels] == [LEVEL.CAN_VIEW, LEVEL.CAN_QUERY, LEVEL.CAN_MANAGE]
    assert all(level.description for level in levels)


def test_a_token_may_ask_and_change_nothing_until_it_is_granted(box, serving, endpoint, token_of):
    bob = client(box.url, token_of("bob@example.org"))
    assert bob.get(endpoint.name).permission_level.value == "CAN_QUERY"
    assert len(bob.query(endpoint.name, dataframe_records=[ROW]).predictions) == 1
    for refused in [
        lambda: bob.delete(endpoint.name),
        lambda: bob.patch(endpoint.name, delete_tags=["team"]),
        lambda: bob.update_config(endpoint.name, served_entities=[]),
        lambda: bob.set_permissions(endpoint.id, access_control_list=[]),
        lambda: bob.create("of-bob", config=EndpointCoreConfigInput(name="of-bob")),
    ]:
        with pytest.raises(PermissionDenied, match="^bob@example.org "):
            refused()
    grant = ServingEndpointAccessControlRequest(user_name="bob@example.org", permission_level=LEVEL.CAN_MANAGE)
    serving.update_permissions(endpoint.id, access_control_list=[grant])
    assert [tag.key for tag in bob.patch(endpoint.name, delete_tags=["team"]).tags] == ["beta"]


def test_permissions_replace_and_merge(box, serving, endpoint, token_of):
    robot = client(box.url, token_of("robot", "--service-principal", "--group", "line-3"))
    group = ServingEndpointAccessControlRequest(group_name="line-3", permission_level=LEVEL.CAN_VIEW)
    listed = serving.set_permissions(endpoint.id, access_control_list=[group])
    assert listed.object_id == f"/serving-endpoints/{endpoint.id}" and listed.object_type == "serving-endpoint"
    assert robot.get(endpoint.name).permission_level.value == "CAN_VIEW"
    with pytest.raises(PermissionDenied, match="robot has no CAN_QUERY permission"):
        robot.query(endpoint.name, dataframe_records=[ROW])
    own = ServingEndpointAccessControlRequest(service_principal_name="robot", permission_level=LEVEL.CAN_QUERY)
    serving.update_permissions(endpoint.id, access_control_list=[own])
    assert len(robot.query(endpoint.name, dataframe_records=[ROW]).predictions) == 1
    shown = serving.get_permissions(endpoint.id).access_control_list
    of = {one.user_name or one.group_name or one.service_principal_name: one.all_permissions[0] for one in shown}
    assert {name: one.permission_level for name, one in of.items()} == {
        "admins": LEVEL.CAN_MANAGE,
        "admin": LEVEL.CAN_MANAGE,
        "line-3": LEVEL.CAN_VIEW,
        "robot": LEVEL.CAN_QUERY,
    }
    assert of["admins"].inherited and not of["robot"].inherited
    serving.set_permissions(endpoint.id, access_control_list=[])
    with pytest.raises(PermissionDenied):
        robot.get(endpoint.name)
    assert endpoint.name not in [one.name for one in robot.list()]


def test_rate_limits_of_the_gateway(box, serving, endpoint, token_of):
    minute = AiGatewayRateLimitRenewalPeriod.MINUTE
    limits = [
        AiGatewayRateLimit(calls=1000, renewal_period=minute, key=AiGatewayRateLimitKey.ENDPOINT),
        AiGatewayRateLimit(calls=0, renewal_period=minute, key=AiGatewayRateLimitKey.USER, principal="eve"),
        AiGatewayRateLimit(calls=0, renewal_period=minute, key=AiGatewayRateLimitKey.USER_GROUP, principal="guests"),
        AiGatewayRateLimit(calls=0, renewal_period=minute, key=AiGatewayRateLimitKey.SERVICE_PRINCIPAL, principal="robot"),
    ]
    assert serving.put_ai_gateway(endpoint.name, rate_limits=limits).rate_limits == limits
    assert serving.get(endpoint.name).ai_gateway.rate_limits == limits
    tokens = [token_of("eve"), token_of("guest", "--group", "guests"), token_of("robot", "--service-principal")]
    for token in tokens:
        refused = ask(box, token, endpoint.name)
        assert refused.status_code == 429 and refused.json()["error_code"] == "REQUEST_LIMIT_EXCEEDED", refused.text
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert ask(box, box.token, endpoint.name).status_code == 200
    assert serving.put_ai_gateway(endpoint.name).rate_limits == []
    assert [ask(box, token, endpoint.name).status_code for token in tokens] == [200, 200, 200]


def test_rate_limits_of_the_endpoint(box, serving, endpoint):
    limit = RateLimit(calls=2, renewal_period=RateLimitRenewalPeriod.MINUTE, key=RateLimitKey.USER)
    assert serving.put(endpoint.name, rate_limits=[limit]).rate_limits == [limit]
    statuses = [ask(box, box.token, endpoint.name).status_code for _ in range(6)]
    # A minute of the box may end in between.
    assert 2 <= statuses.count(200) <= 4 and statuses.count(429) == 6 - statuses.count(200)
    assert serving.put(endpoint.name).rate_limits == []
    assert ask(box, box.token, endpoint.name).status_code == 200


def test_mlflow_sets_limits_and_tags(box, serving, name, monkeypatch):
    monkeypatch.setenv("DATABRICKS_HOST", box.url)
    monkeypatch.setenv("DATABRICKS_TOKEN", box.token)
    deployments = get_deploy_client("databricks")
    entity = {"name": "only", "entity_name": "main.default.fraud", "entity_version": "3"}
    deployments.create_endpoint(
        config={
            "name": name,
            "config": {"served_entities": [entity], "traffic_config": {"routes": [{"served_model_name": "only", "traffic_percentage": 100}]}},
            "rate_limits": [{"calls": 0, "key": "user", "renewal_period": "minute"}],
            "tags": [{"key": "team", "value": "risk"}],
        }
    )
    assert ask(box, box.token, name).status_code == 429
    deployments.update_endpoint_rate_limits(name, config={"rate_limits": []})
    assert ask(box, box.token, name).status_code == 200
    tags = deployments.update_endpoint_tags(name, config={"add_tags": [{"key": "beta"}], "delete_tags": ["team"]})
    assert tags["tags"] == [{"key": "beta"}]
    gateway = {"rate_limits": [{"calls": 9, "key": "endpoint", "renewal_period": "minute"}]}
    assert deployments.update_endpoint_ai_gateway(name, config=gateway) == gateway
    deployments.delete_endpoint(name)


def test_what_would_have_no_effect_is_refused_by_name(serving, endpoint):
    minute = AiGatewayRateLimitRenewalPeriod.MINUTE
    with pytest.raises(InvalidParameterValue, match="no model of this endpoint counts tokens"):
        serving.put_ai_gateway(endpoint.name, rate_limits=[AiGatewayRateLimit(tokens=5, renewal_period=minute)])
    with pytest.raises(InvalidParameterValue, match="fallback_config"):
        serving.put_ai_gateway(endpoint.name, fallback_config=FallbackConfig(enabled=True))
    with pytest.raises(InvalidParameterValue, match="on_update_failure"):
        serving.update_notifications(endpoint.name, email_notifications=EmailNotifications(on_update_failure=["a@example.org"]))
    assert serving.update_notifications(endpoint.name, email_notifications=EmailNotifications()).name == endpoint.name
    assert serving.put_ai_gateway(endpoint.name, fallback_config=FallbackConfig(enabled=False)).as_dict() == {}


def test_metrics(box, serving, endpoint):
    for body in [{"dataframe_records": [ROW]}, {"dataframe_records": [ROW]}, {}]:
        url = f"{box.url}/serving-endpoints/{endpoint.name}/invocations"
        requests.post(url, json=body, headers={"Authorization": f"Bearer {box.token}"}, timeout=30)
    text = serving.export_metrics(endpoint.name).contents.read().decode()
    sample = re.compile(r"^([a-z0-9_]+)(?:\{([^}]*)\})? (\S+) (\d{13})$")
    values = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, labels, value, at = sample.match(line).groups()
            assert abs(int(at) / 1000 - time.time()) < 60
            values[name, labels] = float(value)
    assert values["request_count_total", None] == 3
    assert values["request_4xx_count_total", None] == 1 and values["request_5xx_count_total", None] == 0
    assert {"cpu_usage_percentage", "mem_usage_percentage", "provisioned_concurrent_requests_total"} <= {name for name, _ in values}
    labels = f'endpoint_name="{endpoint.name}"'
    assert values["request_latency_ms_count", labels] == 3 and values["request_latency_ms_sum", labels] > 0
    assert values["model_prediction_latency_ms_count", labels] == 2
    assert values["model_queue_time_ms_bucket", labels + ',le="+Inf"'] == 2


def test_logs(serving, endpoint):
    built = serving.build_logs(endpoint.name, "only").logs
    assert "main.default.fraud/3" in built and "verified: Framework" in built and "DEPLOYMENT_READY" in built
    assert "endpoint configuration applied" in serving.logs(endpoint.name, "only").logs
    for route in [serving.logs, serving.build_logs]:
        with pytest.raises(NotFound, match="no served entity"):
            route(endpoint.name, "stranger")
