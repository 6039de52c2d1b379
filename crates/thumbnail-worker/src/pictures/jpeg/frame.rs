//! JPEG's frame header, found by walking the marker segments before the first scan.
//!
//! Invariant: no memory is allocated for pixels here; a frame only says how much decoding will need.

use crate::pictures::format::Format;
use crate::pictures::orientation::Orientation;
use crate::pictures::refused::Refused;

/// The highest number of scans of a progressive file: the encoders in use write about ten.
const MAX_SCANS: usize = 64;

/// A frame header, by which decoding is weighed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::pictures) struct Frame {
    pub(in crate::pictures) width: u32,
    pub(in crate::pictures) height: u32,
    pub(super) components: u32,
    pub(super) progressive: bool,
    /// Coefficients of all components, before any scaling.
    coefficients: u64,
    scans: usize,
    /// Length of the file.
    bytes: u64,
}

impl Frame {
    /// Refuses more scans than any encoder writes: each visits every block for a few bytes of input.
    pub(in crate::pictures) fn refuse_slow_scans(&self) -> Result<(), Refused> {
        if self.scans > MAX_SCANS {
            let detail = format!("{} scans or more, at most {MAX_SCANS} are taken", self.scans);
            return Err(Refused::TooMuchWork { format: Format::Jpeg, detail });
        }
        Ok(())
    }

    /// The divisor, 1, 2, 4 or 8, at which the picture still covers `cover`.
    pub(super) fn divisor(&self, cover: (u32, u32)) -> u32 {
        [8, 4, 2]
            .into_iter()
            .find(|divisor| self.width.div_ceil(*divisor) >= cover.0 && self.height.div_ceil(*divisor) >= cover.1)
            .unwrap_or(1)
    }

    /// The memory, in bytes, that decoding holds at the highest for a result that covers `cover`.
    pub(in crate::pictures) fn weight(&self, cover: (u32, u32)) -> u64 {
        let divisor = u64::from(self.divisor(cover));
        let (width, height) = (u64::from(self.width), u64::from(self.height));
        // Planes padded to whole blocks, the interleaved result, and its copy as RGB.
        let scaled = (width / divisor + 64) * (height / divisor + 64) * (u64::from(self.components) * 2 + 3);
        // A progressive file is held as its coefficients; another as its coded data, at most as long as the file.
        let held = if self.progressive { self.coefficients * 2 } else { self.bytes };
        scaled + held + (256 << 10)
    }
}

/// Walks the markers up to the first scan; of a progressive file also counts the scans.
pub(in crate::pictures) fn read_header(bytes: &[u8]) -> Result<(Frame, Orientation), Refused> {
    let mut orientation = Orientation::Upright;
    let mut frame = None;
    let mut at = 2;
    loop {
        let (marker, body) = next_segment(bytes, &mut at).ok_or(Refused::Truncated { format: Format::Jpeg })?;
        match marker {
            0xC0..=0xC2 if frame.is_some() => return Err(damaged("it has two frames")),
            0xC0..=0xC2 => frame = Some(read_frame(marker == 0xC2, body)?),
            0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF => {
                let detail = format!("coding process {marker:#04X} (lossless, hierarchical or arithmetic)");
                return Err(Refused::Unsupported { format: Format::Jpeg, detail });
            }
            0xE1 => {
                if let Some(tiff) = body.strip_prefix(b"Exif\0\0") {
                    orientation = Orientation::of_tiff(tiff);
                }
            }
            0xD9 => return Err(Refused::Truncated { format: Format::Jpeg }),
            0xDA => break,
            _ => {}
        }
    }
    let mut frame = frame.ok_or_else(|| damaged("a scan comes before the frame"))?;
    frame.bytes = bytes.len() as u64;
    if frame.progressive {
        frame.scans = 1 + count_scans(&bytes[at..]);
    }
    Ok((frame, orientation))
}

/// The next marker segment at `at`, without its length; moves `at` behind it.
pub(super) fn next_segment<'a>(bytes: &'a [u8], at: &mut usize) -> Option<(u8, &'a [u8])> {
    // Between segments any number of fill bytes may stand; stray bytes before a marker are skipped as all decoders do.
    while *bytes.get(*at)? != 0xFF {
        *at += 1;
    }
    while *bytes.get(*at)? == 0xFF {
        *at += 1;
    }
    let marker = bytes[*at];
    *at += 1;
    if matches!(marker, 0x00 | 0x01 | 0xD0..=0xD9) {
        return Some((marker, &[]));
    }
    let length = usize::from(u16::from_be_bytes(bytes.get(*at..*at + 2)?.try_into().ok()?));
    let body = bytes.get(*at + 2..*at + length.max(2))?;
    *at += length.max(2);
    Some((marker, body))
}

/// Counts start-of-scan markers, stopping once there are too many. Within coded data an FF is always followed by 00 or a
/// restart marker, so FF DA stands for itself.
fn count_scans(bytes: &[u8]) -> usize {
    bytes.windows(2).filter(|pair| *pair == [0xFF, 0xDA]).take(MAX_SCANS).count()
}

fn read_frame(progressive: bool, body: &[u8]) -> Result<Frame, Refused> {
    let [precision, h1, h0, w1, w0, components, factors @ ..] = body else {
        return Err(Refused::Truncated { format: Format::Jpeg });
    };
    if *precision != 8 {
        let detail = format!("{precision} bits a channel");
        return Err(Refused::Unsupported { format: Format::Jpeg, detail });
    }
    let height = u32::from(u16::from_be_bytes([*h1, *h0]));
    let width = u32::from(u16::from_be_bytes([*w1, *w0]));
    let sampling: Vec<(u64, u64)> = factors
        .chunks_exact(3)
        .take(usize::from(*components))
        .map(|part| (u64::from(part[1] >> 4), u64::from(part[1] & 15)))
        .collect();
    if sampling.len() != usize::from(*components) || !matches!(components, 1 | 3 | 4) {
        return Err(damaged(&format!("it states {components} components and describes {}", sampling.len())));
    }
    if sampling.iter().any(|(h, v)| !(1..=4).contains(h) || !(1..=4).contains(v)) {
        return Err(damaged("a sampling factor is not between 1 and 4"));
    }
    let max_h = sampling.iter().map(|(h, _)| *h).max().unwrap_or(1);
    let max_v = sampling.iter().map(|(_, v)| *v).max().unwrap_or(1);
    let units = u64::from(width).div_ceil(8 * max_h) * u64::from(height).div_ceil(8 * max_v);
    let coefficients = sampling.iter().map(|(h, v)| units * h * v * 64).sum();
    Ok(Frame { width, height, components: u32::from(*components), progressive, coefficients, scans: 1, bytes: 0 })
}

pub(super) fn damaged(detail: &str) -> Refused {
    Refused::Damaged { format: Format::Jpeg, detail: detail.to_owned() }
}
