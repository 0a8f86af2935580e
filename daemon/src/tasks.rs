//! Tasks: the only module that spawns.
//!
//! Owns every running piece of the process: async tasks, dedicated threads and short blocking
//! work. Each has a name and stays listed here until it ends, so that shutdown can wait for all of
//! them and name those that did not stop. A panic ends its task alone: it is logged, returned by
//! the task's handle and kept as a [`TaskFailure`] that the owner of the process can wait for.
//!
//! Must never hold work that nobody waits for: dropping a [`TaskHandle`] gives up the result, not
//! the task; the task ends by its own will, usually when the shutdown token is cancelled.
//!
//! ```text
//! spawn -> running --returns--> ended
//!             \-----panics----> ended + TaskFailure
//! ```

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

mod request_threads;

use request_threads::RequestThreads;

#[cfg(test)]
mod tests;

/// How many failures are kept for the owner. Later ones are logged only: by then the first ones
/// have told what is wrong.
const FAILURES_KEPT: usize = 64;

/// Spawns and lists the tasks of the process, or of one [group](Tasks::group) of it.
///
/// A clone is another handle to the same list.
#[derive(Clone, Debug)]
pub struct Tasks {
    group: Arc<Group>,
}

#[derive(Debug)]
struct Group {
    prefix: String,
    runtime: Handle,
    shutdown: CancellationToken,
    state: watch::Sender<State>,
    parent: Option<Tasks>,
    request_threads: Option<RequestThreads>,
}

#[derive(Debug, Default)]
struct State {
    next_id: u64,
    running: BTreeMap<u64, Arc<str>>,
    failures: Vec<TaskFailure>,
}

/// A task that panicked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("task {name} panicked: {message}")]
pub struct TaskFailure {
    /// The task's full name, group first: `fleet/control`.
    pub name: Arc<str>,
    /// What the panic said.
    pub message: String,
}

/// Why a task gave no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinTaskError {
    /// The task panicked.
    #[error("the task panicked")]
    Panicked(#[source] TaskFailure),
    /// The runtime stopped before the task ended.
    #[error("task {name} was cancelled by the end of the runtime")]
    Cancelled {
        /// The task's full name.
        name: Arc<str>,
    },
}

/// Tasks that were still running when the deadline passed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("still running after {deadline:?}: {}", names.join(", "))]
pub struct StillRunning {
    /// How long was waited.
    pub deadline: Duration,
    /// Full names of the tasks, oldest first.
    pub names: Vec<String>,
}

/// The operating system gave no thread.
#[derive(Debug, thiserror::Error)]
#[error("cannot start thread {name}")]
pub struct SpawnThreadError {
    /// The thread's full name.
    pub name: Arc<str>,
    /// What the operating system answered.
    #[source]
    pub source: std::io::Error,
}

/// The result of one task, to be waited for or dropped.
#[derive(Debug)]
pub struct TaskHandle<T> {
    name: Arc<str>,
    result: oneshot::Receiver<Result<T, TaskFailure>>,
}

impl<T> TaskHandle<T> {
    /// The task's full name, group first.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits for the task to end.
    ///
    /// # Errors
    /// [`JoinTaskError`] when the task panicked or the runtime stopped first.
    pub async fn join(self) -> Result<T, JoinTaskError> {
        match self.result.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(failure)) => Err(JoinTaskError::Panicked(failure)),
            Err(_) => Err(JoinTaskError::Cancelled { name: self.name }),
        }
    }
}

impl Tasks {
    /// The list of the whole process; tasks run on `runtime`.
    #[must_use]
    pub fn new(runtime: Handle) -> Self {
        Self::with(Group {
            prefix: String::new(),
            runtime,
            shutdown: CancellationToken::new(),
            state: watch::Sender::default(),
            parent: None,
            request_threads: None,
        })
    }

    /// A part of this list that can be shut down and joined alone, for the phases of a drain.
    /// Its tasks are named `{name}/{task}` and are also tasks of `self`.
    #[must_use]
    pub fn group(&self, name: &str) -> Self {
        Self::with(self.part(name))
    }

    /// A [group](Self::group) with `threads` request threads of its own, for
    /// [`spawn_request`](Self::spawn_request).
    ///
    /// # Errors
    /// [`SpawnThreadError`] when the operating system gives no thread.
    pub fn request_group(&self, name: &str, threads: usize) -> Result<Self, SpawnThreadError> {
        let mut group = self.part(name);
        group.request_threads = Some(RequestThreads::start(&group.prefix, threads)?);
        Ok(Self::with(group))
    }

    fn part(&self, name: &str) -> Group {
        Group {
            prefix: format!("{}{name}/", self.group.prefix),
            runtime: self.group.runtime.clone(),
            shutdown: self.group.shutdown.child_token(),
            state: watch::Sender::default(),
            parent: Some(self.clone()),
            request_threads: None,
        }
    }

    fn with(group: Group) -> Self {
        Self {
            group: Arc::new(group),
        }
    }

    /// The token that tells the tasks of this group to end. Cancelled by
    /// [`begin_shutdown`](Self::begin_shutdown) of this group or of one above it.
    #[must_use]
    pub fn shutdown_token(&self) -> CancellationToken {
        self.group.shutdown.clone()
    }

    /// Tells every task of this group to end. Tasks may still be spawned: a drain needs some.
    pub fn begin_shutdown(&self) {
        self.group.shutdown.cancel();
    }

    /// Runs a future as a task of its own.
    pub fn spawn<F>(&self, name: impl Into<Cow<'static, str>>, future: F) -> TaskHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let (handle, task) = self.listed(&name.into(), future);
        #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
        drop(self.group.runtime.spawn(task));
        handle
    }

    /// Runs a future as a task of its own that stays on one request thread, that with the fewest
    /// tasks; in a group without request threads, like any other task. Sockets belong to the thread
    /// that opened them: the future makes its own, inside.
    pub fn spawn_request<F>(
        &self,
        name: impl Into<Cow<'static, str>>,
        future: F,
    ) -> TaskHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let Some(threads) = &self.group.request_threads else {
            return self.spawn(name, future);
        };
        let (handle, task) = self.listed(&name.into(), future);
        threads.spawn(task);
        handle
    }

    /// Runs a future as a task of its own on the event loop that this call comes from: a part of a
    /// task there, such as one stream of a connection.
    pub fn spawn_here<F>(
        &self,
        name: impl Into<Cow<'static, str>>,
        future: F,
    ) -> TaskHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let (handle, task) = self.listed(&name.into(), future);
        let here = Handle::try_current().unwrap_or_else(|_| self.group.runtime.clone());
        #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
        drop(here.spawn(task));
        handle
    }

    /// The future, as a task that is on the list until it ends.
    fn listed<F>(
        &self,
        name: &str,
        future: F,
    ) -> (
        TaskHandle<F::Output>,
        impl Future<Output = ()> + Send + use<F>,
    )
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let (running, handle, sender) = self.register(name);
        let task = async move {
            let outcome = AssertUnwindSafe(future).catch_unwind().await;
            running.end(outcome, sender);
        };
        (handle, task)
    }

    /// Runs a closure on a dedicated thread of the operating system, for long blocking work such
    /// as a writer. It ends when it returns; the shutdown token does not interrupt it.
    ///
    /// # Errors
    /// [`SpawnThreadError`] when the operating system gives no thread.
    pub fn spawn_thread<T, F>(
        &self,
        name: impl Into<Cow<'static, str>>,
        closure: F,
    ) -> Result<TaskHandle<T>, SpawnThreadError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let (running, handle, sender) = self.register(&name.into());
        let name = Arc::clone(&handle.name);
        #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
        let thread = std::thread::Builder::new()
            .name(name.to_string())
            .spawn(move || running.end(catch_unwind(AssertUnwindSafe(closure)), sender));
        thread.map_err(|source| SpawnThreadError { name, source })?;
        Ok(handle)
    }

    /// Runs short blocking work (a file read, a model load) beside the async threads.
    pub fn run_blocking<N, T, F>(
        &self,
        name: N,
        closure: F,
    ) -> impl Future<Output = Result<T, JoinTaskError>> + Send + use<N, T, F>
    where
        N: Into<Cow<'static, str>>,
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let (running, handle, sender) = self.register(&name.into());
        let work = move || running.end(catch_unwind(AssertUnwindSafe(closure)), sender);
        #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
        drop(self.group.runtime.spawn_blocking(work));
        handle.join()
    }

    /// Full names of the running tasks, oldest first.
    #[must_use]
    pub fn running(&self) -> Vec<String> {
        self.group
            .state
            .borrow()
            .running
            .values()
            .map(ToString::to_string)
            .collect()
    }

    /// The tasks that panicked so far; only the first 64 are kept.
    #[must_use]
    pub fn failures(&self) -> Vec<TaskFailure> {
        self.group.state.borrow().failures.clone()
    }

    /// Waits until a task of this group has panicked; returns at once when one already has.
    pub async fn first_failure(&self) -> TaskFailure {
        let mut changes = self.group.state.subscribe();
        loop {
            if let Some(failure) = changes.borrow_and_update().failures.first() {
                return failure.clone();
            }
            if changes.changed().await.is_err() {
                // Cannot happen: `self` keeps the sender. Waiting for ever is what "no failure" means.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until no task of this group runs.
    ///
    /// # Errors
    /// [`StillRunning`] with the names that remain once `deadline` has passed; they go on running.
    pub async fn join_all(&self, deadline: Duration) -> Result<(), StillRunning> {
        let mut changes = self.group.state.subscribe();
        let idle = changes.wait_for(|state| state.running.is_empty());
        if tokio::time::timeout(deadline, idle).await.is_ok() {
            return Ok(());
        }
        let names = self.running();
        if names.is_empty() {
            Ok(())
        } else {
            Err(StillRunning { deadline, names })
        }
    }

    /// Lists a task in this group and in those above it.
    fn register<T>(&self, name: &str) -> (Running, TaskHandle<T>, ResultSender<T>) {
        let name: Arc<str> = format!("{}{name}", self.group.prefix).into();
        let mut entries = Vec::with_capacity(2);
        let mut next = Some(self);
        while let Some(tasks) = next {
            let mut id = 0;
            tasks.group.state.send_modify(|state| {
                id = state.next_id;
                state.next_id += 1;
                state.running.insert(id, Arc::clone(&name));
            });
            entries.push((tasks.clone(), id));
            next = tasks.group.parent.as_ref();
        }
        let (sender, result) = oneshot::channel();
        (
            Running {
                name: Arc::clone(&name),
                entries,
            },
            TaskHandle { name, result },
            sender,
        )
    }
}

type ResultSender<T> = oneshot::Sender<Result<T, TaskFailure>>;

/// Keeps a task listed; its drop, also by the end of the runtime, takes the task off the list.
struct Running {
    name: Arc<str>,
    entries: Vec<(Tasks, u64)>,
}

impl Running {
    fn end<T>(self, outcome: std::thread::Result<T>, sender: ResultSender<T>) {
        let result = outcome.map_err(|payload| self.fail(payload.as_ref()));
        // The result is there before the task leaves the list, so that whoever saw the list empty
        // finds it. A dropped handle gave the result up.
        drop(sender.send(result));
    }

    fn fail(&self, payload: &(dyn std::any::Any + Send)) -> TaskFailure {
        let message = payload
            .downcast_ref::<&str>()
            .map(ToString::to_string)
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "a panic without a message".to_owned());
        let failure = TaskFailure {
            name: Arc::clone(&self.name),
            message,
        };
        tracing::error!(task = %failure.name, message = %failure.message, "task panicked");
        for (tasks, _) in &self.entries {
            tasks.group.state.send_modify(|state| {
                if state.failures.len() < FAILURES_KEPT {
                    state.failures.push(failure.clone());
                }
            });
        }
        failure
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for (tasks, id) in &self.entries {
            tasks.group.state.send_modify(|state| {
                state.running.remove(id);
            });
        }
    }
}
