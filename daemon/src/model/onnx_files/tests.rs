//! Graphs made by hand, and bytes of every kind.

use proptest::prelude::*;

use super::*;

pub(in crate::model) fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(value & 0x7f).unwrap();
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

pub(in crate::model) fn field(number: usize, content: &[u8]) -> Vec<u8> {
    [
        varint(number << 3 | 2),
        varint(content.len()),
        content.to_vec(),
    ]
    .concat()
}

fn external_tensor(location: &str) -> Vec<u8> {
    let entry = |key: &str, value: &str| {
        field(
            13,
            &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat(),
        )
    };
    // data_type = 2, then offset and location, then data_location = 14.
    [
        vec![0x10, 1],
        entry("offset", "0"),
        entry("location", location),
        vec![0x70, 1],
    ]
    .concat()
}

/// A model with one initialiser in each of these files.
pub(in crate::model) fn with_external(locations: &[&str]) -> Vec<u8> {
    let graph: Vec<u8> = locations
        .iter()
        .flat_map(|location| field(5, &external_tensor(location)))
        .collect();
    [vec![0x08, 7], field(7, &graph)].concat()
}

fn found(model: &[u8]) -> Vec<String> {
    external_locations(model).unwrap().into_iter().collect()
}

#[test]
fn every_place_that_can_name_a_file_is_looked_at() {
    assert_eq!(found(&with_external(&["b", "a", "b"])), ["a", "b"]);
    let tensor = external_tensor("x");
    let node = |attribute: Vec<u8>| field(1, &field(5, &attribute));
    for graph in [
        field(15, &field(1, &tensor)),
        field(15, &field(2, &tensor)),
        node(field(5, &tensor)),
        node(field(10, &tensor)),
        node(field(22, &field(1, &tensor))),
        node(field(6, &field(5, &tensor))),
        node(field(11, &field(5, &tensor))),
    ] {
        assert_eq!(found(&field(7, &graph)), ["x"]);
    }
    let function = field(25, &field(7, &field(5, &field(5, &tensor))));
    assert_eq!(found(&function), ["x"]);
}

#[test]
fn the_samples_keep_everything_in_one_file() {
    for sample in crate::model::samples::samples() {
        let graph = sample
            .files
            .iter()
            .find(|(name, _)| *name == "model.onnx")
            .unwrap()
            .1;
        assert_eq!(found(graph), [""; 0]);
    }
}

#[test]
fn damage_and_endless_nesting_are_refused() {
    let whole = with_external(&["a"]);
    for end in 1..whole.len() {
        let cut = external_locations(&whole[..end]);
        assert!(cut.is_err() || end == 2, "cut at {end}");
    }
    let mut deep = Vec::new();
    for _ in 0..100 {
        deep = field(1, &field(5, &field(6, &deep)));
    }
    assert!(external_locations(&field(7, &deep)).is_err());
    assert!(
        external_locations(&[
            0x3a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1
        ])
        .is_err()
    );
}

proptest! {
    #[test]
    fn any_bytes_are_scanned_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        drop(external_locations(&bytes));
    }

    #[test]
    fn any_damage_to_a_model_is_scanned_or_refused(at in 0_usize..60, to in any::<u8>()) {
        let mut model = with_external(&["weights.bin"]);
        if let Some(byte) = model.get_mut(at) {
            *byte = to;
        }
        drop(external_locations(&model));
    }
}
