//! Validated names: once one of these exists, nobody has to check it again.
//!
//! Every type parses with [`std::str::FromStr`], prints as it parses, orders and hashes by its
//! text, and (de)serialises as a string. A bad name says what is allowed.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text that is not a name of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {text:?} is not valid: {allowed}")]
pub struct ParseNameError {
    /// What was to be named, such as `endpoint name`.
    pub kind: &'static str,
    /// What was given, cut to a length that is safe to print.
    pub text: String,
    /// What is allowed.
    pub allowed: &'static str,
}

impl ParseNameError {
    fn new(kind: &'static str, text: &str, allowed: &'static str) -> Self {
        Self {
            kind,
            text: text.chars().take(80).collect(),
            allowed,
        }
    }
}

/// Whether `text` has 1 to `most` characters out of letters, digits, `_`, `-` and `extra`.
fn is_word(text: &str, most: usize, extra: &str) -> bool {
    (1..=most).contains(&text.len())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_-".contains(c) || extra.contains(c))
}

/// Serialises by `Display` and reads back by `FromStr`.
macro_rules! as_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

macro_rules! word_name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $most:literal, $extra:literal, $allowed:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ParseNameError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                if is_word(text, $most, $extra) {
                    Ok(Self(text.into()))
                } else {
                    Err(ParseNameError::new($kind, text, $allowed))
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        as_text!($name);
    };
}

word_name!(
    /// The name of a serving endpoint, as it stands in its URL.
    EndpointName,
    "endpoint name",
    63,
    "",
    "use 1 to 63 letters, digits, '_' or '-'"
);

word_name!(
    /// The name of a served entity within its endpoint.
    ServedEntityName,
    "served entity name",
    63,
    ".",
    "use 1 to 63 letters, digits, '_', '-' or '.'"
);

word_name!(
    /// The name of one box within its fleet; also its MQTT client id.
    DeviceId,
    "device id",
    64,
    "",
    "use 1 to 64 letters, digits, '_' or '-'"
);

word_name!(
    /// The name of a fleet: one registry's devices.
    FleetId,
    "fleet id",
    64,
    "",
    "use 1 to 64 letters, digits, '_' or '-'"
);

word_name!(
    /// Who asks: a user, a group or a service, as written when its token was made.
    Principal,
    "principal",
    128,
    ".@+:",
    "use 1 to 128 letters, digits, '_', '-', '.', '@', '+' or ':'"
);

/// Splits `a.b.c` into three words.
fn three_words(text: &str) -> Option<[&str; 3]> {
    let mut parts = text.split('.');
    let words = [parts.next()?, parts.next()?, parts.next()?];
    let good = parts.next().is_none() && words.iter().all(|word| is_word(word, 63, ""));
    good.then_some(words)
}

/// The full name of a registered model: `catalog.schema.model`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelName(Arc<str>);

impl ModelName {
    /// The whole name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last of the three parts: what a served entity is called by default.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.rsplit('.').next().unwrap_or(&self.0)
    }
}

impl FromStr for ModelName {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        three_words(text).map(|_| Self(text.into())).ok_or_else(|| {
            ParseNameError::new(
                "model name",
                text,
                "use catalog.schema.model, each 1 to 63 letters, digits, '_' or '-'",
            )
        })
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

as_text!(ModelName);

/// The version of a registered model: a whole number from 1, written as text in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelVersion(u64);

impl ModelVersion {
    /// Takes a number from 1.
    #[must_use]
    pub const fn new(number: u64) -> Option<Self> {
        if number == 0 {
            None
        } else {
            Some(Self(number))
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl FromStr for ModelVersion {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let canonical = !text.starts_with(['0', '+']);
        text.parse()
            .ok()
            .filter(|_| canonical)
            .and_then(Self::new)
            .ok_or_else(|| {
                ParseNameError::new(
                    "model version",
                    text,
                    "use a whole number from 1, such as 3",
                )
            })
    }
}

impl fmt::Display for ModelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

as_text!(ModelVersion);

/// One version of one registered model: `catalog.schema.model/version`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelRef {
    /// The model.
    pub name: ModelName,
    /// Its version.
    pub version: ModelVersion,
}

impl FromStr for ModelRef {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, version) = text.split_once('/').ok_or_else(|| {
            ParseNameError::new("model version", text, "use catalog.schema.model/version")
        })?;
        Ok(Self {
            name: name.parse()?,
            version: version.parse()?,
        })
    }
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.version)
    }
}

as_text!(ModelRef);

/// An inference table: `catalog.schema.prefix`; rows land in `{prefix}_payload`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName(Arc<str>);

impl TableName {
    /// Puts the three parts together.
    ///
    /// # Errors
    /// [`ParseNameError`] when a part is not 1 to 63 letters, digits, `_` or `-`.
    pub fn new(catalog: &str, schema: &str, prefix: &str) -> Result<Self, ParseNameError> {
        format!("{catalog}.{schema}.{prefix}").parse()
    }

    /// The table of requests that match no endpoint.
    #[must_use]
    pub fn unmatched() -> Self {
        Self("edgeward.system._unmatched".into())
    }

    /// The whole name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Catalog, schema and prefix.
    #[must_use]
    pub fn parts(&self) -> (&str, &str, &str) {
        let mut parts = self.0.split('.');
        let mut next = || parts.next().unwrap_or_default();
        (next(), next(), next())
    }
}

impl FromStr for TableName {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        three_words(text).map(|_| Self(text.into())).ok_or_else(|| {
            ParseNameError::new(
                "table name",
                text,
                "use catalog.schema.prefix, each 1 to 63 letters, digits, '_' or '-'",
            )
        })
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

as_text!(TableName);

/// One start of the process: 64 random bits, written as 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootId(pub u64);

impl FromStr for BootId {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.len() == 16
            && text
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        u64::from_str_radix(text, 16)
            .ok()
            .filter(|_| digits)
            .map(Self)
            .ok_or_else(|| {
                ParseNameError::new("boot id", text, "use 16 lowercase hexadecimal digits")
            })
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

as_text!(BootId);

#[cfg(test)]
mod tests;
