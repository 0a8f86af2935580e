//! Lanes: what waits, whose turn it is, and which running calls want help.
//!
//! Pure bookkeeping, under the pool's lock. A lane holds its turns (jobs that run, and those that may
//! begin) and its helpers; it never has more turns than its share of the threads, and a helper beyond
//! that share is told to leave: jobs go before help.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use edgeward_kernels::team::Team;

use super::Lane;

/// One job, which answers its caller itself.
pub(super) type Job = Box<dyn FnOnce() + Send>;

/// All lanes.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    /// Jobs in all lanes that no thread has taken.
    waiting: usize,
    lanes: HashMap<Arc<str>, State>,
    /// One entry per turn that a lane may take now.
    ready: VecDeque<Arc<str>>,
    /// Calls that run and want help, the first first.
    calls: Vec<Call>,
}

/// What a thread does next.
pub(super) enum Turn {
    /// A job.
    Job(Job),
    /// A call of somebody else, until it is over or the word says to leave.
    Help(Arc<Team>, Arc<AtomicBool>),
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    /// How many threads the lane may hold.
    threads: usize,
    /// Turns held: running jobs and entries in `ready`.
    turns: usize,
    helpers: usize,
    /// There are more helpers than the share has room for.
    crowded: Arc<AtomicBool>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (jobs, turns) = (self.jobs.len(), self.turns);
        write!(f, "{jobs} waiting, {turns} turns, {} helpers", self.helpers)
    }
}

#[derive(Debug)]
struct Call {
    lane: Arc<str>,
    team: Arc<Team>,
}

impl Lanes {
    /// Jobs that no thread has taken.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Turns that a thread may take now.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Whether no lane has anything.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.lanes.is_empty() && self.calls.is_empty()
    }

    /// Queues a job. Whether it may begin now.
    pub(super) fn push(&mut self, lane: &Lane, job: Job) -> bool {
        self.waiting += 1;
        let state = self.lanes.entry(Arc::clone(&lane.id)).or_default();
        state.threads = lane.threads.max(1);
        state.jobs.push_back(job);
        let begins = state.turns < state.threads;
        if begins {
            state.turns += 1;
            self.ready.push_back(Arc::clone(&lane.id));
        }
        state.count();
        begins
    }

    /// The next turn, and its lane: a job where there is one, else a call that has room for a helper.
    pub(super) fn next(&mut self) -> Option<(Arc<str>, Turn)> {
        while let Some(lane) = self.ready.pop_front() {
            let state = self.lanes.get_mut(&lane);
            if let Some(job) = state.and_then(|state| state.jobs.pop_front()) {
                self.waiting -= 1;
                return Some((lane, Turn::Job(job)));
            }
            self.give_back(&lane);
        }
        for Call { lane, team } in &self.calls {
            if let Some(state) = self.lanes.get_mut(lane)
                && state.turns + state.helpers < state.threads
            {
                state.helpers += 1;
                let leave = Arc::clone(&state.crowded);
                return Some((Arc::clone(lane), Turn::Help(Arc::clone(team), leave)));
            }
        }
        None
    }

    /// Ends a job's turn: the lane's next job takes it, at the end of the line.
    pub(super) fn finish(&mut self, lane: Arc<str>) {
        let mut state = self.lanes.get(&lane).into_iter();
        if state.any(|state| !state.jobs.is_empty()) {
            self.ready.push_back(lane);
        } else {
            self.give_back(&lane);
        }
    }

    /// A helper has left.
    pub(super) fn left(&mut self, lane: &str) {
        if let Some(state) = self.lanes.get_mut(lane) {
            state.helpers = state.helpers.saturating_sub(1);
            state.count();
        }
        self.clear(lane);
    }

    /// A call asks for helpers.
    pub(super) fn call(&mut self, lane: &Arc<str>, team: Arc<Team>) {
        let lane = Arc::clone(lane);
        self.calls.push(Call { lane, team });
    }

    /// A call is over.
    pub(super) fn hang_up(&mut self, team: &Arc<Team>) {
        self.calls.retain(|call| !Arc::ptr_eq(&call.team, team));
    }

    /// Wakes the helpers that sleep, for them to see that they are wanted.
    pub(super) fn wake(&self) {
        self.calls.iter().for_each(|call| call.team.wake());
    }

    /// Takes one turn from a lane.
    fn give_back(&mut self, lane: &str) {
        if let Some(state) = self.lanes.get_mut(lane) {
            state.turns = state.turns.saturating_sub(1);
            state.count();
        }
        self.clear(lane);
    }

    /// Takes a lane off the list that has nothing any more.
    fn clear(&mut self, lane: &str) {
        let state = self.lanes.get(lane);
        if state.is_some_and(|state| state.turns == 0 && state.helpers == 0) {
            self.lanes.remove(lane);
        }
    }
}

impl State {
    fn count(&self) {
        let crowded = self.helpers > 0 && self.turns + self.helpers > self.threads;
        self.crowded.store(crowded, Ordering::SeqCst);
    }
}
