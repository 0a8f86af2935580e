//! Staging of models: pulls the blobs that are missing, verifies them, installs the versions.
//!
//! Owns: the order of a staging and what is asked for next.
//! Must never: install a version any of whose blobs is not verified, or refuse one for a failure
//! that may pass.
//!
//! ```text
//! every manifest: fetch -> parse -> is it the version it should be?
//!   -> every file: fetch (windows of 16 chunks) -> verify digest
//!     -> install each version -> done
//! ```

use std::{collections::BTreeMap, sync::Arc};

use edgeward_base::digest::Digest;
use edgeward_wire::{
    ack::{RejectCode, Rejection},
    blob::BlobRequest,
    chunk::{Chunk, ChunkSet, MAX_WANTED},
    desired::ModelEntry,
    frame,
    manifest::Manifest,
    topic::Topic,
};
use tokio::sync::mpsc;

use super::{
    DeviceOptions, DevicePorts, StagingJob, StagingNews,
    bulk::{Answer, Exchange, Staging},
};
use crate::{
    link::Outgoing,
    ports::{BlobFinish, BlobProgress, PortError, StageError},
};

/// How often a blob whose assembled digest is wrong is fetched anew before it is refused.
const MISMATCH_ATTEMPTS: u32 = 3;

pub(super) async fn run(
    options: Arc<DeviceOptions>,
    ports: DevicePorts,
    staging: Staging,
    mut exchange: Exchange,
) {
    let Staging { mut job, news } = staging;
    loop {
        let current = job.borrow_and_update().clone();
        let staged = async {
            if let Some(StagingJob {
                generation,
                document,
            }) = current
            {
                let mut fetch = Fetch {
                    options: &options,
                    ports: &ports,
                    exchange: &mut exchange,
                    progress: Progress::new(generation, news.clone()),
                };
                let result = fetch.stage(&document.models).await;
                tell(&news, StagingNews::Done { generation, result }).await;
            }
            std::future::pending::<()>().await;
        };
        // a newer document cancels the older staging wherever it is: what was fetched is kept
        tokio::select! {
            changed = job.changed() => if changed.is_err() { return },
            () = staged => {}
        }
    }
}

async fn tell(news: &mpsc::Sender<StagingNews>, what: StagingNews) {
    if news.send(what).await.is_err() {
        // the control task has ended, and this one will
        std::future::pending::<()>().await;
    }
}

/// What is held of what a staging needs.
struct Progress {
    generation: edgeward_wire::ordering::Generation,
    news: mpsc::Sender<StagingNews>,
    bytes_done: u64,
    bytes_total: u64,
    /// Monotonic microseconds of the last news.
    told: u64,
}

impl Progress {
    fn new(
        generation: edgeward_wire::ordering::Generation,
        news: mpsc::Sender<StagingNews>,
    ) -> Self {
        Self {
            generation,
            news,
            bytes_done: 0,
            bytes_total: 0,
            told: 0,
        }
    }
}

struct Fetch<'a> {
    options: &'a DeviceOptions,
    ports: &'a DevicePorts,
    exchange: &'a mut Exchange,
    progress: Progress,
}

impl Fetch<'_> {
    /// Stages a catalogue, trying again what may pass.
    async fn stage(&mut self, models: &[ModelEntry]) -> Result<(), Rejection> {
        loop {
            match self.attempt(models).await {
                Ok(()) => return Ok(()),
                Err(StageError::Refused(rejection)) => return Err(rejection),
                Err(StageError::Later(PortError { doing, source })) => {
                    tracing::warn!(doing, %source, "staging of models failed, trying again");
                    tokio::time::sleep(self.options.timing.retry).await;
                }
            }
        }
    }

    async fn attempt(&mut self, models: &[ModelEntry]) -> Result<(), StageError> {
        self.progress.bytes_done = 0;
        self.progress.bytes_total = models.iter().map(|entry| entry.manifest_size).sum();
        let mut manifests = Vec::with_capacity(models.len());
        for entry in models {
            self.fetch(entry.manifest, entry.manifest_size).await?;
            let bytes = self.ports.blobs.read(&entry.manifest).await?;
            manifests.push((entry, check_manifest(entry, &bytes)?));
        }
        let files: BTreeMap<Digest, u64> = manifests
            .iter()
            .flat_map(|(_, manifest)| &manifest.files)
            .map(|file| (file.digest, file.size))
            .collect();
        self.progress.bytes_total += files.values().sum::<u64>();
        for (digest, size) in files {
            self.fetch(digest, size).await?;
        }
        for (entry, manifest) in &manifests {
            self.ports.models.install(entry, manifest).await?;
        }
        Ok(())
    }

    /// Brings one blob onto the device, whole and verified.
    async fn fetch(&mut self, digest: Digest, size: u64) -> Result<(), StageError> {
        let before = self.progress.bytes_done;
        for _ in 0..MISMATCH_ATTEMPTS {
            self.progress.bytes_done = before;
            if let BlobProgress::Partial(held) = self.ports.blobs.progress(&digest, size).await? {
                self.pull(digest, size, held).await?;
                if self.ports.blobs.finish(&digest, size).await? == BlobFinish::Mismatch {
                    tracing::warn!(%digest, "assembled blob has another digest");
                    continue;
                }
            }
            self.progress.bytes_done = before + size;
            return Ok(());
        }
        Err(StageError::Refused(Rejection::new(
            RejectCode::DigestMismatch,
            format!("blob {digest} arrived {MISMATCH_ATTEMPTS} times with another digest"),
        )))
    }

    /// Asks for window after window until every chunk is written.
    async fn pull(
        &mut self,
        digest: Digest,
        size: u64,
        mut held: ChunkSet,
    ) -> Result<(), StageError> {
        let demand = self.exchange.begin();
        let device = self.options.device.clone();
        let topic = Topic::BlobRequest { device, digest }.name(&self.options.fleet);
        self.count(size, held.held(), held.total());
        while let Some(wanted) = held.wanted(MAX_WANTED) {
            self.exchange.forget_answers();
            let request = Outgoing::json(topic.clone(), &BlobRequest { digest, wanted });
            self.exchange.send(request).await;
            let mut left = wanted.count();
            while left > 0 {
                match self
                    .exchange
                    .answer(self.options.timing.answer_timeout)
                    .await
                {
                    Some(Answer::Message(Topic::BlobChunk { digest: of, .. }, payload))
                        if of == digest =>
                    {
                        if let Some(chunk) = read_chunk(&payload, &digest, size)
                            && !held.contains(chunk.index)
                        {
                            let index = chunk.index;
                            self.ports
                                .blobs
                                .write(&digest, size, index, &chunk.bytes)
                                .await?;
                            held.insert(index);
                            left -= 1;
                            self.count(chunk.bytes.len() as u64, 1, 1);
                            self.tell_progress().await;
                        }
                    }
                    Some(Answer::Message(Topic::BlobMissing { digest: of, .. }, _))
                        if of == digest =>
                    {
                        return Err(StageError::Refused(Rejection::new(
                            RejectCode::MissingArtifact,
                            format!("the registry has no blob {digest}"),
                        )));
                    }
                    // a late chunk of another blob
                    Some(Answer::Message(..)) => {}
                    // lost or late: ask again for what is still missing
                    Some(Answer::Connected) | None => break,
                }
            }
        }
        drop(demand);
        Ok(())
    }

    /// Counts `part` of `whole` of `bytes` as held.
    fn count(&mut self, bytes: u64, part: u32, whole: u32) {
        self.progress.bytes_done += bytes / u64::from(whole.max(1)) * u64::from(part);
    }

    async fn tell_progress(&mut self) {
        let now = self.ports.clock.monotonic_micros();
        let pause = u64::try_from(self.options.timing.progress.as_micros()).unwrap_or(u64::MAX);
        let progress = &mut self.progress;
        if now.saturating_sub(progress.told) >= pause {
            progress.told = now;
            let news = StagingNews::Progress {
                generation: progress.generation,
                bytes_done: progress.bytes_done.min(progress.bytes_total),
                bytes_total: progress.bytes_total,
            };
            tell(&progress.news, news).await;
        }
    }
}

fn read_chunk(payload: &[u8], digest: &Digest, size: u64) -> Option<Chunk> {
    match frame::parse::<Chunk>(payload) {
        Ok(chunk) if chunk.digest == *digest && chunk.fits(size) => Some(chunk),
        Ok(chunk) => {
            tracing::warn!(?chunk, size, "chunk does not fit its blob");
            None
        }
        Err(error) => {
            tracing::warn!(%error, "unreadable chunk");
            None
        }
    }
}

fn check_manifest(entry: &ModelEntry, bytes: &[u8]) -> Result<Manifest, StageError> {
    let invalid = |detail| StageError::Refused(Rejection::new(RejectCode::Invalid, detail));
    let manifest = Manifest::parse(bytes)
        .map_err(|error| invalid(format!("manifest of {}: {error}", entry.model())))?;
    if manifest.model() == entry.model() {
        Ok(manifest)
    } else {
        Err(invalid(format!(
            "manifest of {} says it is {}",
            entry.model(),
            manifest.model()
        )))
    }
}
