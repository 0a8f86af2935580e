//! Chunks: how bytes too large for one message travel, and which of them are still wanted.
//!
//! Owns: the size of a chunk, the chunk frame, the set of chunks held and the window asked for.
//! Must never: allocate by a number that came from outside without a bound.
//!
//! Whatever is moved (a model file, a sealed segment) is named by its digest and cut into chunks of
//! [`CHUNK_BYTES`], the last one shorter. The **receiver** asks, with a [`Wanted`] window of at most
//! [`MAX_WANTED`] chunks; it never gets more than it asked for, so brokers hold at most a window.

use edgeward_base::digest::Digest;
use serde::{Deserialize, Serialize};

use crate::frame::Framed;

/// Bytes of every chunk but the last: 256 KiB.
pub const CHUNK_BYTES: u64 = 256 * 1024;
/// The most chunks that may be asked for at once.
pub const MAX_WANTED: u32 = 16;
/// The most chunks of one blob: 64 GiB.
pub const MAX_CHUNKS: u32 = 1 << 18;

/// One piece of a blob or segment.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// BLAKE3 of the whole.
    pub digest: Digest,
    /// Which piece, from 0.
    pub index: u32,
    /// How many pieces.
    pub total: u32,
    /// The bytes: [`CHUNK_BYTES`], fewer only in the last piece.
    #[serde(with = "byte_string")]
    pub bytes: Vec<u8>,
}

impl std::fmt::Debug for Chunk {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Chunk")
            .field("digest", &self.digest)
            .field("index", &self.index)
            .field("total", &self.total)
            .field("bytes", &self.bytes.len())
            .finish()
    }
}

impl Framed for Chunk {
    const SCHEMA: u16 = 1;
    const REVISION: u16 = 0;
    /// 256 KiB and at most 64 bytes around them.
    const MAX_BYTES: usize = 256 * 1024 + 64;
}

impl Chunk {
    /// Whether it is a piece of the right length of a whole of `size` bytes.
    #[must_use]
    pub fn fits(&self, size: u64) -> bool {
        Some(self.total) == chunk_count(size)
            && chunk_len(size, self.index) == Some(self.bytes.len() as u64)
    }
}

/// Bytes as one string, which postcard copies at once; a `Vec<u8>` by itself goes byte by byte.
mod byte_string {
    use serde::{Deserializer, Serializer, de::Visitor};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Vec<u8>;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
        }
        from.deserialize_bytes(Bytes)
    }
}

/// How many chunks `size` bytes make; none for an empty or too large whole.
#[must_use]
pub fn chunk_count(size: u64) -> Option<u32> {
    let count = u32::try_from(size.div_ceil(CHUNK_BYTES)).ok()?;
    (1..=MAX_CHUNKS).contains(&count).then_some(count)
}

/// Bytes of chunk `index` of a whole of `size` bytes; none when there is no such chunk.
#[must_use]
pub fn chunk_len(size: u64, index: u32) -> Option<u64> {
    let start = u64::from(index) * CHUNK_BYTES;
    (start < size).then(|| (size - start).min(CHUNK_BYTES))
}

/// Which chunks of a whole are held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkSet {
    total: u32,
    held: u32,
    bits: Vec<u64>,
}

impl ChunkSet {
    /// None of the chunks of a whole of `size` bytes; none for an empty or too large whole.
    #[must_use]
    pub fn empty(size: u64) -> Option<Self> {
        let total = chunk_count(size)?;
        let words = usize::try_from(total.div_ceil(64)).ok()?;
        Some(Self {
            total,
            held: 0,
            bits: vec![0; words],
        })
    }

    /// The set from [`ChunkSet::bitmap`]; none when it cannot be one of a whole of `size` bytes.
    #[must_use]
    pub fn from_bitmap(size: u64, bitmap: &[u8]) -> Option<Self> {
        let mut set = Self::empty(size)?;
        if u64::try_from(bitmap.len()).ok()? != u64::from(set.total.div_ceil(8)) {
            return None;
        }
        for index in 0..set.total {
            let byte = bitmap.get(usize::try_from(index / 8).ok()?)?;
            if byte >> (index % 8) & 1 == 1 {
                set.insert(index);
            }
        }
        Some(set)
    }

    /// One bit for each chunk, the first in the lowest bit of the first byte.
    #[must_use]
    pub fn bitmap(&self) -> Vec<u8> {
        let bytes = usize::try_from(self.total.div_ceil(8)).unwrap_or(usize::MAX);
        self.bits
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .take(bytes)
            .collect()
    }

    /// Adds a chunk. False when it was there, or is no chunk of this whole.
    pub fn insert(&mut self, index: u32) -> bool {
        if index >= self.total || self.contains(index) {
            return false;
        }
        if let Some(word) = usize::try_from(index / 64)
            .ok()
            .and_then(|at| self.bits.get_mut(at))
        {
            *word |= 1 << (index % 64);
            self.held += 1;
        }
        true
    }

    /// Whether the chunk is held.
    #[must_use]
    pub fn contains(&self, index: u32) -> bool {
        usize::try_from(index / 64)
            .ok()
            .and_then(|at| self.bits.get(at))
            .is_some_and(|word| index < self.total && word >> (index % 64) & 1 == 1)
    }

    /// How many chunks are held.
    #[must_use]
    pub const fn held(&self) -> u32 {
        self.held
    }

    /// How many chunks there are.
    #[must_use]
    pub const fn total(&self) -> u32 {
        self.total
    }

    /// Whether every chunk is held.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.held == self.total
    }

    /// The next window to ask for: up to `credits` missing chunks from the first missing one; none
    /// when complete.
    #[must_use]
    pub fn wanted(&self, credits: u32) -> Option<Wanted> {
        let first = (0..self.total).find(|index| !self.contains(*index))?;
        let mut wanted = Wanted { first, bits: 0 };
        let mut left = credits.clamp(1, MAX_WANTED);
        for offset in 0..64 {
            let index = first + offset;
            if left > 0 && index < self.total && !self.contains(index) {
                wanted.bits |= 1 << offset;
                left -= 1;
            }
        }
        Some(wanted)
    }
}

/// A window of chunks asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "WantedText", into = "WantedText")]
pub struct Wanted {
    first: u32,
    bits: u64,
}

impl Wanted {
    /// The chunks asked for, in order: at most [`MAX_WANTED`].
    pub fn indices(self) -> impl Iterator<Item = u32> {
        (0..64)
            .filter(move |offset| self.bits >> offset & 1 == 1)
            .map(move |offset| self.first + offset)
    }

    /// How many chunks are asked for.
    #[must_use]
    pub const fn count(self) -> u32 {
        self.bits.count_ones()
    }
}

/// `{"first":12,"bits":"00000000000000ff"}`: bit n, from the lowest, asks for chunk first + n.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WantedText {
    first: u32,
    bits: String,
}

impl From<Wanted> for WantedText {
    fn from(wanted: Wanted) -> Self {
        Self {
            first: wanted.first,
            bits: format!("{:016x}", wanted.bits),
        }
    }
}

/// A window that asks for nothing, for too much, or beyond the largest blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a window asks for 1 to {MAX_WANTED} chunks below {MAX_CHUNKS}, as 16 hexadecimal digits")]
pub struct InvalidWanted;

impl TryFrom<WantedText> for Wanted {
    type Error = InvalidWanted;

    fn try_from(text: WantedText) -> Result<Self, Self::Error> {
        let plain = text.bits.len() == 16 && text.bits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let bits = u64::from_str_radix(&text.bits, 16).map_err(|_| InvalidWanted)?;
        let count = bits.count_ones();
        if plain && (1..=MAX_WANTED).contains(&count) && text.first < MAX_CHUNKS {
            Ok(Self {
                first: text.first,
                bits,
            })
        } else {
            Err(InvalidWanted)
        }
    }
}

#[cfg(test)]
mod tests;
