//! Request threads: one single-threaded event loop per core, for what connects from outside.
//!
//! A connection lives on the loop that it was given to, from its first byte to its last. A loop
//! shares nothing with its neighbours, so a request wakes no second thread to look for work and no
//! task moves between cores: measured on two cores, that is an eighth of a small request's CPU
//! time. The price is that whatever holds a loop holds every connection on it, so nothing longer
//! than an inline prediction may run there.
//!
//! ```text
//! start -> looping --owner dropped--> ended (tasks still there are dropped with their loop)
//! ```

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::SpawnThreadError;

/// The loops. Dropping them ends their threads.
#[derive(Debug)]
pub(super) struct RequestThreads {
    loops: Vec<Loop>,
    _ends: DropGuard,
}

#[derive(Debug)]
struct Loop {
    runtime: Handle,
    /// Tasks that were given to this loop and have not ended.
    tasks: Arc<AtomicUsize>,
}

impl RequestThreads {
    /// Starts `count` loops, at least one, on threads called `{prefix}request-{n}`.
    pub(super) fn start(prefix: &str, count: usize) -> Result<Self, SpawnThreadError> {
        let end = CancellationToken::new();
        let started: Result<Vec<Loop>, SpawnThreadError> = (0..count.max(1))
            .map(|number| Loop::start(&format!("{prefix}request-{number}").into(), end.clone()))
            .collect();
        // Dropped on failure too: then the loops that did start end.
        let ends = end.drop_guard();
        Ok(Self {
            loops: started?,
            _ends: ends,
        })
    }

    /// Runs a future on the loop that has the fewest; it is polled on that thread alone.
    pub(super) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let fewest = self
            .loops
            .iter()
            .min_by_key(|each| each.tasks.load(Ordering::Relaxed));
        if let Some(fewest) = fewest {
            fewest.spawn(future);
        }
    }
}

impl Loop {
    fn start(name: &Arc<str>, end: CancellationToken) -> Result<Self, SpawnThreadError> {
        let failed = |source| SpawnThreadError {
            name: Arc::clone(name),
            source,
        };
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        let handle = runtime.handle().clone();
        #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
        std::thread::Builder::new()
            .name(name.to_string())
            .spawn(move || runtime.block_on(end.cancelled_owned()))
            .map_err(failed)?;
        Ok(Self {
            runtime: handle,
            tasks: Arc::default(),
        })
    }

    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let counted = Counted::new(&self.tasks);
        #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
        drop(self.runtime.spawn(async move {
            future.await;
            drop(counted);
        }));
    }
}

/// One task of a loop, for as long as it exists.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(tasks: &Arc<AtomicUsize>) -> Self {
        tasks.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(tasks))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
