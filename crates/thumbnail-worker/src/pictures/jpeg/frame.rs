//! JPEG's frame header, found by walking the marker segments before the first scan, and what follows from it.
//!
//! Invariant: no memory is allocated for pixels here; a frame only says how much decoding will need. Markers say what colours mean
//! in the order in which libjpeg asks them (JFIF, Adobe, the components' names), so a picture looks as it does elsewhere.

use super::scans::{Component, Scans};
use crate::pictures::format::Format;
use crate::pictures::header::Marks;
use crate::pictures::orientation::Orientation;
use crate::pictures::profile::{self, Profile};
use crate::pictures::refused::Refused;

/// A frame header, by which decoding is weighed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::pictures) struct Frame {
    pub(in crate::pictures) width: u32,
    pub(in crate::pictures) height: u32,
    pub(super) progressive: bool,
    pub(super) components: Vec<Component>,
    pub(super) colours: Colours,
    pub(super) scans: Scans,
    /// Length of the file.
    bytes: u64,
}

/// What the components mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colours {
    Grey,
    Ycc,
    Rgb,
    Cmyk,
    Ycck,
}

impl Frame {
    /// Refuses scans that ask for far more work than their picture explains.
    pub(in crate::pictures) fn refuse_slow_scans(&self) -> Result<(), Refused> {
        self.scans.refuse_slow(self.blocks())
    }

    /// The blocks of all components.
    fn blocks(&self) -> u64 {
        self.components.iter().map(|component| component.blocks).sum()
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
        self.weight_at(self.divisor(cover))
    }

    /// The memory, in bytes, that decoding at a divisor holds at the highest.
    pub(super) fn weight_at(&self, divisor: u32) -> u64 {
        let divisor = u64::from(divisor);
        let (width, height) = (u64::from(self.width), u64::from(self.height));
        // Planes padded to whole blocks, the interleaved result, and its copy as RGB.
        let scaled = (width / divisor + 64) * (height / divisor + 64) * (self.components.len() as u64 * 2 + 3);
        // A progressive file is held as its coefficients; another as its coded data, at most as long as the file.
        let held = if self.progressive { self.blocks() * 128 } else { self.bytes };
        scaled + held + (256 << 10)
    }
}

/// Walks the markers up to the first scan, then the scans.
pub(in crate::pictures) fn read_header(bytes: &[u8]) -> Result<(Frame, Marks), Refused> {
    let mut orientation = None;
    let mut profile = ProfileParts::default();
    let mut frame = None;
    let mut colours = ColourMarkers::default();
    let mut at = 2;
    let scan = loop {
        let (marker, body) = next_segment(bytes, &mut at).ok_or(Refused::Truncated { format: Format::Jpeg })?;
        match marker {
            0xC0..=0xC2 if frame.is_some() => return Err(damaged("it has two frames")),
            0xC0..=0xC2 => frame = Some(read_frame(marker == 0xC2, body)?),
            0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF => {
                let detail = format!("coding process {marker:#04X} (lossless, hierarchical or arithmetic)");
                return Err(Refused::Unsupported { format: Format::Jpeg, detail });
            }
            0xE0 => colours.has_jfif |= body.starts_with(b"JFIF\0") && body.len() >= 14,
            0xE1 => {
                // A second block is what an editor left behind; the first is the camera's, and the one that others read.
                if let Some(tiff) = body.strip_prefix(b"Exif\0\0") {
                    orientation = orientation.or(Some(Orientation::of_tiff(tiff)));
                }
            }
            0xE2 => {
                if let Some(part) = body.strip_prefix(b"ICC_PROFILE\0") {
                    profile.take(part);
                }
            }
            0xEE if body.starts_with(b"Adobe") && body.len() >= 12 => colours.adobe = Some(body[11]),
            0xD9 => return Err(Refused::Truncated { format: Format::Jpeg }),
            0xDA => break body,
            _ => {}
        }
    };
    let mut frame = frame.ok_or_else(|| damaged("a scan comes before the frame"))?;
    frame.bytes = bytes.len() as u64;
    frame.colours = colours.of(&frame.components);
    frame.scans = Scans::read(bytes, at, scan, &frame.components);
    Ok((frame, Marks { orientation: orientation.unwrap_or_default(), profile: profile.join() }))
}

/// A file in two: the segments that decoding needs, without those of applications and comments, and all from the first scan on.
/// What the former mean here has been read, and the decoder would read them in its own way.
pub(super) fn split(bytes: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut head = vec![0xFF, 0xD8];
    let mut at = 2;
    loop {
        let start = at;
        match next_segment(bytes, &mut at) {
            None => return (head, &[]),
            Some((0xDA, _)) => return (head, &bytes[start..]),
            // Frames of MJPEG leave out their code tables, and say so.
            Some((0xE0, body)) if body.starts_with(b"AVI1") => head.extend_from_slice(&bytes[start..at]),
            Some((0xE0..=0xEF | 0xFE, _)) => {}
            Some(_) => head.extend_from_slice(&bytes[start..at]),
        }
    }
}

/// A profile in the segments that it is cut into, each with its number and how many there are.
#[derive(Debug, Default)]
struct ProfileParts<'a> {
    parts: Vec<(u8, u8, &'a [u8])>,
}

impl<'a> ProfileParts<'a> {
    fn take(&mut self, segment: &'a [u8]) {
        if let [number, count, part @ ..] = segment
            && self.parts.len() < usize::from(u8::MAX)
        {
            self.parts.push((*number, *count, part));
        }
    }

    /// The whole profile, when each part is there once.
    fn join(mut self) -> Option<Profile> {
        self.parts.sort_unstable_by_key(|(number, ..)| *number);
        let count = self.parts.len();
        let whole =
            (1..).zip(&self.parts).all(|(n, (number, stated, _))| *number == n && usize::from(*stated) == count);
        let length: usize = self.parts.iter().map(|(.., part)| part.len()).sum();
        if !whole || length > profile::MAX_BYTES {
            return None;
        }
        Profile::icc(self.parts.into_iter().flat_map(|(.., part)| part).copied().collect())
    }
}

/// The markers that say what the components mean.
#[derive(Clone, Copy, Debug, Default)]
struct ColourMarkers {
    has_jfif: bool,
    /// The transform of Adobe's marker.
    adobe: Option<u8>,
}

impl ColourMarkers {
    fn of(self, components: &[Component]) -> Colours {
        match (components.len(), self) {
            (1, _) => Colours::Grey,
            (4, Self { adobe: None | Some(0), .. }) => Colours::Cmyk,
            (4, _) => Colours::Ycck,
            (_, Self { has_jfif: true, .. }) => Colours::Ycc,
            (_, Self { adobe: Some(0), .. }) => Colours::Rgb,
            (_, Self { adobe: Some(_), .. }) => Colours::Ycc,
            _ if components.iter().map(|component| component.id).eq(*b"RGB") => Colours::Rgb,
            _ => Colours::Ycc,
        }
    }
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
    let parts: Vec<(u8, u64, u64)> = factors
        .chunks_exact(3)
        .take(usize::from(*components))
        .map(|part| (part[0], u64::from(part[1] >> 4), u64::from(part[1] & 15)))
        .collect();
    if parts.len() != usize::from(*components) || !matches!(components, 1 | 3 | 4) {
        return Err(damaged(&format!("it states {components} components and describes {}", parts.len())));
    }
    if parts.iter().any(|(_, h, v)| !(1..=4).contains(h) || !(1..=4).contains(v)) {
        return Err(damaged("a sampling factor is not between 1 and 4"));
    }
    let max_h = parts.iter().map(|(_, h, _)| *h).max().unwrap_or(1);
    let max_v = parts.iter().map(|(_, _, v)| *v).max().unwrap_or(1);
    let units = u64::from(width).div_ceil(8 * max_h) * u64::from(height).div_ceil(8 * max_v);
    let components = parts.into_iter().map(|(id, h, v)| Component { id, blocks: units * h * v }).collect();
    Ok(Frame { width, height, progressive, components, colours: Colours::Ycc, scans: Scans::default(), bytes: 0 })
}

pub(super) fn damaged(detail: &str) -> Refused {
    Refused::Damaged { format: Format::Jpeg, detail: detail.to_owned() }
}
