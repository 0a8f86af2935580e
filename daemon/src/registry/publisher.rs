//! The one owner of what is published: takes commands, commits records, signs documents.
//!
//! Every command reads the records, computes the new ones, and commits them together with the
//! newly signed documents in one change of the store: a device never sees half of a command. The
//! agent is told after the commit and publishes what it finds.
//!
//! The command queue holds [`QUEUE`] commands; whoever asks beyond that waits.

use std::collections::BTreeMap;
use std::path::Path;

use edgeward_base::clock::SharedClock;
use edgeward_base::names::{DeviceId, EndpointName, FleetId, ModelRef, ServedEntityName};
use edgeward_base::units::Percent;
use edgeward_wire::desired::{
    DesiredDocument, Document, EndpointDocument, EndpointsDocument, InvalidDocument, ModelEntry,
    ModelsDocument, Requires, Route,
};
use edgeward_wire::key::{PinnedKey, RegistryKey};
use edgeward_wire::ordering::{Generation, Kind};
use tokio::sync::{mpsc, oneshot, watch};

use super::documents::RegistryDocuments;
use super::input::{EndpointInput, EndpointInputError};
use super::record::{Desired, DeviceRecord, DocumentRecord, FleetRecord};
use crate::model::{ImportModelError, ModelRecord, ModelStore};
use crate::store::{Change, ChangeError, CommitStoreError, ReadStoreError, Store};
use crate::tasks::Tasks;

/// Commands that may wait.
const QUEUE: usize = 16;

/// What the publisher stands on.
#[derive(Debug, Clone)]
pub struct PublisherParts {
    /// Where records are kept.
    pub store: Store,
    /// Where model versions are kept.
    pub models: ModelStore,
    /// Signs documents.
    pub key: RegistryKey,
    /// Whose devices.
    pub fleet: FleetId,
    /// Dates documents.
    pub clock: SharedClock,
    /// Runs the owner and blocking imports.
    pub tasks: Tasks,
}

/// What a command has published: the new generation of each device that got a document.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Published {
    /// By device, `epoch.generation`.
    pub devices: BTreeMap<DeviceId, String>,
}

/// Why a command was not carried out. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The device is not known.
    #[error("device {0} is not known: add it with `edgeward registry device add {0}`")]
    UnknownDevice(DeviceId),
    /// No device that the command speaks of has the endpoint.
    #[error("endpoint {0} is not published")]
    UnknownEndpoint(EndpointName),
    /// A split names a served entity that the endpoint does not have.
    #[error("endpoint {endpoint} has no served entity {entity}: it has {known}")]
    UnknownEntity {
        /// The endpoint.
        endpoint: EndpointName,
        /// What was named.
        entity: ServedEntityName,
        /// What it has.
        known: String,
    },
    /// The endpoint's configuration does not fit what is published.
    #[error(transparent)]
    Input(#[from] EndpointInputError),
    /// A document would break a rule.
    #[error(transparent)]
    Invalid(#[from] InvalidDocument),
    /// The model version was refused.
    #[error("{model} is not published")]
    Import {
        /// The version.
        model: ModelRef,
        /// Why.
        #[source]
        source: Box<ImportModelError>,
    },
    /// A record cannot be read.
    #[error("cannot read the registry's records")]
    Read(#[source] ReadStoreError),
    /// A record was written by another version.
    #[error("cannot read the registry's endpoints")]
    Decode(#[source] serde_json::Error),
    /// A record cannot be written.
    #[error("cannot write the registry's records")]
    Change(#[source] ChangeError),
    /// The change was not acknowledged.
    #[error("cannot commit the registry's records")]
    Commit(#[source] CommitStoreError),
    /// The publisher has ended.
    #[error("the registry is shutting down")]
    Closed,
}

impl PublishError {
    /// The word by which a client tells what to do about it.
    #[must_use]
    pub fn error_code(&self) -> &'static str {
        match self {
            Self::UnknownDevice(_) | Self::UnknownEndpoint(_) => "RESOURCE_DOES_NOT_EXIST",
            Self::UnknownEntity { .. }
            | Self::Input(_)
            | Self::Invalid(_)
            | Self::Import { .. } => "INVALID_PARAMETER_VALUE",
            Self::Closed => "TEMPORARILY_UNAVAILABLE",
            Self::Read(_) | Self::Decode(_) | Self::Change(_) | Self::Commit(_) => "INTERNAL_ERROR",
        }
    }
}

#[derive(Debug)]
enum Command {
    AddDevice(DeviceId),
    Model {
        record: ModelRecord,
        device: Option<DeviceId>,
    },
    SetEndpoint {
        name: EndpointName,
        input: EndpointInput,
        device: Option<DeviceId>,
    },
    RemoveEndpoint {
        name: EndpointName,
        device: Option<DeviceId>,
    },
    Traffic {
        name: EndpointName,
        split: Vec<(ServedEntityName, Percent)>,
        device: Option<DeviceId>,
    },
}

impl Command {
    fn device(&self) -> Option<&DeviceId> {
        match self {
            Self::AddDevice(_) => None,
            Self::Model { device, .. }
            | Self::SetEndpoint { device, .. }
            | Self::RemoveEndpoint { device, .. }
            | Self::Traffic { device, .. } => device.as_ref(),
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Model { .. } | Self::AddDevice(_) => Kind::Models,
            Self::SetEndpoint { .. } | Self::RemoveEndpoint { .. } | Self::Traffic { .. } => {
                Kind::Endpoints
            }
        }
    }
}

type Answer = oneshot::Sender<Result<Published, PublishError>>;

/// A handle to the owner.
#[derive(Debug, Clone)]
pub struct Publisher {
    commands: mpsc::Sender<(Command, Answer)>,
    parts: PublisherParts,
    changed: watch::Sender<u64>,
}

impl Publisher {
    /// Starts the owner.
    #[must_use]
    pub fn start(parts: PublisherParts) -> Self {
        let (commands, mut queue) = mpsc::channel::<(Command, Answer)>(QUEUE);
        let (changed, _) = watch::channel(0);
        let owner = Owner {
            parts: parts.clone(),
        };
        let tell = changed.clone();
        let stop = parts.tasks.shutdown_token();
        drop(parts.tasks.spawn("publisher", async move {
            while let Some(Some((command, answer))) = stop.run_until_cancelled(queue.recv()).await {
                let done = owner.carry_out(command).await;
                if done.is_ok() {
                    tell.send_modify(|count| *count += 1);
                }
                // Whoever asked may have gone away; the command stands.
                drop(answer.send(done));
            }
        }));
        Self {
            commands,
            parts,
            changed,
        }
    }

    /// The signed documents, for the agent.
    #[must_use]
    pub fn documents(&self) -> RegistryDocuments {
        RegistryDocuments::new(self.parts.store.clone(), self.changed.subscribe())
    }

    /// The store of records, for those that only read.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.parts.store
    }

    /// The registry's model versions.
    #[must_use]
    pub fn models(&self) -> &ModelStore {
        &self.parts.models
    }

    /// Whose devices.
    #[must_use]
    pub fn fleet(&self) -> &FleetId {
        &self.parts.fleet
    }

    /// The key that devices pin.
    #[must_use]
    pub fn public_key(&self) -> PinnedKey {
        self.parts.key.pinned()
    }

    /// Makes a device known; it gets what is published to all. Adding it again changes nothing.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn add_device(&self, device: DeviceId) -> Result<Published, PublishError> {
        self.ask(Command::AddDevice(device)).await
    }

    /// Imports a model version and publishes it to a device, or to all.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn publish_model(
        &self,
        path: &Path,
        model: ModelRef,
        device: Option<DeviceId>,
    ) -> Result<Published, PublishError> {
        let record = self
            .parts
            .models
            .import(path, &model)
            .await
            .map_err(|source| PublishError::Import {
                model,
                source: Box::new(source),
            })?;
        self.ask(Command::Model { record, device }).await
    }

    /// Publishes an endpoint's configuration to a device, or to all.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn set_endpoint(
        &self,
        name: EndpointName,
        input: EndpointInput,
        device: Option<DeviceId>,
    ) -> Result<Published, PublishError> {
        self.ask(Command::SetEndpoint {
            name,
            input,
            device,
        })
        .await
    }

    /// Takes an endpoint away from a device, or from all.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn remove_endpoint(
        &self,
        name: EndpointName,
        device: Option<DeviceId>,
    ) -> Result<Published, PublishError> {
        self.ask(Command::RemoveEndpoint { name, device }).await
    }

    /// Replaces the split of an endpoint on a device, or on all that have it.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn set_traffic(
        &self,
        name: EndpointName,
        split: Vec<(ServedEntityName, Percent)>,
        device: Option<DeviceId>,
    ) -> Result<Published, PublishError> {
        self.ask(Command::Traffic {
            name,
            split,
            device,
        })
        .await
    }

    async fn ask(&self, command: Command) -> Result<Published, PublishError> {
        let (answer, answered) = oneshot::channel();
        self.commands
            .send((command, answer))
            .await
            .map_err(|_| PublishError::Closed)?;
        answered.await.map_err(|_| PublishError::Closed)?
    }
}

/// Carries out one command at a time.
#[derive(Debug)]
struct Owner {
    parts: PublisherParts,
}

/// Records and documents that one command writes.
#[derive(Debug, Default)]
struct Pending {
    change: Change,
    published: Published,
}

impl Owner {
    async fn carry_out(&self, command: Command) -> Result<Published, PublishError> {
        let mut fleet = self.fleet()?;
        let mut pending = Pending::default();
        if let Command::AddDevice(device) = command {
            self.add_device(&fleet, device, &mut pending)?;
        } else {
            let known = match command.device() {
                Some(name) => vec![self.device(name)?],
                None => self.parts.store.list().map_err(PublishError::Read)?,
            };
            let mut touched = 0;
            if command.device().is_none()
                && self.apply(&command, "the fleet", &mut fleet.desired)?
            {
                touched += 1;
                pending.put(&fleet)?;
            }
            for mut device in known {
                let name = device.device.to_string();
                if self.apply(&command, &name, &mut device.desired)? {
                    touched += 1;
                    self.sign(&fleet, &device, command.kind(), &mut pending)?;
                    pending.put(&device)?;
                }
            }
            if touched == 0 {
                return unchanged(&command);
            }
        }
        if !pending.change.is_empty() {
            self.parts
                .store
                .commit(pending.change)
                .await
                .map_err(PublishError::Commit)?;
        }
        Ok(pending.published)
    }

    fn fleet(&self) -> Result<FleetRecord, PublishError> {
        let found = self
            .parts
            .store
            .get(FleetRecord::KEY)
            .map_err(PublishError::Read)?;
        Ok(found.unwrap_or_else(|| FleetRecord {
            epoch: u64::try_from(self.parts.clock.wall_millis() / 1_000).unwrap_or_default(),
            desired: Desired::default(),
        }))
    }

    fn device(&self, name: &DeviceId) -> Result<DeviceRecord, PublishError> {
        self.parts
            .store
            .get(name.as_str())
            .map_err(PublishError::Read)?
            .ok_or_else(|| PublishError::UnknownDevice(name.clone()))
    }

    fn add_device(
        &self,
        fleet: &FleetRecord,
        device: DeviceId,
        pending: &mut Pending,
    ) -> Result<(), PublishError> {
        let known = self.parts.store.get::<DeviceRecord>(device.as_str());
        if known.map_err(PublishError::Read)?.is_some() {
            return Ok(());
        }
        let device = DeviceRecord {
            device,
            added_unix_ms: self.parts.clock.wall_millis(),
            desired: fleet.desired.clone(),
        };
        for kind in Kind::ALL {
            self.sign(fleet, &device, kind, pending)?;
        }
        pending.put(fleet)?;
        pending.put(&device)
    }

    /// Changes what is desired; answers whether the command has anything to say there.
    fn apply(
        &self,
        command: &Command,
        whose: &str,
        desired: &mut Desired,
    ) -> Result<bool, PublishError> {
        let mut endpoints = desired.endpoints().map_err(PublishError::Decode)?;
        match command {
            Command::AddDevice(_) => return Ok(false),
            Command::Model { record, .. } => {
                let missing = !desired.models.contains(&record.model);
                if missing {
                    desired.models.push(record.model.clone());
                }
                return Ok(missing);
            }
            Command::SetEndpoint { name, input, .. } => {
                let document = input.document(whose, |model| {
                    let published = desired.models.contains(model);
                    self.parts
                        .models
                        .get(model)
                        .ok()
                        .flatten()
                        .filter(|_| published)
                        .map(|record| record.manifest)
                })?;
                endpoints.insert(name.clone(), document);
            }
            Command::RemoveEndpoint { name, .. } => {
                if endpoints.remove(name).is_none() {
                    return Ok(false);
                }
            }
            Command::Traffic { name, split, .. } => {
                let Some(endpoint) = endpoints.get_mut(name) else {
                    return Ok(false);
                };
                endpoint.traffic_config.routes = routes(name, endpoint, split)?;
            }
        }
        desired
            .set_endpoints(&endpoints)
            .map_err(PublishError::Decode)?;
        Ok(true)
    }

    /// Signs the next document of one kind for a device. An `endpoints` document requires the
    /// newest `models` document of that device.
    fn sign(
        &self,
        fleet: &FleetRecord,
        device: &DeviceRecord,
        kind: Kind,
        pending: &mut Pending,
    ) -> Result<(), PublishError> {
        let newest = |kind| -> Result<u64, PublishError> {
            let key = DocumentRecord::key_of(&device.device, kind);
            let record = self
                .parts
                .store
                .get::<DocumentRecord>(&key)
                .map_err(PublishError::Read)?;
            Ok(record.map_or(0, |record| record.generation.generation))
        };
        let generation = Generation::new(fleet.epoch, newest(kind)? + 1);
        let document = match kind {
            Kind::Models => Document::Models(self.catalogue(device)?),
            Kind::Endpoints => Document::Endpoints(EndpointsDocument {
                // A device that is just added gets its first `models` document in this change.
                requires: Requires {
                    models: Generation::new(fleet.epoch, newest(Kind::Models)?.max(1)),
                },
                endpoints: device.desired.endpoints().map_err(PublishError::Decode)?,
            }),
        };
        let container = DesiredDocument::sign(
            &self.parts.key,
            &self.parts.fleet,
            &device.device,
            generation,
            self.parts.clock.wall_millis(),
            &document,
        )?
        .bytes();
        pending.put(&DocumentRecord {
            device: device.device.clone(),
            kind,
            generation,
            container,
        })?;
        pending
            .published
            .devices
            .insert(device.device.clone(), generation.to_string());
        Ok(())
    }

    fn catalogue(&self, device: &DeviceRecord) -> Result<ModelsDocument, PublishError> {
        let mut models = Vec::new();
        for model in &device.desired.models {
            let found = self.parts.models.get(model).map_err(PublishError::Read)?;
            // Published versions are never removed from the registry's store.
            models.extend(found.map(|record| ModelEntry {
                name: record.model.name.clone(),
                version: record.model.version,
                manifest: record.manifest,
                manifest_size: record.manifest_size,
            }));
        }
        Ok(ModelsDocument { models })
    }
}

impl Pending {
    fn put<R: crate::store::Record>(&mut self, record: &R) -> Result<(), PublishError> {
        self.change = std::mem::take(&mut self.change)
            .put(record)
            .map_err(PublishError::Change)?;
        Ok(())
    }
}

/// The answer to a command that found nothing to change.
fn unchanged(command: &Command) -> Result<Published, PublishError> {
    match command {
        Command::RemoveEndpoint { name, .. } | Command::Traffic { name, .. } => {
            Err(PublishError::UnknownEndpoint(name.clone()))
        }
        Command::AddDevice(_) | Command::Model { .. } | Command::SetEndpoint { .. } => {
            Ok(Published::default())
        }
    }
}

/// The routes of a split: entities that it does not name get nothing.
fn routes(
    endpoint: &EndpointName,
    document: &EndpointDocument,
    split: &[(ServedEntityName, Percent)],
) -> Result<Vec<Route>, PublishError> {
    let known = || document.served_entities.iter().map(|entity| &entity.name);
    if let Some((entity, _)) = split
        .iter()
        .find(|(entity, _)| !known().any(|name| name == entity))
    {
        let known: Vec<&str> = known().map(ServedEntityName::as_str).collect();
        return Err(PublishError::UnknownEntity {
            endpoint: endpoint.clone(),
            entity: entity.clone(),
            known: known.join(", "),
        });
    }
    Ok(split
        .iter()
        .map(|(entity, percent)| Route {
            served_entity_name: entity.clone(),
            traffic_percentage: *percent,
        })
        .collect())
}
