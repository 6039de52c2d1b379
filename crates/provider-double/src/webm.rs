//! A WebM and a WebP, made by code: grey pictures in VP8, since a key frame whose every bit is zero is a whole grey picture.
//!
//! Of a frame of zeros the decoder of booleans reads `false` whatever the probability: no filter, no new probabilities, each
//! block predicted from its neighbours, no coefficient (RFC 6386, 7 and 9 to 13).

/// The picture's width and height: 4 x 3 macroblocks.
const SIZE: [u16; 2] = [64, 48];
/// Zeros that the modes, and after them the coefficients, are read from; more than they need.
const PARTITION: usize = 256;
/// Frames of a video, and how long each is shown, in milliseconds.
const FRAMES: u16 = 10;
const FRAME_MS: u16 = 100;

/// A key frame of VP8.
fn frame() -> Vec<u8> {
    // A shown key frame of version 0, and the size of its first partition.
    let tag = (u32::try_from(PARTITION).unwrap_or_default() << 5) | (1 << 4);
    let mut frame = tag.to_le_bytes()[..3].to_vec();
    frame.extend_from_slice(&[0x9D, 0x01, 0x2A]);
    frame.extend(SIZE.iter().flat_map(|side| side.to_le_bytes()));
    frame.resize(frame.len() + 2 * PARTITION, 0);
    frame
}

/// A picture in WebP's plain form.
pub(crate) fn picture() -> Vec<u8> {
    let frame = frame();
    let size = |bytes: usize| u32::try_from(bytes).unwrap_or_default().to_le_bytes();
    [b"RIFF", &size(12 + frame.len())[..], b"WEBPVP8 ", &size(frame.len()), &frame].concat()
}

/// A video of one second, with a `Void` that names the order.
pub(crate) fn video(id: &str) -> Vec<u8> {
    let number = |id: u32, value: u32| element(id, &value.to_be_bytes());
    let head = [
        number(0x4286, 1),
        number(0x42F7, 1),
        number(0x42F2, 4),
        number(0x42F3, 8),
        element(0x4282, b"webm"),
        number(0x4287, 2),
        number(0x4285, 2),
    ];
    let info = [
        number(0x002A_D7B1, 1_000_000),
        element(0x4489, &f64::from(FRAMES * FRAME_MS).to_be_bytes()),
        element(0x4D80, b"provider-double"),
        element(0x5741, b"provider-double"),
    ];
    let picture = [number(0xB0, SIZE[0].into()), number(0xBA, SIZE[1].into())].concat();
    let entry = [number(0xD7, 1), number(0x73C5, 1), number(0x83, 1), element(0x86, b"V_VP8"), element(0xE0, &picture)];
    let frame = frame();
    let block = |number: u16| {
        let time = (number * FRAME_MS).to_be_bytes();
        // Track 1; a key frame.
        element(0xA3, &[&[0x81, time[0], time[1], 0x80], &frame[..]].concat())
    };
    let cluster = [number(0xE7, 0), (0..FRAMES).flat_map(block).collect()].concat();
    let segment = [
        element(0x1549_A966, &info.concat()),
        element(0x1654_AE6B, &element(0xAE, &entry.concat())),
        element(0x1F43_B675, &cluster),
        element(0xEC, id.as_bytes()),
    ];
    [element(0x1A45_DFA3, &head.concat()), element(0x1853_8067, &segment.concat())].concat()
}

/// An element of EBML: its id, its size in four bytes, its payload.
fn element(id: u32, payload: &[u8]) -> Vec<u8> {
    let id = id.to_be_bytes();
    let zeros = id.iter().take_while(|byte| **byte == 0).count();
    let size = u32::try_from(payload.len()).unwrap_or_default() | 0x1000_0000;
    [&id[zeros..], &size.to_be_bytes(), payload].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_is_grey_and_whole() {
        let mut decoder = image_webp::WebPDecoder::new(std::io::Cursor::new(picture())).unwrap();
        assert_eq!(decoder.dimensions(), (64, 48));
        let mut pixels = vec![0; decoder.output_buffer_size().unwrap()];
        decoder.read_image(&mut pixels).unwrap();
        assert!(pixels.iter().all(|sample| (120..140).contains(sample)), "{:?}", &pixels[..6]);
    }

    #[test]
    fn the_video_of_each_order_is_another_webm() {
        let one = video("order-1");
        assert!(one.starts_with(&[0x1A, 0x45, 0xDF, 0xA3]) && one.windows(4).any(|four| four == b"webm"));
        assert!(one != video("order-2") && one.ends_with(b"order-1"));
    }
}
