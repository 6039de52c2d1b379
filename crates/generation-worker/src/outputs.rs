//! A finished video's way into our storage: its bytes from the provider, its registration, and its poster.
//!
//! Invariant: the bytes are stored, whole and under their hash, before anyone hears of them, and never more of them are read
//! than is allowed.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use chassis::blobs::{self, Name};
use domain::id::AccountId;
use futures::StreamExt as _;
use tokio::time::sleep;

use crate::clients::AssetClient;
use crate::error::Error;
use crate::model::{Evidence, Failure, Made, Reference, Video};
use crate::provider::Provider;

/// How often storage and the poster are tried again before the attempt is given up.
const RETRIES: u32 = 4;

/// Stores videos; clones share everything.
#[derive(Clone)]
pub(crate) struct Outputs {
    blobs: blobs::Store,
    assets: AssetClient,
    max_bytes: u64,
}

impl Outputs {
    /// Stores into `blobs` videos of at most `max_bytes`, and has them registered by `assets`.
    #[must_use]
    pub(crate) fn new(blobs: blobs::Store, assets: AssetClient, max_bytes: u64) -> Self {
        Self { blobs, assets, max_bytes }
    }

    /// Fetches the video of a finished order, stores it, and has it registered and its poster made.
    ///
    /// # Errors
    /// When the provider does not deliver, the result is no video or too large, or storage does not answer.
    pub(crate) async fn store(
        &self,
        provider: &dyn Provider,
        reference: &Reference,
        made: &Made,
        account: AccountId,
    ) -> Result<Video, Failure> {
        let bytes = self.fetch(provider, reference).await?;
        let name = self.put(bytes, made.extension).await?;
        let video = self.register(account, &name).await?;
        video.ok_or_else(|| Failure::internal("the stored video was not registered"))
    }

    async fn fetch(&self, provider: &dyn Provider, reference: &Reference) -> Result<Bytes, Failure> {
        let mut pieces = provider.fetch(reference).await?;
        let mut bytes = BytesMut::new();
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            if bytes.len() as u64 + piece.len() as u64 > self.max_bytes {
                let message = format!("the provider's video has more than {} bytes", self.max_bytes);
                return Err(Failure::bad_output(message));
            }
            bytes.extend_from_slice(&piece);
        }
        if bytes.is_empty() {
            return Err(Failure::bad_output("the provider's video is empty"));
        }
        Ok(bytes.freeze())
    }

    async fn put(&self, bytes: Bytes, extension: &str) -> Result<Name, Failure> {
        let mut retries = 0;
        loop {
            match self.blobs.put(bytes.clone(), extension).await {
                Ok(name) => return Ok(name),
                Err(error) if retries < RETRIES => {
                    retries += 1;
                    tracing::debug!(%error, retries, "the video cannot be stored yet");
                    pause(retries).await;
                }
                Err(error) => return Err(unavailable("our storage did not take the video", &error)),
            }
        }
    }

    async fn register(&self, account: AccountId, name: &Name) -> Result<Option<Video>, Failure> {
        let mut retries = 0;
        loop {
            match self.assets.register_output(account, name).await {
                Ok(video) => return Ok(video),
                Err(Error::Refused(why)) => {
                    return Err(Failure::bad_output(format!("the provider's result cannot be used: {why}")));
                }
                Err(error) if retries < RETRIES => {
                    retries += 1;
                    tracing::debug!(%error, retries, "the video cannot be registered yet");
                    pause(retries).await;
                }
                Err(error) => return Err(unavailable("the video could not be registered", &error)),
            }
        }
    }
}

async fn pause(retries: u32) {
    sleep(Duration::from_millis(100) * 4_u32.pow(retries.min(4)).div_ceil(2)).await;
}

/// Ours is to blame; the cause is logged where the failure is handled.
fn unavailable(message: &str, cause: &dyn std::error::Error) -> Failure {
    let evidence = Evidence::cause(cause.to_string());
    Failure { reason: "OUTPUT_UNAVAILABLE", evidence, ..Failure::internal(message) }
}
