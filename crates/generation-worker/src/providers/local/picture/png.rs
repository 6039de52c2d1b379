//! PNG, row by row; of an animation its default picture.
//!
//! Invariant: text and colour profiles are never inflated.

use std::io::Cursor;

use png::{BitDepth, ColorType, Decoder, DecodingError, Limits, Transformations};

use super::exif::Orientation;
use super::pixels::{Layout, MAX_MEMORY, Pixels, check_size, stopped};
use crate::providers::local::stop::Stop;

pub(super) fn decode(bytes: &[u8], stop: &Stop<'_>) -> Result<Pixels, String> {
    let to_sentence = |error: DecodingError| format!("it cannot be decoded as PNG: {error}");
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: MAX_MEMORY });
    // A wrong checksum says that a file was changed, not that its picture is gone; browsers show it.
    decoder.ignore_checksums(true);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_transformations(Transformations::normalize_to_color8());
    let header = decoder.read_header_info().map_err(to_sentence)?;
    let (width, height) = (header.width, header.height);
    check_size(width, height)?;
    let mut reader = decoder.read_info().map_err(to_sentence)?;
    let orientation = reader.info().exif_metadata.as_deref().map(Orientation::of_tiff).unwrap_or_default();
    let layout = match reader.output_color_type() {
        (ColorType::Grayscale, BitDepth::Eight) => Layout::Grey,
        (ColorType::GrayscaleAlpha, BitDepth::Eight) => Layout::GreyAlpha,
        (ColorType::Rgb, BitDepth::Eight) => Layout::Rgb,
        (ColorType::Rgba, BitDepth::Eight) => Layout::Rgba,
        other => return Err(format!("its pixels are {other:?}, which is not read")),
    };
    let size = reader.output_buffer_size().ok_or("its size overflows")?;
    if reader.info().interlaced {
        let mut whole = vec![0; size];
        reader.next_frame(&mut whole).map_err(to_sentence)?;
        return Ok(Pixels { width, height, layout, bytes: whole, orientation });
    }
    let mut rows = Vec::with_capacity(size);
    // Asked for exactly as many rows as there are, the decoder does not need what follows them.
    for _ in 0..height {
        if stop.is_set() {
            return Err(stopped());
        }
        let row = reader.next_row().map_err(to_sentence)?.ok_or("it ends before its picture does")?;
        rows.extend_from_slice(row.data());
    }
    Ok(Pixels { width, height, layout, bytes: rows, orientation })
}
