//! What is known of the documents of one kind: held, refused, in force, and in which phase.

use edgeward_base::digest::Digest;
use edgeward_wire::{
    ack::{AckState, Rejection},
    ordering::{DocumentIdentity, Generation, Kind},
    reported::Refused,
};

use super::Effect;
use crate::ports::{AppliedDocument, TrackRecord};

/// Where a kind's newest document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// In force, refused, or there is none.
    Settled,
    /// `endpoints`: the models it requires are not held yet.
    Waiting,
    /// `models`: bytes are being fetched and versions installed.
    Staging {
        /// Bytes held.
        bytes_done: u64,
        /// Bytes needed; 0 until known.
        bytes_total: u64,
    },
    /// `endpoints`: handed to the endpoint owner.
    Applying,
}

/// Everything known of the documents of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Track<D> {
    pub(super) record: Option<TrackRecord>,
    /// The held document, parsed.
    pub(super) held: Option<D>,
    /// The document in force, parsed.
    pub(super) applied: Option<D>,
    pub(super) phase: Phase,
}

/// What the reported document of a kind says beside what runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::device) struct Standing {
    pub(in crate::device) generation: Option<Generation>,
    pub(in crate::device) effective_hash: Option<Digest>,
    pub(in crate::device) refused: Option<Refused>,
}

impl<D> Default for Track<D> {
    fn default() -> Self {
        Self {
            record: None,
            held: None,
            applied: None,
            phase: Phase::Settled,
        }
    }
}

impl<D: Clone> Track<D> {
    pub(super) fn restored(record: TrackRecord, held: Option<D>, applied: Option<D>) -> Self {
        Self {
            record: Some(record),
            held,
            applied,
            phase: Phase::Settled,
        }
    }

    pub(super) fn identity(&self) -> Option<&DocumentIdentity> {
        self.record.as_ref().map(|record| &record.held)
    }

    pub(super) fn applied_generation(&self) -> Option<Generation> {
        self.record
            .as_ref()?
            .applied
            .as_ref()
            .map(|applied| applied.identity.generation)
    }

    pub(super) fn is_held(&self, generation: Generation) -> bool {
        self.identity()
            .is_some_and(|held| held.generation == generation)
    }

    /// Whether the held document is neither in force nor refused.
    pub(super) fn is_open(&self) -> bool {
        self.record.as_ref().is_some_and(|record| {
            record.refused.is_none() && self.applied_generation() != Some(record.held.generation)
        })
    }

    pub(super) fn accept(
        &mut self,
        kind: Kind,
        held: DocumentIdentity,
        held_container: Vec<u8>,
        document: D,
    ) {
        let applied = self.record.take().and_then(|record| record.applied);
        self.record = Some(TrackRecord {
            kind,
            held,
            held_container,
            refused: None,
            applied,
        });
        self.held = Some(document);
        self.phase = Phase::Settled;
    }

    /// What is remembered of the held document once it is in force.
    pub(super) fn in_force(&self, effective_hash: Digest) -> Option<AppliedDocument> {
        self.record.as_ref().map(|record| AppliedDocument {
            identity: record.held,
            effective_hash,
            container: record.held_container.clone(),
        })
    }

    /// The held document is in force.
    pub(super) fn settle_applied(&mut self, effective_hash: Digest) {
        let applied = self.in_force(effective_hash);
        if let Some(record) = &mut self.record {
            record.applied = applied;
            record.refused = None;
        }
        self.applied.clone_from(&self.held);
        self.phase = Phase::Settled;
    }

    /// The held document is refused for good.
    pub(super) fn settle_refused(&mut self, rejection: Rejection) {
        if let Some(record) = &mut self.record {
            record.refused = Some(rejection);
        }
        self.phase = Phase::Settled;
    }

    pub(super) fn save(&self) -> Option<Effect> {
        self.record.clone().map(Effect::Save)
    }

    /// What to say of the held document.
    pub(super) fn ack_state(&self, awaited: Option<Generation>) -> AckState {
        let record = self.record.as_ref();
        let applied = record.and_then(|record| record.applied.as_ref());
        match (
            self.phase,
            record.and_then(|record| record.refused.clone()),
            awaited,
        ) {
            (
                Phase::Staging {
                    bytes_done,
                    bytes_total,
                },
                ..,
            ) => AckState::Staging {
                bytes_done,
                bytes_total,
            },
            (Phase::Waiting, _, Some(awaited)) => AckState::Waiting { awaited },
            (Phase::Settled, Some(rejection), _) => AckState::Rejected(rejection),
            (Phase::Settled, None, _) => match applied {
                Some(applied) if self.is_held(applied.identity.generation) => AckState::Applied {
                    effective_hash: applied.effective_hash,
                },
                _ => AckState::Accepted,
            },
            (Phase::Waiting | Phase::Applying, ..) => AckState::Accepted,
        }
    }

    pub(super) fn standing(&self) -> Standing {
        let record = self.record.as_ref();
        let applied = record.and_then(|record| record.applied.as_ref());
        Standing {
            generation: applied.map(|applied| applied.identity.generation),
            effective_hash: applied.map(|applied| applied.effective_hash),
            refused: record.and_then(|record| {
                let rejection = record.refused.clone()?;
                Some(Refused {
                    generation: record.held.generation,
                    rejection,
                })
            }),
        }
    }
}
