use super::*;

fn policy(one_in: u32) -> TablePolicy {
    TablePolicy {
        one_in,
        ..TablePolicy::keep_all(100)
    }
}

#[test]
fn the_fraction_of_rows_that_is_kept_is_the_one_that_is_written() {
    const IDS: u64 = 100_000;
    // As ids are in life: time in front, a version and a variant at fixed places, and random bits
    // that may be few.
    let id = |number: u64| {
        Uuid::from_u64_pair(
            (1_780_000_000_000 + number / 50) << 16 | 0x7000,
            0x8000_0000_0000_0000 | number,
        )
    };
    for one_in in [1, 2, 5, 10] {
        let policy = policy(one_in);
        let kept = (0..IDS).filter(|number| policy.leaves_out(id(*number)).is_none());
        #[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
        let fraction = kept.count() as f64 / IDS as f64;
        assert!(
            (fraction - policy.fraction()).abs() < 0.01,
            "one in {one_in}: {fraction}"
        );
    }
}

#[test]
fn a_stopped_table_keeps_nothing_and_others_are_not_touched() {
    let (audit, other): (TableName, TableName) = (
        "main.default.audit".parse().unwrap(),
        "main.default.other".parse().unwrap(),
    );
    let policies = Policies::new(100);
    assert_eq!(policies.of(&audit), TablePolicy::keep_all(100));
    let stopped = TablePolicy {
        stopped: true,
        ..policy(1)
    };
    policies.publish(Policy {
        default: policy(1),
        tables: HashMap::from([(audit.clone(), stopped)]),
    });
    let why = |table| policies.of(table).leaves_out(Uuid::nil());
    assert_eq!(why(&audit), Some(GapCause::DiskBudget));
    assert_eq!(why(&other), None);
}
