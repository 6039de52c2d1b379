//! Picture files for orders, painted by a closure.

use bytes::Bytes;

/// Red, green and blue of each pixel.
pub(crate) fn rgb(width: usize, height: usize, paint: impl Fn(usize, usize) -> [u8; 3]) -> Vec<u8> {
    (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).flat_map(|(x, y)| paint(x, y)).collect()
}

/// Pixels of any layout as a PNG.
pub(crate) fn png(width: usize, height: usize, colour: png::ColorType, pixels: &[u8]) -> Bytes {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width as u32, height as u32);
    encoder.set_color(colour);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(pixels).unwrap();
    writer.finish().unwrap();
    file.into()
}

/// A JPEG whose EXIF says how the camera was held.
pub(crate) fn jpeg(width: usize, height: usize, pixels: &[u8], orientation: u8) -> Bytes {
    let mut file = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut file, 95);
    let mut exif = b"Exif\0\0MM\0\x2A\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    exif.extend_from_slice(&[orientation, 0, 0, 0, 0, 0, 0]);
    encoder.add_app_segment(1, exif).unwrap();
    encoder.encode(pixels, width as u16, height as u16, jpeg_encoder::ColorType::Rgb).unwrap();
    file.into()
}

/// A lossless WebP.
pub(crate) fn webp(width: usize, height: usize, pixels: &[u8]) -> Bytes {
    let mut file = Vec::new();
    let encoder = image_webp::WebPEncoder::new(&mut file);
    encoder.encode(pixels, width as u32, height as u32, image_webp::ColorType::Rgb8).unwrap();
    file.into()
}

/// Four quarters of clear colours.
pub(crate) fn quarters(width: usize, height: usize) -> impl Fn(usize, usize) -> [u8; 3] {
    move |x, y| {
        const PAINT: [[u8; 3]; 4] = [[200, 40, 40], [40, 180, 40], [40, 60, 200], [220, 220, 220]];
        PAINT[usize::from(x >= width / 2) + 2 * usize::from(y >= height / 2)]
    }
}
