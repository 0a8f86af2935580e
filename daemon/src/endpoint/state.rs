//! The life of one serving endpoint, as a pure function from state and event to state and effects.
//!
//! Nothing here does anything: the owner task feeds events and carries out the effects. What
//! clients see as `ready` and `config_update` is computed from the state and stored nowhere.
//!
//! ```text
//! (new) NotReady --change, restore--------------------> Loading
//!       Loading ---committed, restored----------------> Ready
//!       Loading ---restored, its last change failed---> Failed{serving: true}
//!       Loading ---staging failed---------------------> Failed{serving: false}
//!       Loading ---withdrawn, load failed-------------> NotReady
//!       Ready -----change-----------------------------> Updating
//!       Updating --committed, withdrawn---------------> Ready
//!       Updating --staging failed---------------------> Failed{serving: true}
//!       Failed{serving: true} ---change---------------> Updating
//!       Failed{serving: false} --change---------------> Loading
//!       each of these --delete--> Draining --drained--> Deleted
//! ```
//!
//! | state | serves | `ready` | `config_update` |
//! |---|---|---|---|
//! | `NotReady` | no | `NOT_READY` | `NOT_UPDATING` |
//! | `Loading` | no | `NOT_READY` | `IN_PROGRESS` |
//! | `Ready` | yes | `READY` | `NOT_UPDATING` |
//! | `Updating` | the old configuration | `READY` | `IN_PROGRESS` |
//! | `Failed` | the old configuration, if there is one | by that | `UPDATE_FAILED` |
//! | `Draining`, `Deleted` | only what was under way | `NOT_READY` | `NOT_UPDATING` |

use serde::Serialize;

#[cfg(test)]
mod tests;

/// Where an endpoint stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Nothing serves and nothing is under way: new, or its models did not load.
    NotReady,
    /// Nothing serves yet; models are being loaded.
    Loading,
    /// The applied configuration serves.
    Ready,
    /// The applied configuration serves while a new one is being staged.
    Updating,
    /// The last change failed.
    Failed {
        /// Whether an older configuration serves on.
        serving: bool,
    },
    /// Deleted; requests that were under way still use its sessions.
    Draining,
    /// Gone.
    Deleted,
}

/// What may happen to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// A stored endpoint is being brought back after a start.
    Restore,
    /// The stored configuration serves again.
    Restored {
        /// Whether the last change before the restart had failed.
        update_failed: bool,
    },
    /// The stored configuration cannot serve.
    LoadFailed,
    /// A validated change is to be staged.
    Change,
    /// The change is staged and committed to the store.
    Committed,
    /// The change could not be staged or committed.
    StagingFailed,
    /// The change was given up before it was applied: a newer one takes its place.
    Withdrawn,
    /// The endpoint's end is committed to the store.
    Delete,
    /// The last request that used its sessions has ended, or the grace period has.
    Drained,
}

/// What the owner has to do after a step, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Load the models of the new configuration.
    Stage,
    /// Publish a routing snapshot: what this endpoint routes to has changed.
    Route,
    /// Wait for the requests that still use its sessions.
    Drain,
    /// Drop everything that is known of it.
    Forget,
}

/// An event that cannot happen in that state: the owner has a mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{event:?} cannot happen to an endpoint that is {state:?}")]
pub struct InvalidStepError {
    /// Where it stood.
    pub state: State,
    /// What was to happen.
    pub event: Event,
}

/// One step.
///
/// # Errors
/// [`InvalidStepError`] for an event that the diagram does not have in that state.
pub fn step(state: State, event: Event) -> Result<(State, &'static [Effect]), InvalidStepError> {
    use Effect as E;
    use State as S;
    Ok(match (state, event) {
        (S::NotReady, Event::Change | Event::Restore)
        | (S::Failed { serving: false }, Event::Change) => (S::Loading, &[E::Stage]),
        (S::Ready | S::Failed { serving: true }, Event::Change) => (S::Updating, &[E::Stage]),

        (
            S::Loading,
            Event::Committed
            | Event::Restored {
                update_failed: false,
            },
        )
        | (S::Updating, Event::Committed) => (S::Ready, &[E::Route]),
        (
            S::Loading,
            Event::Restored {
                update_failed: true,
            },
        ) => (S::Failed { serving: true }, &[E::Route]),

        (S::Loading, Event::StagingFailed) => (S::Failed { serving: false }, &[]),
        (S::Updating, Event::StagingFailed) => (S::Failed { serving: true }, &[]),
        (S::Loading, Event::Withdrawn | Event::LoadFailed) => (S::NotReady, &[]),
        (S::Updating, Event::Withdrawn) => (S::Ready, &[]),

        (S::NotReady | S::Loading | S::Ready | S::Updating | S::Failed { .. }, Event::Delete) => {
            (S::Draining, &[E::Route, E::Drain])
        }
        (S::Draining, Event::Drained) => (S::Deleted, &[E::Forget]),
        _ => return Err(InvalidStepError { state, event }),
    })
}

impl State {
    /// Whether requests are routed to it.
    #[must_use]
    pub const fn serves(self) -> bool {
        matches!(
            self,
            Self::Ready | Self::Updating | Self::Failed { serving: true }
        )
    }

    /// `state.ready` of the endpoint's JSON.
    #[must_use]
    pub const fn ready(self) -> Ready {
        if self.serves() {
            Ready::Ready
        } else {
            Ready::NotReady
        }
    }

    /// `state.config_update` of the endpoint's JSON.
    #[must_use]
    pub const fn config_update(self) -> ConfigUpdate {
        match self {
            Self::Loading | Self::Updating => ConfigUpdate::InProgress,
            Self::Failed { .. } => ConfigUpdate::UpdateFailed,
            Self::NotReady | Self::Ready | Self::Draining | Self::Deleted => {
                ConfigUpdate::NotUpdating
            }
        }
    }
}

/// `state.ready`, spelled as in the JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Ready {
    /// A configuration serves.
    Ready,
    /// None does.
    NotReady,
}

impl Ready {
    /// As it stands in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "READY",
            Self::NotReady => "NOT_READY",
        }
    }
}

/// `state.config_update`, spelled as in the JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ConfigUpdate {
    /// No change is under way; `ready` is final.
    NotUpdating,
    /// A change is being staged.
    InProgress,
    /// The last change failed; what served before serves on.
    UpdateFailed,
}

impl ConfigUpdate {
    /// As it stands in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotUpdating => "NOT_UPDATING",
            Self::InProgress => "IN_PROGRESS",
            Self::UpdateFailed => "UPDATE_FAILED",
        }
    }
}
