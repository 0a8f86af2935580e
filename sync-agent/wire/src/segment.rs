//! Sealed segments on their way to the landing folder.
//!
//! Owns: what a segment is called, the offer, the registry's answers and the signed receipt.
//! Must never: let anything but a valid receipt stand for "landed".
//!
//! ```text
//! device   --> bulk/{id}/logs/{table}/m    SegmentManifest            (again until answered)
//! registry --> bulk/{id}/logs/ack          send{wanted}               or landed{receipt} or refused
//! device   --> bulk/{id}/logs/{table}/c    one chunk frame for each chunk wanted
//!          --> bulk/{id}/logs/{table}/end  SegmentEnd                 (everything wanted is sent)
//! registry --> bulk/{id}/logs/ack          send{what is missing}  ... landed{receipt}
//! ```
//!
//! Each step may repeat: the offer of a landed segment is answered by its receipt again.
//!
//! Landed name, relative to the landing folder:
//! `{catalog}/{schema}/{prefix}_payload/date=YYYY-MM-DD/device={id}/part-{boot}-{first}-{last}.parquet`,
//! with `{prefix}_gaps` for the segments that count what was not logged.

use std::{fmt, str::FromStr};

use edgeward_base::{
    digest::Digest,
    names::{BootId, DeviceId, FleetId, TableName},
};
use serde::{Deserialize, Serialize};

use crate::{
    ack::Rejection,
    chunk::{Wanted, chunk_count},
    envelope::{SignedEnvelope, VerifyEnvelopeError},
    json::{self, ParseJsonError},
    key::{PinnedKey, RegistryKey},
};

const RECEIPT_SCHEMA: &str = "receipt/0";

/// What a segment holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SegmentKind {
    /// Rows of the inference table.
    Rows,
    /// Counted gaps: ranges of sequences that have no row.
    Gaps,
}

impl SegmentKind {
    /// What follows the table's prefix in its landed folder.
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Rows => "payload",
            Self::Gaps => "gaps",
        }
    }
}

/// What a segment of one device is called. Two segments of one name are the same segment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SegmentName {
    /// Inference table.
    pub table: TableName,
    /// Rows or gaps.
    pub kind: SegmentKind,
    /// The boot in which the rows were logged.
    pub boot: BootId,
    /// Sequence of the first row.
    pub first: u64,
    /// Sequence of the last row.
    pub last: u64,
}

impl fmt::Display for SegmentName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            table,
            kind,
            boot,
            first,
            last,
        } = self;
        write!(formatter, "{table}_{} {boot} {first}-{last}", kind.suffix())
    }
}

/// A UTC day, `YYYY-MM-DD`: the partition of a landed segment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SegmentDate(String);

impl SegmentDate {
    /// The day that is so many days after 1970-01-01; the first or last one of the years 0000 to
    /// 9999 where it is beyond them.
    #[must_use]
    pub fn of_days(days: i32) -> Self {
        // Counted in eras of 400 years that start on 1 March, so that a leap day is the last one.
        let days = days.clamp(-719_528, 2_932_896) + 719_468;
        let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let from_march = (5 * day + 2) / 153;
        let day = day - (153 * from_march + 2) / 5 + 1;
        let month = if from_march < 10 {
            from_march + 3
        } else {
            from_march - 9
        };
        let year = year + era * 400 + i32::from(month <= 2);
        Self(format!("{year:04}-{month:02}-{day:02}"))
    }

    /// Days after 1970-01-01; the inverse of [`of_days`](Self::of_days).
    #[must_use]
    pub fn days(&self) -> i32 {
        let number = |range| {
            let part = self.0.get(range).and_then(|part: &str| part.parse().ok());
            part.unwrap_or_default()
        };
        let (year, month, day): (i32, i32, i32) = (number(0..4), number(5..7), number(8..10));
        // The year starts on 1 March, as above.
        let year = year - i32::from(month <= 2);
        let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let from_march = (month + 9) % 12;
        let day = (153 * from_march + 2) / 5 + day - 1;
        era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day - 719_468
    }
}

/// Text that is not a day.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a segment's date is YYYY-MM-DD")]
pub struct ParseSegmentDateError;

impl FromStr for SegmentDate {
    type Err = ParseSegmentDateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let shaped = text.len() == 10
            && text.bytes().enumerate().all(|(at, byte)| match at {
                4 | 7 => byte == b'-',
                _ => byte.is_ascii_digit(),
            });
        let number = |range| {
            text.get(range)
                .and_then(|part: &str| part.parse::<u32>().ok())
        };
        let month = number(5..7).is_some_and(|month| (1..=12).contains(&month));
        let day = number(8..10).is_some_and(|day| (1..=31).contains(&day));
        if shaped && month && day {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseSegmentDateError)
        }
    }
}

impl TryFrom<String> for SegmentDate {
    type Error = ParseSegmentDateError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<SegmentDate> for String {
    fn from(date: SegmentDate) -> Self {
        date.0
    }
}

impl fmt::Display for SegmentDate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The offer of a sealed segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentManifest {
    /// Its name.
    #[serde(flatten)]
    pub name: SegmentName,
    /// How many rows it holds.
    pub rows: u64,
    /// The UTC day it lands under.
    pub date: SegmentDate,
    /// Bytes of the Parquet file.
    pub size: u64,
    /// BLAKE3 of the Parquet file.
    pub digest: Digest,
}

/// An offer that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("segment field `{field}`: {reason}")]
pub struct InvalidSegment {
    /// Where.
    pub field: &'static str,
    /// What is allowed.
    pub reason: &'static str,
}

impl SegmentManifest {
    /// Checks every rule.
    ///
    /// # Errors
    /// The first rule that is broken, with its field.
    pub fn validate(&self) -> Result<(), InvalidSegment> {
        let invalid = |field, reason| Err(InvalidSegment { field, reason });
        if self.name.first > self.name.last {
            return invalid("first", "not after last");
        }
        let most = (self.name.last - self.name.first).saturating_add(1);
        if !(1..=most).contains(&self.rows) {
            return invalid("rows", "1 to last - first + 1");
        }
        if chunk_count(self.size).is_none() {
            return invalid("size", "1 byte to 64 GiB");
        }
        Ok(())
    }

    /// The name under which the segment of `device` lands.
    #[must_use]
    pub fn object(&self, device: &DeviceId) -> String {
        let (catalog, schema, prefix) = self.name.table.parts();
        let SegmentName {
            kind,
            boot,
            first,
            last,
            ..
        } = &self.name;
        format!(
            "{catalog}/{schema}/{prefix}_{}/date={}/device={device}/part-{boot}-{first}-{last}.parquet",
            kind.suffix(),
            self.date,
        )
    }
}

/// Everything that the registry asked for has been sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentEnd {
    /// Which segment, by digest.
    pub digest: Digest,
}

/// What the registry says to an offer or an end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentAnswer {
    /// Which segment, by digest.
    pub digest: Digest,
    /// What to do.
    #[serde(flatten)]
    pub verdict: SegmentVerdict,
}

/// What the device shall do with a segment it offered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum SegmentVerdict {
    /// Send these chunks.
    Send {
        /// Which.
        wanted: Wanted,
    },
    /// It stands in the landing folder.
    Landed {
        /// The signed [`Receipt`]: verify it before deleting anything.
        receipt: SignedEnvelope,
    },
    /// It cannot land: keep it and say so.
    Refused(Rejection),
}

/// The registry's word that a segment stands, durably, under its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    schema: String,
    /// Whose registry.
    pub fleet: FleetId,
    /// Whose segment.
    pub device: DeviceId,
    /// Which segment.
    #[serde(flatten)]
    pub name: SegmentName,
    /// BLAKE3 of the landed file.
    pub digest: Digest,
    /// Its name in the landing folder.
    pub object: String,
}

/// Why a receipt was not believed.
#[derive(Debug, thiserror::Error)]
pub enum VerifyReceiptError {
    /// Not signed by the pinned key.
    #[error("receipt is not signed by the registry")]
    Envelope(#[source] VerifyEnvelopeError),
    /// Signed, but no receipt.
    #[error("receipt cannot be read")]
    Body(#[source] ParseJsonError),
    /// A receipt for something else.
    #[error("receipt is for another segment, device or fleet: field `{0}` differs")]
    Mismatch(&'static str),
}

impl Receipt {
    /// The receipt for `manifest` of `device`.
    #[must_use]
    pub fn new(fleet: FleetId, device: DeviceId, manifest: &SegmentManifest) -> Self {
        Self {
            schema: RECEIPT_SCHEMA.to_owned(),
            object: manifest.object(&device),
            fleet,
            device,
            name: manifest.name.clone(),
            digest: manifest.digest,
        }
    }

    /// Signs the receipt.
    #[must_use]
    pub fn sign(&self, key: &RegistryKey) -> SignedEnvelope {
        SignedEnvelope::sign(key, &json::bytes(self))
    }

    /// Reads a receipt that says exactly: `manifest` of `device` in `fleet` has landed.
    ///
    /// # Errors
    /// When it is not signed by `key`, or says anything else.
    pub fn verify(
        envelope: &SignedEnvelope,
        key: &PinnedKey,
        fleet: &FleetId,
        device: &DeviceId,
        manifest: &SegmentManifest,
    ) -> Result<Self, VerifyReceiptError> {
        let body = envelope.verify(key).map_err(VerifyReceiptError::Envelope)?;
        let receipt: Self = json::parse(&body).map_err(VerifyReceiptError::Body)?;
        let expected = Self::new(fleet.clone(), device.clone(), manifest);
        let same = [
            ("schema", receipt.schema == expected.schema),
            ("fleet", receipt.fleet == expected.fleet),
            ("device", receipt.device == expected.device),
            ("name", receipt.name == expected.name),
            ("digest", receipt.digest == expected.digest),
            ("object", receipt.object == expected.object),
        ];
        match same.into_iter().find(|(_, same)| !same) {
            Some((field, _)) => Err(VerifyReceiptError::Mismatch(field)),
            None => Ok(receipt),
        }
    }
}

#[cfg(test)]
mod tests;
