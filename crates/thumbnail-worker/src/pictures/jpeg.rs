//! JPEG: its frame header, and its pixels at 1/1, 1/2, 1/4 or 1/8 of their size.
//!
//! Invariant: the scale is the smallest one at which both sides still cover what is wanted, so a large photograph is never held
//! at full size. A file has one answer at every scale: what follows its end is not read, and one without an end is taken when its
//! picture is whole all the same, which is decided at the same scale always. A progressive file is held as coefficients, which
//! its weight says; the work of its scans is bounded before they are decoded.

mod eighth;
mod frame;
mod huffman;
mod scans;
mod source;

use jpeg_decoder::{ColorTransform, Decoder, Error, PixelFormat};

use super::format::Format;
use super::pixels::{Layout, Pixels};
use super::refused::Refused;
use crate::stop::Stop;
use frame::{Colours, damaged};
use source::{Padding, Source};

pub(super) use frame::{Frame, read_header};

/// Decodes at the smallest scale that covers `cover`.
pub(super) fn decode(bytes: &[u8], frame: &Frame, cover: (u32, u32), stop: &Stop) -> Result<Pixels, Refused> {
    let divisor = frame.divisor(cover);
    let Some(end) = frame.scans.end else {
        // The first half of a marker is no data.
        let bytes = &bytes[..bytes.iter().rposition(|byte| *byte != 0xFF).map_or(0, |last| last + 1)];
        let (head, scans) = frame::split(bytes);
        refuse_truncated(&head, scans, frame, stop)?;
        return decode_general(Source::padded(&head, scans, Padding::Zeros, stop), frame, divisor);
    };
    let bytes = &bytes[..end];
    if divisor == 8
        && let Some(pixels) = eighth::decode(bytes, frame)
    {
        return Ok(pixels);
    }
    let (head, scans) = frame::split(bytes);
    decode_general(Source::new(&head, scans, stop), frame, divisor)
}

/// Refuses a file without an end whose picture is not whole: what is put in the place of missing data then shows. No code consists
/// of ones alone, so that ones break a picture that needs them, and zeros make another one of it.
fn refuse_truncated(head: &[u8], scans: &[u8], frame: &Frame, stop: &Stop) -> Result<(), Refused> {
    if !frame.scans.complete {
        return Err(Refused::Truncated { format: Format::Jpeg });
    }
    let [zeros, ones] = [Padding::Zeros, Padding::Ones]
        .map(|padding| decode_general(Source::padded(head, scans, padding, stop), frame, 8));
    match (zeros, ones) {
        (Ok(zeros), Ok(ones)) if zeros == ones => Ok(()),
        (Err(refused @ (Refused::TooMuchWork { .. } | Refused::Unsupported { .. })), _) => Err(refused),
        _ => Err(Refused::Truncated { format: Format::Jpeg }),
    }
}

fn decode_general(source: Source<'_>, frame: &Frame, divisor: u32) -> Result<Pixels, Refused> {
    let mut decoder = Decoder::new(source);
    decoder.set_max_decoding_buffer_size(usize::try_from(frame.weight_at(divisor)).unwrap_or(usize::MAX));
    decoder.set_color_transform(match frame.colours {
        Colours::Grey => ColorTransform::Grayscale,
        Colours::Ycc => ColorTransform::YCbCr,
        Colours::Rgb => ColorTransform::RGB,
        Colours::Cmyk => ColorTransform::CMYK,
        Colours::Ycck => ColorTransform::YCCK,
    });
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
        Error::Io(error) if error.kind() == std::io::ErrorKind::TimedOut => Refused::stopped(Format::Jpeg),
        Error::Unsupported(feature) => Refused::Unsupported { format: Format::Jpeg, detail: format!("{feature:?}") },
        Error::Format(detail) => Refused::Damaged { format: Format::Jpeg, detail },
        other => damaged(&other.to_string()),
    }
}
