//! Admission: what may be in flight at once.
//!
//! Owns two counters, requests and bytes of their bodies, each with a ceiling. A request is counted
//! before its body is read, by the length it declares, and grows its share when it declares none.
//! Nothing waits here: what does not fit is refused with a reason that carries a `Retry-After`.
//! Also owns the drain: once it began nothing new is admitted, and whoever shuts the process down
//! waits until the last [`Permit`] is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use edgeward_base::units::ByteCount;
use tokio::sync::Notify;

#[cfg(test)]
mod tests;

/// Why a request was not admitted. All three pass by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdmitError {
    /// The process is shutting down.
    #[error("the server is shutting down")]
    Draining,
    /// As many requests as allowed are in flight.
    #[error("{ceiling} requests are in flight, as many as allowed")]
    TooManyRequests {
        /// The ceiling that was reached.
        ceiling: usize,
    },
    /// The bodies in flight hold all the memory they may hold.
    #[error("request bodies in flight hold all of the {ceiling} bytes they may hold")]
    OutOfMemory {
        /// The ceiling that was reached, in bytes.
        ceiling: u64,
    },
}

/// The counters and their ceilings. A clone is another handle to the same ones.
#[derive(Clone, Debug)]
pub struct Admission(Arc<Counters>);

#[derive(Debug)]
struct Counters {
    most_requests: usize,
    most_bytes: u64,
    requests: AtomicUsize,
    bytes: AtomicU64,
    draining: AtomicBool,
    idle: Notify,
}

impl Admission {
    /// Counters at zero.
    #[must_use]
    pub fn new(most_requests: usize, most_bytes: ByteCount) -> Self {
        Self(Arc::new(Counters {
            most_requests,
            most_bytes: most_bytes.0,
            requests: AtomicUsize::new(0),
            bytes: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            idle: Notify::new(),
        }))
    }

    /// Counts one request with a body of `bytes`, for as long as the permit lives.
    ///
    /// # Errors
    /// [`AdmitError`] when a ceiling is reached or the drain has begun; nothing is counted then.
    pub fn admit(&self, bytes: u64) -> Result<Permit, AdmitError> {
        // Counted first, checked second: the drain sets its flag first and reads the count second,
        // so one of the two always sees the other.
        let before = self.0.requests.fetch_add(1, Ordering::SeqCst);
        let mut permit = Permit {
            counters: Arc::clone(&self.0),
            bytes: 0,
        };
        if self.0.draining.load(Ordering::SeqCst) {
            return Err(AdmitError::Draining);
        }
        if before >= self.0.most_requests {
            return Err(AdmitError::TooManyRequests {
                ceiling: self.0.most_requests,
            });
        }
        permit.grow(bytes)?;
        Ok(permit)
    }

    /// Requests in flight now.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.0.requests.load(Ordering::SeqCst)
    }

    /// Bytes of request bodies in flight now.
    #[must_use]
    pub fn bytes(&self) -> ByteCount {
        ByteCount(self.0.bytes.load(Ordering::SeqCst))
    }

    /// Refuses every new request from now on. Those in flight go on.
    pub fn begin_drain(&self) {
        self.0.draining.store(true, Ordering::SeqCst);
        if self.requests() == 0 {
            self.0.idle.notify_waiters();
        }
    }

    /// Whether [`Admission::begin_drain`] was called.
    #[must_use]
    pub fn draining(&self) -> bool {
        self.0.draining.load(Ordering::SeqCst)
    }

    /// Waits until the drain has begun and no request is in flight.
    pub async fn drained(&self) {
        loop {
            let idle = self.0.idle.notified();
            tokio::pin!(idle);
            // Registered before the counters are read, or the last wake-up could fall in between.
            idle.as_mut().enable();
            if self.draining() && self.requests() == 0 {
                return;
            }
            idle.await;
        }
    }
}

/// One admitted request; dropping it takes the request and its bytes off the counters.
#[derive(Debug)]
pub struct Permit {
    counters: Arc<Counters>,
    bytes: u64,
}

impl Permit {
    /// Counts `more` bytes for this request.
    ///
    /// # Errors
    /// [`AdmitError::OutOfMemory`] when they do not fit; the count is as it was.
    pub fn grow(&mut self, more: u64) -> Result<(), AdmitError> {
        let ceiling = self.counters.most_bytes;
        let fits = |held: u64| held.checked_add(more).filter(|total| *total <= ceiling);
        self.counters
            .bytes
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, fits)
            .map_err(|_| AdmitError::OutOfMemory { ceiling })?;
        self.bytes += more;
        Ok(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.counters.bytes.fetch_sub(self.bytes, Ordering::SeqCst);
        let before = self.counters.requests.fetch_sub(1, Ordering::SeqCst);
        if before == 1 && self.counters.draining.load(Ordering::SeqCst) {
            self.counters.idle.notify_waiters();
        }
    }
}
