//! The poster frame of a video that is not decoded in process, by an ffmpeg binary where there is one.
//!
//! Invariant: ffmpeg is never needed; without it the [`Missing`] stays the one that asked for it. It gets one open file with the
//! demuxer named by us, no network, no other file, no environment, bounded memory and frame sizes and a timeout, and is killed
//! when its caller goes. What comes back is 8-bit RGB, or it is refused.

mod probe;

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::Command;

use crate::decode_pool::{self, DecodePool, Input};
use crate::media::Type;
use crate::pictures::{Layout, Pixels};
use crate::protocol::BECOME;
use crate::source::OnDisk;
use crate::videos::{Appearance, Chooser, Container, Missing, ToSrgb, container_of, luma_of};
use probe::Probe;

/// ffmpeg's place and bounds.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The program's path, since it is started without an environment and so without a PATH; `None`: ffmpeg is not used.
    pub program: Option<PathBuf>,
    /// The program that confines itself and becomes ffmpeg: this one, wherever it lies.
    pub launcher: PathBuf,
    /// The memory that it may have, in bytes.
    pub memory: u64,
    /// How long it may run before it is killed.
    pub timeout: Duration,
}

/// Runs ffmpeg, each time in the place of a decoder.
#[derive(Debug)]
pub struct Ffmpeg {
    settings: Settings,
}

/// The longest side of the frames that ffmpeg is asked for, in pixels: enough for every thumbnail.
const SIDE: u32 = 1_280;
/// How many seconds of the video are searched at most, and how many frames in all.
const SECONDS: f64 = 12.0;
const FRAMES: f64 = 60.0;

impl Ffmpeg {
    /// Keeps the settings; nothing is started.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    /// The best frame of the first third, upright, or the first good one behind it; `because` itself when there is no ffmpeg, and
    /// [`Missing::Ffmpeg`] when it fails or takes too long.
    ///
    /// # Errors
    /// When there is no room for it in `pool`.
    pub async fn poster(
        &self,
        pool: &DecodePool,
        input: &Input,
        because: Missing,
    ) -> Result<Result<Pixels, Missing>, decode_pool::Error> {
        let (Some(program), Input::File(file, length)) = (&self.settings.program, input) else {
            return Ok(Err(because));
        };
        let (file, length) = (Arc::clone(file), *length);
        let sniffed = tokio::task::spawn_blocking(move || {
            let container = container_of(&OnDisk::new(file.try_clone()?, length));
            Ok::<_, std::io::Error>((file, container))
        });
        let (file, container) = match sniffed.await {
            Ok(Ok((file, Some(container)))) => (file, container),
            Ok(Ok((_, None))) | Err(_) => return Ok(Err(because)),
            Ok(Err(error)) => return Ok(Err(Missing::Ffmpeg(error.to_string()))),
        };
        let media_type = if container == Container::Webm { Type::Webm } else { Type::Mp4 };
        let said = pool.describe(input, media_type).await?;
        let third = said.map_or(0.0, |measured| measured.facts.duration.as_secs_f64() / 3.0);
        let memory = self.settings.memory.min(pool.max_weight());
        let _room = pool.admit(memory).await?;
        let run = Run { program, launcher: &self.settings.launcher, memory, container, file: &file };
        Ok(match tokio::time::timeout(self.settings.timeout, run.find_poster(third)).await {
            Err(_) => Err(Missing::Ffmpeg(format!("no frame within {:?}", self.settings.timeout))),
            Ok(Err(error)) if error.kind() == ErrorKind::NotFound => Err(because),
            Ok(Err(error)) => Err(Missing::Ffmpeg(error.to_string())),
            Ok(Ok(pixels)) => Ok(pixels),
        })
    }
}

/// One video that ffmpeg is asked about.
struct Run<'a> {
    program: &'a Path,
    launcher: &'a Path,
    memory: u64,
    container: Container,
    file: &'a File,
}

impl Run<'_> {
    /// The command that reads the file; what it is to do with it follows.
    fn command(&self, log: &str) -> std::io::Result<Command> {
        let demuxer = match self.container {
            Container::Mp4 | Container::Mov => "mov",
            Container::Webm => "matroska",
        };
        // Found by the start of the launcher, it could not be told from one that fails.
        std::fs::metadata(self.program)?;
        let mut command = Command::new(self.launcher);
        command
            .args([BECOME, &self.memory.to_string()])
            .arg(self.program)
            .args(["-nostdin", "-nostats", "-hide_banner", "-loglevel", log, "-threads", "1"])
            // 36,864 macroblocks a frame, and no single piece of memory that such frames do not explain.
            .args(["-max_pixels", "9437184", "-max_alloc", "268435456"])
            .args(["-protocol_whitelist", "file", "-f", demuxer, "-t", &SECONDS.to_string()])
            // Its standard input, opened anew so that each run begins at the front.
            .args(["-i", "/proc/self/fd/0"])
            // The first video that is no cover picture.
            .args(["-map", "0:V:0"])
            // It needs none, and ours names the database and the storage.
            .env_clear()
            .stdin(Stdio::from(self.file.try_clone()?))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        Ok(command)
    }

    /// Decodes one frame to learn size and colours.
    async fn probe(&self) -> std::io::Result<Probe> {
        let mut child = self.command("info")?.args(["-frames:v", "1", "-f", "null", "-"]).spawn()?;
        let Some(mut stderr) = child.stderr.take() else {
            return Err(std::io::Error::other("its output is not connected"));
        };
        let mut log = Vec::new();
        (&mut stderr).take(64 << 10).read_to_end(&mut log).await?;
        tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await?;
        let log = String::from_utf8_lossy(&log);
        Probe::read(&log).ok_or_else(|| {
            let said = log.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
            std::io::Error::other(said.trim().to_owned())
        })
    }

    /// Reads frames from ffmpeg for `third` seconds, and on until one is good.
    async fn find_poster(&self, third: f64) -> std::io::Result<Pixels> {
        let probe = self.probe().await?;
        let third = if third > 0.0 { third.min(SECONDS) } else { SECONDS };
        let rate = (FRAMES / SECONDS).max((FRAMES / third / 2.0).min(12.0));
        let (width, height) = within(probe.display, SIDE);
        let matrix = if probe.is_bt709_unsaid() { ":in_color_matrix=bt709" } else { "" };
        let mut child = self
            .command("error")?
            .args(["-vf", &format!("fps={rate:.3},scale={width}:{height}{matrix},setsar=1,format=rgb24")])
            // Of samples with more than 8 bits the encoder would else make a picture of 16 bits.
            .args(["-pix_fmt", "rgb24", "-c:v", "ppm", "-f", "image2pipe", "pipe:1"])
            .spawn()?;
        let to_srgb = ToSrgb::of(probe.colour);
        let (Some(stdout), Some(mut stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(std::io::Error::other("its output is not connected"));
        };
        let mut frames = BufReader::new(stdout);
        let mut chooser = Chooser::new(1);
        let message = async {
            let mut text = Vec::new();
            // The rest is read too and thrown away: ffmpeg stops when nobody empties the pipe.
            (&mut stderr).take(2_000).read_to_end(&mut text).await?;
            tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await?;
            Ok::<_, std::io::Error>(String::from_utf8_lossy(&text).trim().to_owned())
        };
        let mut seen = 0.0;
        let frames = async {
            while let Some(frame) = next_frame(&mut frames).await? {
                let frame = match &to_srgb {
                    Some(to_srgb) => to_srgb.frame(frame),
                    None => frame,
                };
                let (width, height) = (frame.width as usize, frame.height as usize);
                let appearance = Appearance::at(width, height, |x, y| {
                    let at = (y * width + x) * 3;
                    luma_of([frame.bytes[at], frame.bytes[at + 1], frame.bytes[at + 2]])
                });
                chooser.offer(appearance, frame);
                seen += 1.0;
                if seen > third * rate && chooser.has_good() {
                    break;
                }
            }
            Ok::<_, std::io::Error>(chooser.finish().map(|chosen| chosen.frame))
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
            Some(pixels) => Ok(pixels),
            None => Err(std::io::Error::other(message.await?)),
        }
    }
}

/// A size in the same shape whose longer side is at most `side`.
fn within((width, height): (u32, u32), side: u32) -> (u32, u32) {
    let longer = width.max(height);
    if longer <= side {
        return (width, height);
    }
    let shrunk = |length: u32| (u64::from(length) * u64::from(side) / u64::from(longer)).max(1) as u32;
    (shrunk(width), shrunk(height))
}

/// Reads one binary PPM picture of 8 bits; nothing at the end of the stream.
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
    // Samples of 16 bits have another highest value, and would be read as noise.
    if words.next() != Some("255") {
        return Err(std::io::Error::new(ErrorKind::InvalidData, "its frames are not of 8 bits"));
    }
    let mut bytes = vec![0; width as usize * height as usize * 3];
    from.read_exact(&mut bytes).await?;
    Ok(Some(Pixels { width, height, layout: Layout::Rgb, bytes }))
}
