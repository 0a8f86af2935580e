//! The rooms of a device, opened in the order in which they need each other.

use std::path::Path;
use std::sync::Arc;

use edgeward_base::names::{BootId, DeviceId};
use edgeward_sync::link::RumqttConnector;

use super::Means;
use super::device::BuildDeviceError;
use super::drain::Groups;
use super::engines;
use super::fleet::connector;
use super::identity::{IdentityRecord, identify};
use crate::config::{Config, DeviceIdentity, FleetMembership};
use crate::endpoint::{AppliedDesired, EndpointOptions, EndpointRecord, Endpoints};
use crate::fleet;
use crate::gateway::{FirstTokenRecord, PolicyRecord, TokenRecord};
use crate::inference_table::{BudgetOptions, InferenceTableOptions, InferenceTables};
use crate::model::{ModelRecord, ModelStore, ModelStoreOptions, VerdictRecord};
use crate::profile::Profile;
use crate::registry;
use crate::store::{Store, StoreOptions, StoreReport};
use crate::telemetry::Metrics;

#[cfg(test)]
mod tests;

/// What a device stands on.
#[derive(Debug)]
pub(super) struct Rooms {
    pub(super) store: Store,
    pub(super) opened: StoreReport,
    pub(super) metrics: Metrics,
    pub(super) identity: DeviceIdentity,
    pub(super) boot: BootId,
    pub(super) models: ModelStore,
    pub(super) tables: InferenceTables,
    pub(super) endpoints: Endpoints,
}

impl Rooms {
    /// Opens them all. The lock of the state directory comes first: all others write into it.
    pub(super) async fn open(
        config: &Config,
        profile: &Profile,
        groups: &Groups,
        means: &Means,
    ) -> Result<Self, BuildDeviceError> {
        let state = &config.state_dir;
        means
            .fs
            .create_dir_all(state)
            .map_err(|source| BuildDeviceError::Directory {
                path: state.clone(),
                source,
            })?;
        let metrics = Metrics::new();
        let (store, opened) = open_store(state, groups, &metrics, means)?;
        report(&opened);
        let identity = identify(state, &store, means).await?;
        let boot = BootId(rand::random());
        let models = open_models(state, profile, &store, means)?;
        let tables = open_tables(config, profile, (&identity.device, boot), groups, means)?;
        let endpoints = open_endpoints(config, profile, (&store, &models), groups, means)?;
        Ok(Self {
            store,
            opened,
            metrics,
            identity,
            boot,
            models,
            tables,
            endpoints,
        })
    }

    /// The fleet's broker, when one is configured and this device was provisioned for it.
    pub(super) fn broker(
        &self,
        config: &Config,
    ) -> Result<Option<(Arc<RumqttConnector>, FleetMembership)>, BuildDeviceError> {
        match (&config.fleet, &self.identity.fleet) {
            (Some(broker), Some(fleet)) => {
                let connector = connector(broker).map_err(BuildDeviceError::Broker)?;
                Ok(Some((connector, fleet.clone())))
            }
            (Some(_), None) => Err(BuildDeviceError::NotProvisioned {
                path: config.state_dir.join("device.toml"),
            }),
            (None, _) => Ok(None),
        }
    }
}

fn open_store(
    state: &Path,
    groups: &Groups,
    metrics: &Metrics,
    means: &Means,
) -> Result<(Store, StoreReport), BuildDeviceError> {
    let options = StoreOptions::new(
        state.to_owned(),
        groups.store.clone(),
        Arc::clone(&means.clock),
        Arc::clone(&means.fs),
    )
    .with_metrics(metrics.clone())
    // A box that nobody is near must start: its fleet publishes again, and people see it empty.
    .starting_empty_when_lost();
    Store::open(device_tables(options)).map_err(BuildDeviceError::Store)
}

/// Adds every table of a device.
fn device_tables(options: StoreOptions) -> StoreOptions {
    let options = options
        .with_table::<ModelRecord>()
        .with_table::<VerdictRecord>()
        .with_table::<EndpointRecord>()
        .with_table::<AppliedDesired>()
        .with_table::<TokenRecord>()
        .with_table::<FirstTokenRecord>()
        .with_table::<PolicyRecord>()
        .with_table::<IdentityRecord>();
    fleet::tables(options)
}

/// How the verbs of `edgeward state` look at a state that no process owns, a device's or a
/// registry's.
#[must_use]
pub fn state_options(state: &Path, means: &Means) -> StoreOptions {
    let options = StoreOptions::new(
        state.to_owned(),
        means.tasks.clone(),
        Arc::clone(&means.clock),
        Arc::clone(&means.fs),
    );
    registry::tables(device_tables(options))
}

/// Says what opening the state found, where that is not what one hopes for.
fn report(opened: &StoreReport) {
    if let Some(rebuilt) = &opened.rebuilt {
        let reason = &rebuilt.reason;
        tracing::error!(reason, moved_to = ?rebuilt.moved_to, "state was rebuilt from its export");
    }
    if opened.lost {
        tracing::error!(
            "nothing of the state could be read: starting without endpoints and tokens"
        );
    }
    if let Some(layout) = opened.migrated_from {
        tracing::info!(layout, "state of an older version was kept, and rewritten");
    }
    for path in &opened.damaged_exports {
        tracing::warn!(path = %path.display(), "an export of the state is damaged");
    }
}

fn open_models(
    state: &Path,
    profile: &Profile,
    store: &Store,
    means: &Means,
) -> Result<ModelStore, BuildDeviceError> {
    let engines = profile
        .choose_engines(&engines::of(profile))
        .map_err(BuildDeviceError::Profile)?;
    ModelStore::open(ModelStoreOptions {
        directory: state.join("models"),
        store: store.clone(),
        tasks: means.tasks.clone(),
        fs: Arc::clone(&means.fs),
        clock: Arc::clone(&means.clock),
        engines,
    })
    .map_err(BuildDeviceError::Models)
}

fn open_tables(
    config: &Config,
    profile: &Profile,
    (device, boot): (&DeviceId, BootId),
    groups: &Groups,
    means: &Means,
) -> Result<InferenceTables, BuildDeviceError> {
    let wanted = &config.inference_table;
    let options = InferenceTableOptions {
        channel_bytes: wanted.channel_size,
        payload_cap: wanted.payload_cap,
        commit_bytes: wanted.commit_size,
        commit_interval: wanted.commit_interval.unwrap_or(profile.commit_interval),
        seal_after: wanted.seal_after,
        seal_size: wanted.seal_size,
        budget: BudgetOptions {
            total: wanted.budget,
            most: profile.row_budget,
            free_floor: wanted.free_floor,
            shed_payload: wanted.shed_payload,
        },
        ..InferenceTableOptions::new(
            config.state_dir.join("rows"),
            device.clone(),
            boot,
            Arc::clone(&means.clock),
            Arc::clone(&means.fs),
        )
    };
    InferenceTables::open(options, &groups.rows).map_err(BuildDeviceError::Tables)
}

fn open_endpoints(
    config: &Config,
    profile: &Profile,
    (store, models): (&Store, &ModelStore),
    groups: &Groups,
    means: &Means,
) -> Result<Endpoints, BuildDeviceError> {
    let options = EndpointOptions {
        local_edits: config.endpoint.local_edits,
        memory_ceiling: Some(profile.model_bytes()),
        grace_period: config.server.grace_period,
        ..EndpointOptions::default()
    };
    Endpoints::open(
        options,
        store.clone(),
        Arc::new(models.clone()),
        &groups.workers,
        Arc::clone(&means.clock),
    )
    .map_err(BuildDeviceError::Endpoints)
}
