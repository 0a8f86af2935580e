//! Broker, registry and daemon in one process, with the sample models ready to be called.
//!
//! Everything goes the way it goes in a fleet: the samples are published through the registry,
//! pulled over MQTT, verified and applied by the device, and rows land through the registry.
//! What was changed since is kept: a second start publishes only what is missing.
//!
//! ```text
//! {dir}/edgeward.toml   the device's configuration, written anew at each start
//! {dir}/state           the device          {dir}/samples   the sample models as MLflow directories
//! {dir}/registry        the registry        {dir}/landing   landed Parquet
//! ```

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use edgeward_base::names::{DeviceId, EndpointName, FleetId, ModelRef};
use serde::Serialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::Means;
use super::device::{BuildDeviceError, Device};
use super::drain::DrainReport;
use super::registry::{BuildRegistryError, Registry};
use crate::api::{BindError, BindServerError};
use crate::broker::{self, StartBrokerError};
use crate::config::{
    BrokerConfig, Config, ConfigErrors, DeviceIdentity, FleetMembership, IdentityError, LogConfig,
    LogFormat, RegistryConfig,
};
use crate::endpoint::{Endpoints, Ready};
use crate::model::samples::{SampleModel, samples};
use crate::registry::{AdminAnswer, AdminRequest, EndpointInput, PublishError, Publisher, answer};
use crate::tasks::Tasks;
use crate::telemetry::ServiceManager;

const FLEET: &str = "quickstart";
const DEVICE: &str = "quickstart-box";
/// How long the device may take to apply what was published.
const APPLY_PATIENCE: Duration = Duration::from_secs(120);

/// Where a quickstart lives and listens.
#[derive(Debug, Clone)]
pub struct QuickstartOptions {
    /// Where everything is kept.
    pub dir: PathBuf,
    /// Where the REST API listens.
    pub listen: SocketAddr,
    /// Where the MQTT broker listens.
    pub broker_listen: SocketAddr,
    /// How the verbs of the printed lines are called, such as `target/release/edgeward`.
    pub program: String,
}

/// Why a quickstart did not start.
#[derive(Debug, thiserror::Error)]
pub enum QuickstartError {
    /// A file or directory cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The broker's address cannot be used.
    #[error(
        "--broker-listen: the MQTT broker does not start; name another address, or port 0 for a free one"
    )]
    Broker(#[source] StartBrokerError),
    /// The REST API's address cannot be used.
    #[error(
        "--listen: the REST API cannot listen on {address}; name another address, or port 0 for a free one"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The registry cannot be built.
    #[error("the registry does not start")]
    Registry(#[source] BuildRegistryError),
    /// The configuration that was written cannot be read.
    #[error("the device's configuration cannot be used")]
    Config(#[source] ConfigErrors),
    /// The identity cannot be written.
    #[error("the device cannot be provisioned")]
    Identity(#[source] IdentityError),
    /// The daemon cannot be built.
    #[error("the daemon does not start")]
    Device(#[source] BuildDeviceError),
    /// Something of the samples cannot be published.
    #[error("the samples cannot be published")]
    Publish(#[source] PublishError),
    /// A sample does not say what it should: a mistake of this program.
    #[error("sample {sample} is damaged: {problem}")]
    Sample {
        /// Which.
        sample: String,
        /// What is wrong.
        problem: String,
    },
    /// The device did not apply what was published.
    #[error("the device did not serve {endpoints} in time: {state}")]
    NotApplied {
        /// Which endpoints are missing.
        endpoints: String,
        /// What the registry knows of the device.
        state: String,
    },
    /// It was told to stop before it was ready.
    #[error("stopped before it was ready")]
    Stopped,
}

/// One request that is ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SampleCall {
    /// The endpoint.
    pub name: String,
    /// Where to post.
    pub url: String,
    /// What to post.
    pub body: Value,
    /// The same as a line for a shell.
    pub curl: String,
}

/// What a person (or a script) needs to know of a running quickstart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Greeting {
    /// `http://host:port` of the REST API.
    pub url: String,
    /// A token for it.
    pub token: String,
    /// One request for each endpoint.
    pub endpoints: Vec<SampleCall>,
    /// Where the Parquet lands.
    pub landing: PathBuf,
    /// `mqtt://host:port` of the broker.
    pub broker: String,
    /// A line that changes the traffic split.
    pub traffic: String,
}

/// A quickstart that serves.
#[derive(Debug)]
pub struct Quickstart {
    /// What to print.
    pub greeting: Greeting,
    running: Running,
}

#[derive(Debug)]
struct Running {
    stop_device: CancellationToken,
    stop_registry: CancellationToken,
    device: crate::tasks::TaskHandle<DrainReport>,
    registry: crate::tasks::TaskHandle<DrainReport>,
}

impl Running {
    /// Stops the device, then the registry, which hears it say that it goes offline.
    async fn stop(self) -> Vec<String> {
        let mut problems = Vec::new();
        for (token, task) in [
            (self.stop_device, self.device),
            (self.stop_registry, self.registry),
        ] {
            token.cancel();
            match task.join().await {
                Ok(report) => problems.extend(report.problems),
                Err(error) => problems.push(error.to_string()),
            }
        }
        problems
    }
}

impl Quickstart {
    /// Starts everything and waits until the sample endpoints serve. `progress` hears what is being
    /// done; when `stop` ends first, what runs is shut down.
    ///
    /// # Errors
    /// [`QuickstartError`].
    pub async fn start(
        options: &QuickstartOptions,
        means: &Means,
        progress: &(dyn Fn(&str) + Sync),
        stop: impl Future<Output = ()>,
    ) -> Result<Self, QuickstartError> {
        let dir = std::path::absolute(&options.dir).map_err(write(&options.dir))?;
        means.fs.create_dir_all(&dir).map_err(write(&dir))?;
        progress("starting the MQTT broker");
        // rumqttd never ends: its thread is in a list that nobody joins.
        let unjoined = Tasks::new(tokio::runtime::Handle::current());
        let broker = broker::start(options.broker_listen, &unjoined)
            .await
            .map_err(QuickstartError::Broker)?;
        progress("starting the registry");
        let registry = Registry::build(&registry_config(&dir, broker)?, means)
            .await
            .map_err(QuickstartError::Registry)?;
        let publisher = registry.publisher().clone();
        progress("starting the daemon");
        let config = device_config(&dir, options.listen, broker)?;
        provision(&config, &publisher, means)?;
        let device = build_device(config, options.listen, means).await?;
        let endpoints = device.services().endpoints.clone();
        let url = device
            .address()
            .map(|address| format!("http://{address}"))
            .unwrap_or_default();
        let running = run(device, registry, means);
        let ready = async {
            publish(&publisher, &dir, progress).await?;
            progress("waiting until the device has pulled, verified and applied them");
            applied(&endpoints, &publisher).await?;
            greeting(&dir, &url, broker, options).map(Some)
        };
        let greeted = tokio::select! {
            greeted = ready => greeted,
            () = stop => Ok(None),
        };
        match greeted {
            Ok(Some(greeting)) => Ok(Self { greeting, running }),
            Ok(None) => {
                running.stop().await;
                Err(QuickstartError::Stopped)
            }
            Err(error) => {
                running.stop().await;
                Err(error)
            }
        }
    }

    /// Serves until `stop` ends, then shuts down; answers what did not end as it should.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Vec<String> {
        stop.await;
        self.running.stop().await
    }
}

fn write(path: &Path) -> impl FnOnce(io::Error) -> QuickstartError + use<> {
    let path = path.to_owned();
    |source| QuickstartError::Write { path, source }
}

fn damaged(sample: &SampleModel, problem: &dyn std::error::Error) -> QuickstartError {
    QuickstartError::Sample {
        sample: sample.reference.to_owned(),
        problem: problem.to_string(),
    }
}

/// A name that is written in this file.
fn named<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, QuickstartError> {
    text.parse()
        .map_err(|error: T::Err| QuickstartError::Sample {
            sample: text.to_owned(),
            problem: error.to_string(),
        })
}

fn registry_config(dir: &Path, broker: SocketAddr) -> Result<RegistryConfig, QuickstartError> {
    Ok(RegistryConfig {
        dir: dir.join("registry"),
        fleet: named::<FleetId>(FLEET)?,
        landing: dir.join("landing"),
        broker: BrokerConfig {
            host: broker.ip().to_string(),
            port: broker.port(),
            tls: None,
            credentials: None,
        },
        log: LogConfig {
            filter: LogConfig::FILTER.to_owned(),
            format: LogFormat::Text,
        },
    })
}

/// Writes the device's configuration and reads it as `serve` would.
fn device_config(
    dir: &Path,
    listen: SocketAddr,
    broker: SocketAddr,
) -> Result<Config, QuickstartError> {
    let path = dir.join("edgeward.toml");
    let text = format!(
        "# Written by `edgeward quickstart` at each start.\n\
         [state]\ndir = \"state\"\n\n\
         [server]\nlisten = \"{listen}\"\n\n\
         [fleet]\nbroker = \"mqtt://{broker}\"\n\n\
         [inference_table]\nseal_after = \"15s\"\n\n\
         [endpoint]\nlocal_edits = \"allow\"\n"
    );
    std::fs::write(&path, text).map_err(write(&path))?;
    Config::load(&path, |_| None).map_err(QuickstartError::Config)
}

/// Gives the device its identity and pins the registry's key.
fn provision(config: &Config, publisher: &Publisher, means: &Means) -> Result<(), QuickstartError> {
    let state = &config.state_dir;
    let identity = DeviceIdentity {
        device: named::<DeviceId>(DEVICE)?,
        fleet: Some(FleetMembership {
            fleet: publisher.fleet().clone(),
            registry_key: publisher.public_key(),
        }),
    };
    if DeviceIdentity::read(state)
        .map_err(QuickstartError::Identity)?
        .as_ref()
        == Some(&identity)
    {
        return Ok(());
    }
    means.fs.create_dir_all(state).map_err(write(state))?;
    identity
        .write(means.fs.as_ref(), state)
        .map_err(QuickstartError::Identity)
}

async fn build_device(
    config: Config,
    listen: SocketAddr,
    means: &Means,
) -> Result<Device, QuickstartError> {
    // The process has one service manager at most, and it is not told of half of it.
    Device::build(config, ServiceManager::none(), means)
        .await
        .map_err(|error| match error {
            BuildDeviceError::Bind(BindServerError::Bind(BindError::Tcp { source, .. })) => {
                QuickstartError::Listen {
                    address: listen,
                    source,
                }
            }
            error => QuickstartError::Device(error),
        })
}

fn run(device: Device, registry: Registry, means: &Means) -> Running {
    let (stop_device, stop_registry) = (CancellationToken::new(), CancellationToken::new());
    let device = device.run(stop_device.clone().cancelled_owned());
    let registry = registry.run(
        ServiceManager::none(),
        stop_registry.clone().cancelled_owned(),
    );
    Running {
        stop_device,
        stop_registry,
        device: means.tasks.spawn("device", device),
        registry: means.tasks.spawn("registry", registry),
    }
}

/// Publishes what the registry does not publish yet.
async fn publish(
    publisher: &Publisher,
    dir: &Path,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<(), QuickstartError> {
    let device = named::<DeviceId>(DEVICE)?;
    publisher
        .add_device(device)
        .await
        .map_err(QuickstartError::Publish)?;
    for sample in samples() {
        let model: ModelRef = sample.model().map_err(|error| damaged(sample, &error))?;
        progress(&format!("publishing {model}"));
        let folder = dir
            .join("samples")
            .join(model.name.short())
            .join(model.version.to_string());
        sample.write_to(&folder).map_err(write(&folder))?;
        publisher
            .publish_model(&folder, model, None)
            .await
            .map_err(QuickstartError::Publish)?;
    }
    let published = published_endpoints(publisher).await?;
    for (name, config) in sample_endpoints() {
        if published.get(name).is_some() {
            continue;
        }
        progress(&format!("publishing endpoint {name}"));
        let input: EndpointInput =
            serde_json::from_value(config).map_err(|error| QuickstartError::Sample {
                sample: name.to_owned(),
                problem: error.to_string(),
            })?;
        publisher
            .set_endpoint(named::<EndpointName>(name)?, input, None)
            .await
            .map_err(QuickstartError::Publish)?;
    }
    Ok(())
}

/// The endpoints that the registry publishes to the device, by name.
async fn published_endpoints(publisher: &Publisher) -> Result<Value, QuickstartError> {
    match answer(publisher, AdminRequest::Status)
        .await
        .map_err(QuickstartError::Publish)?
    {
        AdminAnswer::Status(status) => {
            let device = status
                .devices
                .into_iter()
                .find(|(name, _)| name.as_str() == DEVICE);
            Ok(device.map_or(Value::Null, |(_, device)| device.endpoints))
        }
        AdminAnswer::Published(_) => Ok(Value::Null),
    }
}

/// The endpoints of the samples, in the JSON of `update_config`.
fn sample_endpoints() -> [(&'static str, Value); 4] {
    let capture = |prefix: &str| {
        json!({"enabled": true, "catalog_name": "main", "schema_name": "default",
               "table_name_prefix": prefix})
    };
    let entity = |name: &str, model: &str, version: &str| {
        json!({"name": name, "entity_name": model, "entity_version": version,
               "workload_size": "Small", "scale_to_zero_enabled": false})
    };
    let fraud = json!({
        "served_entities": [
            entity("champion", "main.default.fraud", "3"),
            entity("challenger", "main.default.fraud", "4"),
        ],
        "traffic_config": {"routes": [
            {"served_entity_name": "champion", "traffic_percentage": 80},
            {"served_entity_name": "challenger", "traffic_percentage": 20},
        ]},
        "auto_capture_config": capture("fraud"),
    });
    let tumour = json!({
        "served_entities": [entity("tumour-1", "main.default.tumour", "1")],
        "auto_capture_config": capture("tumour"),
    });
    let diabetes = json!({
        "served_entities": [entity("diabetes-1", "main.default.diabetes", "1")],
        "auto_capture_config": capture("diabetes"),
    });
    let digits = json!({
        "served_entities": [entity("digits-2", "main.default.digits", "2")],
        "auto_capture_config": capture("digits"),
    });
    [
        ("fraud-detection", fraud),
        ("tumour", tumour),
        ("diabetes", diabetes),
        ("digits", digits),
    ]
}

/// Waits until the device serves every sample endpoint.
async fn applied(endpoints: &Endpoints, publisher: &Publisher) -> Result<(), QuickstartError> {
    let mut views = endpoints.watch();
    let serves = |name: &str, views: &crate::endpoint::EndpointViews| {
        views
            .get(name)
            .is_some_and(|view| view.state.ready == Ready::Ready)
    };
    let all = views.wait_for(|views| {
        sample_endpoints()
            .iter()
            .all(|(name, _)| serves(name, views))
    });
    if matches!(tokio::time::timeout(APPLY_PATIENCE, all).await, Ok(Ok(_))) {
        return Ok(());
    }
    let now = endpoints.list();
    let missing: Vec<&str> = sample_endpoints()
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| !serves(name, &now))
        .collect();
    let status = answer(publisher, AdminRequest::Status)
        .await
        .map_err(QuickstartError::Publish)?;
    Err(QuickstartError::NotApplied {
        endpoints: missing.join(", "),
        state: serde_json::to_string(&status).unwrap_or_default(),
    })
}

/// What to print: each call takes its rows from the golden inputs of its model.
fn greeting(
    dir: &Path,
    url: &str,
    broker: SocketAddr,
    options: &QuickstartOptions,
) -> Result<Greeting, QuickstartError> {
    let path = dir.join("state/secrets/first-token");
    let token = std::fs::read_to_string(&path)
        .map_err(write(&path))?
        .trim_end()
        .to_owned();
    let calls = [
        ("fraud-detection", "main.default.fraud/3"),
        ("tumour", "main.default.tumour/1"),
        ("diabetes", "main.default.diabetes/1"),
        ("digits", "main.default.digits/2"),
    ];
    let endpoints = calls
        .into_iter()
        .map(|(name, reference)| sample_call(name, reference, url, &token))
        .collect::<Result<_, _>>()?;
    let registry = dir.join("registry");
    Ok(Greeting {
        url: url.to_owned(),
        token,
        endpoints,
        landing: dir.join("landing"),
        broker: format!("mqtt://{broker}"),
        traffic: format!(
            "{} registry traffic fraud-detection champion=50 challenger=50 --registry {}",
            options.program,
            registry.display()
        ),
    })
}

/// Golden rows that a sample call sends.
const CALL_ROWS: usize = 2;

fn sample_call(
    name: &str,
    reference: &str,
    url: &str,
    token: &str,
) -> Result<SampleCall, QuickstartError> {
    let missing = || QuickstartError::Sample {
        sample: reference.to_owned(),
        problem: "it has no golden inputs".to_owned(),
    };
    let sample = samples()
        .iter()
        .find(|sample| sample.reference == reference)
        .ok_or_else(missing)?;
    let (_, golden) = sample
        .files
        .iter()
        .find(|(name, _)| *name == "golden.json")
        .ok_or_else(missing)?;
    let golden: Value = serde_json::from_slice(golden).map_err(|error| damaged(sample, &error))?;
    let inputs = golden.get("inputs").ok_or_else(missing)?;
    let columns = inputs.get("columns").ok_or_else(missing)?;
    let rows = inputs
        .get("data")
        .and_then(Value::as_array)
        .ok_or_else(missing)?;
    let rows: Vec<&Value> = rows.iter().take(CALL_ROWS).collect();
    let body = json!({"dataframe_split": {"columns": columns, "data": rows}});
    let url = format!("{url}/serving-endpoints/{name}/invocations");
    let curl = format!(
        "curl -s {url} -H 'Authorization: Bearer {token}' -H 'Content-Type: application/json' -d '{body}'"
    );
    Ok(SampleCall {
        name: name.to_owned(),
        url,
        body,
        curl,
    })
}
