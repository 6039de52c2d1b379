//! JPEG: its frame header, and its pixels at 1/1, 1/2, 1/4 or 1/8 of their size.
//!
//! Invariant: the scale is the smallest one at which both sides still cover what is wanted, so a large photograph is never held
//! at full size. A progressive file is held as coefficients, which its weight says, and may not have more scans than any
//! encoder writes, because each scan visits every block for a few bytes of input.

mod eighth;
mod frame;
mod huffman;

use jpeg_decoder::{Decoder, Error, PixelFormat};

use super::format::Format;
use super::pixels::{Layout, Pixels};
use super::refused::Refused;
use frame::damaged;

pub(super) use frame::{Frame, read_header};

/// Decodes at the smallest scale that covers `cover`.
pub(super) fn decode(bytes: &[u8], frame: &Frame, cover: (u32, u32)) -> Result<Pixels, Refused> {
    let divisor = frame.divisor(cover);
    if divisor == 8
        && let Some(pixels) = eighth::decode(bytes, frame)
    {
        return pixels;
    }
    let mut decoder = Decoder::new(bytes);
    decoder.set_max_decoding_buffer_size(usize::try_from(frame.weight(cover)).unwrap_or(usize::MAX));
    // The decoder takes the smallest scale at which one side reaches what is asked: asking for the exact size names the scale.
    let scaled = |length: u32| u16::try_from(length.div_ceil(divisor)).unwrap_or(u16::MAX);
    let (width, height) = decoder.scale(scaled(frame.width), scaled(frame.height)).map_err(to_refused)?;
    let bytes = decoder.decode().map_err(to_refused)?;
    let format = decoder.info().map(|info| info.pixel_format);
    let bytes = match format {
        Some(PixelFormat::RGB24) => bytes,
        Some(PixelFormat::L8) => bytes.iter().flat_map(|grey| [*grey; 3]).collect(),
        Some(PixelFormat::CMYK32) => bytes.chunks_exact(4).flat_map(cmyk_to_rgb).collect(),
        other => return Err(Refused::Unsupported { format: Format::Jpeg, detail: format!("pixels as {other:?}") }),
    };
    Ok(Pixels { width: u32::from(width), height: u32::from(height), layout: Layout::Rgb, bytes })
}

/// RGB of four inks on paper, each 0 for none to 255 for full.
fn cmyk_to_rgb(ink: &[u8]) -> [u8; 3] {
    let key = 255 - u32::from(ink[3]);
    [ink[0], ink[1], ink[2]].map(|ink| ((255 - u32::from(ink)) * key / 255) as u8)
}

fn to_refused(error: Error) -> Refused {
    match error {
        Error::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Refused::Truncated { format: Format::Jpeg }
        }
        Error::Unsupported(feature) => Refused::Unsupported { format: Format::Jpeg, detail: format!("{feature:?}") },
        Error::Format(detail) => Refused::Damaged { format: Format::Jpeg, detail },
        other => damaged(&other.to_string()),
    }
}
