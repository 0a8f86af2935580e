//! Work that the caller runs: the engines spawn nothing.

use std::{fmt, future::Future, pin::Pin};

/// A named future that runs until the shutdown token it was built with is cancelled.
pub struct AgentTask {
    /// What the task is called in logs.
    pub name: &'static str,
    /// The work. It never fails: what goes wrong is logged and tried again.
    pub future: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl AgentTask {
    pub(crate) fn new(
        name: &'static str,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        Self {
            name,
            future: Box::pin(future),
        }
    }
}

impl fmt::Debug for AgentTask {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("AgentTask")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
