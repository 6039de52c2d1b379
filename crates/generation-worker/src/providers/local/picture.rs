//! Pictures of an order: decoded by memory-safe decoders, turned upright, and cut to the size in which they are shown.
//!
//! Invariant: no memory is taken by a size that a file states before that size was held against the limits. A picture of
//! the largest size takes at most 16 bytes a pixel, 256 MiB, while it is decoded, and one picture is decoded at a time in a process.

mod exif;
mod fit;
mod jpeg;
mod pixels;
mod png;
mod webp;

use std::sync::{Mutex, PoisonError};

use super::canvas::{Chroma, Planes};
use super::size::Size;
use super::stop::Stop;
use pixels::stopped;

/// The longest file, in bytes.
const MAX_BYTES: usize = 20 << 20;
static DECODER: Mutex<()> = Mutex::new(());

/// Decodes a JPEG, PNG or WebP file and fits it into `size`: it fills the size to its edges, and what is over is cut off evenly.
///
/// # Errors
/// A sentence on what is wrong with the file.
pub(super) fn read(bytes: &[u8], size: Size, chroma: Chroma, stop: &Stop<'_>) -> Result<Planes, String> {
    if bytes.len() > MAX_BYTES {
        return Err(format!("the file has {} bytes, at most {MAX_BYTES} are taken", bytes.len()));
    }
    let pixels = {
        let _one_at_a_time = DECODER.lock().unwrap_or_else(PoisonError::into_inner);
        if stop.is_set() {
            return Err(stopped());
        }
        match bytes {
            [0xFF, 0xD8, 0xFF, ..] => jpeg::decode(bytes, size, stop)?,
            [0x89, b'P', b'N', b'G', ..] => png::decode(bytes, stop)?,
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => webp::decode(bytes)?,
            _ => return Err("it is not a JPEG, PNG or WebP picture".to_owned()),
        }
    };
    let rgb = fit::fit(pixels, size)?;
    Ok(Planes::of_rgb(size, chroma, &rgb))
}
