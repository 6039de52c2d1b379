//! The poster frame of a video that is not decoded in process, by an ffmpeg binary where there is one.
//!
//! Invariant: ffmpeg is never needed; without it the [`Missing`] stays the one that asked for it. It gets one local file with the
//! demuxer named by us, no network protocol, no standard input, bounded frame sizes and a timeout, and is killed when its caller
//! goes.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::Command;
use tokio::sync::Semaphore;

use super::brightness::{Brightness, luma_of};
use super::container::Container;
use super::missing::Missing;
use crate::pictures::{Layout, Pixels};

/// ffmpeg's place and bounds.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The program's name on the PATH or its path; `None`: ffmpeg is not used.
    pub program: Option<PathBuf>,
    /// The directory where the one file that it reads lies while it runs.
    pub scratch: PathBuf,
    /// How long it may run before it is killed.
    pub timeout: Duration,
}

/// Runs ffmpeg for one video at a time, so that a burst of them does not take every core.
#[derive(Debug)]
pub struct Ffmpeg {
    settings: Settings,
    one_at_a_time: Semaphore,
}

/// The longest side of the frames that ffmpeg is asked for, in pixels: enough for every thumbnail.
const SIDE: u32 = 1_280;
/// How many seconds of the video are searched, four frames each.
const SECONDS: u32 = 12;

impl Ffmpeg {
    /// Keeps the settings; nothing is started.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings, one_at_a_time: Semaphore::new(1) }
    }

    /// The first frame that is not nearly black, or the brightest one seen, upright.
    ///
    /// # Errors
    /// `because` itself when there is no ffmpeg; [`Missing::Ffmpeg`] when it fails or takes too long.
    pub async fn poster(&self, bytes: &[u8], because: Missing) -> Result<Pixels, Missing> {
        let (Some(program), Some(container)) = (&self.settings.program, Container::sniff(bytes)) else {
            return Err(because);
        };
        let permit = self.one_at_a_time.acquire().await;
        let _permit = permit.map_err(|closed| Missing::Ffmpeg(closed.to_string()))?;
        let file =
            Scratch::write(&self.settings.scratch, bytes).await.map_err(|error| Missing::Ffmpeg(error.to_string()))?;
        match tokio::time::timeout(self.settings.timeout, find_poster(program, container, &file.0)).await {
            Err(_) => Err(Missing::Ffmpeg(format!("no frame within {:?}", self.settings.timeout))),
            Ok(Err(error)) if error.kind() == ErrorKind::NotFound => Err(because),
            Ok(Err(error)) => Err(Missing::Ffmpeg(error.to_string())),
            Ok(Ok(pixels)) => Ok(pixels),
        }
    }
}

/// Reads frames from ffmpeg until one is not nearly black.
async fn find_poster(program: &Path, container: Container, file: &Path) -> std::io::Result<Pixels> {
    let demuxer = match container {
        Container::Mp4 => "mov",
        Container::Webm => "matroska",
    };
    let mut child = Command::new(program)
        .args(["-nostdin", "-hide_banner", "-loglevel", "error", "-threads", "1", "-max_pixels", "9437184"])
        .args(["-protocol_whitelist", "file", "-f", demuxer, "-t", &SECONDS.to_string(), "-i"])
        .arg(file)
        .args([
            "-map",
            "0:v:0",
            "-vf",
            &format!("fps=4,scale='min({SIDE},iw)':'min({SIDE},ih)':force_original_aspect_ratio=decrease"),
        ])
        .args(["-c:v", "ppm", "-f", "image2pipe", "pipe:1"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let (Some(stdout), Some(mut stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(std::io::Error::other("its output is not connected"));
    };
    let mut frames = BufReader::new(stdout);
    let mut best: Option<(f64, Pixels)> = None;
    let message = async {
        let mut text = Vec::new();
        // The rest is read too and thrown away: ffmpeg stops when nobody empties the pipe.
        (&mut stderr).take(2_000).read_to_end(&mut text).await?;
        tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&text).trim().to_owned())
    };
    let frames = async {
        while let Some(frame) = next_frame(&mut frames).await? {
            let rows: Vec<Vec<u8>> = frame
                .bytes
                .chunks_exact(frame.width as usize * 3)
                .step_by(4)
                .map(|row| row.chunks_exact(3).map(|p| luma_of([p[0], p[1], p[2]])).collect())
                .collect();
            let brightness = Brightness::measure(rows.iter().map(Vec::as_slice), true);
            let lit = !brightness.is_nearly_black();
            if lit || best.as_ref().is_none_or(|(mean, _)| brightness.mean > *mean) {
                best = Some((brightness.mean, frame));
            }
            if lit {
                return Ok(best);
            }
        }
        Ok::<_, std::io::Error>(best)
    };
    tokio::pin!(message);
    tokio::pin!(frames);
    let best = tokio::select! {
        best = &mut frames => best?,
        message = &mut message => match frames.await? {
            Some(best) => Some(best),
            None => return Err(std::io::Error::other(message?)),
        },
    };
    match best {
        Some((_, pixels)) => Ok(pixels),
        None => Err(std::io::Error::other(message.await?)),
    }
}

/// Reads one binary PPM picture; nothing at the end of the stream.
async fn next_frame(from: &mut (impl tokio::io::AsyncBufRead + Unpin)) -> std::io::Result<Option<Pixels>> {
    let mut header = Vec::new();
    while header.iter().filter(|byte| **byte == b'\n').count() < 3 {
        let read = from.take(32).read_until(b'\n', &mut header).await?;
        if read == 0 && header.is_empty() {
            return Ok(None);
        }
        if read == 0 || header.len() > 64 {
            return Err(ErrorKind::InvalidData.into());
        }
    }
    let text = String::from_utf8_lossy(&header);
    let mut words = text.split_ascii_whitespace();
    let magic = words.next();
    let mut side = || words.next().and_then(|word| word.parse::<u32>().ok()).filter(|side| (1..=SIDE).contains(side));
    let (Some("P6"), Some(width), Some(height)) = (magic, side(), side()) else {
        return Err(ErrorKind::InvalidData.into());
    };
    let mut bytes = vec![0; width as usize * height as usize * 3];
    from.read_exact(&mut bytes).await?;
    Ok(Some(Pixels { width, height, layout: Layout::Rgb, bytes }))
}

/// A file that is removed when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    async fn write(directory: &Path, bytes: &[u8]) -> std::io::Result<Self> {
        let file = Self(directory.join(format!("rushes-poster-{}", uuid::Uuid::now_v7())));
        tokio::fs::write(&file.0, bytes).await?;
        Ok(file)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::warn!(%error, file = %self.0.display(), "a scratch file cannot be removed");
        }
    }
}
