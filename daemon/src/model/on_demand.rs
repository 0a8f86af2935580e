//! On demand: a session that gives its memory back while nobody asks, and is loaded again by the next
//! request: what a served entity with `scale_to_zero_enabled` needs.
//!
//! Owns the one way from no session to a session of a version that has proved itself before: the files'
//! digests are checked again, the verdict holds, so nothing is computed before the request itself. What
//! a client may ask of a model (its inputs, outputs, columns) is known without the weights.
//!
//! ```text
//! awake --let_go--> at zero --wake, or the first run--> awake
//!                      ^                                  |
//!                      +------- cannot be loaded ---------+ the next call tries again
//! ```
//!
//! At zero it counts as much memory as it held: an endpoint that says that it is ready can always wake.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use edgeward_base::clock::SharedClock;
use edgeward_base::error::chain;
use edgeward_base::units::ByteCount;
use edgeward_kernels::engine::{Rows, RunModelError, Session, Takeover, Texts};
use edgeward_kernels::tensor::{Tensor, TensorSpec};
use edgeward_kernels::tolerance::Rounding;

use super::LoadModelVersionError;

/// Loads the session again.
pub(super) type Load =
    Box<dyn Fn() -> Result<Arc<dyn Session>, LoadModelVersionError> + Send + Sync>;

/// A session that can be let go.
pub(super) struct OnDemand {
    awake: ArcSwapOption<Awake>,
    load: Load,
    clock: SharedClock,
    /// One thread loads, the others wait for it; and why the last load failed.
    waking: Mutex<Option<Failure>>,
    known: Known,
    /// Whether it computed on a device when it was made.
    device: bool,
    /// Bytes that it held when it was last looked at.
    resident: AtomicU64,
}

/// Why a session could not be loaded, and when that was, by the clock.
#[derive(Debug, Clone)]
struct Failure {
    reason: String,
    at: Duration,
}

/// A load that failed is not tried again for so long: everyone who waits would.
const PAUSE: Duration = Duration::from_secs(1);

/// `ArcSwapOption` holds what has a size.
#[derive(Debug)]
struct Awake(Arc<dyn Session>);

/// What is known of the model without its weights.
#[derive(Debug)]
struct Known {
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    columns: Vec<String>,
    sparse: bool,
    labels: Vec<Vec<String>>,
    answers_array: bool,
    texts: bool,
    roundings: Vec<Rounding>,
    rows: Rows,
}

impl fmt::Debug for OnDemand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnDemand")
            .field("awake", &self.awake)
            .field("known", &self.known)
            .finish_non_exhaustive()
    }
}

impl OnDemand {
    /// Around a session that has proved itself; `load` makes another one of the same files, by the same
    /// engine.
    pub(super) fn new(session: Arc<dyn Session>, clock: SharedClock, load: Load) -> Self {
        let known = Known {
            inputs: session.inputs().to_vec(),
            outputs: session.outputs().to_vec(),
            columns: session.columns().to_vec(),
            sparse: session.has_sparse_columns(),
            labels: session.labels().to_vec(),
            answers_array: session.answers_array(),
            texts: session.texts().is_some(),
            roundings: session.roundings().to_vec(),
            rows: session.rows(),
        };
        Self {
            resident: AtomicU64::new(session.resident().0),
            device: session.on_device().is_some(),
            awake: ArcSwapOption::from_pointee(Awake(session)),
            load,
            clock,
            waking: Mutex::new(None),
            known,
        }
    }

    /// Lets the session go; runs under way end on it. Whether there was one.
    pub(super) fn let_go(&self) -> bool {
        self.resident();
        self.awake.swap(None).is_some()
    }

    /// Whether there is no session now.
    pub(super) fn is_at_zero(&self) -> bool {
        self.awake.load().is_none()
    }

    /// The session, loaded if it is not there; else why it cannot be loaded. Blocking.
    pub(super) fn wake(&self) -> Result<Arc<dyn Session>, String> {
        let awake = || self.awake.load().as_ref().map(|awake| Arc::clone(&awake.0));
        if let Some(session) = awake() {
            return Ok(session);
        }
        // A load that panicked left nothing half done.
        let mut failure = self.waking.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = awake() {
            return Ok(session);
        }
        let now = self.clock.monotonic();
        if let Some(last) = failure.as_ref().filter(|last| now < last.at + PAUSE) {
            return Err(last.reason.clone());
        }
        let session = (self.load)().map_err(|error| {
            let (reason, at) = (chain(&error), self.clock.monotonic());
            failure.insert(Failure { reason, at }).reason.clone()
        })?;
        *failure = None;
        session.permit_rows(self.known.rows);
        self.awake
            .store(Some(Arc::new(Awake(Arc::clone(&session)))));
        Ok(session)
    }

    /// The session for a call that knows errors of runs only.
    fn session(&self) -> Result<Arc<dyn Session>, RunModelError> {
        self.wake()
            .map_err(|reason| RunModelError::Engine { reason })
    }
}

impl Session for OnDemand {
    fn inputs(&self) -> &[TensorSpec] {
        &self.known.inputs
    }

    fn outputs(&self) -> &[TensorSpec] {
        &self.known.outputs
    }

    fn columns(&self) -> &[String] {
        &self.known.columns
    }

    fn has_sparse_columns(&self) -> bool {
        self.known.sparse
    }

    fn labels(&self) -> &[Vec<String>] {
        &self.known.labels
    }

    fn answers_array(&self) -> bool {
        self.known.answers_array
    }

    fn texts(&self) -> Option<&dyn Texts> {
        self.known.texts.then_some(self as &dyn Texts)
    }

    fn roundings(&self) -> &[Rounding] {
        &self.known.roundings
    }

    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunModelError> {
        let awake = self.awake.load();
        match awake.as_ref() {
            Some(awake) => awake.0.run(inputs),
            None => self.session()?.run(inputs),
        }
    }

    fn host_nodes(&self) -> Vec<String> {
        let awake = self.awake.load();
        let nodes = awake.as_ref().map(|awake| awake.0.host_nodes());
        nodes.unwrap_or_default()
    }

    fn on_device(&self) -> Option<ByteCount> {
        let awake = self.awake.load();
        match awake.as_ref() {
            Some(awake) => awake.0.on_device(),
            None => self.device.then_some(ByteCount(0)),
        }
    }

    fn takeover(&self) -> Option<Takeover> {
        let awake = self.awake.load();
        awake.as_ref()?.0.takeover()
    }

    /// Has no effect: what was found out when the version proved itself holds for each session of it.
    fn permit_rows(&self, _: Rows) {}

    fn rows(&self) -> Rows {
        self.known.rows
    }

    fn resident(&self) -> ByteCount {
        if let Some(awake) = self.awake.load().as_ref() {
            let now = awake.0.resident().0;
            self.resident.store(now, Ordering::Relaxed);
        }
        ByteCount(self.resident.load(Ordering::Relaxed))
    }
}

impl Texts for OnDemand {
    fn count(&self, text: &str) -> Result<usize, RunModelError> {
        self.session()?.texts().ok_or_else(no_texts)?.count(text)
    }

    fn decode(&self, tokens: &[u32]) -> Result<String, RunModelError> {
        self.session()?.texts().ok_or_else(no_texts)?.decode(tokens)
    }
}

/// The same files made a model of texts before.
fn no_texts() -> RunModelError {
    RunModelError::Engine {
        reason: "the model was loaded again and is no model of texts any more".to_owned(),
    }
}

#[cfg(test)]
mod tests;
