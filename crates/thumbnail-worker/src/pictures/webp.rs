//! WebP: the sizes in its chunks, and its pixels.
//!
//! Invariant: a WebP states its size up to three times (canvas, animation frame, bitstream). The bitstream's is what a decoder
//! allocates by, so all of them are read here and the largest is what the limits see.

use std::io::{Cursor, ErrorKind};

use image_webp::{DecodingError, WebPDecoder};

use super::format::Format;
use super::header::Marks;
use super::orientation::Orientation;
use super::pixels::{Layout, Pixels};
use super::profile::{self, Profile};
use super::refused::Refused;

/// Size and coding, by which decoding is weighed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) width: u32,
    pub(super) height: u32,
    lossless: bool,
    /// Whether opacity is coded on its own, beside a lossy picture.
    has_alpha_chunk: bool,
    animated: bool,
    /// Where VP8X has its flags, and what they should be for the chunks that are there.
    flags: Option<(usize, u8)>,
    /// Length of the file.
    bytes: u64,
}

impl Image {
    /// The memory, in bytes, that decoding holds at the highest, by the decoder's buffers.
    pub(super) fn weight(&self) -> u64 {
        let pixels = u64::from(self.width) * u64::from(self.height);
        let each = match self {
            // The canvas of 4 bytes and the output of 4, and a frame: 4, its planes of 1.5, its opacity of 1, or of 5 while that is decoded.
            Self { animated: true, .. } => 15,
            // The output of 4, planes of 1.5, and opacity, which is decoded as a lossless picture of 4 and copied to 1.
            Self { has_alpha_chunk: true, .. } => 11,
            // The output of 4 twice, and the transforms.
            Self { lossless: true, .. } => 9,
            // Planes of 1.5 bytes and the output of 3, in whole blocks.
            _ => 7,
        };
        let copy = if self.flags.is_some() { self.bytes } else { 0 };
        pixels * each + copy + (256 << 10)
    }
}

/// VP8X's flags.
const ALPHA: u8 = 0x10;
const EXIF: u8 = 0x08;
const XMP: u8 = 0x04;

/// Walks the chunks for the largest stated size and for EXIF.
pub(super) fn read_header(bytes: &[u8]) -> Result<(Image, Marks), Refused> {
    let stated = u32_at(bytes, 4).ok_or(Refused::Truncated { format: Format::Webp })? as usize;
    if bytes.len() < stated.saturating_add(8) {
        return Err(Refused::Truncated { format: Format::Webp });
    }
    let mut found = Found::default();
    found.walk(bytes.get(12..).unwrap_or_default(), 0);
    if bytes.get(12..16) == Some(b"VP8X") {
        found.flags = bytes.get(20).copied();
    }
    match found.size {
        Some((width, height)) => {
            let marks = Marks { orientation: found.orientation, profile: found.profile.take().and_then(Profile::icc) };
            let Found { lossless, has_alpha_chunk, animated, .. } = found;
            let (flags, bytes) = (found.corrected_flags(), bytes.len() as u64);
            Ok((Image { width, height, lossless, has_alpha_chunk, animated, flags, bytes }, marks))
        }
        None => Err(Refused::Truncated { format: Format::Webp }),
    }
}

#[derive(Default)]
struct Found {
    size: Option<(u32, u32)>,
    lossless: bool,
    has_alpha_chunk: bool,
    animated: bool,
    has_exif: bool,
    has_xmp: bool,
    /// VP8X's, as they stand.
    flags: Option<u8>,
    orientation: Orientation,
    profile: Option<Vec<u8>>,
}

impl Found {
    fn walk(&mut self, mut rest: &[u8], depth: u8) {
        while let (Some(name), Some(length)) = (rest.get(..4), u32_at(rest, 4)) {
            let body = &rest[8..];
            let body = &body[..body.len().min(length as usize)];
            match name {
                b"VP8X" => self.note_size(u24_at(body, 4).zip(u24_at(body, 7)).map(|(w, h)| (w + 1, h + 1))),
                b"VP8 " => self.note_size(u16_at(body, 6).zip(u16_at(body, 8)).map(|(w, h)| (w & 0x3FFF, h & 0x3FFF))),
                b"VP8L" => {
                    self.lossless = true;
                    self.note_size(u32_at(body, 1).map(|bits| ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)));
                }
                b"ALPH" => self.has_alpha_chunk = true,
                b"XMP " => self.has_xmp = true,
                b"ANMF" if depth == 0 => {
                    self.animated = true;
                    self.note_size(u24_at(body, 6).zip(u24_at(body, 9)).map(|(w, h)| (w + 1, h + 1)));
                    self.walk(body.get(16..).unwrap_or_default(), 1);
                }
                b"ICCP" if body.len() <= profile::MAX_BYTES => self.profile = Some(body.to_vec()),
                b"EXIF" => {
                    self.has_exif = true;
                    self.orientation = Orientation::of_tiff(body.strip_prefix(b"Exif\0\0").unwrap_or(body));
                }
                _ => {}
            }
            let next = (length as usize).saturating_add(8).saturating_add(length as usize & 1);
            rest = rest.get(next..).unwrap_or_default();
        }
    }

    /// The flags without those whose chunks are missing. Such files are common, as editors take out chunks and leave the flags;
    /// browsers show them, and the decoder asks for the chunks.
    fn corrected_flags(&self) -> Option<(usize, u8)> {
        let flags = self.flags?;
        let missing = |is_there: bool, flag: u8| if is_there { 0 } else { flag };
        // A lossless picture has its opacity within, and so may each frame of an animation.
        let has_alpha = self.has_alpha_chunk || self.lossless || self.animated;
        let wrong = missing(has_alpha, ALPHA) | missing(self.has_exif, EXIF) | missing(self.has_xmp, XMP);
        (flags & wrong != 0).then_some((20, flags & !wrong))
    }

    fn note_size(&mut self, size: Option<(u32, u32)>) {
        if let Some((width, height)) = size {
            let (w, h) = self.size.unwrap_or_default();
            self.size = Some((w.max(width), h.max(height)));
        }
    }
}

/// Decodes the picture, or the first frame of an animation.
pub(super) fn decode(bytes: &[u8], image: &Image) -> Result<Pixels, Refused> {
    let mut corrected = Vec::new();
    let bytes = match image.flags {
        Some((at, flags)) => {
            corrected.extend_from_slice(bytes);
            corrected[at] = flags;
            &corrected
        }
        None => bytes,
    };
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(to_refused)?;
    decoder.set_memory_limit(usize::try_from(image.weight()).unwrap_or(usize::MAX));
    let (width, height) = decoder.dimensions();
    if width > image.width || height > image.height {
        return Err(damaged("it states a size that its chunks do not"));
    }
    let layout = if decoder.has_alpha() { Layout::Rgba } else { Layout::Rgb };
    let size = decoder.output_buffer_size().ok_or_else(|| damaged("its size overflows"))?;
    let mut pixels = vec![0; size];
    decoder.read_image(&mut pixels).map_err(to_refused)?;
    Ok(Pixels { width, height, layout, bytes: pixels })
}

fn damaged(detail: &str) -> Refused {
    Refused::Damaged { format: Format::Webp, detail: detail.to_owned() }
}

fn to_refused(error: DecodingError) -> Refused {
    match error {
        DecodingError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
            Refused::Truncated { format: Format::Webp }
        }
        DecodingError::NotEnoughInitData => Refused::Truncated { format: Format::Webp },
        other => damaged(&other.to_string()),
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u24_at(bytes: &[u8], at: usize) -> Option<u32> {
    let raw = bytes.get(at..at + 3)?;
    Some(u32::from_le_bytes([raw[0], raw[1], raw[2], 0]))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?)))
}
