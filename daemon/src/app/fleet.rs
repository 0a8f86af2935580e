//! Connections to the broker, for a device and for a registry.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use edgeward_sync::device::{DeviceOptions, DevicePorts, DeviceTiming, device_tasks};
use edgeward_sync::link::{BrokerOptions, RumqttConnector};
use edgeward_sync::outbox::OutboxOptions;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::Means;
use super::rooms::Rooms;
use crate::config::{BrokerConfig, BrokerTls, FleetMembership};
use crate::fleet::{FleetBlobs, FleetEndpoints, FleetMemory, FleetModels, FleetSegments};
use crate::tasks::Tasks;

/// Why the broker cannot be reached as configured.
#[derive(Debug, thiserror::Error)]
pub enum ConnectBrokerError {
    /// A file of the configuration cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// A PEM file holds something else.
    #[error("{path} is no PEM file of the wanted kind")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// The certificates cannot be used together.
    #[error("the broker's certificates cannot be used")]
    Tls(#[source] rustls::Error),
}

/// A connector to the configured broker.
pub(super) fn connector(config: &BrokerConfig) -> Result<Arc<RumqttConnector>, ConnectBrokerError> {
    let mut options = BrokerOptions::new(config.host.clone(), config.port);
    options.tls = config
        .tls
        .as_ref()
        .map(client_tls)
        .transpose()?
        .map(Arc::new);
    if let Some(credentials) = &config.credentials {
        let path = &credentials.password_file;
        let password =
            std::fs::read_to_string(path).map_err(|source| ConnectBrokerError::Read {
                path: path.clone(),
                source,
            })?;
        options.credentials = Some((
            credentials.username.clone(),
            password.trim_end_matches('\n').to_owned(),
        ));
    }
    Ok(Arc::new(RumqttConnector::new(options)))
}

fn client_tls(tls: &BrokerTls) -> Result<ClientConfig, ConnectBrokerError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&tls.ca)? {
        roots.add(certificate).map_err(ConnectBrokerError::Tls)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(ConnectBrokerError::Tls)?
        .with_root_certificates(roots);
    match &tls.client {
        None => Ok(builder.with_no_client_auth()),
        Some((certificate, key)) => {
            let private =
                PrivateKeyDer::from_pem_file(key).map_err(|source| ConnectBrokerError::Pem {
                    path: key.clone(),
                    source,
                })?;
            builder
                .with_client_auth_cert(certificates(certificate)?, private)
                .map_err(ConnectBrokerError::Tls)
        }
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConnectBrokerError> {
    let pem = |source| ConnectBrokerError::Pem {
        path: path.to_owned(),
        source,
    };
    CertificateDer::pem_file_iter(path)
        .map_err(pem)?
        .collect::<Result<_, _>>()
        .map_err(pem)
}

/// Starts the device's agent as tasks of `tasks`.
pub(super) fn start_agent(
    rooms: &Rooms,
    membership: &FleetMembership,
    connector: Arc<RumqttConnector>,
    tasks: &Tasks,
    means: &Means,
) {
    let options = DeviceOptions {
        fleet: membership.fleet.clone(),
        device: rooms.identity.device.clone(),
        boot: rooms.boot,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        registry_key: membership.registry_key.clone(),
        outbox: OutboxOptions::default(),
        timing: DeviceTiming::default(),
    };
    let memory = Arc::new(FleetMemory::new(rooms.store.clone()));
    let artifacts = rooms.models.artifacts().clone();
    let ports = DevicePorts {
        desired: Arc::<FleetMemory>::clone(&memory),
        outbox: memory,
        blobs: Arc::new(FleetBlobs::new(
            artifacts,
            rooms.store.clone(),
            tasks.clone(),
        )),
        models: Arc::new(FleetModels::new(rooms.models.clone())),
        endpoints: Arc::new(FleetEndpoints::new(rooms.endpoints.clone())),
        segments: Arc::new(FleetSegments::new(rooms.tables.clone(), tasks.clone())),
        clock: Arc::clone(&means.clock),
    };
    for task in device_tasks(options, ports, connector, tasks.shutdown_token()) {
        drop(tasks.spawn(task.name, task.future));
    }
}
