//! Upload of sealed segments: offer, send what is asked for, delete on a receipt.
//!
//! Owns: the conversation about one segment at a time, the oldest first.
//! Must never: report a segment landed without a receipt that the pinned key signed for exactly it.

use std::{collections::HashSet, sync::Arc};

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
        refused: HashSet::new(),
    };
    loop {
        match upload.all_sealed().await {
            Ok(()) => ports.segments.changed().await,
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
    /// Segments the registry refused: kept on disk, not offered again before the next start.
    refused: HashSet<Digest>,
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
            let Some(segment) = sealed
                .into_iter()
                .find(|segment| !self.refused.contains(&segment.digest))
            else {
                return Ok(());
            };
            let demand = self.exchange.begin();
            self.upload(&segment).await?;
            drop(demand);
        }
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
                self.send(segment, wanted).await?;
                Ok(Next::Listen)
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
                tracing::error!(segment = %segment.name, %rejection, "registry refused a segment: kept");
                self.refused.insert(segment.digest);
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
