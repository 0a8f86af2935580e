use edgeward_base::{digest::Digest, names::ModelVersion};
use edgeward_wire::desired::ModelEntry;
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn entry(version: u64) -> ModelEntry {
    ModelEntry {
        name: "main.default.fraud".parse().unwrap(),
        version: ModelVersion::new(version).unwrap(),
        manifest: Digest::of(&version.to_le_bytes()),
        manifest_size: 10,
    }
}

fn arrived(generation: u64, document: Document) -> Event {
    let text = match &document {
        Document::Models(models) => json!(models).to_string(),
        Document::Endpoints(endpoints) => json!(endpoints).to_string(),
    };
    let body = Digest::of(text.as_bytes());
    let identity = DocumentIdentity {
        generation: Generation::new(1, generation),
        body,
    };
    let document = DesiredDocument {
        identity,
        created_unix_ms: 0,
        document,
    };
    Event::Arrived {
        document: Box::new(document),
        container: text.into_bytes(),
    }
}

fn models(generation: u64, versions: &[u64]) -> Event {
    let models = versions.iter().map(|version| entry(*version)).collect();
    arrived(generation, Document::Models(ModelsDocument { models }))
}

fn endpoints(generation: u64, requires: u64, version: u64) -> Event {
    let entry = entry(version);
    let document = json!({"requires": {"models": {"epoch": 1, "generation": requires}},
        "endpoints": {"fraud": {"served_entities": [{"name": "champion",
            "entity_name": entry.name, "entity_version": entry.version,
            "manifest": entry.manifest}],
        "traffic_config": {"routes": [
            {"served_entity_name": "champion", "traffic_percentage": 100}]}}}});
    arrived(
        generation,
        Document::Endpoints(serde_json::from_value(document).unwrap()),
    )
}

fn staged(generation: u64) -> Event {
    Event::ModelsStaged {
        generation: Generation::new(1, generation),
        result: Ok(()),
    }
}

fn applied(generation: u64) -> Event {
    Event::EndpointsApplied {
        generation: Generation::new(1, generation),
        outcome: ApplyOutcome::Applied,
    }
}

fn rejection() -> Rejection {
    Rejection::new(RejectCode::NoSpace, "full")
}

/// One word for each effect.
fn words(effects: &[Effect]) -> Vec<String> {
    effects
        .iter()
        .map(|effect| match effect {
            Effect::Save(record) => format!("save {}", record.kind),
            Effect::Ack(ack) => {
                let state = serde_json::to_value(&ack.state).unwrap();
                format!("ack {} {}", ack.kind, state["state"].as_str().unwrap())
            }
            Effect::Report(kind) => format!("report {kind}"),
            Effect::Stage { generation, .. } => format!("stage {generation}"),
            Effect::Apply { applied, .. } => format!("apply {}", applied.identity.generation),
            Effect::CancelApply => "cancel apply".to_owned(),
        })
        .collect()
}

fn after(events: impl IntoIterator<Item = Event>) -> (State, Vec<String>) {
    let mut last = Vec::new();
    let mut state = State::default();
    for event in events {
        let (next, effects) = state.step(event);
        state = next;
        last = words(&effects);
    }
    (state, last)
}

#[test]
fn a_document_is_saved_before_anything_is_done() {
    let (_, effects) = after([models(1, &[3])]);
    assert_eq!(effects, ["save models", "ack models accepted", "stage 1.1"]);
    let (_, effects) = after([endpoints(1, 1, 3)]);
    assert_eq!(
        effects,
        [
            "save endpoints",
            "ack endpoints accepted",
            "ack endpoints waiting"
        ]
    );
}

#[test]
fn what_can_be_applied_at_once_is_durable_with_what_it_changes() {
    let (state, _) = after([models(1, &[3]), staged(1)]);
    let (state, effects) = state.step(endpoints(1, 1, 3));
    let Some(Effect::Apply {
        applied: with,
        held,
        ..
    }) = effects.last().cloned()
    else {
        panic!("{effects:?}")
    };
    assert_eq!(held.held, with.identity);
    assert_eq!(held.applied, None);
    let (state, effects) = state.step(applied(1));
    assert_eq!(
        words(&effects),
        ["ack endpoints applied", "report endpoints"]
    );
    assert_eq!(state.endpoints.record.unwrap().applied, Some(with));
}

#[test]
fn a_record_is_joined_from_what_was_saved_and_what_was_applied() {
    let identity = |generation: u64| DocumentIdentity {
        generation: Generation::new(1, generation),
        body: Digest::of(&generation.to_le_bytes()),
    };
    let saved = |generation: u64| TrackRecord {
        kind: Kind::Endpoints,
        held: identity(generation),
        held_container: vec![1],
        refused: Some(rejection()),
        applied: None,
    };
    let applied = |generation: u64| AppliedDocument {
        identity: identity(generation),
        effective_hash: Digest::of(b"effective"),
        container: vec![2],
    };
    let joined = |saved, applied| TrackRecord::joined(Kind::Endpoints, saved, applied);
    assert_eq!(joined(None, None), None);
    assert_eq!(joined(Some(saved(2)), None), Some(saved(2)));
    // Saved later, or before a slow application: it keeps its place and its refusal.
    let older = joined(Some(saved(2)), Some(applied(1))).unwrap();
    assert_eq!(
        (older.held, older.refused),
        (identity(2), Some(rejection()))
    );
    assert_eq!(older.applied, Some(applied(1)));
    // Applied at once: it was never saved, and nothing older may come after it.
    for saved in [None, Some(saved(2))] {
        let newer = joined(saved, Some(applied(3))).unwrap();
        assert_eq!((newer.held, newer.refused), (identity(3), None));
        assert_eq!(newer.held_container, vec![2]);
        assert_eq!(newer.applied, Some(applied(3)));
    }
}

#[test]
fn staged_models_release_the_endpoints_that_wait_for_them() {
    let (_, effects) = after([endpoints(1, 1, 3), models(1, &[3]), staged(1)]);
    assert_eq!(
        effects,
        [
            "save models",
            "ack models applied",
            "report models",
            "apply 1.1"
        ]
    );
    let (_, effects) = after([endpoints(1, 2, 3), models(1, &[3]), staged(1)]);
    assert_eq!(
        effects,
        ["save models", "ack models applied", "report models"]
    );
}

#[test]
fn a_later_catalogue_serves_as_well_and_a_lacking_one_refuses() {
    let (_, effects) = after([models(5, &[3]), staged(5), endpoints(1, 4, 3)]);
    assert_eq!(effects, ["ack endpoints accepted", "apply 1.1"]);
    let (_, effects) = after([models(5, &[4]), staged(5), endpoints(1, 4, 3)]);
    assert_eq!(
        effects,
        [
            "save endpoints",
            "ack endpoints accepted",
            "save endpoints",
            "ack endpoints rejected",
            "report endpoints"
        ]
    );
}

#[test]
fn models_that_cannot_be_staged_leave_the_endpoints_waiting_for_the_next() {
    let result = Err(rejection());
    let refused = Event::ModelsStaged {
        generation: Generation::new(1, 1),
        result,
    };
    let (state, effects) = after([endpoints(1, 1, 3), models(1, &[3]), refused]);
    assert_eq!(
        effects,
        ["save models", "ack models rejected", "report models"]
    );
    let (state, _) = state.step(models(2, &[3]));
    let (_, effects) = state.step(staged(2));
    assert!(words(&effects).contains(&"apply 1.1".to_owned()));
}

#[test]
fn a_newer_document_cancels_what_is_being_applied() {
    let applying = [
        models(1, &[3, 4]),
        staged(1),
        endpoints(1, 1, 3),
        endpoints(2, 1, 4),
    ];
    let (state, effects) = after(applying);
    assert_eq!(
        effects,
        ["cancel apply", "ack endpoints accepted", "apply 1.2"]
    );
    // the late outcome of the cancelled one says nothing
    let (_, effects) = state.step(applied(1));
    assert!(effects.is_empty());
}

#[test]
fn duplicates_are_acknowledged_by_where_they_are_stale_and_forged_ones_refused() {
    let (_, effects) = after([models(2, &[3]), models(2, &[3])]);
    assert_eq!(effects, ["ack models staging"]);
    let (_, effects) = after([models(2, &[3]), staged(2), models(2, &[3])]);
    assert_eq!(effects, ["ack models applied"]);
    let (_, effects) = after([models(2, &[3]), models(1, &[3])]);
    assert_eq!(effects, ["ack models rejected"]);
    let (state, effects) = after([models(2, &[3]), models(2, &[4])]);
    assert_eq!(effects, ["ack models rejected"]);
    assert!(state.models.held.unwrap().models.contains(&entry(3)));
}

#[test]
fn a_rejected_or_undone_document_leaves_the_one_before_in_force() {
    let first = [
        models(1, &[3]),
        staged(1),
        endpoints(1, 1, 3),
        applied(1),
        endpoints(2, 1, 3),
    ];
    for (outcome, word) in [
        (
            ApplyOutcome::Rejected(rejection()),
            "ack endpoints rejected",
        ),
        (
            ApplyOutcome::RolledBack(rejection()),
            "ack endpoints rolled_back",
        ),
    ] {
        let (state, _) = after(first.clone());
        let generation = Generation::new(1, 2);
        let (state, effects) = state.step(Event::EndpointsApplied {
            generation,
            outcome,
        });
        assert_eq!(
            words(&effects),
            ["save endpoints", word, "report endpoints"]
        );
        let standing = state.standing(Kind::Endpoints);
        assert_eq!(standing.generation, Some(Generation::new(1, 1)));
        assert_eq!(standing.refused.unwrap().generation, generation);
    }
}

fn restored(state: &State) -> Vec<Restored> {
    let models = state.models.record.clone().map(|record| Restored {
        record,
        held: state.models.held.clone().map(Document::Models),
        applied: state.models.applied.clone().map(Document::Models),
    });
    let endpoints = state.endpoints.record.clone().map(|record| Restored {
        record,
        held: state.endpoints.held.clone().map(Document::Endpoints),
        applied: state.endpoints.applied.clone().map(Document::Endpoints),
    });
    models.into_iter().chain(endpoints).collect()
}

#[test]
fn a_restart_goes_on_with_what_is_open_and_leaves_what_is_settled() {
    let effects_after = |events: Vec<Event>| {
        let (state, _) = after(events);
        let (_, effects) = State::restore(restored(&state));
        words(&effects)
    };
    let reports = ["report models", "report endpoints"];
    assert_eq!(effects_after(vec![models(1, &[3])])[..1], ["stage 1.1"]);
    assert_eq!(effects_after(vec![models(1, &[3]), staged(1)]), reports);
    let applying = vec![models(1, &[3]), staged(1), endpoints(1, 1, 3)];
    assert_eq!(effects_after(applying.clone())[..1], ["apply 1.1"]);
    let settled = [applying, vec![applied(1)]].concat();
    assert_eq!(effects_after(settled), reports);
    assert_eq!(
        effects_after(vec![endpoints(1, 1, 3)])[..1],
        ["ack endpoints waiting"]
    );
}

fn any_event() -> impl Strategy<Value = Event> {
    let generation = 1_u64..5;
    let versions = proptest::collection::btree_set(1_u64..4, 0..3);
    prop_oneof![
        (generation.clone(), versions)
            .prop_map(|(generation, versions)| models(generation, &Vec::from_iter(versions))),
        (generation.clone(), 1_u64..5, 1_u64..4)
            .prop_map(|(generation, requires, version)| endpoints(generation, requires, version)),
        generation.clone().prop_map(staged),
        generation.clone().prop_map(applied),
        generation
            .clone()
            .prop_map(|generation| Event::ModelsStaged {
                generation: Generation::new(1, generation),
                result: Err(rejection()),
            }),
        (generation.clone(), any::<bool>()).prop_map(|(generation, undone)| {
            let outcome = if undone {
                ApplyOutcome::RolledBack(rejection())
            } else {
                ApplyOutcome::Rejected(rejection())
            };
            Event::EndpointsApplied {
                generation: Generation::new(1, generation),
                outcome,
            }
        }),
        generation.prop_map(|generation| Event::StagingProgress {
            generation: Generation::new(1, generation),
            bytes_done: 1,
            bytes_total: 2,
        }),
    ]
}

/// What must hold in every state.
fn check(state: &State) -> Result<(), TestCaseError> {
    let models_phase = state.models.phase;
    let staging = matches!(models_phase, Phase::Staging { .. });
    prop_assert!(staging || models_phase == Phase::Settled);
    let endpoints_phase = state.endpoints.phase;
    prop_assert!(matches!(
        endpoints_phase,
        Phase::Settled | Phase::Waiting | Phase::Applying
    ));
    prop_assert_eq!(state.models.is_open(), models_phase != Phase::Settled);
    prop_assert_eq!(state.endpoints.is_open(), endpoints_phase != Phase::Settled);
    if endpoints_phase == Phase::Applying {
        let held = state.endpoints.held.as_ref().unwrap();
        prop_assert!(state.models.applied_generation() >= Some(held.requires.models));
    }
    for record in [&state.models.record, &state.endpoints.record]
        .into_iter()
        .flatten()
    {
        let applied = record
            .applied
            .as_ref()
            .map(|applied| applied.identity.generation);
        prop_assert!(applied <= Some(record.held.generation));
        prop_assert!(record.refused.is_none() || applied != Some(record.held.generation));
    }
    Ok(())
}

proptest! {
    #[test]
    fn no_sequence_of_events_reaches_an_invalid_state(
        events in proptest::collection::vec(any_event(), 0..40),
    ) {
        let mut state = State::default();
        let mut saved = std::collections::BTreeMap::new();
        for event in events {
            let before = state.clone();
            let was_applied = matches!(event, Event::EndpointsApplied { outcome: ApplyOutcome::Applied, .. });
            let (next, effects) = state.step(event);
            for effect in &effects {
                match effect {
                    Effect::Save(record) => {
                        let held = record.held.generation;
                        let earlier: Option<TrackRecord> = saved.insert(record.kind, record.clone());
                        prop_assert!(earlier.is_none_or(|earlier| earlier.held.generation <= held));
                    }
                    Effect::Stage { generation, .. } => {
                        prop_assert_eq!(saved[&Kind::Models].held.generation, *generation);
                    }
                    Effect::Apply { document, applied, held } => {
                        prop_assert_eq!(held.held, applied.identity);
                        saved.insert(Kind::Endpoints, held.clone());
                        let catalogue = next.models.applied.as_ref().unwrap();
                        for entity in document.endpoints.values().flat_map(|e| &e.served_entities) {
                            prop_assert!(catalogue.models.iter().any(|m| m.manifest == entity.manifest));
                        }
                    }
                    Effect::Ack(_) | Effect::Report(_) | Effect::CancelApply => {}
                }
            }
            if was_applied && before.endpoints.phase == Phase::Applying
                && next.endpoints.phase == Phase::Settled && next.endpoints.applied == next.endpoints.held
                && let Some(record) = saved.get_mut(&Kind::Endpoints)
            {
                // durable with the endpoints themselves
                record.applied = next.endpoints.in_force(next.endpoints.held.as_ref().unwrap().effective_hash());
            }
            // what is in the state and not saved would be lost by a power cut
            let records = (&next.models.record, &next.endpoints.record);
            prop_assert_eq!(records.0.as_ref(), saved.get(&Kind::Models));
            prop_assert_eq!(records.1.as_ref(), saved.get(&Kind::Endpoints));
            prop_assert!(next.models.identity().map(|held| held.generation)
                >= before.models.identity().map(|held| held.generation));
            check(&next)?;
            let (again, _) = State::restore(restored(&next));
            check(&again)?;
            state = next;
        }
    }
}
