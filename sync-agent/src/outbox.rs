//! The device's outbox: reports that the registry has not confirmed, durable, sent until confirmed.
//!
//! Owns: numbering, the window, re-sending, and what may be left out when reports pile up.
//! Must never: forget a report because a broker took it.
//!
//! ```text
//! push -> waiting -> sent --(confirm)--> removed
//!            ^         |
//!            +---------+  no confirm in time, or the broker lost the session
//! ```
//!
//! A newer reported document replaces an unconfirmed older one of its kind, and a newer
//! acknowledgement replaces an unconfirmed `staging`. At capacity the oldest report goes, and a
//! warning says so: the reported document still tells what runs.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use edgeward_base::{clock::SharedClock, names::BootId};
use edgeward_wire::{
    ack::AckState,
    report::{Confirm, ReportMessage},
};

use crate::ports::{OutboxChange, OutboxEntry, OutboxStore, PortError};

/// How an outbox behaves.
#[derive(Debug, Clone)]
pub struct OutboxOptions {
    /// The most reports that are sent and not confirmed.
    pub window: usize,
    /// The most reports held.
    pub capacity: usize,
    /// How long a confirm may take before the report is sent again.
    pub confirm_timeout: Duration,
}

impl Default for OutboxOptions {
    fn default() -> Self {
        Self {
            window: 10,
            capacity: 256,
            confirm_timeout: Duration::from_secs(10),
        }
    }
}

/// The reports of a device on their way to the registry.
pub struct Outbox {
    store: Arc<dyn OutboxStore>,
    clock: SharedClock,
    options: OutboxOptions,
    boot: BootId,
    next: u64,
    slots: BTreeMap<u64, Slot>,
}

struct Slot {
    entry: OutboxEntry,
    /// Monotonic microseconds of the last sending.
    sent: Option<u64>,
}

impl Outbox {
    /// Opens the outbox as it was last written.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn open(
        store: Arc<dyn OutboxStore>,
        clock: SharedClock,
        options: OutboxOptions,
        boot: BootId,
    ) -> Result<Self, PortError> {
        let snapshot = store.load().await?;
        let slots = snapshot
            .entries
            .into_iter()
            .map(|entry| (entry.sequence, Slot { entry, sent: None }))
            .collect();
        Ok(Self {
            store,
            clock,
            options,
            boot,
            next: snapshot.next.max(1),
            slots,
        })
    }

    /// Adds reports, all in one write. They are durable when this returns.
    ///
    /// # Errors
    /// When the store cannot be written; then nothing was added.
    pub async fn push(&mut self, messages: Vec<ReportMessage>) -> Result<(), PortError> {
        let first = self.next;
        let next = first + messages.len() as u64;
        let mut kept: Vec<u64> = self.slots.keys().copied().collect();
        let mut put: Vec<OutboxEntry> = Vec::with_capacity(messages.len());
        for (message, sequence) in messages.into_iter().zip(first..) {
            let needed = |older: &ReportMessage| !is_replaced_by(older, &message);
            kept.retain(|key| {
                self.slots
                    .get(key)
                    .is_some_and(|slot| needed(&slot.entry.message))
            });
            put.retain(|entry| needed(&entry.message));
            put.push(OutboxEntry {
                sequence,
                boot: self.boot,
                message,
            });
        }
        let excess = (kept.len() + put.len()).saturating_sub(self.options.capacity.max(1));
        if excess > 0 {
            tracing::warn!(excess, "outbox is full: the oldest reports are dropped");
            let from_kept = excess.min(kept.len());
            kept.drain(..from_kept);
            put.drain(..excess - from_kept);
        }
        let remove = self
            .slots
            .keys()
            .filter(|key| !kept.contains(key))
            .copied()
            .collect();
        self.store
            .commit(OutboxChange {
                put: put.clone(),
                remove,
                next,
            })
            .await?;
        self.slots.retain(|sequence, _| kept.contains(sequence));
        let added = put
            .into_iter()
            .map(|entry| (entry.sequence, Slot { entry, sent: None }));
        self.slots.extend(added);
        self.next = next;
        Ok(())
    }

    /// The next report to send: the oldest that is not on its way, if the window has room.
    #[must_use]
    pub fn due(&self) -> Option<&OutboxEntry> {
        let now = self.clock.monotonic_micros();
        let window = self.slots.values().take(self.options.window.max(1));
        window
            .into_iter()
            .find(|slot| self.is_due(slot, now))
            .map(|slot| &slot.entry)
    }

    fn is_due(&self, slot: &Slot, now: u64) -> bool {
        slot.sent.is_none_or(|sent| now >= self.deadline(sent))
    }

    fn deadline(&self, sent: u64) -> u64 {
        sent.saturating_add(micros(self.options.confirm_timeout))
    }

    /// Notes that a report has been handed to the link.
    pub fn sent(&mut self, sequence: u64) {
        let now = self.clock.monotonic_micros();
        if let Some(slot) = self.slots.get_mut(&sequence) {
            slot.sent = Some(now);
        }
    }

    /// The broker lost the session: everything is sent again.
    pub fn session_lost(&mut self) {
        for slot in self.slots.values_mut() {
            slot.sent = None;
        }
    }

    /// When the next report must be sent again; none when nothing waits for a confirm.
    #[must_use]
    pub fn wake_in(&self) -> Option<Duration> {
        let now = self.clock.monotonic_micros();
        let window = self.slots.values().take(self.options.window.max(1));
        let next = window
            .filter_map(|slot| slot.sent)
            .map(|sent| self.deadline(sent))
            .min()?;
        Some(Duration::from_micros(next.saturating_sub(now)))
    }

    /// Takes in the registry's confirm.
    ///
    /// # Errors
    /// When the store cannot be written; then the report is sent again and confirmed again.
    pub async fn confirm(&mut self, confirm: Confirm) -> Result<(), PortError> {
        if confirm.newest >= self.next {
            return self.renumber(confirm.newest + 1).await;
        }
        if self.slots.contains_key(&confirm.sequence) {
            let change = OutboxChange {
                put: vec![],
                remove: vec![confirm.sequence],
                next: self.next,
            };
            self.store.commit(change).await?;
            self.slots.remove(&confirm.sequence);
        }
        Ok(())
    }

    /// The registry knows higher numbers than were ever given out here: this device lost its
    /// counters. Everything unconfirmed is numbered anew, above them.
    async fn renumber(&mut self, first: u64) -> Result<(), PortError> {
        tracing::warn!(
            first,
            "reports are numbered anew: the registry knows higher numbers"
        );
        let put: Vec<OutboxEntry> = self
            .slots
            .values()
            .zip(first..)
            .map(|(slot, sequence)| OutboxEntry {
                sequence,
                ..slot.entry.clone()
            })
            .collect();
        let next = put.last().map_or(first, |entry| entry.sequence + 1);
        let remove = self.slots.keys().copied().collect();
        self.store
            .commit(OutboxChange {
                put: put.clone(),
                remove,
                next,
            })
            .await?;
        self.slots = put
            .into_iter()
            .map(|entry| (entry.sequence, Slot { entry, sent: None }))
            .collect();
        self.next = next;
        Ok(())
    }

    /// How many reports are not confirmed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether every report is confirmed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Outbox")
            .field("next", &self.next)
            .field("unconfirmed", &self.slots.len())
            .finish_non_exhaustive()
    }
}

fn is_replaced_by(older: &ReportMessage, newer: &ReportMessage) -> bool {
    match (older, newer) {
        (ReportMessage::Reported(older), ReportMessage::Reported(newer)) => {
            older.kind() == newer.kind()
        }
        (ReportMessage::Ack(older), ReportMessage::Ack(newer)) => {
            older.kind == newer.kind && matches!(older.state, AckState::Staging { .. })
        }
        _ => false,
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
