//! What a device does about desired documents: a pure machine, `step(state, event)`.
//!
//! Owns: which document is held, refused or in force for each kind, and what must happen next.
//! Must never: do I/O, read a clock, or act on a document before it is saved.
//!
//! ```text
//! models:     -- accept --> STAGING ---- staged -----> SETTLED (applied)
//!                              \------- refused -----> SETTLED (refused)
//!
//! endpoints:  -- accept --> WAITING -- models held --> APPLYING -- applied ----> SETTLED (applied)
//!                              \                          \------- rejected ---> SETTLED (refused)
//!                               \-- catalogue lacks a version -----------------> SETTLED (refused)
//!
//! From every state a newer document starts over: an older staging or applying is cancelled.
//! ```
//!
//! Effects are performed in order. [`Effect::Save`] comes before every effect that rests on it, and
//! the driver goes on only when the save is durable.
//!
//! An `endpoints` document that can be applied at once is not saved first: [`Effect::Apply`] makes it
//! durable in the one write that also changes the endpoints, or the driver saves it when that takes
//! long. What a power cut leaves:
//!
//! | cut | what is there after the restart |
//! |---|---|
//! | before that write | what ran before; nothing was said of the document, and the broker, which retains it, brings it again |
//! | after that write, before it is acknowledged | the document runs and is the one held; brought again, it is a duplicate and is acknowledged |
//! | after the save of one that takes long, before that write | the document is held and open: it is applied again |
//!
//! So nothing older than what runs is ever accepted, and nothing is said that a cut can undo.

mod track;

use edgeward_wire::{
    ack::{Ack, AckState, RejectCode, Rejection},
    desired::{DesiredDocument, Document, EndpointsDocument, ModelsDocument},
    ordering::{Decision, DocumentIdentity, Generation, Kind, decide},
};

pub(super) use self::track::Standing;
use self::track::{Phase, Track};
use crate::ports::{AppliedDocument, ApplyOutcome, TrackRecord};

/// What a device knows of its desired documents.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct State {
    models: Track<ModelsDocument>,
    endpoints: Track<EndpointsDocument>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// A verified document arrived.
    Arrived {
        document: Box<DesiredDocument>,
        container: Vec<u8>,
    },
    /// A document arrived that is not believed or breaks a rule.
    Unbelieved {
        kind: Kind,
        generation: Option<Generation>,
        rejection: Rejection,
    },
    /// More bytes of the models are held.
    StagingProgress {
        generation: Generation,
        bytes_done: u64,
        bytes_total: u64,
    },
    /// The models of a document are installed, or never will be.
    ModelsStaged {
        generation: Generation,
        result: Result<(), Rejection>,
    },
    /// The endpoint owner is done with a document.
    EndpointsApplied {
        generation: Generation,
        outcome: ApplyOutcome,
    },
}

/// What must happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Make this durable before anything that follows.
    Save(TrackRecord),
    /// Tell the registry.
    Ack(Ack),
    /// Tell the registry what runs.
    Report(Kind),
    /// Fetch and install these models; whatever was being staged is cancelled.
    Stage {
        generation: Generation,
        document: ModelsDocument,
    },
    /// Make the endpoints so; whatever was being applied is cancelled.
    Apply {
        document: EndpointsDocument,
        /// Becomes durable with the endpoints.
        applied: AppliedDocument,
        /// To be saved when that takes long, before anything is said or anything else is done.
        held: TrackRecord,
    },
    /// Stop applying.
    CancelApply,
}

/// A record read back, with the documents of its containers where they still verify.
pub(crate) struct Restored {
    pub(crate) record: TrackRecord,
    pub(crate) held: Option<Document>,
    pub(crate) applied: Option<Document>,
}

impl State {
    /// The state after a restart, and what must go on.
    pub(crate) fn restore(records: Vec<Restored>) -> (Self, Vec<Effect>) {
        let mut state = Self::default();
        for Restored {
            record,
            held,
            applied,
        } in records
        {
            match record.kind {
                Kind::Models => {
                    state.models = Track::restored(record, as_models(held), as_models(applied));
                }
                Kind::Endpoints => {
                    state.endpoints =
                        Track::restored(record, as_endpoints(held), as_endpoints(applied));
                }
            }
        }
        let mut effects = Vec::new();
        if state.models.is_open() {
            state.start_staging(&mut effects);
        }
        if state.endpoints.is_open() && state.endpoints.held.is_some() {
            state.start_endpoints(&mut effects);
        }
        effects.extend(Kind::ALL.map(Effect::Report));
        (state, effects)
    }

    /// What the reported document of `kind` says beside what runs.
    pub(crate) fn standing(&self, kind: Kind) -> Standing {
        match kind {
            Kind::Models => self.models.standing(),
            Kind::Endpoints => self.endpoints.standing(),
        }
    }

    /// The next state and what must happen.
    pub(crate) fn step(mut self, event: Event) -> (Self, Vec<Effect>) {
        let mut effects = Vec::new();
        match event {
            Event::Arrived {
                document,
                container,
            } => {
                self.on_arrived(*document, container, &mut effects);
            }
            Event::Unbelieved {
                kind,
                generation,
                rejection,
            } => {
                let state = AckState::Rejected(rejection);
                effects.push(Effect::Ack(Ack {
                    kind,
                    generation,
                    state,
                }));
            }
            Event::StagingProgress {
                generation,
                bytes_done,
                bytes_total,
            } => {
                if self.models.is_held(generation)
                    && matches!(self.models.phase, Phase::Staging { .. })
                {
                    self.models.phase = Phase::Staging {
                        bytes_done,
                        bytes_total,
                    };
                    effects.push(self.ack(Kind::Models));
                }
            }
            Event::ModelsStaged { generation, result } => {
                if self.models.is_held(generation)
                    && matches!(self.models.phase, Phase::Staging { .. })
                {
                    self.on_staged(result, &mut effects);
                }
            }
            Event::EndpointsApplied {
                generation,
                outcome,
            } => {
                if self.endpoints.is_held(generation) && self.endpoints.phase == Phase::Applying {
                    self.on_applied(outcome, &mut effects);
                }
            }
        }
        (self, effects)
    }

    fn on_arrived(
        &mut self,
        arrived: DesiredDocument,
        container: Vec<u8>,
        effects: &mut Vec<Effect>,
    ) {
        let DesiredDocument {
            identity, document, ..
        } = arrived;
        let kind = document.kind();
        let held = match kind {
            Kind::Models => self.models.identity(),
            Kind::Endpoints => self.endpoints.identity(),
        };
        match decide(held, &identity) {
            Decision::Accept => self.accept(identity, document, container, effects),
            Decision::Duplicate => effects.push(self.ack(kind)),
            Decision::Stale => effects.push(refusal(
                kind,
                identity.generation,
                RejectCode::StaleGeneration,
                format!(
                    "{} is held",
                    held.map(|held| held.generation).unwrap_or_default()
                ),
            )),
            Decision::Conflict => {
                tracing::error!(%kind, generation = %identity.generation, "two signed documents of one generation");
                effects.push(refusal(
                    kind,
                    identity.generation,
                    RejectCode::GenerationConflict,
                    "another document of this generation is held".to_owned(),
                ));
            }
        }
    }

    fn accept(
        &mut self,
        identity: DocumentIdentity,
        document: Document,
        container: Vec<u8>,
        effects: &mut Vec<Effect>,
    ) {
        match document {
            Document::Models(models) => {
                self.models
                    .accept(Kind::Models, identity, container, models);
                effects.extend(self.models.save());
                effects.push(self.ack(Kind::Models));
                self.start_staging(effects);
            }
            Document::Endpoints(endpoints) => {
                if self.endpoints.phase == Phase::Applying {
                    effects.push(Effect::CancelApply);
                }
                self.endpoints
                    .accept(Kind::Endpoints, identity, container, endpoints);
                let accepted = self.ack(Kind::Endpoints);
                let mut started = Vec::new();
                self.start_endpoints(&mut started);
                if self.endpoints.phase != Phase::Applying {
                    effects.extend(self.endpoints.save());
                }
                effects.push(accepted);
                effects.append(&mut started);
            }
        }
    }

    fn start_staging(&mut self, effects: &mut Vec<Effect>) {
        if let (Some(document), Some(held)) = (self.models.held.clone(), self.models.identity()) {
            let generation = held.generation;
            self.models.phase = Phase::Staging {
                bytes_done: 0,
                bytes_total: 0,
            };
            effects.push(Effect::Stage {
                generation,
                document,
            });
        }
    }

    /// Waits, refuses or applies, whichever the models in force say.
    fn start_endpoints(&mut self, effects: &mut Vec<Effect>) {
        let (Some(document), Some(held)) =
            (self.endpoints.held.clone(), self.endpoints.record.clone())
        else {
            return;
        };
        if self.models.applied_generation() < Some(document.requires.models) {
            if self.endpoints.phase != Phase::Waiting {
                self.endpoints.phase = Phase::Waiting;
                effects.push(self.ack(Kind::Endpoints));
            }
            return;
        }
        if let Some(rejection) = self.missing_version(&document) {
            self.endpoints.settle_refused(rejection);
            self.tell_settled(Kind::Endpoints, effects);
            return;
        }
        let Some(applied) = self.endpoints.in_force(document.effective_hash()) else {
            return;
        };
        self.endpoints.phase = Phase::Applying;
        effects.push(Effect::Apply {
            document,
            applied,
            held,
        });
    }

    /// The first version that the catalogue in force lacks.
    fn missing_version(&self, document: &EndpointsDocument) -> Option<Rejection> {
        let catalogue = self.models.applied.as_ref();
        let mut entities = document.endpoints.iter().flat_map(|(endpoint, wanted)| {
            wanted
                .served_entities
                .iter()
                .map(move |entity| (endpoint, entity))
        });
        let (endpoint, entity) = entities.find(|(_, entity)| {
            !catalogue.is_some_and(|catalogue| {
                catalogue.holds(&entity.entity_name, entity.entity_version, &entity.manifest)
            })
        })?;
        let detail = format!(
            "endpoint {endpoint}, served entity {}: {} version {} with this manifest is not in the catalogue {}",
            entity.name,
            entity.entity_name,
            entity.entity_version,
            self.models.applied_generation().unwrap_or_default(),
        );
        Some(Rejection::new(RejectCode::MissingArtifact, detail))
    }

    fn on_staged(&mut self, result: Result<(), Rejection>, effects: &mut Vec<Effect>) {
        match (result, &self.models.held) {
            (Ok(()), Some(document)) => self.models.settle_applied(document.effective_hash()),
            (Ok(()), None) => return,
            (Err(rejection), _) => self.models.settle_refused(rejection),
        }
        self.tell_settled(Kind::Models, effects);
        if self.endpoints.phase == Phase::Waiting {
            self.start_endpoints(effects);
        }
    }

    fn on_applied(&mut self, outcome: ApplyOutcome, effects: &mut Vec<Effect>) {
        match outcome {
            ApplyOutcome::Applied => {
                let hash = self
                    .endpoints
                    .held
                    .as_ref()
                    .map(|held| held.effective_hash());
                if let Some(hash) = hash {
                    self.endpoints.settle_applied(hash);
                }
                effects.push(self.ack(Kind::Endpoints));
                effects.push(Effect::Report(Kind::Endpoints));
                return;
            }
            ApplyOutcome::Rejected(rejection) => self.endpoints.settle_refused(rejection),
            ApplyOutcome::RolledBack(rejection) => {
                self.endpoints.settle_refused(rejection);
                if let (Some(to), Some(held)) = (
                    self.endpoints.applied_generation(),
                    self.endpoints.identity(),
                ) {
                    let generation = Some(held.generation);
                    let state = AckState::RolledBack { to };
                    effects.extend(self.endpoints.save());
                    effects.push(Effect::Ack(Ack {
                        kind: Kind::Endpoints,
                        generation,
                        state,
                    }));
                    effects.push(Effect::Report(Kind::Endpoints));
                    return;
                }
            }
        }
        self.tell_settled(Kind::Endpoints, effects);
    }

    fn tell_settled(&self, kind: Kind, effects: &mut Vec<Effect>) {
        effects.extend(match kind {
            Kind::Models => self.models.save(),
            Kind::Endpoints => self.endpoints.save(),
        });
        effects.push(self.ack(kind));
        effects.push(Effect::Report(kind));
    }

    /// What to say now of the held document of `kind`.
    fn ack(&self, kind: Kind) -> Effect {
        let awaited = self
            .endpoints
            .held
            .as_ref()
            .map(|document| document.requires.models);
        let (identity, state) = match kind {
            Kind::Models => (self.models.identity(), self.models.ack_state(None)),
            Kind::Endpoints => (self.endpoints.identity(), self.endpoints.ack_state(awaited)),
        };
        Effect::Ack(Ack {
            kind,
            generation: identity.map(|held| held.generation),
            state,
        })
    }
}

fn refusal(kind: Kind, generation: Generation, code: RejectCode, detail: String) -> Effect {
    let state = AckState::Rejected(Rejection::new(code, detail));
    Effect::Ack(Ack {
        kind,
        generation: Some(generation),
        state,
    })
}

fn as_models(document: Option<Document>) -> Option<ModelsDocument> {
    match document? {
        Document::Models(models) => Some(models),
        Document::Endpoints(_) => None,
    }
}

fn as_endpoints(document: Option<Document>) -> Option<EndpointsDocument> {
    match document? {
        Document::Endpoints(endpoints) => Some(endpoints),
        Document::Models(_) => None,
    }
}

#[cfg(test)]
mod tests;
