//! Configuration: one TOML file, read once, all mistakes reported together.
//!
//! Owns the meaning of every key of `edgeward serve --config` and `edgeward registry serve
//! --config`, its range and its default, and the identity that provisioning writes
//! ([`DeviceIdentity`]). Each key can be overridden by the environment: `server.body_limit` by
//! `EDGEWARD_SERVER_BODY_LIMIT`. `docs/configuration.md` describes every key; a test holds the two
//! together.
//!
//! Must never accept a key that has no effect, hold a secret (only paths to files that do), or be
//! read again while the process runs.

mod batching;
mod broker;
mod device;
mod identity;
mod reader;
mod registry;
mod retention;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

pub use batching::BatchingConfig;
pub use broker::{BrokerConfig, BrokerCredentials, BrokerTls};
pub use device::{
    Config, EndpointConfig, InferenceTableConfig, LocalEdits, ServerConfig, TlsConfig,
};
pub use identity::{DeviceIdentity, FleetMembership, FoundIdentity, IdentityError};
pub use registry::RegistryConfig;
pub use retention::{Retain, RetentionConfig};

use reader::Reader;

/// Longest path of a Unix socket that Linux takes, in bytes.
const SOCKET_PATH_BYTES: usize = 107;

/// What is written to standard error while the process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// `log.filter`: which events, in the syntax of `tracing`'s filters.
    pub filter: String,
    /// `log.format`.
    pub format: LogFormat,
}

/// How events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people: one line per event.
    Text,
    /// For machines: one JSON object per line.
    Json,
}

impl LogConfig {
    /// What an operator wants of a box that works: starts, changes and failures.
    pub const FILTER: &'static str = "info";

    fn read(reader: &mut Reader<'_>) -> Self {
        reader.section("log", |section| {
            let filter = section.parsed(
                "filter",
                "such as info, debug or info,edgeward::fleet=debug",
                |text| tracing_subscriber::EnvFilter::try_new(text).map(|_| text.to_owned()),
            );
            let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
            Self {
                filter: filter.unwrap_or_else(|| Self::FILTER.to_owned()),
                format: section
                    .choice("format", &formats)
                    .unwrap_or(LogFormat::Text),
            }
        })
    }
}

/// One mistake in a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Read(io::Error),
    /// The file is not TOML.
    #[error("is not TOML: {0}")]
    Syntax(String),
    /// A key's value is not allowed.
    #[error("{key}: {problem}; allowed: {allowed}")]
    Key {
        /// The key's path, `server.listen`, or the environment variable that set it.
        key: String,
        /// What is wrong with the value.
        problem: String,
        /// The values or the range that are allowed.
        allowed: String,
    },
    /// A key that means nothing.
    #[error("{key}: unknown key; known here: {}", known.join(", "))]
    UnknownKey {
        /// The key's path.
        key: String,
        /// The keys and sections that may stand there.
        known: Vec<String>,
    },
}

/// Everything that is wrong with a configuration, one line each.
#[derive(Debug)]
pub struct ConfigErrors {
    /// The configuration file.
    pub file: PathBuf,
    /// At least one error.
    pub errors: Vec<ConfigError>,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, error) in self.errors.iter().enumerate() {
            let end = if number == 0 { "" } else { "\n" };
            write!(f, "{end}{}: {error}", self.file.display())?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Reads a file with `read` and answers what it made, or all errors.
fn load<T>(
    path: &Path,
    env: &dyn Fn(&str) -> Option<String>,
    read: impl FnOnce(&mut Reader<'_>) -> Option<T>,
) -> Result<T, ConfigErrors> {
    let fail = |errors| ConfigErrors {
        file: path.to_path_buf(),
        errors,
    };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => return Err(fail(vec![ConfigError::Read(error)])),
    };
    let folder = edgeward_base::durable::parent(path);
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf());
    let mut reader = match Reader::new(&text, &folder, env) {
        Ok(reader) => reader,
        Err(error) => return Err(fail(vec![ConfigError::Syntax(error.to_string())])),
    };
    let value = read(&mut reader);
    match (value, reader.finish().0) {
        (Some(value), errors) if errors.is_empty() => Ok(value),
        (_, errors) => Err(fail(errors)),
    }
}
