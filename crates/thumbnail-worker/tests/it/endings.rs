//! PNGs and WebPs that others show and strict readers do not: a missing or damaged end, flags without their chunks. And that the
//! memory for which a WebP is admitted is what its kind needs.

use thumbnail_worker::model::Spec;
use thumbnail_worker::pictures::{Header, Limits, Refused, render};
use thumbnail_worker::stop::Stop;

use crate::paint::{Seen, fixture, png, quarters, see, webp};
use crate::profiles::{chunk, extended};

fn seen(file: &[u8], side: u32) -> Result<Seen, Refused> {
    let spec = Spec { width: side, height: side, quality: 90 };
    let header = Header::read(file, &Limits::default())?;
    Ok(see(&render(file, &header, &spec, &Stop::default())?))
}

#[track_caller]
fn shown(what: &str, file: &[u8]) {
    for side in [16, 256, 1_024] {
        match seen(file, side) {
            Ok(seen) => assert_eq!(seen.quarters(), [Some(0), Some(1), Some(2), Some(3)], "{what} at {side}"),
            Err(refused) => panic!("{what} at {side}: {refused}"),
        }
    }
}

/// The place of a chunk's name.
fn place(file: &[u8], name: &[u8; 4]) -> usize {
    file.windows(4).rposition(|window| window == name).unwrap()
}

/// The same picture as each kind of PNG.
fn kinds() -> [(&'static str, Vec<u8>); 3] {
    let rgb = quarters(400, 296);
    [
        ("truecolour", png(400, 296, &rgb)),
        ("palette", fixture("palette.png")),
        ("interlaced", interlaced(400, 296, &rgb)),
    ]
}

/// An interlaced PNG.
pub(crate) fn interlaced(width: usize, height: usize, rgb: &[u8]) -> Vec<u8> {
    let passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)];
    let mut rows = Vec::new();
    for (column, row, across, down) in passes {
        if column >= width {
            continue;
        }
        for y in (row..height).step_by(down) {
            rows.push(0);
            for x in (column..width).step_by(across) {
                rows.extend(&rgb[(y * width + x) * 3..][..3]);
            }
        }
    }
    let mut header = [width as u32, height as u32].map(u32::to_be_bytes).concat();
    header.extend([8, 2, 0, 0, 1]);
    let data = fdeflate::compress_to_vec(&rows);
    let mut file = b"\x89PNG\r\n\x1A\n".to_vec();
    [(b"IHDR", &header[..]), (b"IDAT", &data), (b"IEND", &[])].iter().for_each(|(name, body)| {
        file.extend(chunk(name, body));
    });
    file
}

#[test]
fn an_interlaced_picture_of_any_size_is_whole() {
    for (width, height) in [(1, 1), (2, 3), (4, 4), (5, 1), (1, 9), (33, 17), (400, 296)] {
        let file = interlaced(width, height, &quarters(width as u32, height as u32));
        let seen = seen(&file, 64).unwrap();
        assert_eq!((seen.width, seen.height), (64, 64), "{width} x {height}");
        if width > 16 {
            assert_eq!(seen.quarters(), [Some(0), Some(1), Some(2), Some(3)], "{width} x {height}");
        }
    }
}

#[test]
fn a_png_whose_end_is_bad_or_missing_is_shown() {
    for (kind, whole) in kinds() {
        let end = place(&whole, b"IEND") - 4;
        let data = place(&whole, b"IDAT");
        let length = u32::from_be_bytes(whole[data - 4..data].try_into().unwrap()) as usize;
        let changed = |at: usize| {
            let mut file = whole.clone();
            file[at] ^= 0x55;
            file
        };
        for (what, file) in [
            ("no IEND", whole[..end].to_vec()),
            ("half an IEND", whole[..end + 6].to_vec()),
            ("a bad checksum at the end", changed(end + 9)),
            ("a bad checksum of the data", changed(data + 4 + length)),
            ("a bad sum within the data", changed(data + 4 + length - 1)),
            ("no checksum of the data", whole[..data + 4 + length].to_vec()),
            ("text behind it", [&whole[..], b"and more"].concat()),
            ("text in the place of the end", [&whole[..end], b"and more than a chunk's header holds"].concat()),
            ("an end with a body", [&whole[..end], b"\0\0\0\x04IENDbodysums"].concat()),
        ] {
            shown(&format!("{kind}, {what}"), &file);
        }
        // Half of its data is missing, not its end.
        assert_eq!(
            seen(&whole[..data + 4 + length / 2], 256).map(|_| ()).unwrap_err().reason(),
            "IMAGE_TRUNCATED",
            "{kind}"
        );
    }
}

#[test]
fn a_webp_whose_flags_promise_what_is_not_there_is_shown() {
    let rgb = quarters(400, 296);
    for lossless in [false, true] {
        let plain = webp(400, 296, &rgb, lossless);
        for flags in [0x00, 0x10, 0x08, 0x04, 0x20, 0x1C, 0x3C] {
            shown(&format!("lossless {lossless}, flags {flags:#04x}"), &extended(flags, (400, 296), &[], &plain[12..]));
        }
    }
    let mut animated = fixture("animated.webp");
    assert_eq!(&animated[12..16], b"VP8X");
    for flags in [0x02, 0x12, 0x1E] {
        animated[20] = flags;
        shown(&format!("animated, flags {flags:#04x}"), &animated);
    }
}

#[test]
fn opacity_that_is_there_stays() {
    let rgba: Vec<u8> = (0..200 * 100).flat_map(|at| [250, 20, 20, if at % 200 < 100 { 0 } else { 255 }]).collect();
    let plain = webp::Encoder::from_rgba(&rgba, 200, 100).encode_simple(false, 90.0).unwrap().to_vec();
    let file = [&plain[..20], &[plain[20] | 0x08], &plain[21..]].concat();
    assert_eq!(&file[12..16], b"VP8X");
    let header = Header::read(&file, &Limits::default()).unwrap();
    let webp = render(&file, &header, &Spec { width: 200, height: 100, quality: 90 }, &Stop::default()).unwrap();
    let mut decoder = image_webp::WebPDecoder::new(std::io::Cursor::new(&webp)).unwrap();
    assert!(decoder.has_alpha());
    let mut pixels = vec![0; decoder.output_buffer_size().unwrap()];
    decoder.read_image(&mut pixels).unwrap();
    assert_eq!((pixels[(50 * 200 + 20) * 4 + 3], pixels[(50 * 200 + 180) * 4 + 3]), (0, 255));
}

#[test]
fn a_webp_is_admitted_with_the_memory_of_its_kind() {
    let weight = |file: &[u8]| {
        let header = Header::read(file, &Limits::default()).unwrap();
        let fixed = (256 << 10) + 256 * 256 * 40;
        (header.weight(&Spec::default()) - fixed) / (u64::from(header.width) * u64::from(header.height))
    };
    let rgba: Vec<u8> = (0..200 * 100).flat_map(|at| [250, 20, 20, (at % 251) as u8]).collect();
    let alpha = webp::Encoder::from_rgba(&rgba, 200, 100).encode_simple(false, 90.0).unwrap().to_vec();
    let rgb = quarters(200, 100);
    for (what, file, each) in [
        ("lossy", webp(200, 100, &rgb, false), 7),
        ("lossless", webp(200, 100, &rgb, true), 9),
        ("with opacity", alpha, 11),
        ("animated", fixture("animated.webp"), 15),
    ] {
        assert_eq!(weight(&file), each, "{what}");
    }
}
