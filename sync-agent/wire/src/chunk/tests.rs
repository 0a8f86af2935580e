use proptest::prelude::*;

use super::*;
use crate::{frame, json};

#[test]
fn sizes_at_the_borders() {
    assert_eq!(chunk_count(0), None);
    assert_eq!(chunk_count(1), Some(1));
    assert_eq!(chunk_count(CHUNK_BYTES), Some(1));
    assert_eq!(chunk_count(CHUNK_BYTES + 1), Some(2));
    assert_eq!(chunk_count(u64::from(MAX_CHUNKS) * CHUNK_BYTES + 1), None);
    assert_eq!(chunk_len(CHUNK_BYTES + 1, 1), Some(1));
    assert_eq!(chunk_len(CHUNK_BYTES, 1), None);
}

#[test]
fn a_full_chunk_fits_its_frame() {
    let chunk = Chunk {
        digest: Digest::of(b"x"),
        index: u32::MAX,
        total: u32::MAX,
        bytes: vec![7; 256 * 1024],
    };
    let bytes = frame::bytes(&chunk);
    assert!(bytes.len() <= Chunk::MAX_BYTES);
    assert_eq!(frame::parse::<Chunk>(&bytes).unwrap(), chunk);
}

#[test]
fn other_frames_trailing_bytes_and_oversize_are_refused() {
    let chunk = Chunk {
        digest: Digest::of(b"x"),
        index: 0,
        total: 1,
        bytes: vec![1],
    };
    let good = frame::bytes(&chunk);
    let mut other = good.clone();
    other[2] = 9;
    assert!(matches!(
        frame::parse::<Chunk>(&other),
        Err(frame::ParseFrameError::Unsupported { .. })
    ));
    let mut long = good;
    long.push(0);
    assert!(matches!(
        frame::parse::<Chunk>(&long),
        Err(frame::ParseFrameError::Trailing(1))
    ));
    assert!(matches!(
        frame::parse::<Chunk>(&vec![0; Chunk::MAX_BYTES + 1]),
        Err(frame::ParseFrameError::TooLarge { .. })
    ));
    assert!(matches!(
        frame::parse::<Chunk>(b"EW"),
        Err(frame::ParseFrameError::NotAFrame)
    ));
}

proptest! {
    #[test]
    fn asking_window_by_window_gets_every_chunk_once(
        chunks in 1_u64..300, held in proptest::collection::vec(any::<u32>(), 0..100), credits in 1_u32..20,
    ) {
        let size = chunks * CHUNK_BYTES - 1;
        let mut set = ChunkSet::empty(size).unwrap();
        for index in held {
            set.insert(index % set.total());
        }
        prop_assert_eq!(&ChunkSet::from_bitmap(size, &set.bitmap()).unwrap(), &set);
        while let Some(wanted) = set.wanted(credits) {
            prop_assert!(wanted.count() <= MAX_WANTED && wanted.count() >= 1);
            prop_assert_eq!(json::parse::<Wanted>(&json::bytes(&wanted)).unwrap(), wanted);
            for index in wanted.indices() {
                prop_assert!(set.insert(index));
            }
        }
        prop_assert!(set.is_complete());
    }

    #[test]
    fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        prop_assert!(frame::parse::<Chunk>(&bytes).is_err());
        let framed = [b"EW\x01\x00\x00\x00".as_slice(), &bytes].concat();
        if let Ok(chunk) = frame::parse::<Chunk>(&framed) {
            prop_assert!(!chunk.fits(0));
        }
        prop_assert!(json::parse::<Wanted>(&bytes).is_err());
        if let Some(set) = ChunkSet::from_bitmap(1 << 24, &bytes) {
            prop_assert!(set.held() <= set.total());
        }
    }

    #[test]
    fn hostile_windows_never_ask_for_more_than_allowed(first: u32, bits: u64) {
        let text = format!(r#"{{"first":{first},"bits":"{bits:016x}"}}"#);
        if let Ok(wanted) = json::parse::<Wanted>(text.as_bytes()) {
            prop_assert!(wanted.indices().count() <= 16);
        }
    }
}
