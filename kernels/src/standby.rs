//! A session on a device, with another of the same model on the processor that takes over when the
//! first fails.
//!
//! ```text
//! first answers --(it fails on inputs that fit)--> the other answers, that request and all after it
//!       \---------(they are too large for it)----> the other answers that request
//! ```
//!
//! Both have proved themselves. A device that failed is not tried again by this session: whoever loads
//! the model anew may. Must never answer a caller's mistake by asking twice.

use std::sync::Arc;
use std::sync::OnceLock;

use edgeward_base::units::ByteCount;

use crate::engine::{Rows, RunModelError, Session, Takeover, Texts};
use crate::tensor::{Tensor, TensorSpec};
use crate::tolerance::Rounding;

/// The two sessions.
#[derive(Debug)]
pub struct Standby {
    first: Arc<dyn Session>,
    other: Arc<dyn Session>,
    /// The engine of the other one.
    engine: &'static str,
    /// Why the first answers no more.
    failure: OnceLock<String>,
}

impl Standby {
    /// `first` answers; `other`, a session of `engine`, when it cannot any more.
    #[must_use]
    pub fn new(first: Arc<dyn Session>, other: Arc<dyn Session>, engine: &'static str) -> Self {
        Self {
            first,
            other,
            engine,
            failure: OnceLock::new(),
        }
    }
}

impl Session for Standby {
    fn inputs(&self) -> &[TensorSpec] {
        self.first.inputs()
    }

    fn outputs(&self) -> &[TensorSpec] {
        self.first.outputs()
    }

    fn columns(&self) -> &[String] {
        self.first.columns()
    }

    fn has_sparse_columns(&self) -> bool {
        self.first.has_sparse_columns()
    }

    fn labels(&self) -> &[Vec<String>] {
        self.first.labels()
    }

    fn answers_array(&self) -> bool {
        self.first.answers_array()
    }

    /// Tokens are counted on the processor in both.
    fn texts(&self) -> Option<&dyn Texts> {
        self.other.texts()
    }

    fn example(&self) -> Option<Vec<Tensor>> {
        self.first.example()
    }

    fn roundings(&self) -> &[Rounding] {
        self.first.roundings()
    }

    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunModelError> {
        if self.failure.get().is_some() {
            return self.other.run(inputs);
        }
        match self.first.run(inputs) {
            // It has not failed: the next request may have fewer rows.
            Err(RunModelError::TooLarge { .. }) => self.other.run(inputs),
            Err(error) if !error.is_input_mistake() => {
                if self.failure.set(error.to_string()).is_ok() {
                    tracing::error!(%error, engine = self.engine, "another engine takes over");
                }
                self.other.run(inputs)
            }
            answered => answered,
        }
    }

    fn permit_rows(&self, rows: Rows) {
        self.first.permit_rows(rows);
        self.other.permit_rows(rows);
    }

    /// Independent where both are: a batch may begin on one and end on the other.
    fn rows(&self) -> Rows {
        match (self.first.rows(), self.other.rows()) {
            (Rows::Independent, Rows::Independent) => Rows::Independent,
            _ => Rows::Together,
        }
    }

    fn host_nodes(&self) -> Vec<String> {
        self.first.host_nodes()
    }

    fn takeover(&self) -> Option<Takeover> {
        let reason = self.failure.get()?.clone();
        let engine = self.engine;
        Some(Takeover { engine, reason })
    }

    fn on_device(&self) -> Option<ByteCount> {
        if self.failure.get().is_some() {
            return None;
        }
        self.first.on_device()
    }

    fn resident(&self) -> ByteCount {
        ByteCount(self.first.resident().0 + self.other.resident().0)
    }
}

#[cfg(test)]
mod tests;
