//! Pictures for tests: four coloured quarters, as files of every format, and what can be read back from a thumbnail.

use std::io::Cursor;

/// Red and green above, blue and white below.
pub(crate) const QUARTERS: [[u8; 3]; 4] = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]];

/// A file of `tests/fixtures`.
pub(crate) fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)).unwrap()
}

/// The four quarters as RGB pixels.
pub(crate) fn quarters(width: u32, height: u32) -> Vec<u8> {
    let quarter = |x, y| QUARTERS[usize::from(x >= width / 2) + 2 * usize::from(y >= height / 2)];
    (0..height).flat_map(|y| (0..width).flat_map(move |x| quarter(x, y))).collect()
}

/// A PNG of RGB pixels.
pub(crate) fn png(width: u32, height: u32, rgb: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(rgb).unwrap();
    writer.finish().unwrap();
    file
}

/// A PNG of nothing but a header that states this size.
pub(crate) fn vast_png(width: u32, height: u32) -> Vec<u8> {
    let mut file = png(16, 16, &quarters(16, 16));
    file[16..20].copy_from_slice(&width.to_be_bytes());
    file[20..24].copy_from_slice(&height.to_be_bytes());
    file
}

/// A WebP of RGB pixels.
pub(crate) fn webp(width: u32, height: u32, rgb: &[u8], lossless: bool) -> Vec<u8> {
    let encoder = webp::Encoder::from_rgb(rgb, width, height);
    encoder.encode_simple(lossless, 90.0).unwrap().to_vec()
}

/// The fixture `baseline.jpg` with an EXIF block that says how it is to be turned.
pub(crate) fn turned_jpeg(orientation: u8, little: bool) -> Vec<u8> {
    let jpeg = fixture("baseline.jpg");
    let mut tiff = Vec::new();
    if little {
        tiff.extend(b"II\x2A\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0");
        tiff.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
    } else {
        tiff.extend(b"MM\0\x2A\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0");
        tiff.extend([orientation, 0, 0, 0, 0, 0, 0]);
    }
    let mut file = jpeg[..2].to_vec();
    file.extend([0xFF, 0xE1]);
    file.extend(u16::try_from(8 + tiff.len()).unwrap().to_be_bytes());
    file.extend(b"Exif\0\0");
    file.extend(tiff);
    file.extend(&jpeg[2..]);
    file
}

/// A decoded WebP.
pub(crate) struct Seen {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pixels: Vec<u8>,
    channels: usize,
}

/// Decodes a WebP.
pub(crate) fn see(webp: &[u8]) -> Seen {
    let mut decoder = image_webp::WebPDecoder::new(Cursor::new(webp)).unwrap();
    let (width, height) = decoder.dimensions();
    let mut pixels = vec![0; decoder.output_buffer_size().unwrap()];
    decoder.read_image(&mut pixels).unwrap();
    Seen { width, height, pixels, channels: if decoder.has_alpha() { 4 } else { 3 } }
}

impl Seen {
    /// The colour at a place given in parts of the whole.
    pub(crate) fn at(&self, x: f64, y: f64) -> [u8; 3] {
        let column = (x * f64::from(self.width)) as usize;
        let row = (y * f64::from(self.height)) as usize;
        let at = (row * self.width as usize + column) * self.channels;
        [self.pixels[at], self.pixels[at + 1], self.pixels[at + 2]]
    }

    /// Which of the four colours each quarter has, if it has one.
    pub(crate) fn quarters(&self) -> [Option<usize>; 4] {
        [(0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)].map(|(x, y)| {
            let seen = self.at(x, y);
            QUARTERS.iter().position(|wanted| wanted.iter().zip(seen).all(|(want, is)| want.abs_diff(is) < 40))
        })
    }

    /// Mean of all channels.
    pub(crate) fn mean(&self) -> f64 {
        self.pixels.iter().map(|value| f64::from(*value)).sum::<f64>() / self.pixels.len() as f64
    }
}
