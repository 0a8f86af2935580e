//! Upload of sealed segments: offer, send what is asked for, delete on a receipt.
//!
//! Owns: the conversation about one segment at a time, the oldest first. One that the registry
//! refuses is kept and stands back: the others go first, and it is offered again after a time that
//! doubles, for what was wrong may be put right at the registry. One that cannot be read stands back
//! as well.
//! Must never: report a segment landed without a receipt that the pinned key signed for exactly it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use edgeward_base::digest::Digest;
use edgeward_wire::{
    chunk::{Chunk, Wanted, chunk_count},
    json,
    segment::{Receipt, SegmentAnswer, SegmentEnd, SegmentManifest, SegmentVerdict},
    topic::Topic,
};

use super::{
    DeviceOptions, DevicePorts,
    bulk::{Answer, Exchange},
};
use crate::{link::Outgoing, ports::PortError};

pub(super) async fn run(options: Arc<DeviceOptions>, ports: DevicePorts, exchange: Exchange) {
    let mut upload = Upload {
        options: &options,
        ports: &ports,
        exchange,
        refused: HashMap::new(),
    };
    loop {
        match upload.all_sealed().await {
            Ok(()) => {
                let again = upload.next_offer();
                tokio::select! {
                    () = ports.segments.changed() => {}
                    () = tokio::time::sleep(again.unwrap_or(LONGEST_REFUSED)) => {}
                }
            }
            Err(error) => {
                tracing::warn!(%error, source = %error.source, "upload of segments, trying again");
                tokio::time::sleep(options.timing.retry).await;
            }
        }
    }
}

struct Upload<'a> {
    options: &'a DeviceOptions,
    ports: &'a DevicePorts,
    exchange: Exchange,
    /// Segments that the registry refused, or that could not be read, and that are still on disk.
    refused: HashMap<Digest, Refusal>,
}

/// How long a refused segment stands back at most: a day.
const LONGEST_REFUSED: Duration = Duration::from_hours(24);

/// A segment that stands back.
#[derive(Debug, Clone, Copy)]
struct Refusal {
    /// How long, this time.
    wait: Duration,
    /// Monotonic time at which it is offered again.
    until: Duration,
}

/// How the conversation about a segment goes on.
enum Next {
    /// Wait for the next answer.
    Listen,
    /// Offer it again.
    Offer,
    /// It is done with.
    Done,
}

impl Upload<'_> {
    /// Uploads until nothing is left that could land.
    async fn all_sealed(&mut self) -> Result<(), PortError> {
        loop {
            let sealed = self.ports.segments.sealed().await?;
            self.refused
                .retain(|digest, _| sealed.iter().any(|segment| segment.digest == *digest));
            let now = self.ports.clock.monotonic();
            let stands_back = |segment: &SegmentManifest| {
                let refusal = self.refused.get(&segment.digest);
                refusal.is_some_and(|refusal| now < refusal.until)
            };
            let Some(segment) = sealed.into_iter().find(|segment| !stands_back(segment)) else {
                return Ok(());
            };
            let demand = self.exchange.begin();
            self.upload(&segment).await?;
            drop(demand);
        }
    }

    /// When the first refused segment is offered again; none when there is none.
    fn next_offer(&self) -> Option<Duration> {
        let first = self.refused.values().map(|refusal| refusal.until).min()?;
        Some(first.saturating_sub(self.ports.clock.monotonic()))
    }

    /// Answers how long: `first` for the first time, then longer and longer.
    fn stand_back(&mut self, segment: &SegmentManifest, first: Duration) -> Duration {
        let earlier = self.refused.get(&segment.digest);
        let wait = earlier.map_or(first, |earlier| earlier.wait * 2);
        let wait = wait.min(LONGEST_REFUSED);
        let until = self.ports.clock.monotonic() + wait;
        self.refused.insert(segment.digest, Refusal { wait, until });
        wait
    }

    async fn upload(&mut self, segment: &SegmentManifest) -> Result<(), PortError> {
        let table = segment.name.table.clone();
        let device = self.options.device.clone();
        let offer = Topic::SegmentOffer { device, table }.name(&self.options.fleet);
        loop {
            self.exchange.forget_answers();
            self.exchange
                .send(Outgoing::json(offer.clone(), segment))
                .await;
            loop {
                let answer = self
                    .exchange
                    .answer(self.options.timing.answer_timeout)
                    .await;
                let next = match answer {
                    Some(Answer::Message(_, payload)) => self.on_answer(segment, &payload).await?,
                    Some(Answer::Connected) | None => Next::Offer,
                };
                match next {
                    Next::Listen => {}
                    Next::Offer => break,
                    Next::Done => return Ok(()),
                }
            }
        }
    }

    async fn on_answer(
        &mut self,
        segment: &SegmentManifest,
        payload: &[u8],
    ) -> Result<Next, PortError> {
        let answer = match json::parse::<SegmentAnswer>(payload) {
            Ok(answer) => answer,
            Err(error) => {
                tracing::warn!(%error, "unreadable answer to a segment");
                return Ok(Next::Listen);
            }
        };
        if answer.digest != segment.digest {
            // a late answer to an earlier segment
            return Ok(Next::Listen);
        }
        match answer.verdict {
            SegmentVerdict::Send { wanted } => {
                let Err(error) = self.send(segment, wanted).await else {
                    return Ok(Next::Listen);
                };
                // It must not keep the others from landing.
                let again = self.stand_back(segment, self.options.timing.retry);
                tracing::warn!(
                    segment = %segment.name, %error, source = %error.source, ?again,
                    "a segment cannot be read"
                );
                Ok(Next::Done)
            }
            SegmentVerdict::Landed { receipt } => {
                let DeviceOptions {
                    registry_key,
                    fleet,
                    device,
                    ..
                } = self.options;
                match Receipt::verify(&receipt, registry_key, fleet, device, segment) {
                    Ok(receipt) => {
                        self.ports.segments.landed(segment, &receipt).await?;
                        tracing::info!(segment = %segment.name, "segment landed");
                        Ok(Next::Done)
                    }
                    Err(error) => {
                        tracing::error!(%error, segment = %segment.name, "receipt not believed");
                        Ok(Next::Listen)
                    }
                }
            }
            SegmentVerdict::Refused(rejection) => {
                let again = self.stand_back(segment, self.options.timing.refused);
                tracing::error!(segment = %segment.name, %rejection, ?again, "registry refused a segment: kept");
                Ok(Next::Done)
            }
        }
    }

    async fn send(&self, segment: &SegmentManifest, wanted: Wanted) -> Result<(), PortError> {
        let SegmentManifest { digest, size, .. } = *segment;
        let total = chunk_count(size).unwrap_or(0);
        let device = self.options.device.clone();
        let table = segment.name.table.clone();
        let topic = Topic::SegmentChunk {
            device: device.clone(),
            table: table.clone(),
        }
        .name(&self.options.fleet);
        for index in wanted.indices().filter(|index| *index < total) {
            let bytes = self.ports.segments.read(segment, index).await?;
            let chunk = Chunk {
                digest,
                index,
                total,
                bytes,
            };
            self.exchange
                .send(Outgoing::frame(topic.clone(), &chunk))
                .await;
        }
        let end = Topic::SegmentEnd { device, table }.name(&self.options.fleet);
        self.exchange
            .send(Outgoing::json(end, &SegmentEnd { digest }))
            .await;
        Ok(())
    }
}
