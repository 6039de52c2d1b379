//! C2PA: whether a file carries a manifest, in the place that its format has for one.
//!
//! Invariant: nothing of a manifest is read but its name, and nothing is changed. A manifest is found, not validated.

use std::io;

use crate::formats::{Error, Type, boxes};
use crate::pictures::Format;
use crate::source::{Source, Window};

/// The highest number of parts of a file that are looked at.
const MAX_PARTS: usize = 250_000;
/// The type of a JUMBF box that holds manifests.
const MANIFESTS: [u8; 16] = *b"c2pa\x00\x11\x00\x10\x80\x00\x00\xAA\x00\x38\x9B\x71";
/// The type of MP4's `uuid` box.
const BOX: [u8; 16] = [0xD8, 0xFE, 0xC3, 0xD6, 0x1B, 0x0E, 0x48, 0x3C, 0x92, 0x97, 0x58, 0x28, 0x87, 0x7E, 0xC4, 0x81];
/// What such a box may hold beside a manifest: hashes of a file's parts.
const HASHES: &[u8] = b"merkle\0";
/// The media types of a manifest in a tag of MP3.
const TAGGED: [&[u8]; 2] = [b"application/c2pa\0", b"application/x-c2pa-manifest-store\0"];

/// Whether a file carries a manifest; one that is damaged has none as far as it is.
pub(super) fn find(source: &dyn Source, media_type: Type) -> io::Result<bool> {
    let mut window = Window::new(source);
    match media_type {
        Type::Picture(Format::Jpeg) => in_jpeg(&mut window),
        Type::Picture(Format::Png) => in_png(&mut window),
        Type::Picture(Format::Webp) | Type::Wav => in_riff(&mut window),
        Type::Mp4 | Type::Mov | Type::M4a => in_boxes(&mut window, media_type),
        Type::Mp3 => in_tag(&mut window),
        // None has been agreed upon.
        Type::Webm => Ok(false),
    }
}

/// In a JPEG: an application segment 11 with a JUMBF box of manifests.
fn in_jpeg(window: &mut Window<'_>) -> io::Result<bool> {
    let mut at = 2;
    for _ in 0..MAX_PARTS {
        let segment = window.get(at, 48)?;
        match *segment {
            // Any number of them may stand before a marker.
            [0xFF, 0xFF, ..] => at += 1,
            [0xFF, marker, high, low, ref body @ ..] if marker != 0xDA && marker != 0xD9 => {
                // JP, two numbers, and the beginnings of the box and of the one that describes it.
                let described = body.starts_with(b"JP") && body.get(12..16) == Some(b"jumb");
                if marker == 0xEB
                    && described
                    && body.get(20..24) == Some(b"jumd")
                    && body.get(24..40) == Some(&MANIFESTS)
                {
                    return Ok(true);
                }
                at += 2 + u64::from(u16::from_be_bytes([high, low]));
            }
            _ => return Ok(false),
        }
    }
    Ok(false)
}

fn in_png(window: &mut Window<'_>) -> io::Result<bool> {
    let mut at = 8;
    for _ in 0..MAX_PARTS {
        let &[a, b, c, d, ref name @ ..] = window.get(at, 8)? else { return Ok(false) };
        match name {
            b"caBX" => return Ok(true),
            b"IEND" => return Ok(false),
            _ => at += 12 + u64::from(u32::from_be_bytes([a, b, c, d])),
        }
    }
    Ok(false)
}

/// In WebP and WAV: a chunk of that name.
fn in_riff(window: &mut Window<'_>) -> io::Result<bool> {
    let mut at = 12;
    for _ in 0..MAX_PARTS {
        let Some((name, size)) = window.get(at, 8)?.split_first_chunk::<4>() else { return Ok(false) };
        let Some(size) = size.first_chunk::<4>().map(|size| u32::from_le_bytes(*size)) else { return Ok(false) };
        if name == b"C2PA" {
            return Ok(true);
        }
        at += 8 + u64::from(size) + u64::from(size & 1);
    }
    Ok(false)
}

/// In MP4 and QuickTime: an outermost box of that type, which says of itself what it is for.
fn in_boxes(window: &mut Window<'_>, media_type: Type) -> io::Result<bool> {
    let mut at = 0;
    for _ in 0..MAX_PARTS {
        if at == window.length() {
            return Ok(false);
        }
        let found = match boxes::next(window, at, media_type) {
            Ok(found) => found,
            Err(Error::Io(error)) => return Err(error),
            Err(Error::Refused(_)) => return Ok(false),
        };
        at = found.body.end;
        let head = if found.name == *b"uuid" { window.get(found.body.start, 20 + HASHES.len())? } else { &[] };
        // Four bytes of version and flags stand before the purpose.
        if head.starts_with(&BOX) && head.get(20..) != Some(HASHES) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// In MP3: an object in the tag before the sound.
fn in_tag(window: &mut Window<'_>) -> io::Result<bool> {
    let &[b'I', b'D', b'3', version, _, _, a, b, c, d] = window.get(0, 10)? else { return Ok(false) };
    let seven_bits = |bytes: [u8; 4]| bytes.iter().fold(0_u64, |sum, byte| sum << 7 | u64::from(byte & 0x7F));
    let end = 10 + seven_bits([a, b, c, d]);
    let mut at = 10;
    for _ in 0..MAX_PARTS {
        if at >= end {
            return Ok(false);
        }
        let &[n, a, m, e, s, i, z, l, _, _, _, ref body @ ..] = window.get(at, 64)? else { return Ok(false) };
        if [n, a, m, e] == *b"GEOB" && TAGGED.iter().any(|kind| body.starts_with(kind)) {
            return Ok(true);
        }
        let size = [s, i, z, l];
        at += 10 + if version >= 4 { seven_bits(size) } else { u64::from(u32::from_be_bytes(size)) };
    }
    Ok(false)
}
