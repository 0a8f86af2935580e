//! The registry's bulk task: answers requests for blobs, receives segments.
//!
//! Owns: the bulk link, the chunks still to be sent, and the segments being received.
//! Must never: sign a receipt for a segment that does not stand durably under its name.
//!
//! ```text
//! offer --> staged? --no--> send{wanted} --chunks--> staging --end--> complete? --no--> send{..}
//!             |                                                           |
//!             +--landed already--> landed{receipt} <------- land ---yes---+
//! ```

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use edgeward_base::{digest::Digest, names::DeviceId};
use edgeward_wire::{
    ack::{RejectCode, Rejection},
    blob::{BlobMissing, BlobRequest},
    chunk::{Chunk, ChunkSet, MAX_WANTED},
    frame, json,
    segment::{Receipt, SegmentAnswer, SegmentEnd, SegmentManifest, SegmentVerdict},
    topic::{self, Topic},
};
use tokio_util::sync::CancellationToken;

use super::{RegistryOptions, RegistryPorts};
use crate::{
    link::{Connector, Incoming, Link, LinkEvent, Outgoing, Session, TryPublishError},
    ports::{LandError, LandingProgress},
};

/// Chunks of blobs that wait for room. Beyond it a request is dropped; the device asks again.
const WAITING_CHUNKS: usize = 4_096;
/// Answers that wait for room. At the limit the oldest is dropped; the device offers again.
const WAITING_ANSWERS: usize = 4_096;
/// Segments being received. At the limit the one longest untouched is forgotten (not its staged
/// bytes); the device offers it again.
const RECEIVING: usize = 1_024;

/// One chunk that a device waits for.
struct WaitingChunk {
    device: DeviceId,
    digest: Digest,
    index: u32,
}

/// A segment being received.
struct Receiving {
    manifest: SegmentManifest,
    held: ChunkSet,
    /// When it was last touched, as a count of messages.
    touched: u64,
}

struct Bulk {
    options: Arc<RegistryOptions>,
    ports: RegistryPorts,
    link: Box<dyn Link>,
    connected: bool,
    answers: VecDeque<Outgoing>,
    chunks: VecDeque<WaitingChunk>,
    receiving: HashMap<(DeviceId, Digest), Receiving>,
    messages: u64,
}

pub(super) async fn run(
    options: Arc<RegistryOptions>,
    ports: RegistryPorts,
    connector: Arc<dyn Connector>,
    shutdown: CancellationToken,
) {
    let link = connector.open(Session {
        client_id: format!("{}-bulk", options.client_id),
        filters: topic::registry_bulk_filters(&options.fleet),
        will: None,
        durable: false,
    });
    let mut bulk = Bulk {
        options,
        ports,
        link,
        connected: false,
        answers: VecDeque::new(),
        chunks: VecDeque::new(),
        receiving: HashMap::new(),
        messages: 0,
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = bulk.serve() => {}
    }
    bulk.link.close().await;
}

impl Bulk {
    async fn serve(&mut self) {
        loop {
            self.fill_answers().await;
            let want_room = self.pump();
            match self.link.next(want_room).await {
                LinkEvent::Connected { .. } => self.connected = true,
                LinkEvent::Disconnected => {
                    // devices ask again on their own connection's terms
                    self.connected = false;
                    self.answers.clear();
                    self.chunks.clear();
                }
                LinkEvent::Message(message) => self.on_message(message).await,
                LinkEvent::Room => {}
            }
        }
    }

    /// Reads the next chunk only when it can be sent at once, so that chunks do not pile up.
    async fn fill_answers(&mut self) {
        while self.connected
            && self.answers.is_empty()
            && let Some(WaitingChunk {
                device,
                digest,
                index,
            }) = self.chunks.pop_front()
        {
            match self.ports.artifacts.read(&digest, index).await {
                Ok(Some(read)) => {
                    let chunk = Chunk {
                        digest,
                        index,
                        total: read.total,
                        bytes: read.bytes,
                    };
                    let topic = Topic::BlobChunk { device, digest }.name(&self.options.fleet);
                    self.answers.push_back(Outgoing::frame(topic, &chunk));
                }
                Ok(None) => {
                    tracing::warn!(%device, %digest, "a device asks for a blob that is not here");
                    self.chunks
                        .retain(|other| (&other.device, other.digest) != (&device, digest));
                    let topic = Topic::BlobMissing { device, digest }.name(&self.options.fleet);
                    self.answers
                        .push_back(Outgoing::json(topic, &BlobMissing { digest }));
                }
                Err(error) => {
                    tracing::warn!(%digest, %error, source = %error.source, "blob cannot be read now");
                }
            }
        }
    }

    /// Hands over answers while the link takes them. True when something waits for room.
    fn pump(&mut self) -> bool {
        while self.connected
            && let Some(answer) = self.answers.front()
        {
            match self.link.try_publish(answer.clone()) {
                Ok(()) => {}
                Err(TryPublishError::Busy) => return true,
                Err(TryPublishError::NotConnected) => return false,
                Err(error @ TryPublishError::TooLarge { .. }) => {
                    tracing::error!(%error, topic = answer.topic, "the broker takes no message of this size");
                }
            }
            self.answers.pop_front();
        }
        self.connected && !self.chunks.is_empty()
    }

    async fn on_message(&mut self, message: Incoming) {
        self.messages += 1;
        let Incoming { topic, payload } = message;
        match Topic::parse(&self.options.fleet, &topic) {
            Ok(Topic::BlobRequest { device, .. }) => self.on_request(&device, &payload),
            Ok(Topic::SegmentOffer { device, .. }) => self.on_offer(device, &payload).await,
            Ok(Topic::SegmentChunk { device, .. }) => self.on_chunk(device, &payload).await,
            Ok(Topic::SegmentEnd { device, .. }) => self.on_end(device, &payload).await,
            _ => tracing::warn!(topic, "unexpected topic"),
        }
    }

    fn on_request(&mut self, device: &DeviceId, payload: &[u8]) {
        let BlobRequest { digest, wanted } = match json::parse(payload) {
            Ok(request) => request,
            Err(error) => return tracing::warn!(%device, %error, "unreadable request"),
        };
        if self.chunks.len() >= WAITING_CHUNKS {
            return tracing::warn!(%device, "too many chunks wait: request dropped");
        }
        // a repeated request replaces the earlier one: what it asks for is what is missing
        self.chunks
            .retain(|waiting| (&waiting.device, waiting.digest) != (device, digest));
        let wanted = wanted.indices();
        self.chunks.extend(wanted.map(|index| WaitingChunk {
            device: device.clone(),
            digest,
            index,
        }));
    }

    async fn on_offer(&mut self, device: DeviceId, payload: &[u8]) {
        let manifest: SegmentManifest = match json::parse(payload) {
            Ok(manifest) => manifest,
            Err(error) => return tracing::warn!(%device, %error, "unreadable offer"),
        };
        if let Err(error) = manifest.validate() {
            let rejection = Rejection::new(RejectCode::Invalid, error.to_string());
            return self.answer(&device, manifest.digest, SegmentVerdict::Refused(rejection));
        }
        self.go_on(device, manifest).await;
    }

    async fn on_chunk(&mut self, device: DeviceId, payload: &[u8]) {
        let chunk: Chunk = match frame::parse(payload) {
            Ok(chunk) => chunk,
            Err(error) => return tracing::warn!(%device, %error, "unreadable chunk"),
        };
        let key = (device, chunk.digest);
        let Some(receiving) = self.receiving.get_mut(&key) else {
            // not offered to this process: the device offers again when nobody answers
            return;
        };
        receiving.touched = self.messages;
        if !chunk.fits(receiving.manifest.size) {
            return tracing::warn!(device = %key.0, ?chunk, "chunk does not fit its segment");
        }
        if receiving.held.contains(chunk.index) {
            return;
        }
        let landing = &self.ports.landing;
        let written = landing
            .write(&key.0, &receiving.manifest, chunk.index, &chunk.bytes)
            .await;
        match written {
            Ok(()) => {
                receiving.held.insert(chunk.index);
            }
            Err(error) => tracing::warn!(device = %key.0, %error, "chunk not staged"),
        }
    }

    async fn on_end(&mut self, device: DeviceId, payload: &[u8]) {
        let SegmentEnd { digest } = match json::parse(payload) {
            Ok(end) => end,
            Err(error) => return tracing::warn!(%device, %error, "unreadable end"),
        };
        let Some(receiving) = self.receiving.get(&(device.clone(), digest)) else {
            return;
        };
        if let Some(wanted) = receiving.held.wanted(MAX_WANTED) {
            return self.answer(&device, digest, SegmentVerdict::Send { wanted });
        }
        let manifest = receiving.manifest.clone();
        self.land(device, manifest).await;
    }

    /// Answers by how far the segment has come.
    async fn go_on(&mut self, device: DeviceId, manifest: SegmentManifest) {
        let digest = manifest.digest;
        match self.ports.landing.progress(&device, &manifest).await {
            Ok(LandingProgress::Landed) => self.receipt(&device, &manifest),
            Ok(LandingProgress::Staging(held)) => match held.wanted(MAX_WANTED) {
                Some(wanted) => {
                    self.make_place();
                    let touched = self.messages;
                    let receiving = Receiving {
                        manifest,
                        held,
                        touched,
                    };
                    self.receiving.insert((device.clone(), digest), receiving);
                    self.answer(&device, digest, SegmentVerdict::Send { wanted });
                }
                None => self.land(device, manifest).await,
            },
            Err(error) => self.failed(&device, digest, error),
        }
    }

    async fn land(&mut self, device: DeviceId, manifest: SegmentManifest) {
        let digest = manifest.digest;
        match self.ports.landing.land(&device, &manifest).await {
            Ok(()) => {
                self.receiving.remove(&(device.clone(), digest));
                tracing::info!(%device, segment = %manifest.name, "segment landed");
                self.receipt(&device, &manifest);
            }
            Err(LandError::Mismatch) => {
                // every staged byte is gone: the next offer starts over
                tracing::warn!(%device, segment = %manifest.name, "staged bytes have another digest");
                self.receiving.remove(&(device, digest));
            }
            Err(error) => self.failed(&device, digest, error),
        }
    }

    fn failed(&mut self, device: &DeviceId, digest: Digest, error: LandError) {
        match error {
            LandError::Refused(rejection) => {
                tracing::error!(%device, %rejection, "segment refused");
                self.receiving.remove(&(device.clone(), digest));
                self.answer(device, digest, SegmentVerdict::Refused(rejection));
            }
            LandError::Mismatch | LandError::Later(_) => {
                tracing::warn!(%device, %error, "segment cannot land now: it will be offered again");
            }
        }
    }

    fn receipt(&mut self, device: &DeviceId, manifest: &SegmentManifest) {
        let fleet = self.options.fleet.clone();
        let receipt = Receipt::new(fleet, device.clone(), manifest).sign(&self.options.key);
        self.answer(device, manifest.digest, SegmentVerdict::Landed { receipt });
    }

    fn answer(&mut self, device: &DeviceId, digest: Digest, verdict: SegmentVerdict) {
        if self.answers.len() >= WAITING_ANSWERS {
            self.answers.pop_front();
        }
        let topic = Topic::SegmentAnswer {
            device: device.clone(),
        }
        .name(&self.options.fleet);
        self.answers
            .push_back(Outgoing::json(topic, &SegmentAnswer { digest, verdict }));
    }

    fn make_place(&mut self) {
        if self.receiving.len() >= RECEIVING {
            let oldest = self
                .receiving
                .iter()
                .min_by_key(|(_, receiving)| receiving.touched);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                self.receiving.remove(&oldest);
            }
        }
    }
}
