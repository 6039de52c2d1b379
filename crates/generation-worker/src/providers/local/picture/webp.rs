//! WebP, lossy and lossless; of an animation its first frame.
//!
//! Invariant: a WebP states its size up to three times (canvas, frame of an animation, bitstream), and a decoder takes memory by each
//! of them: all are held against the limits.

use std::io::Cursor;

use image_webp::{DecodingError, WebPDecoder};

use super::exif::Orientation;
use super::pixels::{Layout, MAX_MEMORY, Pixels, check_size};

pub(super) fn decode(bytes: &[u8]) -> Result<Pixels, String> {
    check_sizes(bytes.get(12..).unwrap_or_default(), 0)?;
    let to_sentence = |error: DecodingError| format!("it cannot be decoded as WebP: {error}");
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(to_sentence)?;
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

/// Walks the chunks for every stated size.
fn check_sizes(mut rest: &[u8], depth: u8) -> Result<(), String> {
    let u24 =
        |raw: &[u8], at: usize| Some(u32::from_le_bytes([*raw.get(at)?, *raw.get(at + 1)?, *raw.get(at + 2)?, 0]));
    while let (Some(name), Some(length)) = (rest.get(..4), rest.get(4..8)) {
        let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
        let body = &rest[8..];
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
        if name == b"ANMF" && depth == 0 {
            check_sizes(body.get(16..).unwrap_or_default(), 1)?;
        }
        rest = rest.get(length.saturating_add(8 + (length & 1))..).unwrap_or_default();
    }
    Ok(())
}
