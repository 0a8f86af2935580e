//! What the request path reads: an immutable picture of every endpoint that serves.
//!
//! The owner builds a new [`RoutingSnapshot`] for each change and swaps it in as a whole, so a
//! reader sees either all of a change or nothing of it, also across endpoints. Nothing in here is
//! ever modified after it was published, and nothing in here takes a lock.

use std::collections::HashMap;
use std::sync::Arc;

use edgeward_base::digest::Digest;
use edgeward_base::names::{EndpointName, ModelRef, ServedEntityName, TableName};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::endpoint::config::{EndpointConfig, ServedEntityConfig, WorkloadSize};
use crate::endpoint::models::Scorers;
use crate::endpoint::record::{Creator, EndpointId, ServedEntityId};
use crate::endpoint::traffic::{BuildSplitError, TrafficSplit};
use crate::model::Scorer;

/// Every endpoint that serves at one moment.
#[derive(Debug, Default)]
pub struct RoutingSnapshot {
    endpoints: HashMap<EndpointName, Arc<RoutedEndpoint>>,
}

impl RoutingSnapshot {
    pub(super) fn new(endpoints: impl IntoIterator<Item = Arc<RoutedEndpoint>>) -> Self {
        Self {
            endpoints: endpoints
                .into_iter()
                .map(|endpoint| (endpoint.name.clone(), endpoint))
                .collect(),
        }
    }

    /// The endpoint of that name, if it serves now.
    #[must_use]
    pub fn endpoint(&self, name: &str) -> Option<&Arc<RoutedEndpoint>> {
        self.endpoints.get(name)
    }

    /// All endpoints that serve, in no order.
    pub fn endpoints(&self) -> impl Iterator<Item = &Arc<RoutedEndpoint>> {
        self.endpoints.values()
    }
}

/// One endpoint as requests are routed to it.
#[derive(Debug)]
pub struct RoutedEndpoint {
    /// Its name.
    pub name: EndpointName,
    /// Its id; stays for the endpoint's life.
    pub id: EndpointId,
    /// Who made it.
    pub creator: Creator,
    /// Counts the configurations that were applied, from 1.
    pub config_version: u64,
    /// Digest of the canonical configuration.
    pub effective_hash: Digest,
    /// The same as text, made once: every row of the endpoint's inference table carries it.
    pub effective_hash_text: Arc<str>,
    /// The inference table that its requests go to, when they are captured.
    pub capture: Option<TableName>,
    split: TrafficSplit,
    entities: Vec<Arc<RoutedEntity>>,
}

/// One served entity with its loaded model.
#[derive(Debug)]
pub struct RoutedEntity {
    /// 32 hexadecimal digits, the same for as long as endpoint, entity name and model version are.
    pub id: ServedEntityId,
    /// Its name within the endpoint.
    pub name: ServedEntityName,
    /// The model version that answers.
    pub model: ModelRef,
    /// The share of the compute threads that it may hold; that of `Large` when absent.
    pub workload_size: Option<WorkloadSize>,
    /// Whether its model may be let go while nobody asks.
    pub scale_to_zero: bool,
    /// The loaded model.
    pub scorer: Arc<Scorer>,
    /// Tells the owner when the last request has let go.
    _lease: Arc<DropGuard>,
}

impl RoutedEndpoint {
    /// The entity that answers a request, for a number drawn evenly from all of `u64`.
    #[must_use]
    pub fn pick(&self, random: u64) -> &Arc<RoutedEntity> {
        #[expect(
            clippy::indexing_slicing,
            reason = "the split was built over exactly these entities"
        )]
        &self.entities[self.split.pick(random)]
    }

    /// The entity of that name, whatever its share of the traffic.
    #[must_use]
    pub fn entity(&self, name: &str) -> Option<&Arc<RoutedEntity>> {
        self.entities
            .iter()
            .find(|entity| entity.name.as_str() == name)
    }

    /// All entities, in the order of the configuration.
    #[must_use]
    pub fn entities(&self) -> &[Arc<RoutedEntity>] {
        &self.entities
    }

    /// Puts loaded models behind a configuration. The token is cancelled when the endpoint and
    /// all of its entities have been dropped: when no request uses them any more.
    ///
    /// # Errors
    /// [`RouteConfigError`] when a model of the configuration is not among `scorers`.
    pub(super) fn build(
        identity: (EndpointName, EndpointId, Creator),
        config_version: u64,
        config: &EndpointConfig,
        scorers: &Scorers,
    ) -> Result<(Arc<Self>, CancellationToken), RouteConfigError> {
        let (name, id, creator) = identity;
        let released = CancellationToken::new();
        let lease = Arc::new(released.clone().drop_guard());
        let entity = |entity: &ServedEntityConfig| {
            let scorer = scorers
                .get(&entity.placement())
                .ok_or_else(|| RouteConfigError::NotLoaded(entity.model.clone()))?;
            Ok(Arc::new(RoutedEntity {
                id: ServedEntityId::of(&id, &entity.name, &entity.model),
                name: entity.name.clone(),
                model: entity.model.clone(),
                workload_size: entity.capacity.size(),
                scale_to_zero: entity.capacity.scale_to_zero_enabled == Some(true),
                scorer: Arc::clone(scorer),
                _lease: Arc::clone(&lease),
            }))
        };
        let entities = config
            .served_entities
            .iter()
            .map(entity)
            .collect::<Result<_, RouteConfigError>>()?;
        let effective_hash = config.effective_hash();
        let endpoint = Self {
            name,
            creator,
            config_version,
            effective_hash,
            effective_hash_text: effective_hash.to_string().into(),
            capture: config.capture_table().cloned(),
            split: TrafficSplit::new(&config.shares())?,
            entities,
            id,
        };
        Ok((Arc::new(endpoint), released))
    }
}

/// A configuration that cannot be routed. Validation and staging rule both out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteConfigError {
    /// A served entity's model was not loaded.
    #[error("model version {0} is not loaded")]
    NotLoaded(ModelRef),
    /// The routes do not make a split.
    #[error("the routes do not make a traffic split")]
    Split(#[from] BuildSplitError),
}
