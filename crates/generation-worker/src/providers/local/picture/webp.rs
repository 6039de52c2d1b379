//! WebP, lossy and lossless; of an animation its first frame.
//!
//! Invariant: a WebP states its size up to three times (canvas, frame of an animation, bitstream), and a decoder takes memory by each
//! of them: all are held against the limits.

use std::borrow::Cow;
use std::io::Cursor;

use image_webp::{DecodingError, WebPDecoder};

use super::exif::Orientation;
use super::pixels::{Layout, MAX_MEMORY, Pixels, check_size};

/// VP8X's flags, each with the chunk whose presence it says.
const FLAGS: [(u8, &[u8; 4]); 3] = [(0x10, b"ALPH"), (0x08, b"EXIF"), (0x04, b"XMP ")];
/// Where they stand in a file.
const FLAGS_AT: usize = 20;

pub(super) fn decode(bytes: &[u8]) -> Result<Pixels, String> {
    let to_sentence = |error: DecodingError| format!("it cannot be decoded as WebP: {error}");
    let mut chunks = Vec::new();
    walk(bytes.get(12..).unwrap_or_default(), 0, &mut chunks)?;
    // Editors take out chunks and leave the flags; browsers show such files, and the decoder asks for the chunks.
    let has_own_alpha = chunks.contains(b"VP8L") || chunks.contains(b"ANMF");
    let is_missing = |name: &[u8; 4]| !(chunks.contains(name) || name == b"ALPH" && has_own_alpha);
    let wrong = FLAGS.iter().filter(|(_, name)| is_missing(name)).map(|(flag, _)| flag).sum::<u8>();
    let corrected = match bytes.get(FLAGS_AT) {
        Some(flags) if chunks.first() == Some(b"VP8X") && flags & wrong != 0 => {
            let mut corrected = bytes.to_vec();
            corrected[FLAGS_AT] &= !wrong;
            Cow::from(corrected)
        }
        _ => Cow::from(bytes),
    };
    let mut decoder = WebPDecoder::new(Cursor::new(&*corrected)).map_err(to_sentence)?;
    decoder.set_memory_limit(MAX_MEMORY);
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    let exif = decoder.exif_metadata().ok().flatten();
    let orientation = exif.as_deref().map(Orientation::of_tiff).unwrap_or_default();
    let layout = if decoder.has_alpha() { Layout::Rgba } else { Layout::Rgb };
    let mut pixels = vec![0; decoder.output_buffer_size().ok_or("its size overflows")?];
    decoder.read_image(&mut pixels).map_err(to_sentence)?;
    Ok(Pixels { width, height, layout, bytes: pixels, orientation })
}

/// Walks the chunks, those of an animation's frames too: notes their names and checks every stated size.
fn walk(mut rest: &[u8], depth: u8, chunks: &mut Vec<[u8; 4]>) -> Result<(), String> {
    let u24 =
        |raw: &[u8], at: usize| Some(u32::from_le_bytes([*raw.get(at)?, *raw.get(at + 1)?, *raw.get(at + 2)?, 0]));
    while let Some((name, after)) = rest.split_first_chunk::<4>() {
        let Some((length, body)) = after.split_first_chunk::<4>() else { break };
        let length = u32::from_le_bytes(*length) as usize;
        let body = &body[..body.len().min(length)];
        let stated = match name {
            b"VP8X" => u24(body, 4).zip(u24(body, 7)).map(|(width, height)| (width + 1, height + 1)),
            b"ANMF" => u24(body, 6).zip(u24(body, 9)).map(|(width, height)| (width + 1, height + 1)),
            b"VP8 " => u24(body, 6).zip(u24(body, 8)).map(|(width, height)| (width & 0x3FFF, height & 0x3FFF)),
            b"VP8L" => u24(body, 1).zip(u24(body, 2)).map(|(low, high)| ((low & 0x3FFF) + 1, (high >> 6 & 0x3FFF) + 1)),
            _ => None,
        };
        if let Some((width, height)) = stated {
            check_size(width, height)?;
        }
        if !chunks.contains(name) {
            chunks.push(*name);
        }
        if name == b"ANMF" && depth == 0 {
            walk(body.get(16..).unwrap_or_default(), 1, chunks)?;
        }
        rest = rest.get(length.saturating_add(8 + (length & 1))..).unwrap_or_default();
    }
    Ok(())
}
