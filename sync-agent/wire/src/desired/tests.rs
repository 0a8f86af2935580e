use edgeward_base::names::ModelVersion;
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn key() -> RegistryKey {
    RegistryKey::from_seed(&[3; 32])
}

fn address(kind: Kind) -> Address {
    Address {
        fleet: "plant".parse().unwrap(),
        device: "box-1".parse().unwrap(),
        kind,
    }
}

fn endpoints() -> serde_json::Value {
    let entity = |name: &str, version: &str| {
        json!({"name": name, "entity_name": "main.default.fraud", "entity_version": version,
               "manifest": Digest::of(version.as_bytes()), "workload_size": "Small"})
    };
    json!({
        "requires": {"models": {"epoch": 1, "generation": 2}},
        "endpoints": {"fraud": {
            "served_entities": [entity("champion", "3"), entity("challenger", "4")],
            "traffic_config": {"routes": [
                {"served_entity_name": "champion", "traffic_percentage": 80},
                {"served_entity_name": "challenger", "traffic_percentage": 20}]},
            "auto_capture_config": {"enabled": true, "catalog_name": "main",
                "schema_name": "default", "table_name_prefix": "fraud"}}}})
}

fn signed(doc: &serde_json::Value, edit: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
    let mut body = json!({"schema": "desired/0", "fleet": "plant", "scope": "device",
        "target": "box-1", "kind": "endpoints", "epoch": 1, "generation": 7,
        "created_unix_ms": 0, "doc": doc});
    edit(&mut body);
    SignedEnvelope::sign(&key(), &serde_json::to_vec(&body).unwrap()).bytes()
}

fn verify(container: &[u8]) -> Result<DesiredDocument, VerifyDesiredError> {
    DesiredDocument::verify(container, &key().pinned(), &address(Kind::Endpoints))
}

fn code_of(container: &[u8]) -> RejectCode {
    verify(container).unwrap_err().rejection().code
}

#[test]
fn a_signed_document_comes_back_whole() {
    let document = Document::Endpoints(serde_json::from_value(endpoints()).unwrap());
    let Address { fleet, device, .. } = address(Kind::Endpoints);
    let generation = Generation::new(1, 7);
    let envelope =
        DesiredDocument::sign(&key(), &fleet, &device, generation, 5, &document).unwrap();
    let verified = verify(&envelope.bytes()).unwrap();
    assert_eq!(verified.document, document);
    assert_eq!(verified.identity.generation, generation);
    assert_eq!(verified.created_unix_ms, 5);
}

#[test]
fn documents_for_others_are_refused_by_name() {
    let edited = |field: &str, value: &str| {
        code_of(&signed(&endpoints(), |body| body[field] = json!(value)))
    };
    assert_eq!(edited("fleet", "other"), RejectCode::WrongTarget);
    assert_eq!(edited("target", "box-2"), RejectCode::WrongTarget);
    assert_eq!(edited("kind", "models"), RejectCode::WrongTarget);
    assert_eq!(edited("kind", "limits"), RejectCode::UnsupportedSchema);
    assert_eq!(edited("scope", "fleet"), RejectCode::UnsupportedSchema);
    assert_eq!(edited("schema", "receipt/0"), RejectCode::UnsupportedSchema);
    assert_eq!(edited("surprise", "x"), RejectCode::Invalid);
}

#[test]
fn a_document_of_another_key_is_refused() {
    let container = signed(&endpoints(), |_| {});
    let stranger = RegistryKey::from_seed(&[4; 32]).pinned();
    let refused =
        DesiredDocument::verify(&container, &stranger, &address(Kind::Endpoints)).unwrap_err();
    assert_eq!(refused.rejection().code, RejectCode::BadSignature);
    assert_eq!(refused.generation(), None);
}

#[test]
fn each_broken_rule_names_its_field() {
    let field_of = |edit: fn(&mut serde_json::Value)| {
        let mut doc = endpoints();
        edit(&mut doc["endpoints"]["fraud"]);
        match verify(&signed(&doc, |_| {})).unwrap_err() {
            VerifyDesiredError::Invalid { generation, source } => {
                assert_eq!(generation, Generation::new(1, 7));
                source.field
            }
            other => panic!("{other}"),
        }
    };
    let routes = "endpoints.fraud.traffic_config.routes";
    assert_eq!(
        field_of(|e| e["traffic_config"]["routes"][0]["traffic_percentage"] = json!(81)),
        routes
    );
    assert_eq!(
        field_of(|e| e["traffic_config"]["routes"][0]["served_entity_name"] = json!("nobody")),
        format!("{routes}[0].served_entity_name")
    );
    assert_eq!(
        field_of(|e| e["traffic_config"]["routes"][1]["served_entity_name"] = json!("champion")),
        format!("{routes}[1].served_entity_name")
    );
    assert_eq!(
        field_of(|e| e["served_entities"][1]["name"] = json!("champion")),
        "endpoints.fraud.served_entities[1].name"
    );
    assert_eq!(
        field_of(|e| e["served_entities"] = json!([])),
        "endpoints.fraud.served_entities"
    );
    assert_eq!(
        field_of(|e| e["served_entities"][0]["workload_size"] = json!("Huge")),
        "endpoints.fraud.served_entities[0].workload_size"
    );
    assert_eq!(
        field_of(|e| e["auto_capture_config"]["catalog_name"] = json!("a/b")),
        "endpoints.fraud.auto_capture_config"
    );
    assert_eq!(
        field_of(|e| e["traffic_config"]["routes"][0]["traffic_percentage"] = json!(101)),
        "doc"
    );
    assert_eq!(field_of(|e| e["ai_gateway"] = json!({})), "doc");
}

#[test]
fn a_catalogue_lists_each_version_once_in_any_order() {
    let entry = |version| ModelEntry {
        name: "main.default.fraud".parse().unwrap(),
        version: ModelVersion::new(version).unwrap(),
        manifest: Digest::of(b"manifest"),
        manifest_size: 10,
    };
    let forward = ModelsDocument {
        models: vec![entry(1), entry(2)],
    };
    let backward = ModelsDocument {
        models: vec![entry(2), entry(1)],
    };
    assert_eq!(forward.effective_hash(), backward.effective_hash());
    assert!(forward.validate().is_ok());
    assert!(
        ModelsDocument {
            models: vec![entry(1), entry(1)]
        }
        .validate()
        .is_err()
    );
    let mut oversized = entry(1);
    oversized.manifest_size = MAX_MANIFEST_BYTES_PLUS_ONE;
    assert!(
        ModelsDocument {
            models: vec![oversized]
        }
        .validate()
        .is_err()
    );
}

const MAX_MANIFEST_BYTES_PLUS_ONE: u64 = crate::manifest::MAX_MANIFEST_BYTES + 1;

proptest! {
    #[test]
    fn signed_garbage_never_panics(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let container = SignedEnvelope::sign(&key(), &body).bytes();
        prop_assert!(verify(&container).is_err());
    }

    #[test]
    fn hostile_values_in_a_field_never_panic(value in any::<i64>(), text in "\\PC{0,40}") {
        for field in ["epoch", "generation", "doc", "created_unix_ms", "target"] {
            for hostile in [json!(value), json!(text)] {
                if let Ok(document) = verify(&signed(&endpoints(), |body| body[field] = hostile)) {
                    prop_assert!(document.document.validate().is_ok());
                }
            }
        }
    }
}
