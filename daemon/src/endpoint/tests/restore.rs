//! After a restart, and after a power cut at each step of a change.

use super::*;

#[tokio::test]
async fn all_endpoints_are_back_as_they_were() {
    let this = Appliance::new(options());
    this.create("fraud", split("3", "4", 80)).await.unwrap();
    this.update("fraud", split("3", "4", 60)).await.unwrap();
    this.create("other", champion("4")).await.unwrap();
    this.create("gone", champion("5")).await.unwrap();
    this.delete("gone").await.unwrap();
    this.desire(1, [("fleet", champion("3"))]).await.unwrap();
    let before: Vec<EndpointView> = this
        .endpoints
        .list()
        .iter()
        .map(|view| (**view).clone())
        .collect();
    let loads = this.models.loads();

    let this = this.restart(options()).await;
    this.endpoints.restored().await;
    let after: Vec<EndpointView> = this
        .endpoints
        .list()
        .iter()
        .map(|view| (**view).clone())
        .collect();
    assert_eq!(after, before);
    assert_eq!(this.endpoints.list().applied_desired(), Some(at(1)));
    assert_eq!(this.routed("fraud"), [3, 4]);
    assert_eq!(
        this.models.loads(),
        loads + 2,
        "a version is loaded once, whoever serves it"
    );

    // The same set again is no news: nothing is loaded, nothing is written.
    this.desire(1, [("fleet", champion("3"))]).await.unwrap();
    assert_eq!(this.models.loads(), loads + 2);
}

#[tokio::test]
async fn a_model_that_no_longer_loads_keeps_only_its_own_endpoint_down() {
    let this = Appliance::new(options());
    this.create("good", champion("3")).await.unwrap();
    this.create("bad", split("4", "5", 50)).await.unwrap();
    this.models.set("4", Load::Fails("digest mismatch"));

    let this = this.restart(options()).await;
    this.endpoints.restored().await;
    assert_eq!(standing(&this.endpoints.get("good").unwrap()), SERVES);
    let bad = this.endpoints.get("bad").unwrap();
    assert_eq!(standing(&bad), NOT_READY);
    assert!(
        bad.failure
            .as_ref()
            .unwrap()
            .contains("champion: VERIFICATION_FAILED: digest mismatch")
    );
    let entities = &bad.config.as_ref().unwrap().served_entities;
    assert_eq!(entities[0].deployment, Deployment::Failed);
    assert_eq!(entities[1].deployment, Deployment::Aborted);
    assert!(this.endpoints.snapshot().endpoint("bad").is_none());

    let mended = this.update("bad", champion("5")).await.unwrap();
    assert_eq!(standing(&mended), SERVES);
    assert_eq!(mended.config.as_ref().unwrap().config_version, 2);
}

#[tokio::test]
async fn a_desired_set_mends_what_did_not_load_after_the_restart() {
    let this = Appliance::new(options());
    this.desire(1, [("a", champion("3"))]).await.unwrap();
    this.models.set("3", Load::Fails("short of memory"));
    let this = this.restart(options()).await;
    this.endpoints.restored().await;
    assert_eq!(standing(&this.endpoints.get("a").unwrap()), NOT_READY);
    this.models.set("3", Load::Works(1));
    this.desire(1, [("a", champion("3"))]).await.unwrap();
    assert_eq!(standing(&this.endpoints.get("a").unwrap()), SERVES);
}

#[tokio::test]
async fn one_endpoint_serves_while_another_still_loads() {
    let this = Appliance::new(options());
    this.create("quick", champion("3")).await.unwrap();
    this.create("slow", champion("4")).await.unwrap();
    let gate = Gate::default();
    this.models.set("4", Load::Waits(gate.clone()));

    let this = this.restart(options()).await;
    this.wait_for("quick", |view| standing(view) == SERVES)
        .await;
    let slow = this.endpoints.get("slow").unwrap();
    assert_eq!(standing(&slow), LOADING);
    let entity = &slow.config.as_ref().unwrap().served_entities[0];
    assert_eq!(entity.deployment.as_str(), "DEPLOYMENT_RECOVERING");
    assert_eq!(this.routed("quick"), [3]);

    // A change waits until it is known what it would replace; others need not wait for that.
    let update = this.update("slow", champion("5"));
    let others = async {
        let quick = this.update("quick", champion("5")).await.unwrap();
        assert_eq!(standing(&quick), SERVES);
        this.create("new", champion("3")).await.unwrap();
        this.delete("new").await.unwrap();
        assert_eq!(standing(&this.endpoints.get("slow").unwrap()), LOADING);
        gate.open();
    };
    let (update, ()) = tokio::join!(update, others);
    assert_eq!(update.unwrap().config.as_ref().unwrap().config_version, 2);
}

#[tokio::test]
async fn the_fleets_set_waits_until_all_endpoints_are_back() {
    let this = Appliance::new(options());
    this.create("quick", champion("3")).await.unwrap();
    this.desire(1, [("slow", champion("4"))]).await.unwrap();
    let gate = Gate::default();
    this.models.set("4", Load::Waits(gate.clone()));

    let this = this.restart(options()).await;
    let desired = this.desire(2, [("slow", champion("4"))]);
    let before = async {
        this.update("quick", champion("5")).await.unwrap();
        assert_eq!(this.endpoints.list().applied_desired(), Some(at(1)));
        gate.open();
    };
    let (desired, ()) = tokio::join!(desired, before);
    desired.unwrap();
    assert_eq!(this.endpoints.list().applied_desired(), Some(at(2)));
    let slow = this.endpoints.get("slow").unwrap();
    assert_eq!(slow.config.as_ref().unwrap().config_version, 1, "kept");
}

#[tokio::test]
async fn an_acknowledged_change_survives_a_power_cut_at_every_step() {
    let this = Appliance::new(hasty());
    let gate = Gate::default();
    this.models.set("4", Load::Waits(gate.clone()));

    // Nothing was answered yet: nothing is there.
    let cut = this.power_cut(options());
    assert_eq!(cut.endpoints.list().iter().count(), 0);

    // Answered as in progress: it is there, and is staged again.
    this.create("fraud", champion("4")).await.unwrap();
    let cut = this.power_cut(options());
    assert_eq!(standing(&cut.endpoints.get("fraud").unwrap()), LOADING);
    gate.open();
    let view = cut.wait_for("fraud", |view| standing(view) == SERVES).await;
    let before = this
        .wait_for("fraud", |view| standing(view) == SERVES)
        .await;
    assert_eq!(view.id, before.id);
    assert_eq!(cut.routed("fraud"), [4]);

    // Applied: it serves.
    let cut = this.power_cut(options());
    cut.endpoints.restored().await;
    assert_eq!(*cut.endpoints.get("fraud").unwrap(), *before);

    // An update that was answered as in progress: the old one serves, the new one is staged.
    let gate = Gate::default();
    this.models.set("5", Load::Waits(gate.clone()));
    this.update("fraud", champion("5")).await.unwrap();
    let cut = this.power_cut(options());
    cut.wait_for("fraud", |view| standing(view) == UPDATING)
        .await;
    assert_eq!(cut.routed("fraud"), [4]);
    gate.open();
    let view = cut.wait_for("fraud", |view| standing(view) == SERVES).await;
    assert_eq!(view.config.as_ref().unwrap().config_version, 2);
    this.wait_for("fraud", |view| standing(view) == SERVES)
        .await;

    // Deleted: it is gone.
    this.delete("fraud").await.unwrap();
    let cut = this.power_cut(options());
    assert_eq!(cut.endpoints.get("fraud"), None);
}

#[tokio::test]
async fn an_unanswered_change_leaves_nothing_behind() {
    let this = Appliance::new(options());
    this.create("fraud", champion("3")).await.unwrap();
    let gate = Gate::default();
    this.models.set("5", Load::Waits(gate.clone()));
    let update = this.update("fraud", champion("5"));
    let desire = this.desire(1, [("fleet", champion("5"))]);
    let cut = async {
        this.wait_for("fraud", |view| standing(view) == UPDATING)
            .await;
        this.wait_for("fleet", |view| standing(view) == LOADING)
            .await;
        let cut = this.power_cut(options());
        cut.endpoints.restored().await;
        assert_eq!(standing(&cut.endpoints.get("fraud").unwrap()), SERVES);
        assert_eq!(cut.routed("fraud"), [3]);
        assert_eq!(cut.endpoints.get("fleet"), None);
        assert_eq!(cut.endpoints.list().applied_desired(), None);
        gate.open();
    };
    let (update, desire, ()) = tokio::join!(update, desire, cut);
    update.unwrap();
    desire.unwrap();
}

#[tokio::test]
async fn a_failed_change_stays_failed_and_is_not_tried_again() {
    let this = Appliance::new(options());
    this.models.set("6", Load::Fails("outputs differ"));
    this.create("old", champion("3")).await.unwrap();
    let old = this.update("old", champion("6")).await.unwrap();
    let new = this.create("new", champion("6")).await.unwrap();
    let loads = this.models.loads();

    let this = this.restart(options()).await;
    this.endpoints.restored().await;
    assert_eq!(standing(&old), SERVES_OLD);
    assert_eq!(this.endpoints.get("old").unwrap(), old);
    assert_eq!(standing(&new), FAILED);
    assert_eq!(this.endpoints.get("new").unwrap(), new);
    assert_eq!(this.routed("old"), [3]);
    assert_eq!(this.models.loads(), loads + 1);
}
