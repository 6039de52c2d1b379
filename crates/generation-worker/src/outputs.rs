//! Bringing a finished video home: its bytes from the provider into our storage, and its poster.
//!
//! Invariant: the bytes are stored, whole and under their hash, before anyone is told of them, and never more of them are read
//! than is allowed.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use chassis::blobs::{self, Name};
use chassis::caller::Caller;
use chassis::client::Channel;
use chassis::deadline;
use domain::id::AccountId;
use domain::name::asset_name;
use futures::StreamExt as _;
use proto::assets::v1::asset_service_client::AssetServiceClient;
use proto::assets::v1::{RegisterOutputRequest, RegisterOutputResponse};
use proto::generations::v1::Output;
use tokio::time::{Instant, sleep};
use tonic::{Code, Request, Status};

use crate::providers::{Failure, Made, Provider, Reference};

/// How long making the poster may take.
const POSTER: Duration = Duration::from_secs(30);
/// How often storage and the poster are tried before the attempt is given up.
const TRIES: u32 = 4;

/// Where videos are brought; clones share everything.
#[derive(Clone)]
pub struct Outputs {
    blobs: blobs::Store,
    assets: AssetServiceClient<Channel>,
    video_bytes: u64,
}

impl Outputs {
    /// Stores into `blobs` videos of at most `video_bytes`; `thumbnail_worker` makes the posters.
    #[must_use]
    pub fn new(blobs: blobs::Store, thumbnail_worker: Channel, video_bytes: u64) -> Self {
        Self { blobs, assets: AssetServiceClient::new(thumbnail_worker), video_bytes }
    }

    /// Brings the bytes of a finished order home and has its poster made.
    ///
    /// # Errors
    /// When the provider does not deliver, the result is no video or too large, or storage does not answer.
    pub async fn bring(
        &self,
        provider: &dyn Provider,
        reference: &Reference,
        made: &Made,
        account: AccountId,
    ) -> Result<Output, Failure> {
        let bytes = self.fetch(provider, reference).await?;
        let name = self.store(bytes, made.extension).await?;
        let registered = self.register(account, &name).await?;
        let asset = registered.asset.ok_or_else(|| Failure::internal("the stored video was not taken note of"))?;
        let thumbnail = asset.thumbnail.unwrap_or_default();
        Ok(Output {
            asset: asset.name,
            size_bytes: asset.size_bytes,
            mime_type: asset.mime_type,
            width: asset.width,
            height: asset.height,
            duration: u64::try_from(registered.duration_ms)
                .ok()
                .and_then(|duration| Duration::from_millis(duration).try_into().ok()),
            url: asset.url,
            poster: thumbnail.asset,
            poster_url: thumbnail.url,
            poster_missing_reason: registered.poster_missing_reason,
        })
    }

    async fn fetch(&self, provider: &dyn Provider, reference: &Reference) -> Result<Bytes, Failure> {
        let mut pieces = provider.fetch(reference).await?;
        let mut bytes = BytesMut::new();
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            if bytes.len() as u64 + piece.len() as u64 > self.video_bytes {
                let message = format!("the provider's video has more than {} bytes", self.video_bytes);
                return Err(Failure::bad_output(message));
            }
            bytes.extend_from_slice(&piece);
        }
        if bytes.is_empty() {
            return Err(Failure::bad_output("the provider's video is empty"));
        }
        Ok(bytes.freeze())
    }

    async fn store(&self, bytes: Bytes, extension: &str) -> Result<Name, Failure> {
        let mut tries = 0;
        loop {
            match self.blobs.put(bytes.clone(), extension).await {
                Ok(name) => return Ok(name),
                Err(error) if tries < TRIES => {
                    tries += 1;
                    tracing::warn!(%error, tries, "the video cannot be stored yet");
                    pause(tries).await;
                }
                Err(error) => {
                    tracing::error!(%error, "the video cannot be stored");
                    return Err(unavailable("our storage did not take the video"));
                }
            }
        }
    }

    async fn register(&self, account: AccountId, name: &Name) -> Result<RegisterOutputResponse, Failure> {
        let mut tries = 0;
        loop {
            match self.try_register(account, name).await {
                Ok(registered) => return Ok(registered),
                Err(status) if status.code() == Code::InvalidArgument => {
                    return Err(Failure::bad_output(format!(
                        "the provider's result cannot be used: {}",
                        status.message()
                    )));
                }
                Err(status) if tries < TRIES => {
                    tries += 1;
                    tracing::warn!(code = ?status.code(), message = status.message(), tries, "no poster yet");
                    pause(tries).await;
                }
                Err(status) => {
                    tracing::error!(code = ?status.code(), message = status.message(), "no poster");
                    return Err(unavailable("the video could not be taken note of"));
                }
            }
        }
    }

    async fn try_register(&self, account: AccountId, name: &Name) -> Result<RegisterOutputResponse, Status> {
        let mut request = Request::new(RegisterOutputRequest {
            asset: asset_name(&name.sha256()),
            extension: name.extension().to_owned(),
        });
        Caller::account(account.0).attach(&mut request);
        let mut assets = self.assets.clone();
        let call = assets.register_output(request);
        Ok(deadline::scope(Instant::now() + POSTER, call).await?.into_inner())
    }
}

async fn pause(tries: u32) {
    sleep(Duration::from_millis(100) * 4_u32.pow(tries.min(4)).div_ceil(2)).await;
}

fn unavailable(message: &str) -> Failure {
    Failure { reason: "OUTPUT_UNAVAILABLE", ..Failure::internal(message) }
}
