//! Bytes, percentages and durations, with the text forms people write in configuration.

mod duration;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use duration::{ParseDurationError, format_duration, parse_duration};

/// A number of bytes. Text forms: `8388608`, `64KiB`, `16 MiB`, `2GB` (decimal) and so on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteCount(pub u64);

const UNITS: [(&str, u64); 7] = [
    ("KIB", 1 << 10),
    ("MIB", 1 << 20),
    ("GIB", 1 << 30),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

impl ByteCount {
    /// So many times 1,024 bytes.
    #[must_use]
    pub const fn kib(count: u64) -> Self {
        Self(count << 10)
    }

    /// So many times 1,048,576 bytes.
    #[must_use]
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// The count as a size in memory; the largest one where it does not fit.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binary = [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        match binary
            .iter()
            .find(|(_, size)| self.0 >= *size && self.0.is_multiple_of(*size))
        {
            Some((unit, size)) => write!(f, "{}{unit}", self.0 / size),
            None => write!(f, "{}", self.0),
        }
    }
}

/// A text that is no number of bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a number of bytes: write 8388608, 64KiB, 16MiB, 2GB or the like")]
pub struct ParseByteCountError;

impl FromStr for ByteCount {
    type Err = ParseByteCountError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let upper = text.trim().to_ascii_uppercase();
        let (number, unit) = UNITS
            .iter()
            .find_map(|(suffix, unit)| upper.strip_suffix(suffix).map(|number| (number, *unit)))
            .unwrap_or((&upper, 1));
        let number: u64 = number.trim().parse().map_err(|_| ParseByteCountError)?;
        number
            .checked_mul(unit)
            .map(Self)
            .ok_or(ParseByteCountError)
    }
}

impl Serialize for ByteCount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ByteCount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return u64::deserialize(deserializer).map(Self);
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u64),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Number(bytes) => Ok(Self(bytes)),
            Written::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

/// A whole number of hundredths, 0 to 100.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Percent(u8);

/// A number that is no percentage.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a percentage is a whole number from 0 to 100, got {0}")]
pub struct PercentRangeError(pub i64);

impl Percent {
    /// All of it.
    pub const ALL: Self = Self(100);

    /// Takes a number from 0 to 100.
    ///
    /// # Errors
    /// [`PercentRangeError`] for any other number.
    pub fn new(value: i64) -> Result<Self, PercentRangeError> {
        u8::try_from(value)
            .ok()
            .filter(|percent| *percent <= 100)
            .map(Self)
            .ok_or(PercentRangeError(value))
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = if deserializer.is_human_readable() {
            i64::deserialize(deserializer)?
        } else {
            i64::from(u8::deserialize(deserializer)?)
        };
        Self::new(value).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_every_spelling_and_refuse_the_rest() {
        for (text, bytes) in [
            ("0", 0),
            ("64KiB", 65_536),
            ("16 MB", 16_000_000),
            ("1gib", 1 << 30),
            ("7b", 7),
        ] {
            assert_eq!(text.parse(), Ok(ByteCount(bytes)), "{text}");
        }
        for wrong in ["", "-1", "1.5MB", "MB", "99999999999GiB", "12 TB"] {
            assert_eq!(
                wrong.parse::<ByteCount>(),
                Err(ParseByteCountError),
                "{wrong}"
            );
        }
    }

    #[test]
    fn bytes_print_as_they_are_read() {
        for bytes in [0, 1, 1_023, 1 << 10, 3 << 20, 5 << 30, (5 << 30) + 1] {
            assert_eq!(ByteCount(bytes).to_string().parse(), Ok(ByteCount(bytes)));
        }
    }

    #[test]
    fn percent_knows_its_range() {
        assert_eq!(Percent::new(100), Ok(Percent::ALL));
        assert_eq!(Percent::new(101), Err(PercentRangeError(101)));
        assert_eq!(Percent::new(-1), Err(PercentRangeError(-1)));
    }
}
