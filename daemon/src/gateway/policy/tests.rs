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
    let policies = Policies::load(store.clone(), &tasks).unwrap();
    let result = work(&policies).await;
    drop(policies);
    store.close().await.unwrap();
    drop(store);
    tasks.join_all(Duration::from_secs(180)).await.unwrap();
    result
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
    let (fraud, other) = ("fraud", "other");
    run(&folder, async |policies| {
        let default = policies.of("fraud");
        assert_eq!(
            granted(&ann(), &default.grants),
            Some(PermissionLevel::Query)
        );
        policies
            .set_limits(fraud, vec![three_calls()])
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
        policies.set_grants(fraud, vec![]).await.unwrap();
        let closed = policies.of("fraud");
        assert_eq!(granted(&ann(), &closed.grants), None);
        assert!(
            closed.limits.take(&ann(), Duration::ZERO).is_err(),
            "three were counted before"
        );
        policies
            .set_limits(other, vec![three_calls()])
            .await
            .unwrap();
    })
    .await;
    run(&folder, async |policies| {
        let closed = policies.of("fraud");
        assert_eq!(granted(&ann(), &closed.grants), None);
        assert_eq!(closed.limits.iter().collect::<Vec<_>>(), [&three_calls()]);
        policies.forget(fraud).await.unwrap();
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

#[tokio::test]
async fn grants_are_merged_by_grantee() {
    let folder = tempfile::tempdir().unwrap();
    let grant = |name: &str, level| Grant {
        to: Grantee::User(name.parse().unwrap()),
        level,
    };
    run(&folder, async |policies| {
        let ann = vec![grant("ann", PermissionLevel::Manage)];
        policies.merge_grants("x", ann).await.unwrap();
        assert_eq!(policies.of("x").grants.len(), 2, "the default stays");
        let both = vec![
            grant("ann", PermissionLevel::View),
            grant("bob", PermissionLevel::Query),
        ];
        policies.merge_grants("x", both.clone()).await.unwrap();
        assert_eq!(policies.of("x").grants[1..], both);
        let many = (0..MOST_GRANTS).map(|n| grant(&format!("u{n}"), PermissionLevel::View));
        let refused = policies
            .merge_grants("x", many.collect())
            .await
            .unwrap_err();
        assert!(matches!(refused, ChangePolicyError::TooMany), "{refused}");
        assert_eq!(policies.of("x").grants[1..], both);
    })
    .await;
}

#[tokio::test]
async fn a_change_comes_to_its_end_when_whoever_asked_has_gone() {
    let folder = tempfile::tempdir().unwrap();
    run(&folder, async |policies| {
        let mut change = Box::pin(policies.set_grants("x", vec![]));
        // It has begun, and nobody waits for it any more.
        assert!(futures_util::poll!(&mut change).is_pending());
        drop(change);
        // The next one waits for it.
        policies.set_limits("x", vec![three_calls()]).await.unwrap();
        assert_eq!(granted(&ann(), &policies.of("x").grants), None);
    })
    .await;
}
