use super::*;

fn full_row() -> Row {
    let mut row = Row::new(Uuid::from_bytes([7; 16]), 1_780_000_000_000_000);
    row.client_request_id = Some("c-1".into());
    row.usage_context = vec![("team".into(), "risk".into())];
    row.request = Some(Bytes::from_static(br#"{"inputs":[1]}"#));
    row.response = Some(Bytes::from_static(br#"{"predictions":[0]}"#));
    row.entity_version = ModelVersion::new(3);
    row.endpoint_name = Some("fraud-detection".parse().unwrap());
    row
}

#[test]
fn a_row_is_read_back_as_it_was_stored() {
    let row = full_row();
    let (bytes, shed) = row.encode(&TablePolicy::keep_all(1024)).unwrap();
    assert!(!shed);
    let (stored, rest) = postcard::take_from_bytes::<StoredRow<'_>>(&bytes).unwrap();
    assert_eq!(stored, StoredRow::of(&row, &TablePolicy::keep_all(1024)));
    assert!(rest.is_empty());
    assert_eq!(stored.request, Some(r#"{"inputs":[1]}"#));
    assert_eq!(stored.endpoint_name, Some("fraud-detection"));
}

#[test]
fn what_is_over_the_cap_is_null_with_its_code() {
    let row = full_row();
    let stored = StoredRow::of(&row, &TablePolicy::keep_all(14));
    assert_eq!(
        stored.request,
        Some(r#"{"inputs":[1]}"#),
        "14 bytes are not over 14"
    );
    assert_eq!(stored.response, None);
    assert_eq!(
        stored.logging_error_codes,
        [LoggingErrorCode::MaxResponseSizeExceeded]
    );
    let stored = StoredRow::of(&row, &TablePolicy::keep_all(13));
    assert_eq!(stored.request, None);
    assert_eq!(
        stored.logging_error_codes,
        [
            LoggingErrorCode::MaxRequestSizeExceeded,
            LoggingErrorCode::MaxResponseSizeExceeded
        ]
    );
}

#[test]
fn what_is_not_utf8_is_null_with_its_code() {
    let mut row = full_row();
    row.request = Some(Bytes::from_static(&[0xff, 0xfe]));
    let stored = StoredRow::of(&row, &TablePolicy::keep_all(1024));
    assert_eq!(stored.request, None);
    assert_eq!(
        stored.logging_error_codes,
        [LoggingErrorCode::RequestNotUtf8]
    );
    assert!(stored.response.is_some());
}

#[test]
fn metadata_names_what_is_known() {
    let row = full_row();
    let stored = StoredRow::of(&row, &TablePolicy::keep_all(1024));
    let [endpoint, model, version] = stored.request_metadata();
    assert_eq!(endpoint.1.as_deref(), Some("fraud-detection"));
    assert_eq!(model.1, None);
    assert_eq!(version.1.as_deref(), Some("3"));
}

#[test]
fn a_short_disk_sheds_payloads_and_writes_the_true_fraction() {
    let policy = TablePolicy {
        shed_cap: Some(14),
        one_in: 5,
        ..TablePolicy::keep_all(1024)
    };
    let row = full_row();
    let stored = StoredRow::of(&row, &policy);
    assert_eq!(stored.request, Some(r#"{"inputs":[1]}"#));
    assert_eq!(stored.response, None);
    assert_eq!(stored.logging_error_codes, [LoggingErrorCode::ResponseShed]);
    assert_eq!(LoggingErrorCode::ResponseShed.as_str(), "RESPONSE_SHED");
    assert!((stored.sampling_fraction - 0.2).abs() < f64::EPSILON);
    assert!(row.encode(&policy).unwrap().1);
}
