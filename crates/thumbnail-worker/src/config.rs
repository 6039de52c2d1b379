//! The service's settings, one struct for each subsystem, read once at the start. A wrong one is an error that names its
//! variable; the README lists them.

use std::path::PathBuf;
use std::time::Duration;

use chassis::keyring::InternalKeys;
use chassis::links::AssetUrls;
use chassis::settings::{Error, Source};
use chassis::{blobs, postgres::PoolSettings, server, telemetry};

use crate::model::Quota;
use crate::orphans::Mode;
use crate::{decode_pool, erasures, ffmpeg, media, orphans, pictures, retention, videos};

/// Everything that the process reads from its environment; tests build it by hand.
#[derive(Clone, Debug)]
pub struct Config {
    /// Logs and traces.
    pub telemetry: telemetry::Settings,
    /// The public, the internal and the admin port.
    pub server: server::Settings,
    /// What the tokens of callers are signed with.
    pub internal_keys: InternalKeys,
    /// PostgreSQL.
    pub database: Database,
    /// NATS, which only shortens waiting: without it other processes' jobs are found by polling.
    pub nats_url: Option<String>,
    /// Object storage.
    pub blobs: blobs::Settings,
    /// The gateway's address as clients see it, without a slash at its end; the addresses of assets begin with it.
    pub assets: AssetUrls,
    /// Longest output that is registered, in bytes.
    pub max_output_bytes: u64,
    /// Limits of uploaded videos and sounds.
    pub uploads: Uploads,
    /// The decode pool, with the limits of pictures and of the search for a poster.
    pub decode_pool: decode_pool::Settings,
    /// The decoder for what is not decoded in process.
    pub ffmpeg: ffmpeg::Settings,
    /// The worker of queued thumbnails.
    pub runner: Runner,
    /// What an account may have in storage, where nothing else was set for it.
    pub quota: Quota,
    /// What becomes of objects in storage that nothing names.
    pub orphans: orphans::Settings,
    /// How long what is over is kept.
    pub retention: retention::Settings,
    /// How accounts are erased.
    pub erasures: erasures::Settings,
}

/// PostgreSQL.
#[derive(Clone, Debug)]
pub struct Database {
    /// `postgres://user:password@host:5432/name`.
    pub url: String,
    /// The one pool, for requests and jobs.
    pub pool: PoolSettings,
}

/// Limits of uploaded videos and sounds.
#[derive(Clone, Debug)]
pub struct Uploads {
    /// Limits of each.
    pub limits: media::Limits,
    /// The directory where files lie while they are worked on.
    pub scratch: PathBuf,
    /// Bytes of uploads under way that may lie there at one time; one account may have a quarter, and always one file of any length.
    pub scratch_budget: u64,
    /// How long an upload may send nothing before it is ended and its room given back.
    pub idle_timeout: Duration,
}

/// The worker of queued thumbnails.
#[derive(Clone, Debug)]
pub struct Runner {
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
            internal_keys: InternalKeys::required(source)?,
            database: Database::read(source)?,
            nats_url: source.optional("RUSHES_NATS_URL", "a URL such as nats://host:4222")?,
            blobs: blobs::Settings::read(source)?,
            assets: AssetUrls::read(source)?,
            max_output_bytes: source.or("RUSHES_VIDEO_MAX_BYTES", 256 << 20, "a number of bytes")?,
            uploads: read_uploads(source)?,
            decode_pool: read_decode_pool(source)?,
            ffmpeg: read_ffmpeg(source)?,
            runner: Runner { slots: source.or("RUSHES_THUMBNAIL_SLOTS", 2, "a number of thumbnails")? },
            quota: Quota {
                bytes: source.or("RUSHES_QUOTA_BYTES", 1 << 40, "a number of bytes")?,
                objects: source.or("RUSHES_QUOTA_ASSETS", 1_000_000, "a number of assets")?,
            },
            orphans: read_orphans(source)?,
            retention: retention::Settings {
                jobs: read_days(source, "RUSHES_RETENTION_INTERNAL_JOBS", 30)?,
                unused_assets: read_days(source, "RUSHES_RETENTION_UNUSED_ASSETS", 0)?,
                interval: Duration::from_secs(15),
            },
            erasures: erasures::Settings {
                interval: source.interval("RUSHES_ERASURE_INTERVAL", Duration::from_secs(15))?,
                batch: 500,
            },
        })
    }

    /// Tries the database and the object storage that the settings name.
    ///
    /// # Errors
    /// One sentence about what somebody has to change; what is only away is no error.
    pub async fn check(&self) -> anyhow::Result<()> {
        chassis::postgres::check(&self.database.url).await?;
        chassis::blobs::Store::open(&self.blobs)?.check(chassis::blobs::Access::Write).await?;
        if let Some(url) = &self.nats_url {
            chassis::nats::check(url).await?;
        }
        Ok(())
    }
}

impl Database {
    fn read(source: &Source) -> Result<Self, Error> {
        let url = source.required("RUSHES_DATABASE_URL", "a URL such as postgres://user:password@host:5432/name")?;
        let pool = PoolSettings { min: 1, max: 8, ..PoolSettings::default() };
        Ok(Self { url, pool: PoolSettings::read(source, "RUSHES_POOL_THUMBNAILS", pool)? })
    }
}

fn read_pictures(source: &Source) -> Result<pictures::Limits, Error> {
    let default = pictures::Limits::default();
    Ok(pictures::Limits {
        bytes: source.or("RUSHES_IMAGE_MAX_BYTES", default.bytes, "a number of bytes")?,
        pixels: source.or("RUSHES_IMAGE_MAX_PIXELS", default.pixels, "a number of pixels")?,
        side: source.or("RUSHES_IMAGE_MAX_SIDE", default.side, "a number of pixels")?,
    })
}

fn read_uploads(source: &Source) -> Result<Uploads, Error> {
    let default = media::Limits::default();
    let seconds = source.or("RUSHES_UPLOAD_MAX_SECONDS", default.duration.as_secs(), "a number of seconds")?;
    let idle_timeout = source.or("RUSHES_UPLOAD_IDLE_SECONDS", 10, "a number of seconds")?;
    Ok(Uploads {
        idle_timeout: Duration::from_secs(idle_timeout),
        limits: media::Limits {
            video_bytes: source.or("RUSHES_UPLOAD_VIDEO_MAX_BYTES", default.video_bytes, "a number of bytes")?,
            sound_bytes: source.or("RUSHES_UPLOAD_AUDIO_MAX_BYTES", default.sound_bytes, "a number of bytes")?,
            duration: Duration::from_secs(seconds),
            side: source.or("RUSHES_UPLOAD_VIDEO_MAX_SIDE", default.side, "a number of pixels")?,
        },
        scratch: source.or("RUSHES_SCRATCH_DIR", std::env::temp_dir(), "a directory")?,
        scratch_budget: source.or("RUSHES_SCRATCH_BUDGET", 1 << 30, "a number of bytes")?,
    })
}

/// A number of days, at least one; 0 is for ever.
fn read_days(source: &Source, name: &'static str, default: u32) -> Result<Option<Duration>, Error> {
    let days = source.or(name, default, "a number of days, or 0 to keep them for ever")?;
    Ok((days > 0).then(|| Duration::from_secs(u64::from(days) * 86_400)))
}

fn read_orphans(source: &Source) -> Result<orphans::Settings, Error> {
    const MODE: &str = "RUSHES_ORPHANS";
    const AGE: &str = "RUSHES_ORPHAN_MIN_HOURS";
    const PERIOD: &str = "RUSHES_ORPHAN_SCAN_HOURS";
    let what = "`report` (the default), `remove` or `off`";
    let mode = match source.optional::<String>(MODE, what)?.as_deref() {
        None | Some("report") => Mode::Report,
        Some("remove") => Mode::Remove,
        Some("off") => Mode::Off,
        Some(_) => return Err(Error::wrong(MODE, what)),
    };
    let what = "a number of hours, at least 1: what is younger may be on its way to its row";
    let hours: u64 = source.or(AGE, 24, what)?;
    if hours == 0 {
        return Err(Error::wrong(AGE, what));
    }
    let what = "a number of hours, at least 1, in which all of the storage is looked through once";
    let period: u64 = source.or(PERIOD, 24, what)?;
    if period == 0 {
        return Err(Error::wrong(PERIOD, what));
    }
    let from_hours = |hours: u64| Duration::from_secs(hours.saturating_mul(3_600));
    Ok(orphans::Settings { mode, min_age: from_hours(hours), period: from_hours(period) })
}

/// What the service itself holds at the highest, without its decoders, in bytes.
const OWN_MEMORY: u64 = 64 << 20;
/// What a decoder has before any work, in bytes.
const DECODER_MEMORY: u64 = 12 << 20;

fn read_decode_pool(source: &Source) -> Result<decode_pool::Settings, Error> {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let seconds = source.or("RUSHES_DECODE_SECONDS", 20, "a number of seconds")?;
    let ceiling: u64 = source.or("RUSHES_MEMORY_CEILING", 640 << 20, CEILING)?;
    let settings = decode_pool::Settings {
        program: source.or("RUSHES_DECODER", PathBuf::from("/proc/self/exe"), "the path of this program")?,
        processes: source.or("RUSHES_DECODE_PROCESSES", cores.min(2), "a number of processes")?,
        bytes: 0,
        waiting: source.or("RUSHES_DECODE_WAITING", 64, "a number of pictures")?,
        timeout: Duration::from_secs(seconds),
        pictures: read_pictures(source)?,
        videos: videos::Limits::default(),
    };
    let bytes = decode_bytes(ceiling, &settings);
    let bytes = bytes.ok_or_else(|| Error::wrong("RUSHES_MEMORY_CEILING", CEILING))?;
    Ok(decode_pool::Settings { bytes, ..settings })
}

const CEILING: &str = "a number of bytes: at least 96 MiB, and 40 MiB and twice RUSHES_IMAGE_MAX_BYTES for each of RUSHES_DECODE_PROCESSES";

/// What is left of a ceiling for the weight of what is decoded, when the service and all of its decoders have what they need; nothing when it
/// is less than any work takes.
#[must_use]
pub fn decode_bytes(ceiling: u64, settings: &decode_pool::Settings) -> Option<u64> {
    // One more than are for everybody is for what is paid for.
    let decoders = (settings.processes as u64 + 1) * (DECODER_MEMORY + settings.light_memory());
    ceiling.checked_sub(OWN_MEMORY + decoders).filter(|bytes| *bytes >= 16 << 20)
}

fn read_ffmpeg(source: &Source) -> Result<ffmpeg::Settings, Error> {
    let program = source.or("RUSHES_FFMPEG", "ffmpeg".to_owned(), "a program's name or path, or off")?;
    let path: String = source.or("PATH", String::new(), "a list of directories")?;
    Ok(ffmpeg::Settings {
        program: (program != "off").then(|| find_program(&program, &path)),
        launcher: source.or("RUSHES_DECODER", PathBuf::from("/proc/self/exe"), "the path of this program")?,
        memory: source.or("RUSHES_FFMPEG_MEMORY", 256 << 20, "a number of bytes")?,
        // RenderThumbnail has 10 s when its caller says nothing: what is left pays for storage and the resizing.
        timeout: Duration::from_secs(8),
    })
}

/// The program's path: as it is when it names a directory, else where the PATH has it.
fn find_program(program: &str, path: &str) -> PathBuf {
    let named = PathBuf::from(program);
    if named.components().count() > 1 {
        return named;
    }
    let found = std::env::split_paths(path).map(|directory| directory.join(program)).find(|file| file.is_file());
    found.unwrap_or(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(more: &[(&str, &str)]) -> Result<Config, Error> {
        let required = [
            ("RUSHES_DATABASE_URL", "postgres://localhost/rushes"),
            ("RUSHES_BLOBS_URL", "file:///var/lib/rushes"),
            ("RUSHES_PUBLIC_URL", "https://rushes.test/"),
            ("RUSHES_ASSET_URLS", "public"),
            ("RUSHES_INTERNAL_KEYS", "0123456789abcdef0123456789abcdef"),
        ];
        Config::read(&Source::of(&[&required[..], more].concat()))
    }

    #[test]
    fn a_wrong_setting_is_named() {
        let error = Config::read(&Source::of(&[("RUSHES_PUBLIC_URL", "https://rushes.test")])).unwrap_err();
        assert!(error.to_string().starts_with("RUSHES_INTERNAL_KEYS should be"), "{error}");
        let error = read(&[("RUSHES_DECODE_WAITING", "many")]).unwrap_err();
        assert_eq!(error.to_string(), "RUSHES_DECODE_WAITING is \"many\"; it should be a number of pictures");
        let error = read(&[("RUSHES_ORPHANS", "delete")]).unwrap_err();
        assert!(error.to_string().starts_with("RUSHES_ORPHANS should be `report`"), "{error}");
        let error = read(&[("RUSHES_MEMORY_CEILING", "1000000")]).unwrap_err();
        assert!(error.to_string().starts_with("RUSHES_MEMORY_CEILING should be a number of bytes"), "{error}");
    }

    #[test]
    fn what_is_unset_has_its_default() {
        let config = read(&[]).unwrap();
        assert_eq!(config.assets.url(uuid::Uuid::nil(), "a.png"), "https://rushes.test/assets/a.png");
        assert_eq!(config.decode_pool.pictures, pictures::Limits::default());
        assert_eq!(config.uploads.limits, media::Limits::default());
        assert_eq!(config.runner.slots, 2);
        assert_eq!(config.orphans.mode, Mode::Report);
        assert_eq!(config.ffmpeg.program, Some(PathBuf::from("ffmpeg")));
        assert_eq!(read(&[("RUSHES_FFMPEG", "off")]).unwrap().ffmpeg.program, None);
    }
}
