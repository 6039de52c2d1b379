//! thumbnail-worker: stores pictures, renders thumbnails of pictures and posters of videos, now or later.
//!
//! `pictures` and `videos` know bytes and pixels only; `decode_pool` and `holding` bound what they cost; `assets` and `thumbnails` are
//! the rules, `store` the rows, `grpc` the wire, `runner` the queue. Invariant: what is not a whole picture within the limits
//! is refused and leaves nothing behind.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod assets;
pub mod config;
pub mod decode_pool;
pub mod error;
mod grpc;
pub mod holding;
pub mod pictures;
pub mod runner;
pub mod store;
pub mod thumbnails;
mod turns;
pub mod videos;

use std::sync::Arc;
use std::time::Duration;

use chassis::drain::Drain;
use chassis::postgres::Pool;
use chassis::server::{self, Bound, Server, Timeouts};
use chassis::{blobs, nats};
use jobs::Notifier;
use proto::assets::v1::asset_service_server::AssetServiceServer;
use tonic::codec::CompressionEncoding::Gzip;
use tonic::service::Routes;

use crate::assets::Assets;
use crate::config::Settings;
use crate::decode_pool::DecodePool;
use crate::grpc::Grpc;
use crate::holding::Holding;
use crate::runner::Runner;
use crate::store::{KIND, Store};
use crate::thumbnails::Thumbnails;
use crate::turns::Turns;
use crate::videos::ffmpeg::Ffmpeg;

/// The whole service, built but not yet answering.
pub struct Service {
    assets: Assets,
    notifier: Notifier,
    public_url: String,
    slots: u32,
}

impl Service {
    /// Builds the service. Nothing needs to be reachable yet.
    ///
    /// # Errors
    /// When a URL or the directory of the object storage cannot be used.
    pub async fn build(settings: &Settings) -> anyhow::Result<Self> {
        let pool = Pool::connect_lazy("thumbnails", &settings.database_url, &settings.pool)?;
        let nats = match &settings.nats_url {
            Some(url) => Some(nats::connect(url).await?),
            None => None,
        };
        let notifier = Notifier::new(KIND, nats);
        let thumbnails = Thumbnails {
            store: Store::new(pool, notifier.clone()),
            blobs: blobs::Store::open(&settings.blobs)?,
            pool: DecodePool::new(settings.decode_pool),
            holding: Holding::new(settings.held_bytes),
            ffmpeg: Arc::new(Ffmpeg::new(settings.ffmpeg.clone())),
            pictures: settings.pictures,
            videos: settings.videos,
            turns: Turns::default(),
        };
        let assets = Assets { thumbnails, video_bytes: settings.video_bytes };
        Ok(Self { assets, notifier, public_url: settings.public_url.clone(), slots: settings.slots })
    }

    /// The server with this service's deadlines: an upload may be slow, and a poster may need ffmpeg.
    #[must_use]
    pub fn server(settings: &server::Settings) -> Server {
        let minute = Duration::from_secs(60);
        let slow = Timeouts { default: Some(minute), longest: Some(minute) };
        Server::new("thumbnail-worker", settings)
            .method("/rushes.assets.v1.AssetService/UploadAsset", slow)
            .method("/rushes.assets.v1.AssetService/RegisterOutput", slow)
            .method(
                "/rushes.assets.v1.AssetService/RenderThumbnail",
                Timeouts { default: Some(Duration::from_secs(10)), ..Timeouts::default() },
            )
            .describe(proto::DESCRIPTOR_SET)
            .advertise(["rushes.assets.v1.AssetService"])
    }

    /// Answers on `bound` and makes queued thumbnails until `drain` is through.
    ///
    /// # Errors
    /// When the server fails.
    pub async fn serve(self, bound: Bound, drain: Drain) -> Result<(), server::Error> {
        let worker = format!("thumbnail-worker/{}/{}", bound.addr(), std::process::id());
        let runner = Runner::new(self.assets.thumbnails.clone(), self.notifier.clone(), worker, self.slots);
        let relay = tokio::spawn(self.notifier.relay());
        let runner = tokio::spawn(runner.run(drain.clone()));
        let grpc = AssetServiceServer::new(Grpc::new(self.assets, self.public_url))
            .accept_compressed(Gzip)
            .send_compressed(Gzip)
            .max_decoding_message_size(grpc::MAX_MESSAGE);
        let served = bound.serve(Routes::new(grpc), drain.clone()).await;
        drain.begin();
        if let Err(error) = runner.await {
            tracing::error!(%error, "the runner ended by itself");
        }
        relay.abort();
        served
    }
}
