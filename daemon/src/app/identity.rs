//! Who the device is: `device.toml`, and its copy among the records of the state.
//!
//! ```text
//! file           | record | the device is           | then
//! sealed         | any    | what the file says      | the record follows
//! unsealed       | none   | what the file says      | both are written
//! missing        | none   | a name that is drawn    | both are written
//! damaged        | none   | nobody: no start        |
//! anything else  | there  | what the record says    | the file is set aside and written
//! ```
//!
//! Must never let damage to the file make another device of this one.

use std::path::Path;

use edgeward_base::durable::{DurableFs, parent};
use edgeward_base::names::{DeviceId, FleetId};
use serde::{Deserialize, Serialize};

use super::Means;
use super::device::BuildDeviceError;
use crate::config::{DeviceIdentity, FleetMembership, FoundIdentity, IdentityError};
use crate::store::{Change, Record, Store};

#[cfg(test)]
mod tests;

/// The copy of the identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct IdentityRecord {
    device: DeviceId,
    /// The fleet, and the registry's key as 64 hexadecimal digits.
    fleet: Option<(FleetId, String)>,
}

impl IdentityRecord {
    /// The key of the only record of this kind.
    const KEY: &'static str = "identity";

    fn of(identity: &DeviceIdentity) -> Self {
        let fleet = identity.fleet.as_ref();
        Self {
            device: identity.device.clone(),
            fleet: fleet.map(|fleet| (fleet.fleet.clone(), fleet.registry_key.to_string())),
        }
    }

    /// `None` when the key is none: no version wrote such a record.
    fn identity(self) -> Option<DeviceIdentity> {
        let fleet = match self.fleet {
            Some((fleet, key)) => Some(FleetMembership {
                fleet,
                registry_key: key.parse().ok()?,
            }),
            None => None,
        };
        let device = self.device;
        Some(DeviceIdentity { device, fleet })
    }
}

impl Record for IdentityRecord {
    const TABLE: &'static str = "identity";
    const SCHEMA: u16 = 1;

    fn key(&self) -> String {
        Self::KEY.to_owned()
    }
}

/// Finds out who this device is, and makes file and record say the same; a device that nobody
/// provisioned draws a name and keeps it.
pub(super) async fn identify(
    state: &Path,
    store: &Store,
    means: &Means,
) -> Result<DeviceIdentity, BuildDeviceError> {
    let fs = means.fs.as_ref();
    let record = match store.get::<IdentityRecord>(IdentityRecord::KEY) {
        Ok(record) => record,
        Err(error) => {
            tracing::error!(%error, "the copy of the identity cannot be read");
            None
        }
    };
    let kept = record.clone().and_then(IdentityRecord::identity);
    let (identity, written) = match (DeviceIdentity::find(state), kept) {
        (FoundIdentity::Sealed(identity), _) => (identity, Ok(())),
        (FoundIdentity::Unsealed(identity), None) => {
            let written = identity.write(fs, state);
            (identity, written)
        }
        (FoundIdentity::Missing, None) => {
            let identity = draw(state).map_err(BuildDeviceError::Identity)?;
            let written = identity.write(fs, state);
            written.map_err(BuildDeviceError::Identity)?;
            (identity, Ok(()))
        }
        (FoundIdentity::Damaged(problem), None) => {
            let path = DeviceIdentity::path(state);
            let invalid = IdentityError::Invalid { path, problem };
            return Err(BuildDeviceError::Identity(invalid));
        }
        (found, Some(kept)) => {
            let written = repair(fs, state, &found, &kept);
            (kept, written)
        }
    };
    if let Err(error) = written {
        // Who the device is is known: the file can wait for a disk that takes it.
        tracing::warn!(%error, "cannot write who this device is");
    }
    mirror(store, record, &identity).await;
    Ok(identity)
}

fn draw(state: &Path) -> Result<DeviceIdentity, IdentityError> {
    let name = format!("box-{:08x}", rand::random::<u32>());
    let device = name.parse::<DeviceId>();
    let device = device.map_err(|error| IdentityError::Invalid {
        path: DeviceIdentity::path(state),
        problem: error.to_string(),
    })?;
    let fleet = None;
    Ok(DeviceIdentity { device, fleet })
}

/// Sets a file aside that says something else than the record, and writes it anew.
fn repair(
    fs: &dyn DurableFs,
    state: &Path,
    found: &FoundIdentity,
    kept: &DeviceIdentity,
) -> Result<(), IdentityError> {
    let path = DeviceIdentity::path(state);
    let problem = match found {
        FoundIdentity::Missing => "it is gone",
        FoundIdentity::Damaged(problem) => problem,
        // An older version's, or a person's who wrote the same.
        FoundIdentity::Unsealed(identity) if identity == kept => return kept.write(fs, state),
        FoundIdentity::Sealed(_) | FoundIdentity::Unsealed(_) => {
            "it says something else than the state, without a checksum: `edgeward provision` \
             changes who a device is"
        }
    };
    tracing::error!(path = %path.display(), problem, "device.toml was repaired from the state");
    if *found != FoundIdentity::Missing {
        let aside = state.join("device.toml.corrupt");
        let moved = fs
            .rename(&path, &aside)
            .and_then(|()| fs.sync_dir(parent(&path)));
        moved.map_err(|source| IdentityError::Write { path, source })?;
    }
    kept.write(fs, state)
}

/// Makes the record say what the device is.
async fn mirror(store: &Store, record: Option<IdentityRecord>, identity: &DeviceIdentity) {
    let wanted = IdentityRecord::of(identity);
    if record.as_ref() == Some(&wanted) {
        return;
    }
    let change = match Change::new().put(&wanted) {
        Ok(change) => change,
        Err(error) => return tracing::error!(%error, "cannot keep who this device is"),
    };
    if let Err(error) = store.commit(change).await {
        tracing::warn!(%error, "cannot keep who this device is");
    }
}
