//! An engine and sessions that compute with closures, for tests of everything above engines.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use edgeward_base::clock::TestClock;
use edgeward_base::names::ModelRef;
use edgeward_base::units::ByteCount;
use edgeward_kernels::engine::{
    Engine, LoadModelError, ModelFile, ModelForm, Rows, RunModelError, Session,
};
use edgeward_kernels::tensor::{DataType, Tensor, TensorData, TensorSpec};
use edgeward_kernels::verify::{Verdict, Verified};

use crate::model::{BindModelError, Scorer, Signature};

type Compute = dyn Fn(&[Tensor]) -> Result<Vec<Tensor>, RunModelError> + Send + Sync;

/// A session that computes with a closure.
pub(in crate::model) struct FakeSession {
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    compute: Box<Compute>,
    independent: AtomicBool,
}

impl fmt::Debug for FakeSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeSession")
            .field("inputs", &self.inputs)
            .finish_non_exhaustive()
    }
}

impl FakeSession {
    pub(in crate::model) fn new(
        inputs: Vec<TensorSpec>,
        outputs: Vec<TensorSpec>,
        compute: impl Fn(&[Tensor]) -> Vec<Tensor> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Self::failing(inputs, outputs, move |tensors| Ok(compute(tensors)))
    }

    pub(in crate::model) fn failing(
        inputs: Vec<TensorSpec>,
        outputs: Vec<TensorSpec>,
        compute: impl Fn(&[Tensor]) -> Result<Vec<Tensor>, RunModelError> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let independent = AtomicBool::new(false);
        Arc::new(Self {
            inputs,
            outputs,
            compute: Box::new(compute),
            independent,
        })
    }

    /// Gives each input back as the output of the same place.
    pub(in crate::model) fn echo(inputs: Vec<TensorSpec>) -> Arc<Self> {
        Self::new(inputs.clone(), inputs, <[Tensor]>::to_vec)
    }

    /// Adds up each row of one float32 matrix `X` into `y`.
    pub(in crate::model) fn row_sum(width: Option<usize>) -> Arc<Self> {
        let inputs = vec![spec("X", DataType::F32, &[None, width])];
        let outputs = vec![spec("y", DataType::F32, &[None])];
        Self::new(inputs, outputs, |tensors| vec![row_sums(&tensors[0])])
    }
}

impl Session for FakeSession {
    fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunModelError> {
        (self.compute)(inputs)
    }

    fn permit_rows(&self, rows: Rows) {
        self.independent
            .store(rows == Rows::Independent, Ordering::SeqCst);
    }

    fn rows(&self) -> Rows {
        if self.independent.load(Ordering::SeqCst) {
            Rows::Independent
        } else {
            Rows::Together
        }
    }

    fn resident(&self) -> ByteCount {
        ByteCount::kib(1)
    }
}

/// An engine whose sessions are [`FakeSession::row_sum`] of two columns, whatever the file says.
#[derive(Debug)]
pub(in crate::model) struct FakeEngine {
    name: &'static str,
    /// Added to every sum: an engine that is wrong.
    error: f32,
    loads: AtomicUsize,
    /// Runs of all its sessions.
    runs: Arc<AtomicUsize>,
    /// What a run takes, on this clock.
    pace: Option<(Arc<TestClock>, Duration)>,
}

impl FakeEngine {
    pub(in crate::model) fn named(name: &'static str) -> Arc<Self> {
        Self::made(name, 0.0, None)
    }

    pub(in crate::model) fn wrong_by(name: &'static str, error: f32) -> Arc<Self> {
        Self::made(name, error, None)
    }

    pub(in crate::model) fn taking(
        name: &'static str,
        clock: &Arc<TestClock>,
        run: Duration,
    ) -> Arc<Self> {
        Self::made(name, 0.0, Some((Arc::clone(clock), run)))
    }

    fn made(name: &'static str, error: f32, pace: Option<(Arc<TestClock>, Duration)>) -> Arc<Self> {
        Arc::new(Self {
            name,
            error,
            loads: AtomicUsize::new(0),
            runs: Arc::default(),
            pace,
        })
    }

    pub(in crate::model) fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }

    pub(in crate::model) fn loads(&self) -> usize {
        self.loads.load(Ordering::SeqCst)
    }
}

impl Engine for FakeEngine {
    fn name(&self) -> &'static str {
        self.name
    }

    fn takes(&self, form: ModelForm) -> bool {
        form == ModelForm::Onnx
    }

    fn load(&self, model: &ModelFile) -> Result<Arc<dyn Session>, LoadModelError> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        std::fs::metadata(&model.path).map_err(|source| LoadModelError::Read {
            path: model.path.clone(),
            source,
        })?;
        let (error, runs, pace) = (self.error, Arc::clone(&self.runs), self.pace.clone());
        let inputs = vec![spec("X", DataType::F32, &[None, Some(2)])];
        let outputs = vec![spec("y", DataType::F32, &[None])];
        Ok(FakeSession::new(inputs, outputs, move |tensors| {
            runs.fetch_add(1, Ordering::SeqCst);
            if let Some((clock, run)) = &pace {
                clock.advance(*run);
            }
            let sums = row_sums(&tensors[0]);
            let TensorData::F32(values) = sums.data() else {
                unreachable!("row_sums is float32")
            };
            let wrong: Vec<f32> = values.iter().map(|value| value + error).collect();
            vec![Tensor::new(sums.shape().to_vec(), TensorData::F32(wrong)).unwrap()]
        }))
    }
}

/// An engine that computes on a card which can be pulled.
#[derive(Debug)]
pub(in crate::model) struct FakeDevice {
    engine: Arc<FakeEngine>,
    software: bool,
    pulled: Arc<AtomicBool>,
}

impl FakeDevice {
    /// Computes as `engine` does; a `software` one only pretends to be a card.
    pub(in crate::model) fn of(engine: Arc<FakeEngine>, software: bool) -> Arc<Self> {
        Arc::new(Self {
            engine,
            software,
            pulled: Arc::default(),
        })
    }

    pub(in crate::model) fn pull(&self) {
        self.pulled.store(true, Ordering::SeqCst);
    }
}

impl Engine for FakeDevice {
    fn name(&self) -> &'static str {
        self.engine.name()
    }

    fn takes(&self, form: ModelForm) -> bool {
        self.engine.takes(form)
    }

    fn hardware(&self) -> Option<String> {
        Some("a card".to_owned())
    }

    fn is_software(&self) -> bool {
        self.software
    }

    fn load(&self, model: &ModelFile) -> Result<Arc<dyn Session>, LoadModelError> {
        let (session, pulled) = (self.engine.load(model)?, Arc::clone(&self.pulled));
        let (inputs, outputs) = (session.inputs().to_vec(), session.outputs().to_vec());
        Ok(FakeSession::failing(inputs, outputs, move |tensors| {
            if pulled.load(Ordering::SeqCst) {
                let reason = "the card is gone".to_owned();
                return Err(RunModelError::Engine { reason });
            }
            session.run(tensors)
        }))
    }
}

/// An input or output of a fake session.
pub(in crate::model) fn spec(
    name: &str,
    data_type: DataType,
    shape: &[Option<usize>],
) -> TensorSpec {
    TensorSpec {
        name: name.to_owned(),
        data_type,
        shape: shape.to_vec(),
    }
}

fn row_sums(matrix: &Tensor) -> Tensor {
    let TensorData::F32(values) = matrix.data() else {
        unreachable!("the spec is float32")
    };
    let rows = matrix.shape()[0];
    let width = matrix.shape()[1];
    let sums = values
        .chunks(width.max(1))
        .map(|row| row.iter().sum())
        .collect();
    Tensor::new(vec![rows], TensorData::F32(sums)).unwrap()
}

/// A scorer over a session, without any proof.
pub(in crate::model) fn scorer(
    signature: Signature,
    session: Arc<dyn Session>,
) -> Result<Scorer, BindModelError> {
    let model: ModelRef = "main.default.fake/1".parse().unwrap();
    let verdict = Verdict {
        verified: Verified::Framework,
        rows: Rows::Together,
    };
    Scorer::bind(model, "fake", verdict, signature, session)
}
