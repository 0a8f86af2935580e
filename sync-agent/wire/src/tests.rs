//! Golden bytes of every message: what an earlier build wrote must stay readable.
//!
//! `EDGEWARD_UPDATE_FIXTURES=1 cargo test -p edgeward-wire golden` writes them anew.

use std::{fs, path::PathBuf};

use edgeward_base::{
    digest::Digest,
    names::{BootId, DeviceId, FleetId, ModelVersion},
};

use crate::{
    ack::{Ack, AckState, RejectCode, Rejection},
    blob::{BlobMissing, BlobRequest},
    chunk::{CHUNK_BYTES, Chunk, ChunkSet},
    desired::{Address, DesiredDocument, Document, ModelEntry, ModelsDocument},
    frame, json,
    key::RegistryKey,
    manifest::{Manifest, ManifestFile},
    ordering::{Generation, Kind},
    presence::Presence,
    report::{Confirm, Report, ReportMessage},
    reported::{Refused, Reported, ReportedModel, Running},
    segment::{
        Receipt, SegmentAnswer, SegmentEnd, SegmentKind, SegmentManifest, SegmentName,
        SegmentVerdict,
    },
};

fn golden(name: &str, bytes: &[u8]) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/v0")
        .join(name);
    if std::env::var_os("EDGEWARD_UPDATE_FIXTURES").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
    }
    let kept = fs::read(&path).unwrap();
    assert_eq!(
        String::from_utf8_lossy(bytes),
        String::from_utf8_lossy(&kept),
        "{name} differs from its golden bytes"
    );
    kept
}

fn json_golden<T>(name: &str, message: &T)
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let kept = golden(name, &json::bytes(message));
    assert_eq!(&json::parse::<T>(&kept).unwrap(), message, "{name}");
}

fn key() -> RegistryKey {
    RegistryKey::from_seed(&[9; 32])
}

fn device() -> DeviceId {
    "box-1".parse().unwrap()
}

fn fleet() -> FleetId {
    "plant".parse().unwrap()
}

fn entry() -> ModelEntry {
    ModelEntry {
        name: "main.default.fraud".parse().unwrap(),
        version: ModelVersion::new(3).unwrap(),
        manifest: Digest::of(b"manifest"),
        manifest_size: 120,
    }
}

fn segment() -> SegmentManifest {
    SegmentManifest {
        name: SegmentName {
            table: "main.default.fraud".parse().unwrap(),
            kind: SegmentKind::Rows,
            boot: BootId(0xfeed),
            first: 0,
            last: 99,
        },
        rows: 100,
        date: "2026-07-31".parse().unwrap(),
        size: 3 * CHUNK_BYTES,
        digest: Digest::of(b"parquet"),
    }
}

#[test]
fn golden_desired_documents() {
    let models = Document::Models(ModelsDocument {
        models: vec![entry()],
    });
    let endpoints: serde_json::Value = serde_json::json!({
        "requires": {"models": {"epoch": 1, "generation": 1}},
        "endpoints": {"fraud-detection": {
            "served_entities": [{"name": "champion", "entity_name": "main.default.fraud",
                "entity_version": "3", "manifest": Digest::of(b"manifest"),
                "workload_size": "Small", "workload_type": "CPU", "scale_to_zero_enabled": false}],
            "traffic_config": {"routes": [
                {"served_entity_name": "champion", "traffic_percentage": 100}]},
            "auto_capture_config": {"enabled": true, "catalog_name": "main",
                "schema_name": "default", "table_name_prefix": "fraud"}}}});
    let endpoints = Document::Endpoints(serde_json::from_value(endpoints).unwrap());
    for (name, document) in [
        ("desired-models.json", models),
        ("desired-endpoints.json", endpoints),
    ] {
        let generation = Generation::new(1, 1);
        let envelope = DesiredDocument::sign(
            &key(),
            &fleet(),
            &device(),
            generation,
            1_790_000_000_000,
            &document,
        )
        .unwrap();
        let kept = golden(name, &envelope.bytes());
        let address = Address {
            fleet: fleet(),
            device: device(),
            kind: document.kind(),
        };
        let verified = DesiredDocument::verify(&kept, &key().pinned(), &address).unwrap();
        assert_eq!(verified.document, document);
    }
}

fn report(message: ReportMessage) -> Report<ReportMessage> {
    Report {
        device: device(),
        boot: BootId(7),
        sequence: 12,
        message,
    }
}

#[test]
fn golden_acknowledgements() {
    let ack = |state| {
        let generation = Some(Generation::new(1, 4));
        report(ReportMessage::Ack(Ack {
            kind: Kind::Endpoints,
            generation,
            state,
        }))
    };
    let hash = Digest::of(b"effective");
    json_golden("ack-accepted.json", &ack(AckState::Accepted));
    json_golden(
        "ack-waiting.json",
        &ack(AckState::Waiting {
            awaited: Generation::new(1, 3),
        }),
    );
    json_golden(
        "ack-staging.json",
        &ack(AckState::Staging {
            bytes_done: 5,
            bytes_total: 9,
        }),
    );
    json_golden(
        "ack-applied.json",
        &ack(AckState::Applied {
            effective_hash: hash,
        }),
    );
    json_golden(
        "ack-rolled-back.json",
        &ack(AckState::RolledBack {
            to: Generation::new(1, 2),
        }),
    );
    let rejection = Rejection::new(RejectCode::MissingArtifact, "no such version");
    json_golden("ack-rejected.json", &ack(AckState::Rejected(rejection)));
}

#[test]
fn golden_reported_documents() {
    let hash = Digest::of(b"effective");
    let rejection = Rejection::new(RejectCode::MissingArtifact, "no such version");
    let ModelEntry {
        name,
        version,
        manifest,
        ..
    } = entry();
    json_golden(
        "reported-models.json",
        &report(ReportMessage::Reported(Reported {
            generation: Some(Generation::new(1, 3)),
            effective_hash: Some(hash),
            running: Running::Models {
                models: vec![ReportedModel {
                    name,
                    version,
                    manifest,
                }],
            },
            refused: Some(Refused {
                generation: Generation::new(1, 4),
                rejection,
            }),
        })),
    );
    let endpoints = serde_json::json!({
        "generation": null, "effective_hash": null, "kind": "endpoints",
        "endpoints": {"fraud-detection": {"config_version": 2, "effective_hash": hash,
            "managed_by": "local", "served_entities": [{"name": "champion",
                "entity_name": "main.default.fraud", "entity_version": "3",
                "traffic_percentage": 100, "verified": "framework"}]}}});
    let endpoints: Reported = serde_json::from_value(endpoints).unwrap();
    json_golden(
        "reported-endpoints.json",
        &report(ReportMessage::Reported(endpoints)),
    );
    json_golden(
        "confirm.json",
        &Confirm {
            sequence: 12,
            newest: 14,
        },
    );
    json_golden(
        "presence.json",
        &Presence {
            online: true,
            boot: BootId(7),
            session: 2,
            version: "0.1.0".to_owned(),
        },
    );
}

#[test]
fn golden_segments_and_blobs() {
    let segment = segment();
    json_golden("segment-manifest.json", &segment);
    json_golden(
        "segment-end.json",
        &SegmentEnd {
            digest: segment.digest,
        },
    );
    let wanted = ChunkSet::empty(segment.size).unwrap().wanted(2).unwrap();
    let answer = |verdict| SegmentAnswer {
        digest: segment.digest,
        verdict,
    };
    json_golden(
        "segment-send.json",
        &answer(SegmentVerdict::Send { wanted }),
    );
    let receipt = Receipt::new(fleet(), device(), &segment).sign(&key());
    json_golden(
        "segment-landed.json",
        &answer(SegmentVerdict::Landed { receipt }),
    );
    let rejection = Rejection::new(RejectCode::GenerationConflict, "another digest has landed");
    json_golden(
        "segment-refused.json",
        &answer(SegmentVerdict::Refused(rejection)),
    );
    json_golden(
        "blob-request.json",
        &BlobRequest {
            digest: segment.digest,
            wanted,
        },
    );
    json_golden(
        "blob-missing.json",
        &BlobMissing {
            digest: segment.digest,
        },
    );

    let chunk = Chunk {
        digest: segment.digest,
        index: 1,
        total: 3,
        bytes: b"bytes".to_vec(),
    };
    let kept = golden("chunk.bin", &frame::bytes(&chunk));
    assert_eq!(frame::parse::<Chunk>(&kept).unwrap(), chunk);
}

#[test]
fn golden_manifest() {
    let ModelEntry { name, version, .. } = entry();
    let files = vec![ManifestFile {
        path: "model.onnx".to_owned(),
        size: 10,
        digest: Digest::of(b"model"),
    }];
    let manifest = Manifest {
        name,
        version,
        files,
    };
    let kept = golden("manifest.json", &manifest.bytes());
    assert_eq!(Manifest::parse(&kept).unwrap(), manifest);
}
