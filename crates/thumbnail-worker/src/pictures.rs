//! Still pictures: what a file claims to be, whether that is allowed, its pixels, and the thumbnail made of them.
//!
//! Invariant: every decoder here is memory-safe Rust; the one C library (libwebp) only ever encodes pixels that were made here.

pub mod fit;
mod format;
mod header;
mod jpeg;
mod marks;
mod orientation;
mod pixels;
mod png;
mod profile;
mod refused;
mod webp;

use header::Detail;

use crate::model::Spec;
use crate::stop::Stop;

pub use format::Format;
pub use header::{Header, Limits};
pub use orientation::Orientation;
pub use pixels::{Layout, Pixels};
pub use refused::Refused;

/// Decodes `bytes` to pixels that are at least as large as `spec` needs, and not much larger where the format allows to skip
/// work. The whole file is read, so a picture that decodes here is whole.
///
/// # Errors
/// [`Refused`] for a file that is truncated, damaged or of a kind that is not read, and for one that is told to stop.
pub fn decode(bytes: &[u8], header: &Header, spec: &Spec, stop: &Stop) -> Result<Pixels, Refused> {
    let cover = header.cover(spec);
    match &header.detail {
        Detail::Jpeg(frame) => jpeg::decode(bytes, frame, cover, stop),
        Detail::Png(rows) => png::decode(bytes, rows, cover, stop),
        Detail::Webp(image) => webp::decode(bytes, image),
    }
}

/// Decodes `bytes` as [`decode`] does, to pixels in sRGB.
///
/// # Errors
/// [`Refused`] as [`decode`] does.
pub(crate) fn decode_srgb(bytes: &[u8], header: &Header, spec: &Spec, stop: &Stop) -> Result<Pixels, Refused> {
    // Not many more than are needed, since the conversion costs more than the shrinking.
    let pixels = decode(bytes, header, spec, stop)?;
    let pixels = fit::within(pixels, Orientation::Upright, 2 * spec.width.max(spec.height));
    Ok(match &header.profile {
        Some(profile) => profile.to_srgb(pixels),
        None => pixels,
    })
}

/// Renders the picture in `bytes` as a WebP file of `spec`, upright and in sRGB.
///
/// # Errors
/// [`Refused`] as [`decode`] does.
pub fn render(bytes: &[u8], header: &Header, spec: &Spec, stop: &Stop) -> Result<Vec<u8>, Refused> {
    let pixels = decode(bytes, header, spec, stop)?;
    let fitted = fit::fit(pixels, header.orientation, spec);
    let fitted = match &header.profile {
        Some(profile) => profile.to_srgb(fitted),
        None => fitted,
    };
    Ok(fit::encode(&fitted, spec.quality))
}
