//! The registry's signing key: one 0600 file of 32 bytes in hexadecimal.
//!
//! A key that is lost cannot be replaced on devices but by provisioning them again: back it up.

use std::io;
use std::path::{Path, PathBuf};

use edgeward_base::durable::{DurableFs, parent, write_atomic};
use edgeward_wire::key::RegistryKey;

/// Where the key lies in the registry's directory.
const KEY_FILE: &str = "secrets/registry.key";

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum OpenKeyError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The file holds something else.
    #[error("{path} is no registry key: 64 hexadecimal digits and a line end")]
    Malformed {
        /// The file.
        path: PathBuf,
    },
}

/// Reads the key of the registry in `directory`, or draws one and keeps it.
///
/// # Errors
/// [`OpenKeyError`]; a file that is damaged is never replaced.
pub fn open_key(directory: &Path, fs: &dyn DurableFs) -> Result<RegistryKey, OpenKeyError> {
    let path = directory.join(KEY_FILE);
    match fs.read(&path) {
        Ok(text) => parse(&text).ok_or(OpenKeyError::Malformed { path }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = RegistryKey::from_seed(&rand::random());
            let text = format!("{}\n", hex::encode(key.seed()));
            fs.create_dir_all(parent(&path))
                .and_then(|()| write_atomic(fs, &path, text.as_bytes()))
                .map_err(|source| OpenKeyError::Write { path, source })?;
            Ok(key)
        }
        Err(source) => Err(OpenKeyError::Read { path, source }),
    }
}

fn parse(text: &[u8]) -> Option<RegistryKey> {
    let mut seed = [0; 32];
    hex::decode_to_slice(text.trim_ascii_end(), &mut seed).ok()?;
    Some(RegistryKey::from_seed(&seed))
}
