use super::*;

#[test]
fn a_pinned_key_survives_its_text() {
    let key = RegistryKey::from_seed(&[7; 32]).pinned();
    assert_eq!(key.to_string().parse::<PinnedKey>(), Ok(key.clone()));
    assert_eq!(key.id().as_str().len(), 16);
}

#[test]
fn malformed_and_weak_keys_are_refused() {
    assert_eq!("abc".parse::<PinnedKey>(), Err(ParseKeyError::Malformed));
    assert_eq!(
        "+0".repeat(32).parse::<PinnedKey>(),
        Err(ParseKeyError::Malformed)
    );
    // the neutral element: it would verify a forged signature under a lax check
    let neutral = format!("01{}", "00".repeat(31));
    assert_eq!(neutral.parse::<PinnedKey>(), Err(ParseKeyError::NotAKey));
}

#[test]
fn debug_never_shows_the_secret() {
    let key = RegistryKey::from_seed(&[0xab; 32]);
    let shown = format!("{key:?}");
    assert!(!shown.contains("abab") && !shown.contains("171"), "{shown}");
}
