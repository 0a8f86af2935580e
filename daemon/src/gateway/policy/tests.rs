use std::time::Duration;

use edgeward_base::clock::TestClock;
use edgeward_base::durable::RealFs;

use super::*;
use crate::gateway::{Caller, LimitKey, PrincipalKind, granted};
use crate::store::StoreOptions;
use crate::tasks::Tasks;

async fn run<T>(folder: &tempfile::TempDir, work: impl AsyncFnOnce(&Policies) -> T) -> T {
    let tasks = Tasks::new(tokio::runtime::Handle::current());
    let options = StoreOptions::new(
        folder.path().to_owned(),
        tasks.clone(),
        TestClock::at(1_700_000_000_000_000),
        Arc::new(RealFs),
    )
    .with_table::<PolicyRecord>();
    let (store, _) = Store::open(options).unwrap();
    let policies = Policies::load(store.clone()).unwrap();
    let result = work(&policies).await;
    drop(policies);
    store.close().await.unwrap();
    drop(store);
    tasks.join_all(Duration::from_secs(180)).await.unwrap();
    result
}

fn endpoint(name: &str) -> EndpointName {
    name.parse().unwrap()
}

fn ann() -> Caller {
    Caller {
        principal: "ann".parse().unwrap(),
        kind: PrincipalKind::User,
        groups: Arc::from([]),
    }
}

fn three_calls() -> RateLimit {
    RateLimit {
        key: LimitKey::Endpoint,
        calls: Some(3),
        tokens: None,
    }
}

#[tokio::test]
async fn a_policy_holds_at_once_and_after_a_restart_until_it_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let (fraud, other) = (endpoint("fraud"), endpoint("other"));
    run(&folder, async |policies| {
        let default = policies.of("fraud");
        assert_eq!(
            granted(&ann(), &default.grants),
            Some(PermissionLevel::Query)
        );
        policies
            .set_limits(&fraud, vec![three_calls()])
            .await
            .unwrap();
        let limited = policies.of("fraud");
        assert_eq!(
            limited.grants, default.grants,
            "limits say nothing of permissions"
        );
        for _ in 0..3 {
            limited.limits.take(&ann(), Duration::ZERO).unwrap();
        }
        policies.set_grants(&fraud, vec![]).await.unwrap();
        let closed = policies.of("fraud");
        assert_eq!(granted(&ann(), &closed.grants), None);
        assert!(
            closed.limits.take(&ann(), Duration::ZERO).is_err(),
            "three were counted before"
        );
        policies
            .set_limits(&other, vec![three_calls()])
            .await
            .unwrap();
    })
    .await;
    run(&folder, async |policies| {
        let closed = policies.of("fraud");
        assert_eq!(granted(&ann(), &closed.grants), None);
        assert_eq!(closed.limits.iter().collect::<Vec<_>>(), [&three_calls()]);
        policies.forget(&fraud).await.unwrap();
        assert!(!policies.of("fraud").set);
    })
    .await;
    run(&folder, async |policies| {
        assert_eq!(policies.of("fraud").limits.iter().count(), 0);
        assert_eq!(policies.of("other").limits.iter().count(), 1);
        policies.retain(|_| false).await.unwrap();
        assert_eq!(policies.of("other").limits.iter().count(), 0);
    })
    .await;
}
