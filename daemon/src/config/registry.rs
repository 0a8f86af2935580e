//! The configuration of `edgeward registry serve`.

use std::path::{Path, PathBuf};

use edgeward_base::names::FleetId;

use super::broker::BrokerConfig;
use super::reader::Reader;
use super::{ConfigErrors, LogConfig, load};

const NAME: &str = "a fleet's name: letters, digits, _ and -";

/// Everything `edgeward registry serve` is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryConfig {
    /// `registry.dir`: the directory that holds everything the registry keeps.
    pub dir: PathBuf,
    /// `registry.fleet`: the fleet it manages.
    pub fleet: FleetId,
    /// `registry.landing`: where the rows of the fleet land; `{dir}/landing` when absent.
    pub landing: PathBuf,
    /// `registry.broker` and the keys beside it.
    pub broker: BrokerConfig,
    /// `[log]`.
    pub log: LogConfig,
}

impl RegistryConfig {
    /// The packaged location.
    pub const DIR: &'static str = "/var/lib/edgeward-registry";

    /// Reads a configuration file and the overrides in the environment.
    ///
    /// # Errors
    /// [`ConfigErrors`]: everything that is wrong, together.
    pub fn load(path: &Path, env: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigErrors> {
        load(path, &env, Self::read)
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let (dir, landing, fleet, broker) = reader.section("registry", |section| {
            let dir = section
                .file("dir")
                .unwrap_or_else(|| PathBuf::from(Self::DIR));
            let landing = section
                .file("landing")
                .unwrap_or_else(|| dir.join("landing"));
            let fleet: Option<FleetId> = section.parsed("fleet", NAME, str::parse);
            if fleet.is_none() {
                section.missing("fleet", NAME);
            }
            let broker = BrokerConfig::required(section);
            (dir, landing, fleet, broker)
        });
        let log = LogConfig::read(reader);
        Some(Self {
            dir,
            fleet: fleet?,
            landing,
            broker: broker?,
            log,
        })
    }
}
