//! The fleet's whole set.

use super::*;

#[tokio::test]
async fn the_set_is_what_the_registry_manages_and_nothing_else() {
    let this = Appliance::new(options());
    this.create("mine", champion("1")).await.unwrap();
    this.desire(1, [("a", champion("3")), ("b", champion("4"))])
        .await
        .unwrap();
    let a = this.endpoints.get("a").unwrap();
    assert_eq!(standing(&a), SERVES);
    assert_eq!(a.managed_by, ManagedBy::Registry(at(1)));
    assert_eq!(a.creator, Creator::Registry);
    assert!(!a.drift);
    assert_eq!(this.endpoints.list().applied_desired(), Some(at(1)));

    this.desire(2, [("a", champion("3")), ("c", champion("4"))])
        .await
        .unwrap();
    let kept = this.endpoints.get("a").unwrap();
    assert_eq!(kept.config.as_ref().unwrap().config_version, 1);
    assert_eq!(kept.managed_by, ManagedBy::Registry(at(2)));
    assert_eq!(this.endpoints.get("b"), None);
    assert_eq!(this.routed("c"), [4]);
    assert_eq!(this.routed("mine"), [1]);
    assert_eq!(this.models.loads(), 3);

    this.desire(3, []).await.unwrap();
    assert_eq!(names(&this), ["mine"]);
    let this = this.restart(options()).await;
    assert_eq!(names(&this), ["mine"]);
}

/// The names of all endpoints.
fn names(this: &Appliance) -> Vec<String> {
    let views = this.endpoints.list();
    views.iter().map(|view| view.name.to_string()).collect()
}

#[tokio::test]
async fn one_bad_endpoint_leaves_all_as_they_were() {
    let this = Appliance::new(options());
    this.desire(1, [("a", champion("3")), ("b", champion("3"))])
        .await
        .unwrap();
    this.models.set("6", Load::Fails("outputs differ"));

    let set = [
        ("a", champion("4")),
        ("b", champion("6")),
        ("c", champion("6")),
    ];
    let error = this.desire(2, set).await.unwrap_err();
    assert_eq!(error.rejection().code.as_str(), "VERIFICATION_FAILED");
    assert!(
        error
            .to_string()
            .contains("endpoint b: champion: VERIFICATION_FAILED: outputs differ"),
        "{error}"
    );
    assert_eq!((this.routed("a"), this.routed("b")), (vec![3], vec![3]));
    assert_eq!(standing(&this.endpoints.get("a").unwrap()), SERVES);
    assert_eq!(standing(&this.endpoints.get("b").unwrap()), SERVES_OLD);
    assert_eq!(this.endpoints.get("c"), None);
    assert_eq!(this.endpoints.list().applied_desired(), Some(at(1)));
    assert_eq!(
        this.endpoints.get("a").unwrap().managed_by,
        ManagedBy::Registry(at(1))
    );

    this.desire(3, [("a", champion("4")), ("b", champion("5"))])
        .await
        .unwrap();
    assert_eq!((this.routed("a"), this.routed("b")), (vec![4], vec![5]));
}

#[tokio::test]
async fn a_set_that_names_a_missing_version_is_rejected_before_anything_happens() {
    let this = Appliance::new(options());
    this.desire(1, [("a", champion("3"))]).await.unwrap();
    let before = this.endpoints.list();
    let loads = this.models.loads();

    let error = this
        .desire(2, [("a", champion("4")), ("b", champion("12"))])
        .await
        .unwrap_err();
    assert_eq!(error.rejection().code.as_str(), "MISSING_ARTIFACT");
    let mut other = input(&champion("4"));
    other.served_entities[0].manifest = Some(Digest::of(b"another"));
    let set = BTreeMap::from([(endpoint("a"), other)]);
    let applied = this.endpoints.apply_desired(set, at(3), Change::new());
    let error = applied.await.unwrap_err();
    assert_eq!(error.rejection().code.as_str(), "DIGEST_MISMATCH");

    assert!(Arc::ptr_eq(&before, &this.endpoints.list()));
    assert_eq!(this.models.loads(), loads);
    let mut right = input(&champion("4"));
    right.served_entities[0].manifest = Some(manifest(&model("4")));
    let set = BTreeMap::from([(endpoint("a"), right)]);
    let applied = this.endpoints.apply_desired(set, at(4), Change::new());
    applied.await.unwrap();
    assert_eq!(this.routed("a"), [4]);
}

#[tokio::test]
async fn a_newer_generation_ends_the_staging_of_an_older_one() {
    let this = Appliance::new(options());
    let gate = Gate::default();
    this.models.set("6", Load::Waits(gate.clone()));
    this.desire(1, [("a", champion("3"))]).await.unwrap();

    let older = this.desire(2, [("a", champion("6")), ("new", champion("6"))]);
    let newer = async {
        this.wait_for("a", |view| standing(view) == UPDATING).await;
        // A set that is refused ends nothing.
        this.desire(3, [("a", champion("12"))]).await.unwrap_err();
        assert_eq!(standing(&this.endpoints.get("a").unwrap()), UPDATING);
        assert_eq!(standing(&this.endpoints.get("new").unwrap()), LOADING);
        this.desire(4, [("a", champion("4"))]).await
    };
    let (older, newer) = tokio::join!(older, newer);
    newer.unwrap();
    assert_eq!(
        older.unwrap_err().rejection().code.as_str(),
        "STALE_GENERATION"
    );
    assert_eq!(this.routed("a"), [4]);
    assert_eq!(this.endpoints.get("new"), None);
    gate.open();
    // The late load of the older generation changes nothing.
    this.desire(5, [("a", champion("5"))]).await.unwrap();
    assert_eq!(this.routed("a"), [5]);
}

#[tokio::test]
async fn an_older_set_is_ended_even_where_the_newer_one_has_other_endpoints() {
    let this = Appliance::new(options());
    let gate = Gate::default();
    this.models.set("6", Load::Waits(gate.clone()));
    this.desire(1, [("a", champion("3"))]).await.unwrap();

    let older = this.desire(2, [("a", champion("3")), ("new", champion("6"))]);
    let newer = async {
        this.wait_for("new", |view| standing(view) == LOADING).await;
        this.desire(3, [("a", champion("4"))]).await
    };
    let (older, newer) = tokio::join!(older, newer);
    newer.unwrap();
    assert_eq!(
        older.unwrap_err().rejection().code.as_str(),
        "STALE_GENERATION"
    );
    gate.open();
    this.desire(4, [("a", champion("5"))]).await.unwrap();
    assert_eq!(names(&this), ["a"]);
}

#[tokio::test]
async fn a_local_edit_of_what_the_registry_manages_is_a_conflict_that_names_the_generation() {
    let this = Appliance::new(options());
    this.desire(7, [("a", champion("3"))]).await.unwrap();
    for error in [
        this.update("a", champion("4")).await.unwrap_err(),
        this.delete("a").await.unwrap_err(),
    ] {
        assert!(
            matches!(error, EndpointError::ManagedByRegistry { .. }),
            "{error}"
        );
        assert!(error.to_string().contains("generation 1.7"), "{error}");
    }
    assert_eq!(this.routed("a"), [3]);
}

#[tokio::test]
async fn a_local_edit_that_is_let_through_is_drift_until_a_newer_generation() {
    let this = Appliance::new(allowing());
    this.desire(1, [("a", champion("3"))]).await.unwrap();
    let view = this.update("a", champion("4")).await.unwrap();
    assert!(view.drift);
    assert_eq!(view.managed_by, ManagedBy::Registry(at(1)));
    assert_eq!(this.routed("a"), [4]);

    this.desire(1, [("a", champion("3"))]).await.unwrap();
    assert_eq!(
        this.routed("a"),
        [4],
        "the same generation again is no news"
    );
    let this = this.restart(allowing()).await;
    this.desire(1, [("a", champion("3"))]).await.unwrap();
    assert_eq!(this.routed("a"), [4], "nor is it after a restart");

    this.desire(2, [("a", champion("3"))]).await.unwrap();
    assert_eq!(this.routed("a"), [3]);
    let view = this.endpoints.get("a").unwrap();
    assert!(!view.drift);
    assert_eq!(view.config.as_ref().unwrap().config_version, 3);
}

#[tokio::test]
async fn the_registry_takes_over_a_local_endpoint_of_the_same_name() {
    let this = Appliance::new(options());
    let gate = Gate::default();
    this.models.set("6", Load::Waits(gate.clone()));
    let before = this.create("a", champion("3")).await.unwrap();
    let update = this.update("a", champion("6"));
    let desire = async {
        this.wait_for("a", |view| standing(view) == UPDATING).await;
        this.desire(1, [("a", champion("4"))]).await
    };
    let (update, desire) = tokio::join!(update, desire);
    desire.unwrap();
    let superseded = update.unwrap_err();
    assert!(
        superseded.to_string().contains("desired generation 1.1"),
        "{superseded}"
    );
    gate.open();
    let view = this.endpoints.get("a").unwrap();
    assert_eq!(view.id, before.id);
    assert_eq!(view.managed_by, ManagedBy::Registry(at(1)));
    assert_eq!(this.routed("a"), [4]);
}

#[tokio::test]
async fn an_edit_from_the_fleet_cannot_be_crossed_by_a_local_one() {
    let this = Appliance::new(allowing());
    let gate = Gate::default();
    this.models.set("6", Load::Waits(gate.clone()));
    this.desire(1, [("a", champion("3"))]).await.unwrap();
    let desire = this.desire(2, [("a", champion("6"))]);
    let local = async {
        this.wait_for("a", |view| standing(view) == UPDATING).await;
        for error in [
            this.update("a", champion("4")).await.unwrap_err(),
            this.delete("a").await.unwrap_err(),
        ] {
            assert!(
                matches!(error, EndpointError::UpdateInProgress(_)),
                "{error}"
            );
        }
        gate.open();
    };
    let (desire, ()) = tokio::join!(desire, local);
    desire.unwrap();
    assert_eq!(this.routed("a"), [6]);
}

/// Two endpoints always go from one version to the next together: a reader that looks as often as
/// it can never finds them apart.
#[tokio::test]
async fn no_reader_sees_half_of_a_change() {
    let this = Appliance::new(options());
    this.desire(1, [("a", champion("1")), ("b", split("1", "2", 50))])
        .await
        .unwrap();
    let endpoints = this.endpoints.clone();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let seen = Arc::new(AtomicUsize::new(0));
    let sees = Arc::clone(&seen);
    let reader = this
        .tasks
        .spawn_thread("reader", move || {
            let mut last = 0;
            while !stopped.load(Ordering::Relaxed) {
                let snapshot = endpoints.snapshot();
                let a = snapshot.endpoint("a").expect("always served");
                let b = snapshot.endpoint("b").expect("always served");
                let version = a.pick(0).model.version.get();
                assert_eq!(version, b.pick(0).model.version.get(), "a mixed snapshot");
                assert_eq!(a.config_version, b.config_version, "a mixed snapshot");
                assert_eq!(a.entities().len() + 1, b.entities().len());
                assert!(a.config_version >= last, "the past came back");
                sees.fetch_add(usize::from(a.config_version > last), Ordering::Relaxed);
                last = a.config_version;
            }
        })
        .unwrap();
    // Until the reader has had its turns, however busy the machine is.
    let enough = |generation: &u64| *generation < 40 || seen.load(Ordering::Relaxed) < 10;
    for generation in (2..).take_while(enough) {
        let version = (generation % 8 + 1).to_string();
        let set = [("a", champion(&version)), ("b", split(&version, "9", 50))];
        this.desire(generation, set).await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    reader.join().await.unwrap();
}

#[tokio::test]
async fn what_is_given_beside_a_set_is_durable_with_it_or_not_at_all() {
    let this = Appliance::new(options());
    this.desire(1, [("a", champion("3"))]).await.unwrap();
    assert_eq!(this.beside(), Some(1));

    // While a set is staged, a power cut finds neither of the two.
    let gate = Gate::default();
    this.models.set("6", Load::Waits(gate.clone()));
    let desired = this.desire(2, [("a", champion("6"))]);
    let cut = async {
        this.wait_for("a", |view| standing(view) == UPDATING).await;
        let cut = this.power_cut(options());
        gate.open();
        cut
    };
    let (desired, cut) = tokio::join!(desired, cut);
    desired.unwrap();
    cut.endpoints.restored().await;
    assert_eq!(cut.beside(), Some(1));
    assert_eq!(cut.endpoints.list().applied_desired(), Some(at(1)));
    assert_eq!(cut.routed("a"), [3]);

    // Once it is answered, both.
    let cut = this.power_cut(options());
    cut.endpoints.restored().await;
    assert_eq!(cut.beside(), Some(2));
    assert_eq!(cut.endpoints.list().applied_desired(), Some(at(2)));
    assert_eq!(cut.routed("a"), [6]);

    // A set that is refused leaves what was there, one that only renews the ownership does not.
    this.models.set("7", Load::Fails("outputs differ"));
    this.desire(3, [("a", champion("7"))]).await.unwrap_err();
    assert_eq!(this.beside(), Some(2));
    this.desire(4, [("a", champion("6"))]).await.unwrap();
    assert_eq!(this.beside(), Some(4));
    // One that stands already is answered with what is beside it being durable all the same.
    let change = Change::new().put(&Beside(9)).unwrap();
    let set = BTreeMap::from([(endpoint("a"), input(&champion("6")))]);
    let applied = this.endpoints.apply_desired(set, at(4), change);
    applied.await.unwrap();
    assert_eq!(this.beside(), Some(9));
}
