//! JPEG, decoded at the smallest of 1/1, 1/2, 1/4 and 1/8 of its size that still fills the frame.
//!
//! Invariant: reading fails soon after the work is to stop, so that a file whose scans ask for hours ends with it.

use std::io::{Error, ErrorKind, Read};

use jpeg_decoder::{Decoder, PixelFormat};

use super::exif::Orientation;
use super::pixels::{Layout, MAX_MEMORY, Pixels, check_size, stopped};
use crate::providers::local::size::Size;
use crate::providers::local::stop::Stop;

pub(super) fn decode(bytes: &[u8], size: Size, stop: &Stop<'_>) -> Result<Pixels, String> {
    let mut decoder = Decoder::new(Source { chunk: &[], rest: [bytes, &END], stop });
    decoder.set_max_decoding_buffer_size(MAX_MEMORY);
    let to_sentence = |error: jpeg_decoder::Error| match error {
        jpeg_decoder::Error::Io(error) if error.kind() == ErrorKind::TimedOut => stopped(),
        error => format!("it cannot be decoded as JPEG: {error}"),
    };
    decoder.read_info().map_err(to_sentence)?;
    let info = decoder.info().ok_or("it has no header")?;
    check_size(info.width.into(), info.height.into())?;
    let orientation = decoder.exif_data().map(Orientation::of_tiff).unwrap_or_default();
    let (across, down) = orientation.turned(size.width, size.height);
    let fills = |divisor: &u16| {
        usize::from(info.width.div_ceil(*divisor)) >= across && usize::from(info.height.div_ceil(*divisor)) >= down
    };
    let divisor = [8, 4, 2].into_iter().find(fills).unwrap_or(1);
    // The decoder takes the smallest scale at which one edge is as long as is asked: asking for the exact size names the scale.
    let scaled = decoder.scale(info.width.div_ceil(divisor), info.height.div_ceil(divisor)).map_err(to_sentence)?;
    let bytes = decoder.decode().map_err(to_sentence)?;
    let layout = match info.pixel_format {
        PixelFormat::RGB24 => Layout::Rgb,
        PixelFormat::L8 => Layout::Grey,
        PixelFormat::CMYK32 => Layout::Cmyk,
        PixelFormat::L16 => return Err("it has 16 bits a pixel, which no browser shows".to_owned()),
    };
    Ok(Pixels { width: scaled.0.into(), height: scaled.1.into(), layout, bytes, orientation })
}

/// The file as the decoder reads it.
struct Source<'a> {
    /// What is read without asking whether to stop: at most [`CHUNK`] bytes, and not beyond the beginning of a scan.
    chunk: &'a [u8],
    /// The file and an end, which it may lack.
    rest: [&'a [u8]; 2],
    stop: &'a Stop<'a>,
}

/// How many bytes are read before it is asked again.
const CHUNK: usize = 4_096;
/// The marker at a file's end.
const END: [u8; 2] = [0xFF, 0xD9];

impl Read for Source<'_> {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, Error> {
        if self.chunk.is_empty() {
            if self.stop.is_set() {
                return Err(ErrorKind::TimedOut.into());
            }
            let Some(rest) = self.rest.iter_mut().find(|rest| !rest.is_empty()) else { return Ok(0) };
            let longest = &rest[..rest.len().min(CHUNK)];
            // A scan without data takes a dozen bytes and as long as one with data, so it is asked for each.
            let scan = longest.windows(2).skip(1).position(|pair| pair == [0xFF, 0xDA]);
            (self.chunk, *rest) = rest.split_at(scan.map_or(longest.len(), |at| at + 1));
        }
        self.chunk.read(into)
    }
}
