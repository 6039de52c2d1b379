//! The service's settings, read once at the start. Each names its variable when it is wrong.

use std::path::PathBuf;
use std::time::Duration;

use chassis::settings::{Error, Source};
use chassis::{blobs, postgres::PoolSettings, server, telemetry};
use http::Uri;

use crate::{decode_pool, pictures, videos};

/// All that the process needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Logs and traces.
    pub telemetry: telemetry::Settings,
    /// The two ports.
    pub server: server::Settings,
    /// What the service itself runs with.
    pub service: Settings,
}

/// What the service runs with; tests build it by hand.
#[derive(Clone, Debug)]
pub struct Settings {
    /// PostgreSQL.
    pub database_url: String,
    /// The pool for requests and jobs.
    pub pool: PoolSettings,
    /// NATS, which only shortens waiting.
    pub nats_url: Option<String>,
    /// Object storage.
    pub blobs: blobs::Settings,
    /// Where clients fetch assets: the gateway's own address.
    pub public_url: String,
    /// What a picture may be.
    pub pictures: pictures::Limits,
    /// What looking for a poster may cost.
    pub videos: videos::Limits,
    /// Longest video of which a poster is made, in bytes.
    pub video_bytes: u64,
    /// What is decoded at one time.
    pub decode_pool: decode_pool::Settings,
    /// Bytes of whole files that may be in memory at one time, uploads under way included.
    pub held_bytes: u64,
    /// The decoder for what is not decoded in process.
    pub ffmpeg: videos::ffmpeg::Settings,
    /// Queued thumbnails that are made at one time.
    pub slots: u32,
}

impl Config {
    /// Reads every setting.
    ///
    /// # Errors
    /// One sentence about the first that is missing or wrong.
    pub fn read(source: &Source) -> Result<Self, Error> {
        Ok(Self {
            telemetry: telemetry::Settings::read(source)?,
            server: server::Settings::read(source)?,
            service: Settings::read(source)?,
        })
    }
}

impl Settings {
    fn read(source: &Source) -> Result<Self, Error> {
        let pictures = pictures::Limits::default();
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let public_url: Uri =
            source.required("RUSHES_PUBLIC_URL", "the gateway's address as clients see it, http://…")?;
        let pool = PoolSettings { min: 1, max: 8, ..PoolSettings::default() };
        Ok(Self {
            database_url: source.required("RUSHES_DATABASE_URL", "a URL, postgres://user:password@host:5432/name")?,
            pool: PoolSettings::read(source, "RUSHES_POOL_THUMBNAILS", pool)?,
            nats_url: source.optional("RUSHES_NATS_URL", "a URL, nats://host:4222")?,
            blobs: blobs::Settings::read(source)?,
            public_url: public_url.to_string().trim_end_matches('/').to_owned(),
            pictures: pictures::Limits {
                bytes: source.or("RUSHES_IMAGE_MAX_BYTES", pictures.bytes, "a number of bytes")?,
                pixels: source.or("RUSHES_IMAGE_MAX_PIXELS", pictures.pixels, "a number of pixels")?,
                side: source.or("RUSHES_IMAGE_MAX_SIDE", pictures.side, "a number of pixels")?,
            },
            videos: videos::Limits::default(),
            video_bytes: source.or("RUSHES_VIDEO_MAX_BYTES", 256 << 20, "a number of bytes")?,
            decode_pool: decode_pool::Settings {
                threads: source.or("RUSHES_DECODE_THREADS", cores, "a number of threads")?,
                bytes: source.or("RUSHES_DECODE_BYTES", 512 << 20, "a number of bytes")?,
                waiting: source.or("RUSHES_DECODE_WAITING", 64, "a number of pictures")?,
            },
            held_bytes: source.or("RUSHES_MEMORY_BUDGET", 256 << 20, "a number of bytes")?,
            ffmpeg: videos::ffmpeg::Settings {
                program: match source.or("RUSHES_FFMPEG", "ffmpeg".to_owned(), "a program, or off")?.as_str() {
                    "off" => None,
                    program => Some(PathBuf::from(program)),
                },
                scratch: source.or("RUSHES_SCRATCH_DIR", std::env::temp_dir(), "a directory")?,
                deadline: Duration::from_secs(8),
            },
            slots: source.or("RUSHES_THUMBNAIL_SLOTS", 2, "a number of thumbnails")?,
        })
    }
}
