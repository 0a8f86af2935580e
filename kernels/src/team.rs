//! Threads that share the loops of one call.
//!
//! Owns the meeting of a call and the threads that help it. The thread that asked for the call leads
//! ([`Team::lead`]); a loop that is worth it lets out its parts ([`each`]), and whoever attends
//! ([`Team::attend`]) takes the next one, as the leader itself does. Nobody waits for a helper to come:
//! without any, the leader computes all parts. Which thread computes a part changes no result.
//!
//! Starts no thread: whoever owns some lends them, and hears that help is wanted when the first parts
//! are let out. Must never let a part outlive the loop that let it out.
//!
//! ```text
//! leader   lead ── parts ──────────── parts ───────────── close
//!             recruit │ ╲              │ ╲                  │
//! helper              attend ─ parts ─ spin ─ parts ─ sleep ┘
//! ```

use std::any::Any;
use std::cell::{RefCell, UnsafeCell};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

#[cfg(test)]
mod tests;

/// How often a helper looks for parts before it sleeps: about as long as a short layer takes.
const LOOKS: usize = 4_000;

/// In [`Team::gate`]: parts are let out. The other bits count the helpers who are at them.
const OPEN: usize = 1 << (usize::BITS - 1);

/// In [`Team::taken`]: a part of the front.
const FRONT: u64 = 1;

/// A part of the back.
const BACK: u64 = 1 << 32;

/// More parts than there are, with room for those who still ask.
const NONE_LEFT: u64 = (BACK / 2) * BACK + BACK / 2;

thread_local! {
    /// The team that the call on this thread leads; none while a part of it is computed.
    static LED: RefCell<Option<Arc<Team>>> = const { RefCell::new(None) };
}

/// The threads of one call.
pub struct Team {
    /// How many threads there may be, the leader among them.
    threads: usize,
    /// Loops that take less are not shared; see [`Team::worth`].
    worth: Duration,
    /// Asks for help; called once in each call, by its first loop that lets parts out.
    recruit: Box<Recruit>,
    recruited: AtomicBool,
    gate: AtomicUsize,
    loops: LetOut,
    /// How many parts the leader has taken from the front, and the helpers from the back ([`BACK`]): from
    /// loop to loop each thread meets about the same rows, which are still in its cache.
    taken: AtomicU64,
    closed: AtomicBool,
    /// Helpers that have come and not gone.
    attending: AtomicUsize,
    /// Those of them that are asleep, or about to be.
    asleep: AtomicUsize,
    beds: Mutex<()>,
    wake: Condvar,
    /// What a part panicked with on a helper's thread.
    panic: Mutex<Option<Payload>>,
}

/// Asks for help for a team.
type Recruit = dyn Fn(&Arc<Team>) + Send + Sync;

/// What a part panicked with.
type Payload = Box<dyn Any + Send>;

/// The loop whose parts are let out: read only by those who went through the gate, and written only while
/// it is shut and nobody is in.
struct LetOut(UnsafeCell<Option<Loop>>);

#[expect(
    unsafe_code,
    reason = "a loop on one thread's stack is shared with others while it runs"
)]
// SAFETY: it is read and written as said above, and what it points to is `Sync` and outlives the open gate.
unsafe impl Sync for LetOut {}
#[expect(unsafe_code, reason = "as above")]
// SAFETY: as above.
unsafe impl Send for LetOut {}

/// A loop whose parts are let out.
#[derive(Clone, Copy)]
struct Loop {
    part: *const (dyn Fn(usize) + Sync),
    parts: usize,
}

impl fmt::Debug for Team {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let closed = self.closed.load(Ordering::Relaxed);
        write!(f, "Team of {} threads, closed: {closed}", self.threads)
    }
}

impl Team {
    /// How long a loop takes that is worth sharing: as long as two threads need to meet, some times over.
    pub const WORTH: Duration = Duration::from_micros(16);

    /// A team of at most `threads` threads that share loops which take about as long as `worth`, or
    /// longer, and a quarter of that while a helper looks for parts: [`Team::WORTH`], but where all are
    /// to be shared. The leader calls `recruit` with it when the first parts are let out; that must not
    /// block.
    #[must_use]
    pub fn new(
        threads: usize,
        worth: Duration,
        recruit: impl Fn(&Arc<Self>) + Send + Sync + 'static,
    ) -> Self {
        Self {
            threads: threads.max(1),
            worth,
            recruit: Box::new(recruit),
            recruited: AtomicBool::new(false),
            gate: AtomicUsize::new(0),
            loops: LetOut(UnsafeCell::new(None)),
            taken: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            attending: AtomicUsize::new(0),
            asleep: AtomicUsize::new(0),
            beds: Mutex::new(()),
            wake: Condvar::new(),
            panic: Mutex::new(None),
        }
    }

    /// Runs `call` on this thread, as the leader. One call at a time.
    pub fn lead<T>(self: &Arc<Self>, call: impl FnOnce() -> T) -> T {
        /// Puts back what was led before, whatever happens.
        struct Before(Option<Arc<Team>>);
        impl Drop for Before {
            fn drop(&mut self) {
                LED.set(self.0.take());
            }
        }
        let _before = Before(LED.replace(Some(Arc::clone(self))));
        call()
    }

    /// Helps, until the team is closed, or this thread is `wanted` elsewhere. Sleeps where there is
    /// nothing to do; [`Team::wake`] makes it look at `wanted` again.
    pub fn attend(&self, wanted: impl Fn() -> bool) {
        /// Says that a helper has gone, whatever happens.
        struct Gone<'a>(&'a AtomicUsize);
        impl Drop for Gone<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        self.attending.fetch_add(1, Ordering::SeqCst);
        let _gone = Gone(&self.attending);
        let mut looks = 0;
        while !self.closed.load(Ordering::SeqCst) && !wanted() {
            if self.enter() && self.help(&wanted) {
                looks = 0;
            } else if looks < LOOKS {
                looks += 1;
                std::hint::spin_loop();
            } else {
                self.sleep(&wanted);
                looks = 0;
            }
        }
    }

    /// Wakes helpers that sleep.
    pub fn wake(&self) {
        if self.asleep.load(Ordering::SeqCst) > 0 {
            drop(lock(&self.beds));
            self.wake.notify_all();
        }
    }

    /// Sends the helpers away: there is nothing more to do.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Loops that take less are not shared now. A helper that still looks for parts is met much sooner
    /// than one that has to be woken.
    fn worth(&self) -> Duration {
        let looking = self.attending.load(Ordering::Relaxed) > self.asleep.load(Ordering::Relaxed);
        if looking { self.worth / 4 } else { self.worth }
    }

    /// Goes in to the parts, where some are let out.
    fn enter(&self) -> bool {
        if self.gate.load(Ordering::Relaxed) & OPEN == 0 {
            return false;
        }
        // Counted first: the leader does not go on while somebody is inside.
        let inside = self.gate.fetch_add(1, Ordering::SeqCst) & OPEN != 0;
        if !inside {
            self.gate.fetch_sub(1, Ordering::SeqCst);
        }
        inside
    }

    /// Computes parts, unless it is `wanted` elsewhere, and goes out again. Whether there were any.
    #[expect(unsafe_code, reason = "the loop lies on the leader's stack")]
    fn help(&self, wanted: &impl Fn() -> bool) -> bool {
        let mut helped = false;
        // SAFETY: this thread went in while the gate was open: the leader writes no other loop, and does
        // not leave this one, before it is out again.
        let loops = unsafe { *self.loops.0.get() };
        if let Some(Loop { part, parts }) = loops {
            // SAFETY: as above.
            let part = unsafe { &*part };
            let take = || self.take(part, parts, (BACK, wanted));
            let done = catch_unwind(AssertUnwindSafe(take));
            helped = done.as_ref().copied().unwrap_or(true);
            if let Err(payload) = done {
                lock(&self.panic).get_or_insert(payload);
                // Nobody wants the others.
                self.taken.store(NONE_LEFT, Ordering::SeqCst);
            }
        }
        self.gate.fetch_sub(1, Ordering::SeqCst);
        helped
    }

    /// Computes parts until none is left, or this thread is `wanted` elsewhere: of the front, or of the
    /// [`BACK`]. Whether it computed any.
    fn take(
        &self,
        part: &(dyn Fn(usize) + Sync),
        parts: usize,
        (side, wanted): (u64, &dyn Fn() -> bool),
    ) -> bool {
        let number = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        let counts = |taken: u64| (number(taken % BACK), number(taken / BACK));
        let left = |(front, back): (usize, usize)| front.saturating_add(back) < parts;
        let mut any = false;
        // Looked at first: who finds nothing left must not count on, however often it comes back.
        while left(counts(self.taken.load(Ordering::SeqCst))) && !wanted() {
            let (front, back) = counts(self.taken.fetch_add(side, Ordering::SeqCst));
            if !left((front, back)) {
                break;
            }
            any = true;
            part(if side == BACK {
                parts - 1 - back
            } else {
                front
            });
        }
        any
    }

    fn sleep(&self, wanted: &impl Fn() -> bool) {
        let bed = lock(&self.beds);
        // Said before the last look: whoever lets parts out after it wakes this thread.
        self.asleep.fetch_add(1, Ordering::SeqCst);
        let nothing = self.gate.load(Ordering::SeqCst) & OPEN == 0
            && !self.closed.load(Ordering::SeqCst)
            && !wanted();
        if nothing {
            drop(self.wake.wait(bed).unwrap_or_else(PoisonError::into_inner));
        }
        self.asleep.fetch_sub(1, Ordering::SeqCst);
    }

    /// Lets parts out, computes with the others, and returns when all are done.
    #[expect(unsafe_code, reason = "the loop lies on this thread's stack")]
    fn share(self: &Arc<Self>, parts: usize, part: &(dyn Fn(usize) + Sync)) {
        /// Shuts the gate, and waits for those inside.
        struct Shut<'a>(&'a Team);
        impl Drop for Shut<'_> {
            fn drop(&mut self) {
                self.0.taken.store(NONE_LEFT, Ordering::SeqCst);
                self.0.gate.fetch_and(!OPEN, Ordering::SeqCst);
                let mut looks = 0;
                while self.0.gate.load(Ordering::SeqCst) != 0 {
                    looks += 1;
                    if looks < LOOKS {
                        std::hint::spin_loop();
                    } else {
                        // A helper may wait for this very core.
                        std::thread::yield_now();
                    }
                }
            }
        }
        // SAFETY: only the lifetime is forgotten; `Shut` lets nobody have the loop after this function.
        let forgotten = unsafe {
            std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(part)
        };
        // SAFETY: the gate is shut and nobody is inside: `Shut` waited for that in the loop before.
        unsafe {
            *self.loops.0.get() = Some(Loop {
                part: forgotten,
                parts,
            });
        }
        self.taken.store(0, Ordering::SeqCst);
        let shut = Shut(self);
        self.gate.fetch_or(OPEN, Ordering::SeqCst);
        if !self.recruited.swap(true, Ordering::SeqCst) {
            (self.recruit)(self);
        }
        self.wake();
        self.take(part, parts, (FRONT, &|| false));
        drop(shut);
        let panic = lock(&self.panic).take();
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks can panic half-way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many threads may share a loop that begins now: 1 where nobody helps, and inside a part.
pub fn threads() -> usize {
    LED.with_borrow(|team| team.as_ref().map_or(1, |team| team.threads))
}

/// Whether a loop of about so many nanoseconds is worth sharing.
pub(crate) fn is_worth(nanoseconds: usize) -> bool {
    let takes = Duration::from_nanos(nanoseconds as u64);
    LED.with_borrow(|team| {
        let team = team.as_ref();
        team.is_some_and(|team| team.threads > 1 && takes >= team.worth())
    })
}

/// Calls `part` with each number below `parts` once, on the threads of the call that this thread leads;
/// in their order on this one where it leads none.
pub fn each(parts: usize, part: impl Fn(usize) + Sync) {
    /// Leads again, whatever happens.
    struct Again(Option<Arc<Team>>);
    impl Drop for Again {
        fn drop(&mut self) {
            LED.set(self.0.take());
        }
    }
    if parts < 2 || threads() < 2 {
        (0..parts).for_each(part);
        return;
    }
    // A part lets out none of its own.
    let again = Again(LED.take());
    if let Some(team) = &again.0 {
        team.share(parts, &part);
    }
}

/// Calls `take` with each of `pieces` once, as [`each`].
pub(crate) fn each_of<P: Send>(pieces: Vec<P>, take: impl Fn(P) + Sync) {
    if pieces.len() < 2 || threads() < 2 {
        pieces.into_iter().for_each(take);
        return;
    }
    let pieces: Vec<_> = pieces
        .into_iter()
        .map(|piece| Mutex::new(Some(piece)))
        .collect();
    each(pieces.len(), |at| {
        let piece = pieces.get(at).and_then(|piece| lock(piece).take());
        if let Some(piece) = piece {
            take(piece);
        }
    });
}

/// How many of `count` things a part takes: a multiple of `grain`. There are a few parts for each thread,
/// so that one that is late costs little, where they have `least` things or more.
pub(crate) fn part(count: usize, grain: usize, least: usize) -> usize {
    let threads = threads();
    if threads < 2 {
        return count.max(1);
    }
    let size = |each: usize| {
        let size = count.div_ceil(threads * each).max(1);
        size.next_multiple_of(grain.max(1))
    };
    let several = size(SEVERAL);
    if several >= least { several } else { size(1) }
}

/// Has `fill` write `results`, which are rows of `row` numbers: whole rows at a time, with the place of the
/// first number of them. Shared, where that is worth it for all of them, which take `nanoseconds`.
pub(crate) fn fill<T: Send>(
    results: &mut [T],
    row: usize,
    nanoseconds: usize,
    fill: impl Fn(usize, &mut [T]) + Sync,
) {
    if !is_worth(nanoseconds) {
        fill(0, results);
        return;
    }
    let row = row.max(1);
    let size = part(results.len().div_ceil(row), 1, 1) * row;
    let parts = results.chunks_mut(size).enumerate();
    each_of(parts.collect(), |(at, results)| fill(at * size, results));
}

/// How many parts of a long loop there are for each thread.
const SEVERAL: usize = 3;

/// What is divided among the parts of a loop, each of which gets what it writes.
pub(crate) trait Divide: Sized + Send {
    /// The first `at` elements, and the others; all of them and none where there are fewer.
    fn divide(self, at: usize) -> (Self, Self);
}

impl<T: Send> Divide for &mut [T] {
    fn divide(self, at: usize) -> (Self, Self) {
        let at = at.min(self.len());
        self.split_at_mut(at)
    }
}

/// Divides `whole` into one piece for each of `sizes`.
pub(crate) fn pieces<D: Divide>(whole: D, sizes: impl Iterator<Item = usize>) -> Vec<D> {
    let mut rest = Some(whole);
    let piece = |size| {
        let (piece, others) = rest.take()?.divide(size);
        rest = Some(others);
        Some(piece)
    };
    sizes.map_while(piece).collect()
}

/// Runs `call` with helpers, who share every loop of it.
#[cfg(test)]
pub(crate) fn with_helpers<T>(helpers: usize, call: impl FnOnce() -> T) -> T {
    let team = Arc::new(Team::new(helpers + 1, Duration::ZERO, |_| {}));
    std::thread::scope(|scope| {
        for _ in 0..helpers {
            scope.spawn(|| team.attend(|| false));
        }
        let answer = catch_unwind(AssertUnwindSafe(|| team.lead(call)));
        team.close();
        answer.unwrap_or_else(|payload| resume_unwind(payload))
    })
}
