use serde_json::{Value, json};

use super::*;

fn endpoint() -> edgeward_base::names::EndpointName {
    "fraud-detection".parse().unwrap()
}

fn validate(config: &Value) -> Result<EndpointConfig, ValidateConfigError> {
    EndpointConfigInput::from_json(config)?.validate(&endpoint(), None)
}

fn refusal(config: &Value) -> String {
    validate(config).unwrap_err().to_string()
}

fn entity(name: &str, version: &str) -> Value {
    json!({"name": name, "entity_name": "main.default.fraud", "entity_version": version})
}

/// One entity with one field more.
fn with(field: &str, value: Value) -> Value {
    let mut entity = entity("champion", "3");
    entity[field] = value;
    json!({ "served_entities": [entity] })
}

#[test]
fn one_entity_gets_a_name_and_all_of_the_traffic() {
    let config = validate(&json!({"served_entities": [
        {"entity_name": "main.default.fraud", "entity_version": "3"}
    ]}))
    .unwrap();
    let [only] = config.served_entities.as_slice() else {
        panic!("one entity");
    };
    assert_eq!(only.name.as_str(), "fraud-3");
    assert_eq!(only.model.to_string(), "main.default.fraud/3");
    assert_eq!(config.shares(), [Percent::ALL]);
    assert_eq!(config.routes[0].served_entity_name, only.name);
    assert_eq!(config.auto_capture, None);
}

#[test]
fn the_older_spelling_means_the_same() {
    let newer = validate(&json!({
        "served_entities": [entity("champion", "3"), entity("challenger", "4")],
        "traffic_config": {"routes": [
            {"served_entity_name": "champion", "traffic_percentage": 80},
            {"served_entity_name": "challenger", "traffic_percentage": 20},
        ]},
    }));
    let older = validate(&json!({
        "name": "fraud-detection",
        "served_models": [
            {"name": "champion", "model_name": "main.default.fraud", "model_version": "3"},
            {"name": "challenger", "model_name": "main.default.fraud", "model_version": 4},
        ],
        "traffic_config": {"routes": [
            {"served_model_name": "champion", "traffic_percentage": "80"},
            {"served_model_name": "challenger", "served_entity_name": "challenger", "traffic_percentage": 20},
        ]},
    }));
    assert_eq!(newer, older);
    let shares: Vec<u8> = newer.unwrap().shares().iter().map(|s| s.get()).collect();
    assert_eq!(shares, [80, 20]);
}

#[test]
fn capacity_hints_are_kept_as_given() {
    let capacity = |field: &str, value: Value| {
        validate(&with(field, value)).unwrap().served_entities[0]
            .capacity
            .clone()
    };
    let size = capacity("workload_size", json!("Medium"));
    assert_eq!(size.workload_size, Some(WorkloadSize::Medium));
    let kind = capacity("workload_type", json!("CPU_LARGE"));
    assert_eq!(kind.workload_type, Some(WorkloadType::CpuLarge));
    let zero = capacity("scale_to_zero_enabled", json!(true));
    assert_eq!(zero.scale_to_zero_enabled, Some(true));
    let least = capacity("min_provisioned_concurrency", json!(4));
    assert_eq!(least.min_provisioned_concurrency, Some(4));
    let burst = capacity("burst_scaling_enabled", json!(false));
    assert_eq!(burst.burst_scaling_enabled, Some(false));
    assert_eq!(capacity("workload_size", json!(null)), Capacity::default());
}

/// Each refusal names its field and says what is allowed.
fn refused(cases: impl IntoIterator<Item = (Value, &'static str, &'static str)>) {
    for (config, field, allowed) in cases {
        let message = refusal(&config);
        assert!(message.contains(field), "{config}: {message}");
        assert!(message.contains(allowed), "{config}: {message}");
    }
}

#[test]
fn a_list_of_entities_that_cannot_be_is_refused() {
    let served = |entities: Value| json!({ "served_entities": entities });
    let eleven: Vec<Value> = (0..11).map(|n| entity(&format!("e{n}"), "3")).collect();
    let twins = json!([entity("a", "3"), entity("a", "4")]);
    let both = json!({"served_entities": twins, "served_models": twins});
    let whole = "1 to 10 model versions";
    refused([
        (json!([]), "`config`", "JSON object"),
        (json!({}), "`served_entities`", whole),
        (served(json!([])), "`served_entities`", whole),
        (served(json!("x")), "`served_entities`", "a list"),
        (served(json!([3])), "`served_entities[0]`", "JSON object"),
        (served(json!(eleven)), "`served_entities`", "at most 10"),
        (served(twins), "`served_entities[1].name`", "unique"),
        (both, "`served_models`", "served_entities alone"),
    ]);
}

#[test]
fn a_served_entity_that_cannot_be_is_refused() {
    let cases = [
        ("name", json!("no spaces"), "1 to 63 letters"),
        ("entity_name", json!("fraud"), "catalog.schema.model"),
        ("entity_name", json!(null), "catalog.schema.model"),
        ("entity_version", json!("latest"), "whole number from 1"),
        ("entity_version", json!(0), "whole number from 1"),
        ("manifest", json!("abc"), "64 lowercase hexadecimal"),
        ("workload_size", json!("Huge"), "Small, Medium or Large"),
        ("workload_size", json!(2), "text"),
        ("workload_type", json!("TPU"), "CPU, CPU_MEDIUM, CPU_LARGE"),
        (
            "workload_type",
            json!("MULTIGPU_MEDIUM"),
            "GPU_MEDIUM or GPU_LARGE",
        ),
        ("scale_to_zero_enabled", json!("yes"), "true or false"),
        ("min_provisioned_throughput", json!(-1), "from 0"),
        ("provisioned_model_units", json!(1.5), "whole number"),
    ];
    for (field, value, allowed) in cases {
        let message = refusal(&with(field, value));
        let named = format!("`served_entities[0].{field}`");
        assert!(message.contains(&named), "{message}");
        assert!(message.contains(allowed), "{message}");
    }
    let mut backwards = entity("a", "3");
    backwards["min_provisioned_concurrency"] = json!(4);
    backwards["max_provisioned_concurrency"] = json!(2);
    refused([(
        json!({"served_entities": [backwards]}),
        "`served_entities[0].max_provisioned_concurrency` is 2",
        "at least min_provisioned_concurrency, 4",
    )]);
}

#[test]
fn routes_that_make_no_split_are_refused() {
    let two = json!([entity("a", "3"), entity("b", "4")]);
    let routed =
        |routes: Value| json!({"served_entities": two, "traffic_config": {"routes": routes}});
    let pair = |a: Value, b: Value| {
        routed(json!([
            {"served_entity_name": "a", "traffic_percentage": a},
            {"served_entity_name": "b", "traffic_percentage": b},
        ]))
    };
    let name = "`traffic_config.routes[0].served_entity_name`";
    let share = "`traffic_config.routes[0].traffic_percentage`";
    let nobody = json!([{"served_entity_name": "c", "traffic_percentage": 100}]);
    let twice = json!([
        {"served_entity_name": "a", "traffic_percentage": 50},
        {"served_entity_name": "a", "traffic_percentage": 50},
    ]);
    let differ = json!([
        {"served_entity_name": "a", "served_model_name": "b", "traffic_percentage": 100},
    ]);
    refused([
        (
            json!({"served_entities": two}),
            "`traffic_config.routes`",
            "traffic_percentage",
        ),
        (
            routed(json!([])),
            "`traffic_config.routes`",
            "traffic_percentage",
        ),
        (routed(nobody), name, "one of the served entities: a, b"),
        (
            routed(json!([{"traffic_percentage": 100}])),
            name,
            "served entities",
        ),
        (
            routed(json!([{"served_entity_name": "a"}])),
            share,
            "0 to 100",
        ),
        (
            routed(twice),
            "`traffic_config.routes[1].served_entity_name`",
            "unique",
        ),
        (
            routed(differ),
            "served_model_name",
            "differs from served_entity_name",
        ),
        (pair(json!(101), json!(-1)), share, "0 to 100"),
        (pair(json!(99.5), json!(0.5)), share, "whole number"),
        (pair(json!(60), json!(30)), "sum to 90", "must be 100"),
        (pair(json!(100), json!(100)), "sum to 200", "must be 100"),
    ]);
}

#[test]
fn a_field_without_effect_is_refused_by_name() {
    for (field, value) in [
        (
            "external_model",
            json!({"provider": "openai", "name": "gpt-4"}),
        ),
        ("environment_vars", json!({"A": "b"})),
        (
            "instance_profile_arn",
            json!("arn:aws:iam::1:instance-profile/x"),
        ),
        ("foundation_model", json!({"name": "x"})),
        ("traffic_percentage", json!(10)),
    ] {
        let message = refusal(&with(field, value.clone()));
        let named = format!("`served_entities[0].{field}` is not supported");
        assert!(message.contains(&named), "{message}");
        // The SDK leaves nothing out of an empty object: what asks for nothing may stand.
        for nothing in [json!(null), json!({}), json!([]), json!(""), json!(false)] {
            validate(&with(field, nothing)).unwrap();
        }
    }
    for field in ["ai_gateway", "rate_limits", "guardrails", "fallback_config"] {
        let mut config = json!({"served_entities": [entity("a", "3")]});
        config[field] = json!({"enabled": true});
        assert!(refusal(&config).contains(&format!("`{field}` is not supported")));
    }
}

#[test]
fn an_external_model_is_refused_for_what_it_is() {
    let message = refusal(&json!({"served_entities": [
        {"name": "gpt4", "external_model": {"name": "gpt-4", "provider": "openai"}}
    ]}));
    assert!(
        message.contains("`served_entities[0].external_model`"),
        "{message}"
    );
}

fn captured(
    capture: &Value,
    previous: Option<&AutoCapture>,
) -> Result<Option<AutoCapture>, ValidateConfigError> {
    let config = json!({"served_entities": [entity("a", "3")], "auto_capture_config": capture});
    EndpointConfigInput::from_json(&config)?
        .validate(&endpoint(), previous)
        .map(|config| config.auto_capture)
}

fn capture(enabled: bool, table: &str) -> AutoCapture {
    AutoCapture {
        enabled,
        table: table.parse().unwrap(),
    }
}

#[test]
fn capture_is_on_when_it_is_described_and_takes_the_endpoints_name() {
    let given = json!({"catalog_name": "main", "schema_name": "logs"});
    assert_eq!(
        captured(&given, None),
        Ok(Some(capture(true, "main.logs.fraud-detection")))
    );
    let whole = json!({
        "enabled": false, "catalog_name": "main", "schema_name": "logs", "table_name_prefix": "f"
    });
    assert_eq!(
        captured(&whole, None),
        Ok(Some(capture(false, "main.logs.f")))
    );
}

#[test]
fn capture_that_is_not_mentioned_stays() {
    let before = capture(true, "main.logs.f");
    assert_eq!(
        captured(&json!(null), Some(&before)),
        Ok(Some(before.clone()))
    );
    assert_eq!(captured(&json!(null), None), Ok(None));
    let off = json!({"enabled": false});
    assert_eq!(
        captured(&off, Some(&before)),
        Ok(Some(capture(false, "main.logs.f")))
    );
}

#[test]
fn capture_needs_a_whole_table() {
    for (given, field) in [
        (json!({"enabled": true}), "auto_capture_config.catalog_name"),
        (
            json!({"catalog_name": "main"}),
            "auto_capture_config.schema_name",
        ),
        (
            json!({"catalog_name": "a.b", "schema_name": "s"}),
            "auto_capture_config.catalog_name",
        ),
        (
            json!({"catalog_name": "c", "schema_name": ""}),
            "auto_capture_config.schema_name",
        ),
        (
            json!({"catalog_name": "c", "schema_name": "s", "table_name_prefix": "a/b"}),
            "auto_capture_config.table_name_prefix",
        ),
        (json!({"enabled": "on"}), "auto_capture_config.enabled"),
        (json!({"state": {"x": 1}}), "auto_capture_config.state"),
    ] {
        let message = captured(&given, None).unwrap_err().to_string();
        assert!(message.contains(field), "{given}: {message}");
    }
}

#[test]
fn the_hash_is_that_of_the_whole_configuration() {
    let hash = |config: &Value| validate(config).unwrap().effective_hash();
    let one = json!({"served_entities": [entity("a", "3")]});
    let respelled = json!({
        "served_entities": [entity("a", "3")],
        "traffic_config": {"routes": [{"served_model_name": "a", "traffic_percentage": 100}]},
    });
    assert_eq!(hash(&one), hash(&respelled));
    assert_ne!(
        hash(&one),
        hash(&json!({"served_entities": [entity("a", "4")]}))
    );
    assert_ne!(hash(&one), hash(&with("workload_size", json!("Small"))));
}

#[test]
fn the_canonical_form_stays_what_it_is() {
    let config = validate(&json!({
        "served_entities": [entity("a", "3"), entity("b", "4")],
        "traffic_config": {"routes": [
            {"served_entity_name": "b", "traffic_percentage": 20},
            {"served_entity_name": "a", "traffic_percentage": 80},
        ]},
        "auto_capture_config": {"catalog_name": "c", "schema_name": "s"},
    }))
    .unwrap();
    let hints = r#"{"workload_size":null,"workload_type":null,"scale_to_zero_enabled":null,"min_provisioned_throughput":null,"max_provisioned_throughput":null,"min_provisioned_concurrency":null,"max_provisioned_concurrency":null,"provisioned_model_units":null,"burst_scaling_enabled":null}"#;
    let entity = |name: &str, version: &str| {
        format!(r#"{{"name":"{name}","model":"main.default.fraud/{version}","capacity":{hints}}}"#)
    };
    let canonical = format!(
        r#"{{"served_entities":[{},{}],"routes":[{},{}],"auto_capture":{}}}"#,
        entity("a", "3"),
        entity("b", "4"),
        r#"{"served_entity_name":"b","traffic_percentage":20}"#,
        r#"{"served_entity_name":"a","traffic_percentage":80}"#,
        r#"{"enabled":true,"table":"c.s.fraud-detection"}"#,
    );
    assert_eq!(config.effective_hash(), Digest::of(canonical.as_bytes()));
}
