//! The identity of the box: `{state}/device.toml`, written by provisioning.
//!
//! ```toml
//! device = "box-17"
//! fleet = "plant-4"            # these two together, or neither
//! registry_key = "<64 hex digits: the ed25519 key that signs what this box obeys>"
//! # crc32 0a1b2c3d             # the last line: the checksum of the bytes before it
//! ```
//!
//! A flipped bit in the name would make another device of the box, so a file with a checksum that
//! does not match is no identity. A file without one was written by an older version or by hand.

use std::io;
use std::path::{Path, PathBuf};

use edgeward_base::durable::{DurableFs, write_atomic};
use edgeward_base::names::{DeviceId, FleetId};
use edgeward_wire::key::PinnedKey;
use serde::{Deserialize, Serialize};

/// Name of the file in the state directory.
const FILE: &str = "device.toml";

/// What the line with the checksum begins with: a comment, so that older versions read the file.
const CHECKSUM: &str = "# crc32 ";

/// Who this box is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceIdentity {
    /// The box's name, unique in its fleet.
    pub device: DeviceId,
    /// The fleet that it belongs to; `None` for a box that no registry manages.
    pub fleet: Option<FleetMembership>,
}

/// The fleet of a box, and whose word it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetMembership {
    /// The fleet's name.
    pub fleet: FleetId,
    /// The registry's key: documents that it did not sign are refused.
    pub registry_key: PinnedKey,
}

/// What the file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundIdentity {
    /// There is no file.
    Missing,
    /// An identity with the checksum that it was written with.
    Sealed(DeviceIdentity),
    /// An identity without a checksum.
    Unsealed(DeviceIdentity),
    /// No identity, and why.
    Damaged(String),
}

/// The identity cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file says something else than an identity.
    #[error("{} is no identity: {problem}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what is allowed.
        problem: String,
    },
    /// The file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system answered.
        #[source]
        source: io::Error,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    device: DeviceId,
    #[serde(skip_serializing_if = "Option::is_none")]
    fleet: Option<FleetId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    registry_key: Option<String>,
}

impl DeviceIdentity {
    /// Reads the identity; `None` for a box that was never provisioned.
    ///
    /// # Errors
    /// [`IdentityError`] when the file is there and is no identity.
    pub fn read(state_dir: &Path) -> Result<Option<Self>, IdentityError> {
        match Self::find(state_dir) {
            FoundIdentity::Missing => Ok(None),
            FoundIdentity::Sealed(identity) | FoundIdentity::Unsealed(identity) => {
                Ok(Some(identity))
            }
            FoundIdentity::Damaged(problem) => {
                let path = Self::path(state_dir);
                Err(IdentityError::Invalid { path, problem })
            }
        }
    }

    /// What the file in this state directory holds.
    #[must_use]
    pub fn find(state_dir: &Path) -> FoundIdentity {
        let text = match std::fs::read_to_string(Self::path(state_dir)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return FoundIdentity::Missing,
            Err(error) => return FoundIdentity::Damaged(error.to_string()),
        };
        let Some((content, checksum)) = split_checksum(&text) else {
            return parse(&text).map_or_else(FoundIdentity::Damaged, FoundIdentity::Unsealed);
        };
        if checksum != checksum_of(content) {
            return FoundIdentity::Damaged("its checksum does not match".to_owned());
        }
        parse(content).map_or_else(FoundIdentity::Damaged, FoundIdentity::Sealed)
    }

    /// Where the identity lies in a state directory.
    #[must_use]
    pub fn path(state_dir: &Path) -> PathBuf {
        state_dir.join(FILE)
    }

    /// Writes the identity, durably, in the place of the one that is there.
    ///
    /// # Errors
    /// [`IdentityError::Write`].
    pub fn write(&self, fs: &dyn DurableFs, state_dir: &Path) -> Result<(), IdentityError> {
        let path = state_dir.join(FILE);
        let written = Written {
            device: self.device.clone(),
            fleet: self
                .fleet
                .as_ref()
                .map(|membership| membership.fleet.clone()),
            registry_key: self
                .fleet
                .as_ref()
                .map(|membership| membership.registry_key.to_string()),
        };
        let text = toml::to_string(&written).map_err(io::Error::other);
        let text = text.map(|text| format!("{text}{CHECKSUM}{}\n", checksum_of(&text)));
        text.and_then(|text| write_atomic(fs, &path, text.as_bytes()))
            .map_err(|source| IdentityError::Write { path, source })
    }
}

/// The content and the checksum in the last line, if there is one.
fn split_checksum(text: &str) -> Option<(&str, &str)> {
    let at = text.rfind(CHECKSUM)?;
    let (content, line) = text.split_at(at);
    Some((content, line.strip_prefix(CHECKSUM)?.strip_suffix('\n')?))
}

fn checksum_of(content: &str) -> String {
    format!("{:08x}", crc32fast::hash(content.as_bytes()))
}

fn parse(text: &str) -> Result<DeviceIdentity, String> {
    let written: Written = toml::from_str(text).map_err(|error| error.to_string())?;
    let fleet = match (written.fleet, written.registry_key) {
        (None, None) => None,
        (Some(fleet), Some(key)) => {
            let registry_key = key
                .parse()
                .map_err(|error| format!("registry_key {key:?}: {error}"))?;
            Some(FleetMembership {
                fleet,
                registry_key,
            })
        }
        (Some(_), None) => return Err("fleet needs registry_key beside it".to_owned()),
        (None, Some(_)) => return Err("registry_key needs fleet beside it".to_owned()),
    };
    Ok(DeviceIdentity {
        device: written.device,
        fleet,
    })
}
