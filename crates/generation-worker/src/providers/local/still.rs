//! A still as a PNG file, which every browser shows and which is written by memory-safe code.
//!
//! Invariant: equal pictures give equal bytes.

use png::{BitDepth, ColorType, Compression, Encoder, SrgbRenderingIntent};

use super::canvas::Planes;

/// The file of a picture with full chroma.
pub(super) fn file(picture: &Planes) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, picture.size.width as u32, picture.size.height as u32);
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(Compression::Fast);
    encoder.set_source_srgb(SrgbRenderingIntent::Perceptual);
    let written = encoder.write_header().and_then(|mut writer| {
        writer.write_image_data(&picture.to_rgb())?;
        writer.finish()
    });
    written.map_err(|error| error.to_string())?;
    Ok(bytes)
}
