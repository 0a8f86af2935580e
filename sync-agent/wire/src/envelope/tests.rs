use proptest::prelude::*;

use super::*;

fn key() -> RegistryKey {
    RegistryKey::from_seed(&[1; 32])
}

#[test]
fn a_body_comes_back_exactly() {
    let container = SignedEnvelope::sign(&key(), b" {\"a\": 1 } ").bytes();
    let body = SignedEnvelope::open(&container, &key().pinned()).unwrap();
    assert_eq!(body, b" {\"a\": 1 } ");
}

#[test]
fn another_key_an_altered_body_or_no_signature_is_refused() {
    let envelope = SignedEnvelope::sign(&key(), b"body");
    let stranger = RegistryKey::from_seed(&[2; 32]).pinned();
    assert!(matches!(
        envelope.verify(&stranger),
        Err(VerifyEnvelopeError::Signature { .. })
    ));

    let mut altered = envelope.clone();
    altered.body = BASE64_STANDARD.encode(b"bodY");
    assert!(matches!(
        altered.verify(&key().pinned()),
        Err(VerifyEnvelopeError::Signature { .. })
    ));

    let mut unsigned = envelope.clone();
    unsigned.sig = String::new();
    assert!(matches!(
        unsigned.verify(&key().pinned()),
        Err(VerifyEnvelopeError::Malformed("sig"))
    ));

    let mut other = envelope;
    other.alg = "none".to_owned();
    assert!(matches!(
        other.verify(&key().pinned()),
        Err(VerifyEnvelopeError::Algorithm(_))
    ));
}

#[test]
fn an_oversized_body_is_refused() {
    let container = SignedEnvelope::sign(&key(), &vec![0; MAX_BODY_BYTES + 1]);
    assert!(matches!(
        container.verify(&key().pinned()),
        Err(VerifyEnvelopeError::Malformed("body"))
    ));
}

proptest! {
    #[test]
    fn hostile_bytes_never_open(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        prop_assert!(SignedEnvelope::open(&bytes, &key().pinned()).is_err());
    }

    #[test]
    fn one_flipped_bit_never_opens(body in proptest::collection::vec(any::<u8>(), 1..64), bit in 0_usize..512) {
        let envelope = SignedEnvelope::sign(&key(), &body);
        let mut altered = body;
        let bit = bit % (altered.len() * 8);
        altered[bit / 8] ^= 1 << (bit % 8);
        let forged = SignedEnvelope { body: BASE64_STANDARD.encode(&altered), ..envelope };
        prop_assert!(forged.verify(&key().pinned()).is_err());
    }
}
