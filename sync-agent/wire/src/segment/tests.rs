use super::*;

fn manifest(kind: SegmentKind) -> SegmentManifest {
    SegmentManifest {
        name: SegmentName {
            table: "main.default.fraud".parse().unwrap(),
            kind,
            boot: BootId(0xabc),
            first: 10,
            last: 19,
        },
        rows: 10,
        date: "2026-07-31".parse().unwrap(),
        size: 5_000,
        digest: Digest::of(b"parquet"),
    }
}

fn ids() -> (FleetId, DeviceId) {
    ("plant".parse().unwrap(), "box-1".parse().unwrap())
}

#[test]
fn landed_names_follow_the_layout() {
    let (_, device) = ids();
    assert_eq!(
        manifest(SegmentKind::Rows).object(&device),
        "main/default/fraud_payload/date=2026-07-31/device=box-1/part-0000000000000abc-10-19.parquet"
    );
    assert_eq!(
        manifest(SegmentKind::Gaps).object(&device),
        "main/default/fraud_gaps/date=2026-07-31/device=box-1/part-0000000000000abc-10-19.parquet"
    );
}

#[test]
fn a_receipt_is_believed_only_for_its_own_segment() {
    let (fleet, device) = ids();
    let key = RegistryKey::from_seed(&[1; 32]);
    let rows = manifest(SegmentKind::Rows);
    let envelope = Receipt::new(fleet.clone(), device.clone(), &rows).sign(&key);
    let verify = |key: &RegistryKey, device: &DeviceId, manifest: &SegmentManifest| {
        Receipt::verify(&envelope, &key.pinned(), &fleet, device, manifest)
    };
    assert!(verify(&key, &device, &rows).is_ok());
    let stranger = RegistryKey::from_seed(&[2; 32]);
    assert!(matches!(
        verify(&stranger, &device, &rows),
        Err(VerifyReceiptError::Envelope(_))
    ));
    let other = "box-2".parse().unwrap();
    assert!(matches!(
        verify(&key, &other, &rows),
        Err(VerifyReceiptError::Mismatch("device"))
    ));
    let gaps = manifest(SegmentKind::Gaps);
    assert!(matches!(
        verify(&key, &device, &gaps),
        Err(VerifyReceiptError::Mismatch("name"))
    ));
    let mut changed = rows;
    changed.digest = Digest::of(b"other");
    assert!(matches!(
        verify(&key, &device, &changed),
        Err(VerifyReceiptError::Mismatch("digest"))
    ));
}

#[test]
fn impossible_offers_are_refused() {
    let break_rule = |edit: fn(&mut SegmentManifest)| {
        let mut manifest = manifest(SegmentKind::Rows);
        edit(&mut manifest);
        manifest.validate().unwrap_err().field
    };
    assert_eq!(break_rule(|manifest| manifest.name.first = 20), "first");
    assert_eq!(break_rule(|manifest| manifest.rows = 11), "rows");
    assert_eq!(break_rule(|manifest| manifest.size = 0), "size");
    assert_eq!(
        break_rule(|manifest| {
            manifest.name.first = 0;
            manifest.name.last = u64::MAX;
            manifest.size = u64::MAX;
        }),
        "size"
    );
}

#[test]
fn dates_are_days() {
    for bad in [
        "2026-7-31",
        "2026-13-01",
        "2026-00-10",
        "2026-01-32",
        "2026/01/01",
        "20260101--",
    ] {
        assert!(bad.parse::<SegmentDate>().is_err(), "{bad}");
    }
}

#[test]
fn days_are_counted_from_1970() {
    for (days, text) in [
        (0, "1970-01-01"),
        (-1, "1969-12-31"),
        (11_016, "2000-02-29"),
        (11_017, "2000-03-01"),
        (20_601, "2026-05-28"),
        (i32::MIN, "0000-01-01"),
        (i32::MAX, "9999-12-31"),
    ] {
        assert_eq!(SegmentDate::of_days(days).to_string(), text);
        assert_eq!(
            SegmentDate::of_days(days).to_string().parse(),
            Ok(SegmentDate::of_days(days))
        );
    }
}
