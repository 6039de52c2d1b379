//! The way of finished outputs into our storage: their bytes from the provider, their registration, and their posters.
//!
//! Invariants: the bytes are whole, of a kind that was ordered, and stored under their hash before anyone hears of them; of an
//! order either every output is delivered or none. A download holds no slot of the work, ends after a bounded time, and all
//! downloads of a process share one budget of memory.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use chassis::blobs::{self, Name};
use domain::id::AccountId;
use futures::StreamExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use crate::clients::AssetClient;
use crate::config;
use crate::containers::{self, Container};
use crate::error::Error;
use crate::events;
use crate::model::{CallOutcome, Clock, Evidence, Made, MediaKind, Phase, Reference, StoredFile, Trouble, Work};
use crate::provider::{Pieces, Provider};

/// How often storage and the poster are tried again before the work is left to a later lease.
const RETRIES: u32 = 4;
/// How long a file is asked for that its provider did not name.
const UNNAMED_BOUND: Duration = Duration::from_secs(60);
/// The unit of the memory budget, in bytes.
const BUDGET_UNIT: usize = 64 << 10;

/// Stores outputs; clones share everything.
#[derive(Clone)]
pub(crate) struct Outputs {
    blobs: blobs::Store,
    assets: AssetClient,
    max_bytes: u64,
    timeout: Duration,
    /// One permit for each download.
    downloads: Arc<Semaphore>,
    /// One permit for each [`BUDGET_UNIT`] of memory.
    memory: Arc<Semaphore>,
}

/// The right to download the outputs of one order.
pub(crate) struct DownloadSlot(
    #[expect(dead_code, reason = "held, and given back when it is dropped")] OwnedSemaphorePermit,
);

/// The bytes of a whole file, and the memory that they are counted in.
struct Downloaded {
    bytes: Bytes,
    container: Container,
    _memory: Option<OwnedSemaphorePermit>,
}

impl Outputs {
    /// Stores into `blobs` outputs within the limits, and has them registered by `assets`.
    #[must_use]
    pub(crate) fn new(blobs: blobs::Store, assets: AssetClient, limits: &config::Downloads) -> Self {
        let units = usize::try_from(limits.memory_bytes).unwrap_or(usize::MAX).div_ceil(BUDGET_UNIT);
        Self {
            blobs,
            assets,
            max_bytes: limits.max_video_bytes,
            timeout: limits.timeout,
            downloads: Arc::new(Semaphore::new(limits.slots.min(Semaphore::MAX_PERMITS))),
            memory: Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS))),
        }
    }

    /// The right to a download now; nothing while as many as may are under way.
    pub(crate) fn try_begin(&self) -> Option<DownloadSlot> {
        Arc::clone(&self.downloads).try_acquire_owned().ok().map(DownloadSlot)
    }

    /// Fetches the outputs of a finished order one after another, stores each, and has each registered and its poster made.
    ///
    /// # Errors
    /// In which phase one of them did not come about, and what came of it.
    pub(crate) async fn store(
        &self,
        work: &Work,
        provider: &dyn Provider,
        reference: &Reference,
        made: &Made,
    ) -> Result<Vec<StoredFile>, (Phase, Trouble)> {
        let (mut stored, mut other) = (Vec::new(), None);
        // An order that is made has one at least.
        let named = made.addresses.len().saturating_sub(made.unnamed).max(1);
        for (at, address) in made.addresses.iter().enumerate().take(work.order.max_outputs) {
            let fetched = timeout(self.timeout, self.fetch(provider, reference, address)).await;
            let fetched = fetched.unwrap_or_else(|_| {
                let detail = format!("the output did not come within {:?}", self.timeout);
                Err(Trouble::new(CallOutcome::FileSlow, detail))
            });
            let downloaded = match fetched {
                Ok(downloaded) => downloaded,
                // It was ordered, and not made.
                Err(trouble) if at >= named && is_missing_for_good(work, &trouble) => break,
                Err(trouble) => return Err((Phase::Fetch, trouble)),
            };
            let (kind, extension) = (downloaded.container.kind(), downloaded.container.extension());
            if !is_ordered(&work.order.output_kinds, kind) {
                other = Some(kind);
                continue;
            }
            events::output_fetched(work, provider.name(), downloaded.bytes.len(), extension);
            let file = async {
                let name = self.put(downloaded.bytes.clone(), extension).await?;
                self.register(work.account, &name).await
            };
            let mut file = file.await.map_err(|trouble| (Phase::Store, trouble))?;
            let said = made.moderation.get(at).cloned().flatten();
            file.moderation = said.map(|said| (provider.name().to_owned(), said));
            stored.push(file);
        }
        // A cover beside the video is no output; a cover instead of it is trouble.
        match other {
            Some(kind) if stored.is_empty() => {
                let detail = format!("the output's kind, {}, was not ordered", kind.as_str());
                Err((Phase::Fetch, Trouble::new(CallOutcome::FileUnusable, detail)))
            }
            _ if stored.is_empty() => {
                let trouble = Trouble::new(CallOutcome::OutputMissing, "the provider names no output");
                Err((Phase::Fetch, trouble))
            }
            _ => Ok(stored),
        }
    }

    async fn fetch(
        &self,
        provider: &dyn Provider,
        reference: &Reference,
        address: &str,
    ) -> Result<Downloaded, Trouble> {
        let pieces = provider.fetch(reference, address).await?;
        let (bytes, memory) = self.read(pieces).await?;
        let container = containers::check(&bytes).map_err(|flawed| {
            let (outcome, detail) = flawed.outcome();
            Trouble::new(outcome, detail)
        })?;
        Ok(Downloaded { bytes, container, _memory: memory })
    }

    /// Reads a file whole, within its own limit and within what is left of the memory.
    async fn read(&self, mut pieces: Pieces<'_>) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Trouble> {
        let mut bytes = BytesMut::new();
        let mut memory: Option<OwnedSemaphorePermit> = None;
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            let length = bytes.len() + piece.len();
            if length as u64 > self.max_bytes {
                let detail = format!("the output has more than {} bytes", self.max_bytes);
                return Err(Trouble::new(CallOutcome::FileTooLarge, detail));
            }
            let counted = memory.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
            let wanted = length.div_ceil(BUDGET_UNIT);
            if wanted > counted {
                // Doubled, as the buffer is. Nobody waits for memory here: two that did might wait for each other.
                let more = wanted.max(2 * counted).min(self.max_bytes as usize / BUDGET_UNIT + 1) - counted;
                let more = u32::try_from(more).unwrap_or(u32::MAX);
                let permit = Arc::clone(&self.memory).try_acquire_many_owned(more).map_err(|_| {
                    Trouble::new(CallOutcome::StorageUnavailable, "other downloads have the memory of this process")
                })?;
                match &mut memory {
                    Some(memory) => memory.merge(permit),
                    None => memory = Some(permit),
                }
            }
            bytes.extend_from_slice(&piece);
        }
        Ok((bytes.freeze(), memory))
    }

    async fn put(&self, bytes: Bytes, extension: &str) -> Result<Name, Trouble> {
        let mut retries = 0;
        loop {
            match self.blobs.put(bytes.clone(), extension).await {
                Ok(name) => return Ok(name),
                Err(error) if retries < RETRIES => {
                    retries += 1;
                    tracing::debug!(%error, retries, "the output cannot be stored yet");
                    pause(retries).await;
                }
                Err(error) => return Err(unavailable("our storage did not take the output", &error)),
            }
        }
    }

    async fn register(&self, account: AccountId, name: &Name) -> Result<StoredFile, Trouble> {
        let mut retries = 0;
        loop {
            match self.assets.register_output(account, name).await {
                Ok(Some(file)) => return Ok(file),
                Ok(None) => {
                    return Err(Trouble::new(CallOutcome::StorageUnavailable, "the stored output was not registered"));
                }
                Err(Error::Refused(why)) => {
                    let trouble = Trouble::new(CallOutcome::FileUnusable, "the output cannot be registered");
                    return Err(trouble.with_evidence(Evidence::cause(why)));
                }
                Err(error) if retries < RETRIES => {
                    retries += 1;
                    tracing::debug!(%error, retries, "the output cannot be registered yet");
                    pause(retries).await;
                }
                Err(error) => return Err(unavailable("the output could not be registered", &error)),
            }
        }
    }
}

/// Whether a file that its provider did not name is not there, and not only for the moment.
fn is_missing_for_good(work: &Work, trouble: &Trouble) -> bool {
    trouble.outcome == CallOutcome::FileRefused && work.clocks.elapsed(Clock::Output) >= UNNAMED_BOUND
}

/// Whether a file of this kind is an output; an order that names no kind is for videos.
fn is_ordered(kinds: &[MediaKind], kind: MediaKind) -> bool {
    if kinds.is_empty() { kind == MediaKind::Video } else { kinds.contains(&kind) }
}

async fn pause(retries: u32) {
    sleep(Duration::from_millis(100) * 4_u32.pow(retries.min(4)).div_ceil(2)).await;
}

/// Ours is to blame; the cause is logged where the trouble is handled.
fn unavailable(detail: &str, cause: &dyn std::error::Error) -> Trouble {
    Trouble::new(CallOutcome::StorageUnavailable, detail).with_evidence(Evidence::cause(cause.to_string()))
}
