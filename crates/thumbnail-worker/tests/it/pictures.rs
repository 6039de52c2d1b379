//! Pictures of every format come out upright, in their colours, in the size asked for; what is over a limit is refused by its
//! header.

use thumbnail_worker::model::Spec;
use thumbnail_worker::pictures::{Format, Header, Limits, Refused, decode, render};
use thumbnail_worker::stop::Stop;

use crate::paint::{Seen, fixture, png, quarters, see, turned_jpeg, vast_png, webp};

const UPRIGHT: [Option<usize>; 4] = [Some(0), Some(1), Some(2), Some(3)];

#[track_caller]
fn thumbnail(bytes: &[u8], spec: Spec) -> Seen {
    let header = Header::read(bytes, &Limits::default()).unwrap();
    see(&render(bytes, &header, &spec, &Stop::default()).unwrap())
}

#[track_caller]
fn check(name: &str, bytes: &[u8]) {
    let seen = thumbnail(bytes, Spec::default());
    assert_eq!((seen.width, seen.height), (256, 256), "{name}");
    assert_eq!(seen.quarters(), UPRIGHT, "{name}");
}

#[test]
fn every_format_keeps_its_colours_in_their_places() {
    for name in [
        "baseline.jpg",
        "progressive.jpg",
        "subsampled-422.jpg",
        "restarts.jpg",
        "cmyk.jpg",
        "palette.png",
        "animated.webp",
    ] {
        check(name, &fixture(name));
    }
    for (width, height) in [(256, 256), (257, 255), (640, 480), (1_000, 3_000), (3_001, 777), (7, 5), (1_025, 1_025)] {
        let rgb = quarters(width, height);
        check(&format!("png {width}x{height}"), &png(width, height, &rgb));
        // Of so few pixels a lossy file keeps the brightness, not the colours.
        if width > 16 {
            check(&format!("webp {width}x{height}"), &webp(width, height, &rgb, false));
        }
        check(&format!("lossless webp {width}x{height}"), &webp(width, height, &rgb, true));
    }
}

#[test]
fn grey_stays_grey() {
    let seen = thumbnail(&fixture("grey.jpg"), Spec::default());
    for (x, y) in [(0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)] {
        let [r, g, b] = seen.at(x, y);
        assert!(r.abs_diff(g) < 6 && g.abs_diff(b) < 6, "{r} {g} {b}");
    }
    assert!(seen.at(0.75, 0.75)[0] > 240);
}

#[test]
fn a_clear_pixel_lends_no_colour() {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, 1_024, 1_024);
    encoder.set_color(png::ColorType::Rgba);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().unwrap();
    // Columns in turn: solid green, and clear with red behind.
    let pixels: Vec<u8> =
        (0..1_024 * 1_024).flat_map(|at| if at % 2 == 0 { [0, 255, 0, 255] } else { [255, 0, 0, 0] }).collect();
    writer.write_image_data(&pixels).unwrap();
    writer.finish().unwrap();
    let [r, g, b] = thumbnail(&file, Spec::default()).at(0.5, 0.5);
    assert!(r < 20 && g > 235 && b < 20, "{r} {g} {b}");
}

#[test]
fn the_camera_s_turn_is_undone() {
    // Where the four quarters of the stored picture go, by EXIF's number.
    let turned = [
        [0, 1, 2, 3],
        [1, 0, 3, 2],
        [3, 2, 1, 0],
        [2, 3, 0, 1],
        [0, 2, 1, 3],
        [2, 0, 3, 1],
        [3, 1, 2, 0],
        [1, 3, 0, 2],
    ];
    for (number, wanted) in (1..).zip(turned) {
        for little in [true, false] {
            let file = turned_jpeg(number, little);
            let header = Header::read(&file, &Limits::default()).unwrap();
            assert_eq!(header.upright(), if number < 5 { (640, 480) } else { (480, 640) });
            let seen = thumbnail(&file, Spec::default());
            assert_eq!(seen.quarters(), wanted.map(Some), "orientation {number}, little {little}");
        }
    }
    for number in [0, 9, 255] {
        assert_eq!(thumbnail(&turned_jpeg(number, true), Spec::default()).quarters(), UPRIGHT);
    }
}

#[test]
fn the_spec_is_met_exactly() {
    for (width, height) in [(16, 16), (1_024, 16), (17, 1_024), (320, 180), (1_024, 1_024)] {
        for number in [1, 6] {
            let seen = thumbnail(&turned_jpeg(number, true), Spec { width, height, quality: 80 });
            assert_eq!((seen.width, seen.height), (width, height));
        }
    }
    let size = |quality| {
        let bytes = fixture("baseline.jpg");
        let header = Header::read(&bytes, &Limits::default()).unwrap();
        render(&bytes, &header, &Spec { quality, ..Spec::default() }, &Stop::default()).unwrap().len()
    };
    assert!(size(1) < size(100));
}

#[test]
fn a_large_jpeg_is_not_decoded_at_full_size() {
    let bytes = fixture("baseline.jpg");
    let header = Header::read(&bytes, &Limits::default()).unwrap();
    let pixels = decode(&bytes, &header, &Spec { width: 16, height: 16, quality: 80 }, &Stop::default()).unwrap();
    assert_eq!((pixels.width, pixels.height), (80, 60));
    let pixels = decode(&bytes, &header, &Spec::default(), &Stop::default()).unwrap();
    assert_eq!((pixels.width, pixels.height), (640, 480));
    let pixels = decode(&bytes, &header, &Spec { width: 160, height: 60, quality: 80 }, &Stop::default()).unwrap();
    assert_eq!((pixels.width, pixels.height), (160, 120));
}

#[test]
fn an_eighth_is_what_the_general_decoder_gives() {
    // A progressive file goes to the general decoder; these hold the same picture, coded in one scan.
    let spec = Spec { width: 16, height: 16, quality: 80 };
    let eighth = |name: &str| {
        let bytes = fixture(name);
        decode(&bytes, &Header::read(&bytes, &Limits::default()).unwrap(), &spec, &Stop::default()).unwrap()
    };
    let general = eighth("progressive.jpg");
    for name in ["baseline.jpg", "restarts.jpg", "subsampled-422.jpg"] {
        let pixels = eighth(name);
        assert_eq!((pixels.width, pixels.height, pixels.layout), (80, 60, general.layout), "{name}");
        let inside = |at: &usize| (1..39).contains(&(at / 3 % 80)) && (1..29).contains(&(at / 240));
        let furthest =
            (0..pixels.bytes.len()).filter(inside).map(|at| pixels.bytes[at].abs_diff(general.bytes[at])).max();
        assert!(furthest.unwrap() <= 3, "{name}: {furthest:?}");
        let apart: u64 = pixels.bytes.iter().zip(&general.bytes).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        assert!(apart < pixels.bytes.len() as u64 * 3, "{name}: {apart}");
    }
}

#[track_caller]
fn refused(bytes: &[u8], limits: &Limits) -> Refused {
    match Header::read(bytes, limits) {
        Err(refused) => refused,
        Ok(header) => render(bytes, &header, &Spec::default(), &Stop::default()).unwrap_err(),
    }
}

#[test]
fn limits_are_read_from_the_header() {
    let limits = Limits::default();
    let reason = |bytes: &[u8]| refused(bytes, &limits).reason();
    assert_eq!(reason(&vast_png(40_000, 40_000)), "IMAGE_LIMIT_EXCEEDED");
    assert_eq!(reason(&vast_png(16_385, 1)), "IMAGE_LIMIT_EXCEEDED");
    assert_eq!(reason(&vast_png(10_000, 5_001)), "IMAGE_LIMIT_EXCEEDED");
    assert_eq!(reason(&vast_png(0, 7)), "IMAGE_DAMAGED");
    assert_eq!(reason(&vec![0xFF; (20 << 20) + 1]), "INPUT_TOO_LARGE");
    let small = Limits { pixels: 640 * 480 - 1, ..limits };
    for name in ["baseline.jpg", "progressive.jpg", "palette.png", "animated.webp"] {
        let refused = refused(&fixture(name), &small);
        assert_eq!(refused, Refused::TooManyPixels { width: 640, height: 480, limit: small.pixels }, "{name}");
    }
}

#[test]
fn a_webp_cannot_hide_its_size_in_its_bitstream() {
    let mut file = webp(64, 64, &quarters(64, 64), false);
    let at = file.windows(3).position(|bytes| bytes == [0x9D, 0x01, 0x2A]).unwrap() + 3;
    file[at..at + 4].copy_from_slice(&[0xFF, 0x3F, 0xFF, 0x3F]);
    let mut canvas = b"RIFF\0\0\0\0WEBPVP8X\x0A\0\0\0\0\0\0\0\x3F\0\0\x3F\0\0".to_vec();
    canvas.extend_from_slice(&file[12..]);
    let length = u32::try_from(canvas.len() - 8).unwrap();
    canvas[4..8].copy_from_slice(&length.to_le_bytes());
    assert_eq!(refused(&canvas, &Limits::default()).reason(), "IMAGE_LIMIT_EXCEEDED");
}

#[test]
fn a_jpeg_of_a_thousand_scans_is_refused() {
    let file = fixture("progressive.jpg");
    let scan = file.windows(2).position(|pair| pair == [0xFF, 0xDA]).unwrap();
    let end = file.len() - 2;
    let mut many = file[..end].to_vec();
    for _ in 0..1_000 {
        many.extend_from_slice(&file[scan..scan + 12]);
    }
    many.extend_from_slice(&file[end..]);
    assert_eq!(refused(&many, &Limits::default()).reason(), "IMAGE_LIMIT_EXCEEDED");
}

#[test]
fn a_truncated_file_is_refused_as_truncated() {
    let rgb = quarters(640, 480);
    let files = [
        ("baseline", fixture("baseline.jpg")),
        ("progressive", fixture("progressive.jpg")),
        ("restarts", fixture("restarts.jpg")),
        ("png", png(640, 480, &rgb)),
        ("webp", webp(640, 480, &rgb, false)),
        ("lossless", webp(640, 480, &rgb, true)),
    ];
    for (name, file) in files {
        for part in [0.3, 0.5, 0.9] {
            let cut = &file[..(file.len() as f64 * part) as usize];
            assert_eq!(refused(cut, &Limits::default()).reason(), "IMAGE_TRUNCATED", "{part} of {name}");
            let header = Header::read(cut, &Limits::default());
            let small = header.and_then(|header| {
                render(cut, &header, &Spec { width: 16, height: 16, quality: 80 }, &Stop::default())
            });
            assert_eq!(small.unwrap_err().reason(), "IMAGE_TRUNCATED", "{part} of {name} at its smallest");
        }
        assert_eq!(refused(&file[..13], &Limits::default()).reason(), "IMAGE_TRUNCATED", "13 bytes of {name}");
    }
}

#[test]
fn the_first_bytes_tell_the_format() {
    for (bytes, format) in [
        (fixture("baseline.jpg"), Some(Format::Jpeg)),
        (fixture("palette.png"), Some(Format::Png)),
        (fixture("animated.webp"), Some(Format::Webp)),
        (fixture("fade-baseline.mp4"), None),
        (b"GIF89a and so on".to_vec(), None),
        (b"a text that is named picture.jpg".to_vec(), None),
    ] {
        assert_eq!(Format::sniff(&bytes), format);
        if format.is_none() {
            assert_eq!(refused(&bytes, &Limits::default()).reason(), "IMAGE_FORMAT_UNSUPPORTED");
        }
    }
    assert_eq!(refused(b"", &Limits::default()).reason(), "IMAGE_FORMAT_UNSUPPORTED");
}
