//! Pictures that cost more than they weigh.

use std::io::Write as _;
use std::sync::LazyLock;

use flate2::Compression;
use flate2::write::ZlibEncoder;

/// The longest side of a square that is taken: 50 megapixels and a few pixels less.
pub(super) const LARGEST: u32 = 7_071;

/// The pixels of the largest PNG, packed: it takes seconds, which the good client beside it would feel.
static LARGEST_PIXELS: LazyLock<Vec<u8>> = LazyLock::new(|| pixels(LARGEST));

/// A JPEG as large as is taken by its header: three components, and so many scans of one of them without any data.
pub(super) fn jpeg(scans: usize) -> Vec<u8> {
    let segment = |marker: u8, body: &[u8]| {
        let length = u16::try_from(body.len() + 2).unwrap_or(u16::MAX).to_be_bytes();
        [&[0xff, marker][..], &length, body].concat()
    };
    let side = u16::try_from(LARGEST).unwrap_or(u16::MAX).to_be_bytes();
    // Each component: its number, its sampling, its quantization.
    let frame = [&[8][..], &side, &side, &[3, 1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0]].concat();
    let quantization = [&[0][..], &[1; 64]].concat();
    // One code of one bit, for nothing.
    let huffman = |class: u8| [&[class][..], &[1], &[0; 15], &[0]].concat();
    let scan = segment(0xda, &[1, 1, 0, 0, 63, 0]);
    let mut file = vec![0xff, 0xd8];
    file.extend(segment(0xdb, &quantization));
    file.extend(segment(0xc0, &frame));
    file.extend(segment(0xc4, &huffman(0)));
    file.extend(segment(0xc4, &huffman(0x10)));
    // No two files are the same.
    file.extend(segment(0xfe, &fastrand::u64(..).to_be_bytes()));
    file.extend(scan.repeat(scans));
    file.extend([0xff, 0xd9]);
    file
}

/// A PNG of `side` by `side` of one colour, with `more` empty chunks before its picture.
pub(super) fn png(side: u32, more: usize) -> Vec<u8> {
    let packed = if side == LARGEST { LARGEST_PIXELS.clone() } else { pixels(side) };
    let header = [&side.to_be_bytes()[..], &side.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
    let comment = [&b"Comment\0"[..], fastrand::u64(..).to_string().as_bytes()].concat();
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    file.extend(chunk(*b"IHDR", &header));
    file.extend(chunk(*b"tEXt", &comment));
    file.extend(chunk(*b"teSt", b"").repeat(more));
    file.extend(chunk(*b"IDAT", &packed));
    file.extend(chunk(*b"IEND", b""));
    file
}

/// The rows of a PNG of `side` by `side` of one colour, packed.
fn pixels(side: u32) -> Vec<u8> {
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::best());
    let row = vec![0; usize::try_from(side).unwrap_or_default() * 3 + 1];
    for _ in 0..side {
        // Writing to a Vec does not fail.
        let _ = packed.write_all(&row);
    }
    packed.finish().unwrap_or_default()
}

fn chunk(kind: [u8; 4], body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut sum = flate2::Crc::new();
    sum.update(&kind);
    sum.update(body);
    [&length[..], &kind, body, &sum.sum().to_be_bytes()].concat()
}

/// The header of a WebP that is as large as the format allows, with and without alpha and animation, and noise behind it.
pub(super) fn webp() -> Vec<u8> {
    let flags = [0x10, 0x02, 0x12, 0x00][fastrand::usize(0..4)];
    let size = [0x7f_u8, 0x3f, 0xff][fastrand::usize(0..3)];
    let extended = [&b"VP8X\x0a\0\0\0"[..], &[flags, 0, 0, 0, 0xff, size, 0, 0xff, size, 0]].concat();
    let noise = (0..fastrand::usize(100..4_000)).map(|_| fastrand::u8(..)).collect::<Vec<_>>();
    let length = u32::try_from(noise.len()).unwrap_or(u32::MAX).to_le_bytes();
    let body = [b"WEBP", &extended[..], b"VP8L", &length, &noise].concat();
    [b"RIFF", &u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes()[..], &body].concat()
}
