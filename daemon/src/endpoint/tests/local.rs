//! Create, update and delete on the box itself.

use std::collections::BTreeSet;

use super::*;

#[tokio::test]
async fn a_new_endpoint_is_ready_in_its_own_answer() {
    let this = Appliance::new(options());
    let view = this.create("fraud", split("3", "4", 80)).await.unwrap();

    assert_eq!(standing(&view), SERVES);
    assert_eq!(view.creator.to_string(), "somebody");
    assert_eq!(view.creation_timestamp, 1_700_000_000_000);
    assert_eq!(view.managed_by, ManagedBy::Local);
    assert_eq!(view.pending_config, None);
    let config = view.config.as_ref().unwrap();
    assert_eq!(config.config_version, 1);
    for entity in &config.served_entities {
        assert_eq!(entity.deployment.as_str(), "DEPLOYMENT_READY");
        assert_eq!(entity.id.as_str().len(), 32);
    }

    let snapshot = this.endpoints.snapshot();
    let routed = snapshot.endpoint("fraud").unwrap();
    assert_eq!(routed.id, view.id);
    assert_eq!(routed.config_version, 1);
    assert_eq!(Some(routed.effective_hash), view.effective_hash);
    assert_eq!(routed.pick(0).name.as_str(), "champion");
    assert_eq!(routed.pick(u64::MAX).name.as_str(), "challenger");
    assert_eq!(routed.pick(0).id, config.served_entities[0].id);
    assert_eq!(routed.entity("challenger").unwrap().model, model("4"));
    assert_eq!(this.endpoints.get("fraud").unwrap(), view);
}

#[tokio::test]
async fn a_slow_model_is_answered_in_progress_and_then_serves() {
    let this = Appliance::new(hasty());
    let gate = Gate::default();
    this.models.set("3", Load::Waits(gate.clone()));

    let view = this.create("fraud", champion("3")).await.unwrap();
    assert_eq!(standing(&view), LOADING);
    assert_eq!(view.config, None);
    let pending = view.pending_config.as_ref().unwrap();
    assert_eq!(pending.start_time, 1_700_000_000_000);
    assert_eq!(pending.config.config_version, 1);
    assert_eq!(
        pending.config.served_entities[0].deployment.as_str(),
        "DEPLOYMENT_CREATING"
    );
    assert!(this.endpoints.snapshot().endpoint("fraud").is_none());

    gate.open();
    let view = this
        .wait_for("fraud", |view| standing(view) == SERVES)
        .await;
    assert_eq!(view.pending_config, None);
    assert_eq!(this.routed("fraud"), [3]);
}

#[tokio::test]
async fn an_update_replaces_entities_and_routes_as_a_whole() {
    let this = Appliance::new(options());
    let mut first = split("3", "4", 80);
    first["auto_capture_config"] = json!({"catalog_name": "main", "schema_name": "logs"});
    let before = this.create("fraud", first).await.unwrap();
    this.clock.advance(Duration::from_secs(1));

    let after = this.update("fraud", champion("3")).await.unwrap();
    assert_eq!(standing(&after), SERVES);
    assert_eq!(after.id, before.id);
    assert_eq!(after.creation_timestamp, before.creation_timestamp);
    assert_eq!(after.last_updated_timestamp, 1_700_000_001_000);
    assert_ne!(after.effective_hash, before.effective_hash);
    let (before, after) = (
        before.config.as_ref().unwrap(),
        after.config.as_ref().unwrap(),
    );
    assert_eq!(after.config_version, 2);
    assert_eq!(after.served_entities.len(), 1);
    assert_eq!(after.auto_capture, before.auto_capture);
    assert_eq!(after.served_entities[0].id, before.served_entities[0].id);

    let snapshot = this.endpoints.snapshot();
    let routed = snapshot.endpoint("fraud").unwrap();
    assert_eq!(routed.capture.as_ref().unwrap().as_str(), "main.logs.fraud");
    drop(snapshot);

    let other = this.update("fraud", champion("5")).await.unwrap();
    let other = &other.config.as_ref().unwrap().served_entities[0];
    assert_eq!(other.config.name.as_str(), "champion");
    assert_ne!(other.id, after.served_entities[0].id);
}

#[tokio::test]
async fn a_change_of_the_split_loads_nothing() {
    let this = Appliance::new(options());
    this.create("fraud", split("3", "4", 80)).await.unwrap();
    this.create("other", champion("4")).await.unwrap();
    assert_eq!(this.models.loads(), 2);
    this.update("fraud", split("3", "4", 10)).await.unwrap();
    assert_eq!(this.models.loads(), 2);
    let snapshot = this.endpoints.snapshot();
    let scorer = |name: &str, entity: &str| {
        let endpoint = snapshot.endpoint(name).unwrap();
        Arc::clone(&endpoint.entity(entity).unwrap().scorer)
    };
    assert!(Arc::ptr_eq(
        &scorer("fraud", "challenger"),
        &scorer("other", "champion")
    ));
}

#[tokio::test]
async fn the_old_configuration_serves_while_the_new_one_is_staged_and_when_it_fails() {
    let this = Appliance::new(hasty());
    let gate = Gate::default();
    this.create("fraud", champion("3")).await.unwrap();
    this.wait_for("fraud", |view| standing(view) == SERVES)
        .await;

    this.models.set("4", Load::Waits(gate.clone()));
    let view = this.update("fraud", split("3", "4", 50)).await.unwrap();
    assert_eq!(standing(&view), UPDATING);
    assert_eq!(view.config.as_ref().unwrap().config_version, 1);
    assert_eq!(
        view.pending_config.as_ref().unwrap().config.config_version,
        2
    );
    assert_eq!(this.routed("fraud"), [3]);
    let again = this.update("fraud", champion("5")).await.unwrap_err();
    assert!(
        matches!(again, EndpointError::UpdateInProgress(_)),
        "{again}"
    );
    let in_use = this.endpoints.list().models_in_use();
    assert_eq!(in_use, BTreeSet::from([model("3"), model("4")]));
    gate.open();
    this.wait_for("fraud", |view| standing(view) == SERVES)
        .await;
    assert_eq!(this.routed("fraud"), [3, 4]);

    this.models
        .set("6", Load::Fails("outputs differ from the known answers"));
    this.update("fraud", split("3", "6", 50)).await.unwrap();
    let view = this
        .wait_for("fraud", |view| standing(view) == SERVES_OLD)
        .await;
    assert_eq!(view.pending_config, None);
    let config = view.config.as_ref().unwrap();
    assert_eq!(config.config_version, 2);
    for entity in &config.served_entities {
        assert_eq!(entity.deployment, Deployment::Ready);
        let message = &entity.message;
        assert!(
            message.contains("challenger: VERIFICATION_FAILED: outputs differ"),
            "{message}"
        );
    }
    assert_eq!(this.routed("fraud"), [3, 4]);

    let view = this.update("fraud", champion("5")).await.unwrap();
    assert_eq!(view.failure, None);
    this.wait_for("fraud", |view| standing(view) == SERVES)
        .await;
    assert_eq!(this.routed("fraud"), [5]);
}

#[tokio::test]
async fn an_endpoint_that_never_loaded_says_why_and_can_be_mended() {
    let this = Appliance::new(options());
    for (version, load, why) in [
        (
            "6",
            Load::Fails("no such operator"),
            "VERIFICATION_FAILED: no such operator",
        ),
        ("7", Load::Panics, "BACKEND_UNSUPPORTED: the task panicked"),
    ] {
        this.models.set(version, load);
        let view = this
            .create(&format!("fraud{version}"), split("3", version, 50))
            .await
            .unwrap();
        assert_eq!(standing(&view), FAILED);
        let entities = &view.config.as_ref().unwrap().served_entities;
        assert_eq!(entities[0].deployment, Deployment::Aborted);
        assert_eq!(entities[1].deployment, Deployment::Failed);
        assert!(entities[1].message.contains(why), "{}", entities[1].message);
        assert!(this.endpoints.snapshot().endpoint("fraud6").is_none());
    }
    let view = this.update("fraud6", champion("3")).await.unwrap();
    assert_eq!(standing(&view), SERVES);
    assert_eq!(view.config.as_ref().unwrap().config_version, 1);
}

#[tokio::test]
async fn what_cannot_be_is_refused_and_nothing_happens() {
    let this = Appliance::new(options());
    this.create("fraud", champion("3")).await.unwrap();
    let before = this.endpoints.list();

    let twice = this.create("fraud", champion("4")).await.unwrap_err();
    assert!(matches!(twice, EndpointError::AlreadyExists(_)), "{twice}");
    let unknown = this.update("nothing", champion("4")).await.unwrap_err();
    assert!(matches!(unknown, EndpointError::NotFound(_)), "{unknown}");
    let unknown = this.delete("nothing").await.unwrap_err();
    assert!(matches!(unknown, EndpointError::NotFound(_)), "{unknown}");
    let missing = this.update("fraud", champion("12")).await.unwrap_err();
    assert!(
        matches!(missing, EndpointError::MissingVersion { .. }),
        "{missing}"
    );
    assert!(
        missing.to_string().contains("main.default.fraud/12"),
        "{missing}"
    );
    let invalid = this
        .update(
            "fraud",
            split("3", "4", 80)
                .as_object()
                .map(|config| json!({"served_entities": config["served_entities"]}))
                .unwrap(),
        )
        .await
        .unwrap_err();
    assert!(
        matches!(invalid, EndpointError::Invalid { .. }),
        "{invalid}"
    );
    assert!(
        invalid.to_string().contains("traffic_config.routes"),
        "{invalid}"
    );
    let mut other = input(&champion("3"));
    other.served_entities[0].manifest = Some(Digest::of(b"another"));
    let other = this
        .endpoints
        .update_config(endpoint("fraud"), other, somebody())
        .await
        .unwrap_err();
    assert!(
        matches!(other, EndpointError::OtherManifest { .. }),
        "{other}"
    );

    assert!(Arc::ptr_eq(&before, &this.endpoints.list()));
    assert_eq!(this.routed("fraud"), [3]);
}

#[tokio::test]
async fn a_version_must_fit_beside_the_old_one() {
    let this = Appliance::new(EndpointOptions {
        memory_ceiling: Some(ByteCount(10)),
        ..options()
    });
    this.models.set("3", Load::Works(6));
    this.models.set("4", Load::Works(5));
    this.models.set("5", Load::Swells(5));
    this.models.set("6", Load::Works(4));
    this.create("fraud", champion("3")).await.unwrap();
    let loads = this.models.loads();

    // Its files alone say that it cannot fit: it is not even loaded.
    let view = this.update("fraud", champion("4")).await.unwrap();
    assert_eq!(standing(&view), SERVES_OLD);
    assert!(view.failure.as_ref().unwrap().contains("OOM_PREDICTED"));
    assert_eq!(this.models.loads(), loads);
    // Small files, and too much of it once it is loaded.
    let view = this.update("fraud", champion("5")).await.unwrap();
    assert!(view.failure.as_ref().unwrap().contains("OOM_PREDICTED"));
    assert_eq!(this.routed("fraud"), [3]);

    assert_eq!(
        standing(&this.update("fraud", champion("6")).await.unwrap()),
        SERVES
    );
    // The old one has gone since: now there is room.
    assert_eq!(
        standing(&this.update("fraud", champion("5")).await.unwrap()),
        SERVES
    );
}

#[tokio::test]
async fn a_deleted_endpoint_answers_what_was_under_way() {
    let this = Appliance::new(options());
    let view = this.create("fraud", champion("3")).await.unwrap();
    let snapshot = this.endpoints.snapshot();
    let under_way = Arc::clone(snapshot.endpoint("fraud").unwrap().pick(0));
    let session = Arc::downgrade(&under_way.scorer);
    drop(snapshot);

    this.delete("fraud").await.unwrap();
    assert_eq!(this.endpoints.get("fraud"), None);
    assert!(this.endpoints.snapshot().endpoint("fraud").is_none());
    assert!(session.upgrade().is_some(), "a request still uses it");
    drop(under_way);
    assert!(session.upgrade().is_none(), "nobody uses it");

    let again = this.create("fraud", champion("3")).await.unwrap();
    assert_ne!(again.id, view.id);
}

#[tokio::test]
async fn replaced_sessions_live_until_the_last_request() {
    let this = Appliance::new(options());
    this.create("fraud", champion("3")).await.unwrap();
    let snapshot = this.endpoints.snapshot();
    let session = Arc::downgrade(&snapshot.endpoint("fraud").unwrap().pick(0).scorer);
    this.update("fraud", champion("4")).await.unwrap();
    assert!(session.upgrade().is_some(), "a request still uses it");
    drop(snapshot);
    assert!(session.upgrade().is_none(), "nobody uses it");
}

#[tokio::test]
async fn deletion_ends_a_change_that_is_being_staged() {
    let this = Appliance::new(options());
    let gate = Gate::default();
    this.models.set("4", Load::Waits(gate.clone()));
    this.create("fraud", champion("3")).await.unwrap();
    let update = this.update("fraud", champion("4"));
    let delete = async {
        this.wait_for("fraud", |view| standing(view) == UPDATING)
            .await;
        this.delete("fraud").await
    };
    let (update, delete) = tokio::join!(update, delete);
    delete.unwrap();
    let superseded = update.unwrap_err();
    assert!(
        matches!(superseded, EndpointError::Superseded { .. }),
        "{superseded}"
    );
    gate.open();
    assert_eq!(this.endpoints.get("fraud"), None);
    // A late load changes nothing.
    this.create("other", champion("3")).await.unwrap();
    assert_eq!(this.endpoints.list().iter().count(), 1);
}

#[tokio::test]
async fn a_change_that_the_store_refuses_has_not_happened() {
    let this = Appliance::new(options());
    this.create("fraud", champion("3")).await.unwrap();
    let before = this.endpoints.get("fraud");
    this.store.close().await.unwrap();

    let update = this.update("fraud", champion("4")).await.unwrap_err();
    assert!(matches!(update, EndpointError::Store(_)), "{update}");
    let create = this.create("other", champion("4")).await.unwrap_err();
    assert!(matches!(create, EndpointError::Store(_)), "{create}");
    let delete = this.delete("fraud").await.unwrap_err();
    assert!(matches!(delete, EndpointError::Store(_)), "{delete}");
    let desire = this
        .desire(1, [("other", champion("4"))])
        .await
        .unwrap_err();
    assert_eq!(desire.rejection().code.as_str(), "NOT_STORED");

    assert_eq!(this.endpoints.get("fraud"), before);
    assert_eq!(this.endpoints.get("other"), None);
    assert_eq!(this.routed("fraud"), [3]);
}

#[tokio::test]
async fn a_closed_owner_says_so() {
    let this = Appliance::new(options());
    this.tasks.begin_shutdown();
    let closed = this.create("fraud", champion("3")).await.unwrap_err();
    assert!(matches!(closed, EndpointError::Closed), "{closed}");
}

#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let this = Appliance::new(options());
    let gate = Gate::default();
    this.models.set("3", Load::Waits(gate.clone()));
    this.create("fraud", champion("4")).await.unwrap();
    // The runtime has one thread: the owner takes nothing until this test waits.
    let mut waiting: Vec<_> = (0..=QUEUE)
        .map(|_| Box::pin(this.delete("nothing")))
        .collect();
    let mut refused = 0;
    for delete in &mut waiting {
        let answer = futures_util::FutureExt::now_or_never(delete);
        if matches!(answer, Some(Err(EndpointError::Busy))) {
            refused += 1;
        }
    }
    assert_eq!(refused, 1);
    gate.open();
}
