use proptest::prelude::*;

use super::*;

const STATES: [State; 8] = [
    State::NotReady,
    State::Loading,
    State::Ready,
    State::Updating,
    State::Failed { serving: false },
    State::Failed { serving: true },
    State::Draining,
    State::Deleted,
];

const EVENTS: [Event; 10] = [
    Event::Restore,
    Event::Restored {
        update_failed: false,
    },
    Event::Restored {
        update_failed: true,
    },
    Event::LoadFailed,
    Event::Change,
    Event::Committed,
    Event::StagingFailed,
    Event::Withdrawn,
    Event::Delete,
    Event::Drained,
];

/// Every edge of the diagram, and no other.
const EDGES: [(State, Event, State, &[Effect]); 21] = {
    use Effect::{Drain, Forget, Route, Stage};
    use State as S;
    const NEW: State = S::Failed { serving: false };
    const OLD: State = S::Failed { serving: true };
    const FINE: Event = Event::Restored {
        update_failed: false,
    };
    const MARRED: Event = Event::Restored {
        update_failed: true,
    };
    [
        (S::NotReady, Event::Change, S::Loading, &[Stage]),
        (S::NotReady, Event::Restore, S::Loading, &[Stage]),
        (S::NotReady, Event::Delete, S::Draining, &[Route, Drain]),
        (S::Loading, Event::Committed, S::Ready, &[Route]),
        (S::Loading, FINE, S::Ready, &[Route]),
        (S::Loading, MARRED, OLD, &[Route]),
        (S::Loading, Event::StagingFailed, NEW, &[]),
        (S::Loading, Event::LoadFailed, S::NotReady, &[]),
        (S::Loading, Event::Withdrawn, S::NotReady, &[]),
        (S::Loading, Event::Delete, S::Draining, &[Route, Drain]),
        (S::Ready, Event::Change, S::Updating, &[Stage]),
        (S::Ready, Event::Delete, S::Draining, &[Route, Drain]),
        (S::Updating, Event::Committed, S::Ready, &[Route]),
        (S::Updating, Event::StagingFailed, OLD, &[]),
        (S::Updating, Event::Withdrawn, S::Ready, &[]),
        (S::Updating, Event::Delete, S::Draining, &[Route, Drain]),
        (NEW, Event::Change, S::Loading, &[Stage]),
        (NEW, Event::Delete, S::Draining, &[Route, Drain]),
        (OLD, Event::Change, S::Updating, &[Stage]),
        (OLD, Event::Delete, S::Draining, &[Route, Drain]),
        (S::Draining, Event::Drained, S::Deleted, &[Forget]),
    ]
};

#[test]
fn each_edge_of_the_diagram_leads_where_it_says() {
    for (from, event, to, effects) in EDGES {
        assert_eq!(step(from, event), Ok((to, effects)), "{from:?} {event:?}");
    }
}

#[test]
fn there_is_no_other_edge() {
    for state in STATES {
        for event in EVENTS {
            let drawn = EDGES
                .iter()
                .any(|(from, on, ..)| (*from, *on) == (state, event));
            assert_eq!(step(state, event).is_ok(), drawn, "{state:?} {event:?}");
        }
    }
}

#[test]
fn clients_see_what_the_table_says() {
    let seen: Vec<(bool, &str, &str)> = STATES
        .iter()
        .map(|state| {
            (
                state.serves(),
                state.ready().as_str(),
                state.config_update().as_str(),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            (false, "NOT_READY", "NOT_UPDATING"),
            (false, "NOT_READY", "IN_PROGRESS"),
            (true, "READY", "NOT_UPDATING"),
            (true, "READY", "IN_PROGRESS"),
            (false, "NOT_READY", "UPDATE_FAILED"),
            (true, "READY", "UPDATE_FAILED"),
            (false, "NOT_READY", "NOT_UPDATING"),
            (false, "NOT_READY", "NOT_UPDATING"),
        ]
    );
}

#[test]
fn the_json_spells_states_as_clients_know_them() {
    for state in STATES {
        let ready = serde_json::to_value(state.ready()).unwrap();
        assert_eq!(ready, state.ready().as_str());
        let update = serde_json::to_value(state.config_update()).unwrap();
        assert_eq!(update, state.config_update().as_str());
    }
}

proptest! {
    /// A model that follows the effects alone agrees with the states whatever happens: the owner
    /// that carries out the effects routes exactly what serves, stages whenever something is
    /// under way, and never does anything to an endpoint that is gone.
    #[test]
    fn effects_and_states_never_part(events in prop::collection::vec(0..EVENTS.len(), 0..200)) {
        let mut state = State::NotReady;
        let mut routed = false;
        let mut staging = false;
        for event in events.into_iter().map(|index| EVENTS[index]) {
            let Ok((next, effects)) = step(state, event) else { continue };
            prop_assert!(state != State::Deleted);
            if effects.contains(&Effect::Stage) {
                prop_assert!(!staging, "two changes at once");
            }
            if effects.contains(&Effect::Route) {
                routed = next.serves();
            }
            staging = next.config_update() == ConfigUpdate::InProgress;
            prop_assert_eq!(effects.contains(&Effect::Stage), event == Event::Change || event == Event::Restore);
            prop_assert_eq!(routed, next.serves());
            prop_assert_eq!(effects.contains(&Effect::Drain), next == State::Draining);
            prop_assert_eq!(effects.contains(&Effect::Forget), next == State::Deleted);
            state = next;
        }
    }

    /// Once a configuration serves, only a deletion ends that.
    #[test]
    fn nothing_but_deletion_stops_what_serves(events in prop::collection::vec(0..EVENTS.len(), 0..200)) {
        let mut state = State::Ready;
        for event in events.into_iter().map(|index| EVENTS[index]) {
            if event == Event::Delete { continue }
            if let Ok((next, _)) = step(state, event) {
                state = next;
            }
            prop_assert!(state.serves());
        }
    }
}
