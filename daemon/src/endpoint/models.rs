//! The models behind the endpoints: where they come from, and those that are loaded.
//!
//! [`ModelSource`] is the model store as this module needs it; tests put slow and failing loads in
//! its place. `LoadedModels` hands out one session per placement, however many endpoints
//! serve it, and keeps the sum of all under the memory ceiling. It keeps nothing alive itself: a
//! session lives as long as a routing snapshot or a request holds it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;
use std::future::ready;
use std::sync::{Arc, Weak};

use edgeward_base::digest::Digest;
use edgeward_base::names::ModelRef;
use edgeward_base::units::ByteCount;
use edgeward_wire::ack::{RejectCode, Rejection};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};

use crate::model::{Compute, EngineRefusal, LoadModelVersionError, ModelStore, Scorer};
use crate::store::ReadStoreError;
use crate::tasks::Tasks;
use edgeward_base::error::chain;

/// Where models come from.
pub trait ModelSource: Debug + Send + Sync + 'static {
    /// What the catalogue says of a version; `None` when it has none such. Quick: it is called on
    /// the owner's task.
    ///
    /// # Errors
    /// [`ReadStoreError`] when the catalogue cannot be read.
    fn find(&self, model: &ModelRef) -> Result<Option<CatalogueEntry>, ReadStoreError>;

    /// Loads a version and has it reproduce its known answers. Takes its time: it is called on a
    /// thread for blocking work.
    ///
    /// # Errors
    /// [`Rejection`], as the fleet and the served entity's state say it.
    fn load(&self, placement: &Placement) -> Result<Arc<Scorer>, Rejection>;

    /// Whether an engine of this box computes on a device.
    fn has_device(&self) -> bool;
}

/// A model version, and what it has to be computed on: what one session is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Placement {
    /// The version.
    pub model: ModelRef,
    /// On what.
    pub compute: Compute,
}

/// What the owner needs to know of a model version before it loads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CatalogueEntry {
    /// Digest of its manifest.
    pub manifest: Digest,
    /// All of its files together: the least that a session will hold.
    pub size: ByteCount,
}

/// A load that several changes may wait for.
type SharedLoad = Shared<BoxFuture<'static, Result<Arc<Scorer>, Rejection>>>;

/// Scorers by what they are for, all that a change needs.
pub(super) type Scorers = HashMap<Placement, Arc<Scorer>>;

/// Why a change cannot be staged, by what cannot be loaded.
pub(super) type LoadFailures = BTreeMap<Placement, Rejection>;

/// The models of a change on their way.
pub(super) type StagedModels = BoxFuture<'static, Result<Scorers, LoadFailures>>;

/// The models that are loaded or being loaded.
#[derive(Debug)]
pub(super) struct LoadedModels {
    source: Arc<dyn ModelSource>,
    tasks: Tasks,
    ceiling: Option<ByteCount>,
    live: HashMap<Placement, Weak<Scorer>>,
    loading: HashMap<Placement, (SharedLoad, ByteCount)>,
}

impl LoadedModels {
    pub(super) fn new(
        source: Arc<dyn ModelSource>,
        tasks: Tasks,
        ceiling: Option<ByteCount>,
    ) -> Self {
        Self {
            source,
            tasks,
            ceiling,
            live: HashMap::new(),
            loading: HashMap::new(),
        }
    }

    /// Begins to load what is not loaded of `models`, all at once, and gives the future that ends
    /// when every one of them is there or has failed.
    pub(super) fn stage(&mut self, models: &BTreeSet<Placement>) -> StagedModels {
        self.forget_unused();
        let loads: Vec<(Placement, SharedLoad)> = models
            .iter()
            .map(|placement| (placement.clone(), self.obtain(placement)))
            .collect();
        async move {
            let mut scorers = Scorers::new();
            let mut failures = LoadFailures::new();
            for (model, load) in loads {
                match load.await {
                    Ok(scorer) => drop(scorers.insert(model, scorer)),
                    Err(failure) => drop(failures.insert(model, failure)),
                }
            }
            if failures.is_empty() {
                Ok(scorers)
            } else {
                Err(failures)
            }
        }
        .boxed()
    }

    /// Takes note of loaded models, and refuses those that were not loaded before when all
    /// sessions together hold more than the ceiling.
    pub(super) fn adopt(&mut self, scorers: &Scorers) -> Result<(), LoadFailures> {
        let new: Vec<&Placement> = scorers
            .keys()
            .filter(|model| self.alive(model).is_none())
            .collect();
        for (model, scorer) in scorers {
            self.live.insert(model.clone(), Arc::downgrade(scorer));
        }
        self.forget_unused();
        let held = self.resident();
        match self.ceiling {
            Some(ceiling) if held > ceiling.0 && !new.is_empty() => {
                let failure = over_ceiling(ByteCount(held), ceiling);
                Err(new
                    .into_iter()
                    .map(|model| (model.clone(), failure.clone()))
                    .collect())
            }
            _ => Ok(()),
        }
    }

    fn alive(&self, placement: &Placement) -> Option<Arc<Scorer>> {
        self.live.get(placement).and_then(Weak::upgrade)
    }

    /// Bytes that all sessions hold, those that only drain included.
    fn resident(&self) -> u64 {
        self.live
            .values()
            .filter_map(Weak::upgrade)
            .map(|scorer| scorer.resident().0)
            .sum()
    }

    fn obtain(&mut self, placement: &Placement) -> SharedLoad {
        if let Some(scorer) = self.alive(placement) {
            return self.awake(scorer);
        }
        if let Some((load, _)) = self.loading.get(placement) {
            return load.clone();
        }
        let size = match self.predicted(&placement.model) {
            Ok(size) => size,
            Err(failure) => return ready(Err(failure)).boxed().shared(),
        };
        let load = self.begin(placement);
        self.loading.insert(placement.clone(), (load.clone(), size));
        load
    }

    /// The least that a new session will hold, if that fits beside all others.
    fn predicted(&self, model: &ModelRef) -> Result<ByteCount, Rejection> {
        let entry = self
            .source
            .find(model)
            .map_err(|error| missing(chain(&error)))?
            .ok_or_else(|| missing(format!("{model} is not in the model catalogue")))?;
        let coming: u64 = self.loading.values().map(|(_, size)| size.0).sum();
        let needed = self
            .resident()
            .saturating_add(coming)
            .saturating_add(entry.size.0);
        match self.ceiling {
            Some(ceiling) if needed > ceiling.0 => Err(over_ceiling(ByteCount(needed), ceiling)),
            _ => Ok(entry.size),
        }
    }

    /// A loaded model, brought back if it is at zero: what is ready has shown that it can be loaded.
    fn awake(&self, scorer: Arc<Scorer>) -> SharedLoad {
        if !scorer.is_at_zero() {
            return ready(Ok(scorer)).boxed().shared();
        }
        let name = format!("wake {}", scorer.model());
        let woken = self.tasks.run_blocking(name, move || {
            let woken = scorer.wake();
            woken.map(|()| scorer)
        });
        let failed = |error: &dyn std::error::Error| {
            Rejection::new(RejectCode::MissingArtifact, chain(error))
        };
        async move {
            match woken.await {
                Ok(woken) => woken.map_err(|error| failed(&error)),
                Err(error) => Err(failed(&error)),
            }
        }
        .boxed()
        .shared()
    }

    fn begin(&self, placement: &Placement) -> SharedLoad {
        let source = Arc::clone(&self.source);
        let wanted = placement.clone();
        let loaded = self
            .tasks
            .run_blocking(format!("load {}", placement.model), move || {
                source.load(&wanted)
            });
        async move {
            match loaded.await {
                Ok(loaded) => loaded,
                Err(error) => Err(Rejection::new(
                    RejectCode::BackendUnsupported,
                    chain(&error),
                )),
            }
        }
        .boxed()
        .shared()
    }

    /// Lets go of loads that have ended or that nobody waits for, and of sessions that are gone.
    fn forget_unused(&mut self) {
        self.loading
            .retain(|_, (load, _)| load.peek().is_none() && load.strong_count() > Some(1));
        self.live.retain(|_, scorer| scorer.strong_count() > 0);
    }
}

fn missing(detail: String) -> Rejection {
    Rejection::new(RejectCode::MissingArtifact, detail)
}

fn over_ceiling(needed: ByteCount, ceiling: ByteCount) -> Rejection {
    let detail = format!(
        "all models together would hold {} bytes, the ceiling of this box is {}",
        needed.0, ceiling.0
    );
    Rejection::new(RejectCode::OomPredicted, detail)
}

impl ModelSource for ModelStore {
    fn find(&self, model: &ModelRef) -> Result<Option<CatalogueEntry>, ReadStoreError> {
        let record = self.get(model)?;
        Ok(record.map(|record| CatalogueEntry {
            manifest: record.manifest,
            size: ByteCount(record.size),
        }))
    }

    fn has_device(&self) -> bool {
        Self::has_device(self)
    }

    fn load(&self, placement: &Placement) -> Result<Arc<Scorer>, Rejection> {
        Self::load(self, &placement.model, placement.compute)
            .map_err(|error| Rejection::new(reject_code(&error), chain(&error)))
    }
}

/// The code of a failed load.
fn reject_code(error: &LoadModelVersionError) -> RejectCode {
    match error {
        LoadModelVersionError::Unknown { .. }
        | LoadModelVersionError::Read(_)
        | LoadModelVersionError::Manifest { .. }
        | LoadModelVersionError::Version { .. } => RejectCode::MissingArtifact,
        LoadModelVersionError::Prove { source, .. } => {
            let unproved = |refusal: &EngineRefusal| {
                !matches!(
                    refusal,
                    EngineRefusal::Load(_) | EngineRefusal::Bind(_) | EngineRefusal::Processor
                )
            };
            // An engine that computes something else is worse news than one that computes nothing.
            if source.refusals.iter().any(|(_, refusal)| unproved(refusal)) {
                RejectCode::VerificationFailed
            } else {
                RejectCode::BackendUnsupported
            }
        }
    }
}
