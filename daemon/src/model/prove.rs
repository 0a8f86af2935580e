//! Has each engine prove itself on a model version, and chooses among those that did.
//!
//! A verdict made by this build on this processor is not made again: the session is told what was
//! found out, and serves. With several engines that passed, the quicker one over the known inputs
//! serves; the choice is measured on this box, never assumed. One that only pretends to be a GPU serves
//! where nothing else passed.

use std::sync::Arc;

use edgeward_base::clock::SharedClock;
use edgeward_base::error::chain;
use edgeward_kernels::engine::{Engine, LoadModelError, ModelForm, Rows, RunModelError, Session};
use edgeward_kernels::standby::Standby;
use edgeward_kernels::tensor::Tensor;
use edgeward_kernels::verify::{Verdict, Verified, VerifyModelError, made_inputs, verify};

use super::catalog::VerdictRecord;
use super::fingerprint::Fingerprint;
use super::known_answers::{self, ReadKnownAnswersError};
use super::scoring::{BindModelError, Scorer};
use super::signature::Signature;
use super::version::Version;
use super::warm;

/// What a version has to be computed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Compute {
    /// Whatever is quickest on this box.
    Any,
    /// The processor.
    Processor,
    /// A graphics card. If that fails later, the processor takes over.
    Device,
}

/// Runs over the known inputs; the quickest counts, because everything else only slows one down.
const MEASURED_RUNS: usize = 5;

/// Why one engine may not serve a version. It stands in a list, where no chain of sources can follow it, so each is
/// shown with all that caused it.
#[derive(Debug, thiserror::Error)]
pub enum EngineRefusal {
    /// It takes models of other forms.
    #[error("takes no {form} models")]
    Form {
        /// The form of this one.
        form: &'static str,
    },
    /// It computes on the processor, and a graphics card is asked for.
    #[error("computes on the processor")]
    Processor,
    /// It cannot load the model.
    #[error("{}", chain(.0))]
    Load(LoadModelError),
    /// The signature does not fit the graph.
    #[error("{}", chain(.0))]
    Bind(BindModelError),
    /// The known answers that came with the model cannot be used.
    #[error("{}", chain(.0))]
    KnownAnswers(ReadKnownAnswersError),
    /// It did not reproduce the known answers.
    #[error("{}", chain(.0))]
    Verify(VerifyModelError),
    /// It proved itself and then failed while it was warmed up or measured.
    #[error("{}", chain(.0))]
    Measure(RunModelError),
}

/// No engine of this build can serve a version.
#[derive(Debug, thiserror::Error)]
#[error("no engine can serve this model{}", refusals.iter().map(|(engine, refusal)| format!("; {engine}: {refusal}")).collect::<String>())]
pub struct ProveModelError {
    /// Each engine by name, with what stood in its way.
    pub refusals: Vec<(&'static str, EngineRefusal)>,
}

/// A version that may serve.
#[derive(Debug)]
pub(super) struct Proved {
    pub(super) scorer: Scorer,
    /// The engine that was chosen.
    pub(super) engine: &'static str,
    /// The engine that takes over, where the chosen one needs a device.
    pub(super) standby: Option<&'static str>,
    /// Verdicts that were not known before.
    pub(super) verdicts: Vec<VerdictRecord>,
}

/// What proving needs beside the version.
#[derive(Debug, Clone)]
pub(super) struct Prover {
    pub(super) engines: Vec<Arc<dyn Engine>>,
    pub(super) fingerprint: Fingerprint,
    pub(super) clock: SharedClock,
}

/// An engine that passed.
struct Candidate {
    scorer: Scorer,
    record: VerdictRecord,
    fresh: bool,
    /// It computes on a device, which may fail.
    device: bool,
    /// It pretends to be the device it is for, and serves only where nothing else passed.
    software: bool,
}

impl Prover {
    /// Whether one of the engines computes on a device.
    pub(super) fn has_device(&self) -> bool {
        self.engines.iter().any(|engine| engine.is_for_device())
    }

    /// Proves a version; `known` answers the verdict on an engine that was made before under a fingerprint.
    pub(super) fn prove(
        &self,
        version: &Version,
        compute: Compute,
        known: impl Fn(&str, &str) -> Option<VerdictRecord>,
    ) -> Result<Proved, ProveModelError> {
        let mut candidates = Vec::new();
        let mut refusals = Vec::new();
        for engine in &self.engines {
            let is_wanted = compute != Compute::Processor || !engine.is_for_device();
            if !engine.takes(version.file.form) || !is_wanted {
                continue;
            }
            let fingerprint = self.fingerprint.on(engine.hardware());
            let known = known(engine.name(), fingerprint.as_str());
            let tried = Self::try_engine(engine.as_ref(), version, &fingerprint, known);
            let warm = |candidate: Candidate| self.warmed(version, candidate);
            match tried.and_then(warm) {
                Ok(candidate) => candidates.push(candidate),
                Err(refusal) => refusals.push((engine.name(), refusal)),
            }
        }
        if candidates.len() > 1 {
            candidates = self.measure(version, candidates, &mut refusals);
        }
        let may_serve = |candidate: &Candidate| compute != Compute::Device || candidate.device;
        let quickest = candidates
            .iter()
            .enumerate()
            .filter(|(_, candidate)| may_serve(candidate))
            .min_by_key(|(_, candidate)| {
                let micros = candidate.record.run_micros.unwrap_or(u64::MAX);
                (candidate.software, micros)
            })
            .map(|(at, _)| at);
        let Some(quickest) = quickest else {
            let others = candidates.iter().map(|candidate| candidate.scorer.engine());
            refusals.extend(others.map(|engine| (engine, EngineRefusal::Processor)));
            refusals.extend(self.strangers(version.file.form));
            return Err(ProveModelError { refusals });
        };
        for (engine, refusal) in refusals {
            tracing::warn!(model = %version.model, engine, error = %refusal, "engine refused");
        }
        let verdicts = candidates
            .iter()
            .filter(|candidate| candidate.fresh)
            .map(|candidate| candidate.record.clone())
            .collect();
        let chosen = candidates.swap_remove(quickest);
        let others = candidates
            .iter()
            .filter(|other| !other.device && chosen.device);
        let standby = others.min_by_key(|other| other.record.run_micros.unwrap_or(u64::MAX));
        Ok(Proved {
            engine: chosen.scorer.engine(),
            standby: standby.map(|standby| standby.scorer.engine()),
            scorer: match standby {
                Some(standby) => chosen.scorer.with_standby(&standby.scorer),
                None => chosen.scorer,
            },
            verdicts,
        })
    }

    /// Another session of a version that has proved itself on that engine, and on the one that takes over.
    pub(super) fn load(
        &self,
        version: &Version,
        engine: &'static str,
        standby: Option<&'static str>,
    ) -> Result<Arc<dyn Session>, EngineRefusal> {
        let first = self.load_on(version, engine);
        let Some(standby) = standby else {
            return first;
        };
        let other = self.load_on(version, standby)?;
        // The device may have failed since; the other engine has not.
        Ok(match first {
            Ok(first) => Arc::new(Standby::new(first, other, standby)),
            Err(refusal) => {
                tracing::error!(model = %version.model, engine, error = %refusal, "another engine takes over");
                other
            }
        })
    }

    fn load_on(
        &self,
        version: &Version,
        engine: &'static str,
    ) -> Result<Arc<dyn Session>, EngineRefusal> {
        let form = version.file.form;
        let found = self.engines.iter().find(|found| found.name() == engine);
        let found = found.ok_or(EngineRefusal::Form {
            form: form.as_str(),
        })?;
        edgeward_kernels::load(found.as_ref(), &version.file).map_err(EngineRefusal::Load)
    }

    /// The engines that take models of other forms.
    fn strangers(&self, form: ModelForm) -> impl Iterator<Item = (&'static str, EngineRefusal)> {
        let strangers = self
            .engines
            .iter()
            .filter(move |engine| !engine.takes(form));
        strangers.map(move |engine| {
            let form = form.as_str();
            (engine.name(), EngineRefusal::Form { form })
        })
    }

    fn try_engine(
        engine: &dyn Engine,
        version: &Version,
        fingerprint: &Fingerprint,
        known: Option<VerdictRecord>,
    ) -> Result<Candidate, EngineRefusal> {
        let session = edgeward_kernels::load(engine, &version.file).map_err(EngineRefusal::Load)?;
        let signature = version
            .signature
            .clone()
            .unwrap_or_else(|| Signature::of_session(session.as_ref()));
        // Only to read the known answers with; what serves is bound with the verdict below.
        let unproved = Verdict {
            verified: Verified::Reference,
            rows: Rows::Together,
        };
        let bind = |verdict| {
            let (signature, session) = (signature.clone(), Arc::clone(&session));
            Scorer::bind(
                version.model.clone(),
                engine.name(),
                verdict,
                signature,
                session,
            )
            .map_err(EngineRefusal::Bind)
        };
        if let Some(record) = known {
            session.permit_rows(record.verdict.rows);
            return Ok(Candidate {
                scorer: bind(record.verdict)?,
                record,
                fresh: false,
                device: engine.is_for_device(),
                software: engine.is_software(),
            });
        }
        let reader = bind(unproved)?;
        let known = known_answers::read(version, &reader, session.as_ref())
            .map_err(EngineRefusal::KnownAnswers)?;
        let verdict = verify(
            engine,
            session.as_ref(),
            &version.file,
            known.golden.as_ref(),
            known.example.as_deref(),
        )
        .map_err(EngineRefusal::Verify)?;
        let record = VerdictRecord {
            manifest: version.manifest,
            engine: engine.name().to_owned(),
            fingerprint: fingerprint.to_string(),
            verdict,
            run_micros: None,
        };
        Ok(Candidate {
            scorer: bind(verdict)?,
            record,
            fresh: true,
            device: engine.is_for_device(),
            software: engine.is_software(),
        })
    }

    /// Measures those that were never measured; one that fails now is refused.
    fn measure(
        &self,
        version: &Version,
        candidates: Vec<Candidate>,
        refusals: &mut Vec<(&'static str, EngineRefusal)>,
    ) -> Vec<Candidate> {
        let mut measured = Vec::with_capacity(candidates.len());
        for mut candidate in candidates {
            if candidate.record.run_micros.is_none() {
                match self.time(version, &candidate.scorer) {
                    Ok(micros) => {
                        candidate.record.run_micros = Some(micros);
                        candidate.fresh = true;
                    }
                    Err(refusal) => {
                        refusals.push((candidate.scorer.engine(), refusal));
                        continue;
                    }
                }
            }
            measured.push(candidate);
        }
        measured
    }

    /// What computes on a device is compiled before requests come, in each process anew.
    fn warmed(&self, version: &Version, candidate: Candidate) -> Result<Candidate, EngineRefusal> {
        if candidate.device {
            let inputs = Self::inputs(version, &candidate.scorer)?;
            let session = candidate.scorer.session().as_ref();
            warm::warm(session, &inputs, &self.clock).map_err(EngineRefusal::Measure)?;
        }
        Ok(candidate)
    }

    /// The known inputs of a version, else made ones.
    fn inputs(version: &Version, scorer: &Scorer) -> Result<Vec<Tensor>, EngineRefusal> {
        let session: &dyn Session = scorer.session().as_ref();
        let known =
            known_answers::read(version, scorer, session).map_err(EngineRefusal::KnownAnswers)?;
        let inputs = known.golden.map(|golden| golden.inputs).or(known.example);
        Ok(inputs.unwrap_or_else(|| made_inputs(session)))
    }

    fn time(&self, version: &Version, scorer: &Scorer) -> Result<u64, EngineRefusal> {
        let session: &dyn Session = scorer.session().as_ref();
        let inputs = Self::inputs(version, scorer)?;
        let mut best = u64::MAX;
        for _ in 0..MEASURED_RUNS {
            let start = self.clock.monotonic_micros();
            session.run(&inputs).map_err(EngineRefusal::Measure)?;
            best = best.min(self.clock.monotonic_micros().saturating_sub(start));
        }
        Ok(best)
    }
}
