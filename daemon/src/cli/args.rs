//! The command line as clap reads it: names, help and types, no behaviour.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use edgeward_base::names::{
    DeviceId, EndpointName, FleetId, ModelName, ModelVersion, Principal, ServedEntityName,
};

/// Where a device keeps its state when nobody says otherwise; what the systemd unit uses.
const DEFAULT_STATE: &str = "/var/lib/edgeward";
/// Where a registry keeps its state when nobody says otherwise.
const DEFAULT_REGISTRY: &str = "/var/lib/edgeward-registry";

/// Model serving for an edge box.
#[derive(Debug, Parser)]
#[command(
    name = "edgeward",
    version,
    disable_help_subcommand = true,
    arg_required_else_help = true
)]
pub(super) struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub(super) verb: Verb,
}

/// The verbs of `edgeward`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Run the daemon (what systemd runs)
    Serve(ConfigFile),
    /// Read a configuration, report every error, and run nothing
    CheckConfig(ConfigFile),
    /// Broker, registry and daemon in one process, with sample models ready to call
    #[cfg(feature = "broker")]
    Quickstart(Quickstart),
    /// Give a device its identity and pin the key of its registry
    Provision(Provision),
    /// Show what a running daemon does
    Status(OnDevice),
    /// Look at the hardware that models may run on
    #[cfg(feature = "wgpu")]
    #[command(subcommand)]
    Device(DeviceVerb),
    /// Make, list and revoke tokens
    #[command(subcommand)]
    Token(TokenVerb),
    /// Import and list model versions
    #[command(subcommand)]
    Model(ModelVerb),
    /// Look at serving endpoints
    #[command(subcommand)]
    Endpoint(EndpointVerb),
    /// Check the row log, or print SQL views over landed rows
    #[command(subcommand)]
    Logs(LogsVerb),
    /// Check, export, restore or roll back the state
    #[command(subcommand)]
    State(StateVerb),
    /// The central side: publish to devices, land their rows
    #[command(subcommand)]
    Registry(RegistryVerb),
}

/// A configuration file.
#[derive(Debug, Args)]
pub(super) struct ConfigFile {
    /// The configuration, in TOML
    #[arg(long, value_name = "FILE")]
    pub(super) config: PathBuf,
}

/// How a verb prints its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people
    Text,
    /// One JSON value, and nothing else on standard output
    Json,
}

/// Which device a verb talks to.
#[derive(Debug, Args)]
pub(super) struct OnDevice {
    /// The device's state directory: the verb talks to the admin socket in it
    #[arg(long, value_name = "DIR", env = "EDGEWARD_STATE", default_value = DEFAULT_STATE)]
    pub(super) state: PathBuf,
    /// How to print the answer
    #[arg(long, value_enum, default_value = "text")]
    pub(super) output: Output,
}

/// Which registry a verb talks to.
#[derive(Debug, Args)]
pub(super) struct OnRegistry {
    /// The registry's directory: the verb talks to the admin socket in it
    #[arg(long, value_name = "DIR", env = "EDGEWARD_REGISTRY", default_value = DEFAULT_REGISTRY)]
    pub(super) registry: PathBuf,
    /// How to print the answer
    #[arg(long, value_enum, default_value = "text")]
    pub(super) output: Output,
}

/// `edgeward quickstart`.
#[cfg(feature = "broker")]
#[derive(Debug, Args)]
pub(super) struct Quickstart {
    /// Where everything is kept: state, registry, landed rows
    #[arg(long, value_name = "DIR", default_value = "edgeward-quickstart")]
    pub(super) dir: PathBuf,
    /// Where the REST API listens; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub(super) listen: std::net::SocketAddr,
    /// Where the MQTT broker listens; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:1883")]
    pub(super) broker_listen: std::net::SocketAddr,
    /// How to print the URL, the token and the sample requests
    #[arg(long, value_enum, default_value = "text")]
    pub(super) output: Output,
}

/// `edgeward provision`.
#[derive(Debug, Args)]
pub(super) struct Provision {
    /// The device's state directory; made when it is not there
    #[arg(long, value_name = "DIR", env = "EDGEWARD_STATE", default_value = DEFAULT_STATE)]
    pub(super) state: PathBuf,
    /// The fleet that the device belongs to
    #[arg(long)]
    pub(super) fleet: FleetId,
    /// The device's name in its fleet
    #[arg(long)]
    pub(super) device: DeviceId,
    /// The registry's public key: 64 hexadecimal digits, from `edgeward registry status`
    #[arg(long, value_name = "HEX")]
    pub(super) registry_key: String,
}

/// `edgeward device`.
#[cfg(feature = "wgpu")]
#[derive(Debug, Subcommand)]
pub(super) enum DeviceVerb {
    /// Try every Vulkan adapter with a computation whose answer is known
    Probe {
        /// How to print the answer
        #[arg(long, value_enum, default_value = "text")]
        output: Output,
    },
}

/// `edgeward token`.
#[derive(Debug, Subcommand)]
pub(super) enum TokenVerb {
    /// Make a token; its text is shown this once
    Create {
        /// Who the token is for
        #[arg(long)]
        principal: Principal,
        /// How long it is valid, such as 12h or 30d; for ever when absent
        #[arg(long, value_name = "DURATION")]
        expires: Option<String>,
        /// A group that whoever sends the token is in; `admins` may do everything. May be given again
        #[arg(long = "group", value_name = "NAME")]
        groups: Vec<Principal>,
        /// The principal is a program, not a person
        #[arg(long)]
        service_principal: bool,
        /// Which device
        #[command(flatten)]
        on: OnDevice,
    },
    /// List tokens, without their texts
    List(OnDevice),
    /// Take a token back
    Revoke {
        /// The token's id, from `edgeward token list`
        id: String,
        /// Which device
        #[command(flatten)]
        on: OnDevice,
    },
}

/// `edgeward model`.
#[derive(Debug, Subcommand)]
pub(super) enum ModelVerb {
    /// Import a bare model file or an MLflow model directory as one version of a model
    Import {
        /// The file or directory
        path: PathBuf,
        /// The model's name: catalog.schema.model
        #[arg(long)]
        name: ModelName,
        /// The version: a whole number from 1
        #[arg(long)]
        version: ModelVersion,
        /// Which device
        #[command(flatten)]
        on: OnDevice,
    },
    /// List the model versions that the device holds
    List(OnDevice),
}

/// `edgeward endpoint`.
#[derive(Debug, Subcommand)]
pub(super) enum EndpointVerb {
    /// List serving endpoints
    List(OnDevice),
    /// Show one serving endpoint
    Get {
        /// The endpoint
        name: EndpointName,
        /// Which device
        #[command(flatten)]
        on: OnDevice,
    },
}

/// `edgeward logs`.
#[derive(Debug, Subcommand)]
pub(super) enum LogsVerb {
    /// Seal every open row segment now, without waiting for its time
    Seal(OnDevice),
    /// Account for every row: rows, gaps, quarantine, for each boot and table
    Verify(OnDevice),
    /// Print `DuckDB` SQL for the views `ai_gateway`, `legacy` and `monitoring` over sealed rows
    Views {
        /// A landing folder; without it, the rows that lie on this device
        #[arg(long, value_name = "DIR")]
        landing: Option<PathBuf>,
        /// The device's state directory
        #[arg(long, value_name = "DIR", env = "EDGEWARD_STATE", default_value = DEFAULT_STATE)]
        state: PathBuf,
    },
}

/// `edgeward state`.
#[derive(Debug, Subcommand)]
pub(super) enum StateVerb {
    /// Check the database and every export against each other
    Verify(OnDevice),
    /// Write the newest export, checked, to a file; a daemon may run
    Export {
        /// The file, replaced when it is there
        file: PathBuf,
        /// Which state
        #[command(flatten)]
        on: OnDevice,
    },
    /// Put an exported state in the place of the one that is there; no daemon may run
    Restore {
        /// The file
        file: PathBuf,
        /// Which state
        #[command(flatten)]
        on: OnDevice,
    },
    /// Go back to the state that an upgrade kept; no daemon may run
    Rollback {
        /// The version at whose first start it was kept; the newest that this version reads when
        /// absent
        #[arg(long, value_name = "VERSION")]
        to: Option<String>,
        /// Which state
        #[command(flatten)]
        on: OnDevice,
    },
}

/// `edgeward registry`.
#[derive(Debug, Subcommand)]
pub(super) enum RegistryVerb {
    /// Run the registry
    Serve(RegistryConfigFile),
    /// Show the registry's public key, devices and what they report
    Status(OnRegistry),
    /// Devices of the fleet
    #[command(subcommand)]
    Device(RegistryDeviceVerb),
    /// Model versions that devices may hold
    #[command(subcommand)]
    Model(RegistryModelVerb),
    /// Serving endpoints that devices run
    #[command(subcommand)]
    Endpoint(RegistryEndpointVerb),
    /// Change the traffic split of an endpoint: NAME entity=percent ...
    Traffic {
        /// The endpoint
        name: EndpointName,
        /// The new split, such as champion=50 challenger=50; must sum to 100
        #[arg(required = true, value_name = "ENTITY=PERCENT", value_parser = parse_share)]
        split: Vec<(ServedEntityName, u8)>,
        /// Only on this device; on every device that has the endpoint when absent
        #[arg(long)]
        device: Option<DeviceId>,
        /// Which registry
        #[command(flatten)]
        on: OnRegistry,
    },
}

/// A registry's configuration file.
#[derive(Debug, Args)]
pub(super) struct RegistryConfigFile {
    /// The configuration, in TOML
    #[arg(long, value_name = "FILE")]
    pub(super) config: PathBuf,
}

/// `edgeward registry device`.
#[derive(Debug, Subcommand)]
pub(super) enum RegistryDeviceVerb {
    /// Make a device known, so that documents are published to it
    Add {
        /// The device
        device: DeviceId,
        /// Which registry
        #[command(flatten)]
        on: OnRegistry,
    },
    /// List devices with what they acknowledge and report
    List(OnRegistry),
}

/// `edgeward registry model`.
#[derive(Debug, Subcommand)]
pub(super) enum RegistryModelVerb {
    /// Import a model version and publish it to devices
    Publish {
        /// A bare file of ONNX, XGBoost or LightGBM, or an MLflow model directory
        path: PathBuf,
        /// The model's name: catalog.schema.model
        #[arg(long)]
        name: ModelName,
        /// The version: a whole number from 1
        #[arg(long)]
        version: ModelVersion,
        /// Only to this device; to every device when absent
        #[arg(long)]
        device: Option<DeviceId>,
        /// Which registry
        #[command(flatten)]
        on: OnRegistry,
    },
    /// List the model versions that the registry holds
    List(OnRegistry),
}

/// `edgeward registry endpoint`.
#[derive(Debug, Subcommand)]
pub(super) enum RegistryEndpointVerb {
    /// Publish an endpoint's configuration: the JSON that REST's `update_config` takes
    Set {
        /// The endpoint
        name: EndpointName,
        /// The configuration, as JSON
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Only to this device; to every device when absent
        #[arg(long)]
        device: Option<DeviceId>,
        /// Which registry
        #[command(flatten)]
        on: OnRegistry,
    },
    /// Take an endpoint away from devices
    Remove {
        /// The endpoint
        name: EndpointName,
        /// Only from this device; from every device when absent
        #[arg(long)]
        device: Option<DeviceId>,
        /// Which registry
        #[command(flatten)]
        on: OnRegistry,
    },
    /// List the endpoints that the registry publishes
    List(OnRegistry),
}

/// Reads `entity=percent`.
fn parse_share(text: &str) -> Result<(ServedEntityName, u8), String> {
    let (entity, percent) = text
        .split_once('=')
        .ok_or("write entity=percent, such as champion=80")?;
    let entity = entity.parse().map_err(|error| format!("{error}"))?;
    let percent = percent
        .parse()
        .ok()
        .filter(|percent| *percent <= 100)
        .ok_or("a percentage is a whole number from 0 to 100")?;
    Ok((entity, percent))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn a_share_names_its_entity_and_percent() {
        let (entity, percent) = parse_share("champion=80").unwrap();
        assert_eq!((entity.as_str(), percent), ("champion", 80));
        for wrong in [
            "champion",
            "champion=",
            "=5",
            "champion=101",
            "champion=-1",
            "champion=5.5",
        ] {
            assert!(parse_share(wrong).is_err(), "{wrong}");
        }
    }
}
