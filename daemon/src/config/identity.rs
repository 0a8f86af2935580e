//! The identity of the box: `{state}/device.toml`, written by provisioning.
//!
//! ```toml
//! device = "box-17"
//! fleet = "plant-4"            # these two together, or neither
//! registry_key = "<64 hex digits: the ed25519 key that signs what this box obeys>"
//! ```

use std::io;
use std::path::{Path, PathBuf};

use edgeward_base::durable::{DurableFs, write_atomic};
use edgeward_base::names::{DeviceId, FleetId};
use edgeward_wire::key::PinnedKey;
use serde::{Deserialize, Serialize};

/// Name of the file in the state directory.
const FILE: &str = "device.toml";

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

/// The identity cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system answered.
        #[source]
        source: io::Error,
    },
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
        let path = state_dir.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(IdentityError::Read { path, source }),
        };
        match parse(&text) {
            Ok(identity) => Ok(Some(identity)),
            Err(problem) => Err(IdentityError::Invalid { path, problem }),
        }
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
        text.and_then(|text| write_atomic(fs, &path, text.as_bytes()))
            .map_err(|source| IdentityError::Write { path, source })
    }
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
