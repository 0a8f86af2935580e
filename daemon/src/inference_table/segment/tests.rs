use std::path::Path;

use edgeward_base::names::BootId;

use super::*;

fn name(kind: SegmentKind) -> SegmentName {
    SegmentName {
        table: "main.default.fraud".parse().unwrap(),
        kind,
        boot: BootId(0xab),
        first: 3,
        last: 9,
    }
}

#[test]
fn a_name_is_read_back_from_its_path() {
    let date: SegmentDate = "2026-02-28".parse().unwrap();
    for kind in [SegmentKind::Rows, SegmentKind::Gaps] {
        let path = path_of(&name(kind), &date);
        assert_eq!(
            parse_path(&path),
            Some((name(kind), date.clone())),
            "{path:?}"
        );
    }
    assert_eq!(
        path_of(&name(SegmentKind::Rows), &date),
        Path::new("main/default/fraud_payload/date=2026-02-28/part-00000000000000ab-3-9.parquet")
    );
}

#[test]
fn other_paths_are_no_segments() {
    for path in [
        "main/default/fraud_payload/date=2026-13-01/part-00000000000000ab-3-9.parquet",
        "main/default/fraud/date=2026-02-28/part-00000000000000ab-3-9.parquet",
        "main/default/fraud_payload/date=2026-02-28/part-00000000000000ab-3-9.parquet.tmp",
        "main/default/fraud_payload/date=2026-02-28/part-00000000000000ab-03-9.parquet",
        "main/default/fraud_payload/date=2026-02-28/part-ab-3-9.parquet",
        "main/default/fraud_payload/date=2026-02-28/x/part-00000000000000ab-3-9.parquet",
        "main/default/fraud_payload/part-00000000000000ab-3-9.parquet",
    ] {
        assert_eq!(parse_path(Path::new(path)), None, "{path}");
    }
}

#[test]
fn days_are_utc_and_start_at_midnight() {
    assert_eq!(day_of(0), 0);
    assert_eq!(day_of(86_399_999_999), 0);
    assert_eq!(day_of(86_400_000_000), 1);
    assert_eq!(day_of(-1), -1);
    assert_eq!(
        SegmentDate::of_days(day_of(i64::MAX)).to_string(),
        "9999-12-31"
    );
}
