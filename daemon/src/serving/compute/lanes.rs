//! Lanes: what waits, whose turn it is, and which running calls want help.
//!
//! Pure bookkeeping, under the pool's lock. A lane holds its turns (jobs that run, and those that may
//! begin) and its helpers; it never has more turns than its share of the threads, and a helper beyond
//! that share is told to leave: jobs go before help. A turn is one job, or several requests as a batch;
//! a lane whose requests wait for others keeps its turn until there are enough, or the first has waited
//! long enough. When the queue is full, the longest lane gives way to a shorter one.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use edgeward_kernels::team::Team;

use super::Lane;
use super::batch::{Batching, Seat};

/// What waits in a lane. Each answers its caller itself.
pub(super) enum Job {
    /// One that runs alone.
    Alone(Box<dyn FnOnce() + Send>),
    /// One that may run together with others.
    Seat(Seated),
}

/// A request that may run together with others.
pub(super) struct Seated {
    pub(super) seat: Box<dyn Seat>,
    pub(super) batching: Batching,
    /// When it came.
    pub(super) came: Duration,
}

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
    Job(Box<dyn FnOnce() + Send>),
    /// Requests to be answered together, on as many threads at most.
    Batch(Vec<Box<dyn Seat>>, Batching, usize),
    /// A call of somebody else, until it is over or the word says to leave.
    Help(Arc<Team>, Arc<AtomicBool>),
}

/// What a thread finds.
pub(super) enum Found {
    /// A turn of that lane.
    Turn(Arc<str>, Turn),
    /// Nothing before that time, unless something comes.
    Later(Duration),
    /// Nothing.
    Nothing,
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

    /// Turns that no thread has taken, those among them that wait for company.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Whether no lane has anything.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.lanes.is_empty() && self.calls.is_empty()
    }

    /// Queues a job. Whether there is a turn now that there was not.
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
        begins || state.is_filled()
    }

    /// Takes the last job of the longest lane for one of `lane`; `None` where no lane is longer than that
    /// one would be. Its turn, if it had one, goes when it comes.
    pub(super) fn displace(&mut self, lane: &str) -> Option<Job> {
        let own = self.lanes.get(lane).map_or(0, |state| state.jobs.len());
        let longest = self.lanes.values_mut().max_by_key(|state| state.jobs.len());
        let displaced = longest
            .filter(|state| state.jobs.len() > own + 1)?
            .jobs
            .pop_back();
        self.waiting -= usize::from(displaced.is_some());
        displaced
    }

    /// The next turn, and its lane: a job where there is one, else a call that has room for a helper.
    /// Nobody is waited for once the pool is `closed`.
    pub(super) fn next(&mut self, now: Duration, closed: bool) -> Found {
        let mut later: Option<Duration> = None;
        for _ in 0..self.ready.len() {
            let Some(lane) = self.ready.pop_front() else {
                break;
            };
            let state = self.lanes.get_mut(&lane);
            let held = state.as_ref().and_then(|state| state.held_until());
            if let Some(until) = held.filter(|until| *until > now && !closed) {
                later = Some(later.map_or(until, |later| later.min(until)));
                self.ready.push_back(lane);
            } else if let Some((turn, jobs)) = state.and_then(State::take) {
                self.waiting -= jobs;
                return Found::Turn(lane, turn);
            } else {
                self.give_back(&lane);
            }
        }
        // Whoever helps looks up when something is ready, and not when something is due.
        if let Some(later) = later {
            return Found::Later(later);
        }
        for Call { lane, team } in &self.calls {
            if let Some(state) = self.lanes.get_mut(lane)
                && state.turns + state.helpers < state.threads
            {
                state.helpers += 1;
                let leave = Arc::clone(&state.crowded);
                let help = Turn::Help(Arc::clone(team), leave);
                return Found::Turn(Arc::clone(lane), help);
            }
        }
        Found::Nothing
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
    /// The requests at the front that may run together.
    fn seats(&self) -> usize {
        let seated = |job: &&Job| matches!(job, Job::Seat(_));
        self.jobs.iter().take_while(seated).count()
    }

    /// Until when the first request waits for others, where it does.
    fn held_until(&self) -> Option<Duration> {
        let Some(Job::Seat(Seated { batching, came, .. })) = self.jobs.front() else {
            return None;
        };
        if batching.delay.is_zero() {
            return None;
        }
        let waits = self.seats() < batching.costs.target(batching.requests);
        waits.then(|| came.saturating_add(batching.delay))
    }

    /// Whether the last job that came was the one that the others waited for.
    fn is_filled(&self) -> bool {
        match self.jobs.front() {
            Some(Job::Seat(first)) if !first.batching.delay.is_zero() => {
                self.seats() == first.batching.costs.target(first.batching.requests)
            }
            _ => false,
        }
    }

    /// Takes what the next turn is made of, and says how many jobs that were.
    fn take(&mut self) -> Option<(Turn, usize)> {
        let seats = self.seats();
        let first = match self.jobs.pop_front()? {
            Job::Alone(job) => return Some((Turn::Job(job), 1)),
            Job::Seat(first) => first,
        };
        let batching = first.batching;
        let more = batching.costs.choose(seats, batching.requests).min(seats) - 1;
        let seated = |job| match job {
            Job::Seat(seated) => Some(seated.seat),
            Job::Alone(_) => None,
        };
        let mut batch = vec![first.seat];
        batch.extend(self.jobs.drain(..more).filter_map(seated));
        Some((Turn::Batch(batch, batching, self.threads), more + 1))
    }

    fn count(&self) {
        let crowded = self.helpers > 0 && self.turns + self.helpers > self.threads;
        self.crowded.store(crowded, Ordering::SeqCst);
    }
}
