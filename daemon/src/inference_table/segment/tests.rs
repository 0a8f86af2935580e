use std::path::Path;

use proptest::prelude::*;

use super::*;

fn name() -> SegmentName {
    SegmentName {
        table: "main.default.fraud".parse().unwrap(),
        kind: SegmentKind::Rows,
        boot: BootId(0xab),
        first: 3,
        last: 9,
    }
}

#[test]
fn a_name_is_read_back_from_its_path() {
    let date: SegmentDate = "2026-02-28".parse().unwrap();
    for kind in [SegmentKind::Rows, SegmentKind::Gaps] {
        let name = SegmentName { kind, ..name() };
        let path = name.folder(date).join(name.file_name());
        assert_eq!(SegmentName::parse(&path), Some((name, date)), "{path:?}");
    }
    assert_eq!(
        name().folder(date),
        Path::new("main/default/fraud_payload/date=2026-02-28")
    );
    assert_eq!(name().file_name(), "part-00000000000000ab-3-9.parquet");
}

#[test]
fn other_paths_are_no_segments() {
    for path in [
        "main/default/fraud_payload/date=2026-02-30/part-00000000000000ab-3-9.parquet",
        "main/default/fraud/date=2026-02-28/part-00000000000000ab-3-9.parquet",
        "main/default/fraud_payload/date=2026-02-28/part-00000000000000ab-3-9.parquet.tmp",
        "main/default/fraud_payload/date=2026-02-28/part-ab-3-9.parquet",
        "main/default/fraud_payload/date=2026-02-28/x/part-00000000000000ab-3-9.parquet",
        "main/default/fraud_payload/part-00000000000000ab-3-9.parquet",
    ] {
        assert_eq!(SegmentName::parse(Path::new(path)), None, "{path}");
    }
}

#[test]
fn known_days_are_written_right() {
    for (micros, text) in [
        (0, "1970-01-01"),
        (-1, "1969-12-31"),
        (951_782_400_000_000, "2000-02-29"),
        (1_780_000_000_000_000, "2026-05-28"),
        (i64::MIN, "0000-01-01"),
        (i64::MAX, "9999-12-31"),
    ] {
        assert_eq!(SegmentDate::of_micros(micros).to_string(), text);
    }
}

proptest! {
    #[test]
    fn every_day_is_read_back(micros in any::<i64>()) {
        let date = SegmentDate::of_micros(micros);
        prop_assert_eq!(date.to_string().parse(), Ok(date));
    }
}
