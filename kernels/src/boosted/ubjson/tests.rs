//! Values as UBJSON, written here and read back; and bytes that are none.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// Writes a value as `XGBoost` does: counted arrays, typed ones for numbers, plain objects.
fn write(value: &Value, typed: bool, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(b'Z'),
        Value::Bool(true) => out.push(b'T'),
        Value::Bool(false) => out.push(b'F'),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => {
                out.push(b'L');
                out.extend(whole.to_be_bytes());
            }
            None => {
                out.push(b'D');
                out.extend(number.as_f64().unwrap().to_be_bytes());
            }
        },
        Value::String(text) => {
            out.push(b'S');
            key(text, out);
        }
        Value::Array(elements) => {
            let whole: Option<Vec<i64>> = elements.iter().map(Value::as_i64).collect();
            match whole.filter(|whole| typed && !whole.is_empty()) {
                Some(whole) => {
                    out.extend(b"[$L#");
                    length(whole.len(), out);
                    whole
                        .iter()
                        .for_each(|whole| out.extend(whole.to_be_bytes()));
                }
                None if typed => {
                    out.extend(b"[#");
                    length(elements.len(), out);
                    elements
                        .iter()
                        .for_each(|element| write(element, typed, out));
                }
                None => {
                    out.push(b'[');
                    elements
                        .iter()
                        .for_each(|element| write(element, typed, out));
                    out.push(b']');
                }
            }
        }
        Value::Object(entries) => {
            out.push(b'{');
            for (name, value) in entries {
                key(name, out);
                write(value, typed, out);
            }
            out.push(b'}');
        }
    }
}

fn length(length: usize, out: &mut Vec<u8>) {
    out.push(b'L');
    out.extend(i64::try_from(length).unwrap().to_be_bytes());
}

fn key(text: &str, out: &mut Vec<u8>) {
    length(text.len(), out);
    out.extend(text.as_bytes());
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e9..1e9_f64).prop_map(|number| Value::from(number + 0.5)),
        "[a-zäß]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec(any::<i64>(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{0,4}", inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(value in values(), typed in any::<bool>()) {
        let mut bytes = Vec::new();
        write(&value, typed, &mut bytes);
        prop_assert_eq!(from_slice::<Value>(&bytes), Ok(value));
        // Cut anywhere, it is no value any more.
        for end in 0..bytes.len() {
            prop_assert!(from_slice::<Value>(&bytes[..end]).is_err());
        }
        bytes.push(b'Z');
        prop_assert!(from_slice::<Value>(&bytes).is_err());
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(
        prop_oneof![any::<u8>(), prop::sample::select(b"ZTFiIlLUumMdDS[{]}$#N".to_vec())],
        0..60,
    )) {
        drop(from_slice::<Value>(&bytes));
    }
}

#[test]
fn every_number_is_read() {
    for (bytes, expected) in [
        (b"i\xff".as_slice(), json!(-1)),
        (b"U\xff", json!(255)),
        (b"I\xff\xfe", json!(-2)),
        (b"u\xff\xfe", json!(65_534)),
        (b"l\xff\xff\xff\xfd", json!(-3)),
        (b"m\xff\xff\xff\xfd", json!(4_294_967_293_u32)),
        (b"d\x3f\xc0\x00\x00", json!(1.5)),
        (b"M\xff\xff\xff\xff\xff\xff\xff\xff", json!(u64::MAX)),
        (b"[$d#U\x01\x3f\xc0\x00\x00", json!([1.5])),
        (b"[NU\x01NZ]", json!([1, null])),
        (b"{$U#i\x01i\x01a\x07", json!({"a": 7})),
    ] {
        assert_eq!(from_slice::<Value>(bytes).unwrap(), expected);
    }
}

#[test]
fn few_bytes_never_ask_for_much() {
    let huge = i64::MAX.to_be_bytes();
    let deep = vec![b'['; 100_000];
    for bytes in [
        [b"[$d#L".as_slice(), &huge].concat(),
        [b"[#L".as_slice(), &huge].concat(),
        [b"SL".as_slice(), &huge].concat(),
        b"[$Z#U\xff".to_vec(),
        b"[$T#U\xff".to_vec(),
        b"[$d".to_vec(),
        b"Si\xff".to_vec(),
        deep,
    ] {
        assert!(from_slice::<Value>(&bytes).is_err());
    }
}
