//! The pictures of an order: the first frame, the last one, and those to go by.

use std::collections::BTreeMap;

use bytes::Bytes;
use generation_worker::providers::local::{DrawError, Drawing};
use serde_json::json;

use super::film::Film;
use super::pictures::{jpeg, png, quarters, rgb, webp};
use super::{draw_with, parse, try_draw};

/// The size of a film at 240p and 16:9.
const SIZE: (usize, usize) = (426, 240);

/// A film of one second at 240p, at this rate, that begins or ends with these files.
fn film_with(rate: usize, files: &[(&str, Bytes)]) -> Film {
    let mut input = json!({"resolution": "240p", "duration": 1, "seed": 8, "fps": rate});
    for (name, _) in files {
        input[*name] = json!(null);
    }
    let files = files.iter().map(|(name, file)| (format!("/{name}"), file.clone())).collect();
    Film::decode(&draw_with(input, &files)[0].bytes)
}

fn solid(colour: [u8; 3]) -> impl Fn(usize, usize) -> [u8; 3] {
    move |_, _| colour
}

#[test]
fn a_film_begins_with_the_first_picture_and_ends_with_the_last_one() {
    let (width, height) = SIZE;
    let first = quarters(width, height);
    let last = |x: usize, y: usize| if (x / 71 + y / 60).is_multiple_of(2) { [230, 180, 30] } else { [30, 40, 90] };
    let pixels = rgb(width, height, &first);
    let last_file = png(width, height, png::ColorType::Rgb, &rgb(width, height, last));
    for (name, file) in [
        ("PNG", png(width, height, png::ColorType::Rgb, &pixels)),
        ("JPEG", jpeg(width, height, &pixels, 1)),
        ("WebP", webp(width, height, &pixels)),
    ] {
        let film = film_with(24, &[("first_frame", file), ("last_frame", last_file.clone())]);
        assert_eq!(film.frames.len(), 24);
        let far = film.difference(0, &first);
        assert!(far < 4.0, "{name}: frame 0 is {far} from the first picture");
        let far = film.difference(23, last);
        assert!(far < 4.0, "{name}: frame 23 is {far} from the last picture");
        // Neither is in the middle, and between them they go little by little.
        assert!(film.difference(12, &first) > 30.0 && film.difference(12, last) > 30.0, "{name}");
        let fading: Vec<_> = (0..9).map(|n| film.difference(n, &first)).collect();
        assert!(fading.is_sorted(), "{name}: {fading:?}");
        let coming: Vec<_> = (15..24).map(|n| film.difference(n, last)).collect();
        assert!(coming.iter().rev().is_sorted(), "{name}: {coming:?}");
    }
}

#[test]
fn a_film_with_one_of_them_is_as_ever_at_its_other_end() {
    let (width, height) = SIZE;
    let paint = quarters(width, height);
    let file = png(width, height, png::ColorType::Rgb, &rgb(width, height, &paint));
    let film = film_with(24, &[("first_frame", file.clone())]);
    assert!(film.difference(0, &paint) < 4.0);
    let lumas = film.lumas();
    assert!(lumas[23] < lumas[12] / 2.0, "goes out: {lumas:?}");
    let film = film_with(24, &[("last_frame", file)]);
    assert!(film.difference(23, &paint) < 4.0);
    assert!(film.lumas()[0] < 17.0, "opens on black: {:?}", film.lumas());
}

#[test]
fn pictures_are_upright_and_fill_the_frame() {
    let (width, height) = SIZE;
    // As they should be seen; then as a camera stores them that was held in each of the eight ways.
    let seen = quarters(width, height);
    for orientation in 1..=8_u8 {
        let swaps = orientation > 4;
        let (w, h) = if swaps { (height, width) } else { (width, height) };
        let stored = rgb(w, h, |x, y| match orientation {
            1 => seen(x, y),
            2 => seen(w - 1 - x, y),
            3 => seen(w - 1 - x, h - 1 - y),
            4 => seen(x, h - 1 - y),
            5 => seen(y, x),
            // The upper edge of what is seen is the right one of what is stored, and so on.
            6 => seen(h - 1 - y, x),
            7 => seen(h - 1 - y, w - 1 - x),
            _ => seen(y, w - 1 - x),
        });
        let far = film_with(6, &[("first_frame", jpeg(w, h, &stored, orientation))]).difference(0, &seen);
        assert!(far < 4.0, "orientation {orientation} is {far} away");
    }
    // Cut evenly above and below, or to the left and right: of a red edge all round, half is gone.
    for (w, h) in [(400, 1_200), (1_600, 300), (60, 20), (2_000, 1_500)] {
        let edged = |x: usize, y: usize| {
            let (x, y) = (x as f64 / w as f64 - 0.5, y as f64 / h as f64 - 0.5);
            if x.abs() < 0.48 && y.abs() < 0.48 { [40, 180, 40] } else { [200, 40, 40] }
        };
        let film = film_with(6, &[("first_frame", png(w, h, png::ColorType::Rgb, &rgb(w, h, edged)))]);
        let is_red = |x: usize, y: usize| {
            let [red, green, _] = film.pixel(0, x, y);
            red > green
        };
        let (across, down) = (is_red(2, height / 2), is_red(width / 2, 2));
        let is_wide = w * height > h * width;
        assert_eq!((across, down), (!is_wide, is_wide), "{w} x {h}");
        assert!(!is_red(width / 2, height / 2), "{w} x {h}");
    }
}

#[test]
fn other_layouts_of_pixels_are_read_and_what_is_clear_is_black() {
    let pixel = |layout: png::ColorType, pixel: &[u8], wanted: [u8; 3]| {
        let file = png(60, 34, layout, &pixel.repeat(60 * 34));
        let far = film_with(6, &[("first_frame", file)]).difference(0, solid(wanted));
        assert!(far < 4.0, "{layout:?} is {far} away");
    };
    pixel(png::ColorType::Grayscale, &[120], [120; 3]);
    pixel(png::ColorType::GrayscaleAlpha, &[200, 128], [100; 3]);
    pixel(png::ColorType::Rgba, &[40, 180, 40, 255], [40, 180, 40]);
    pixel(png::ColorType::Rgba, &[255, 255, 255, 0], [0; 3]);
}

#[test]
fn what_browsers_show_of_a_damaged_file_is_read() {
    let (width, height) = SIZE;
    let paint = quarters(width, height);
    let pixels = rgb(width, height, &paint);
    let mut checksum = png(width, height, png::ColorType::Rgb, &pixels).to_vec();
    checksum[30] ^= 1;
    let jpeg = jpeg(width, height, &pixels, 1);
    let mut flag = Vec::new();
    let mut encoder = image_webp::WebPEncoder::new(&mut flag);
    encoder.set_exif_metadata(vec![0; 8]);
    encoder.encode(&pixels, width as u32, height as u32, image_webp::ColorType::Rgb8).unwrap();
    let chunk = flag.windows(4).position(|name| name == b"EXIF").unwrap();
    flag[chunk..chunk + 4].copy_from_slice(b"MINE");
    for (what, file) in [
        ("PNG with a wrong checksum", checksum.into()),
        ("JPEG without its end", jpeg.slice(..jpeg.len() - 2)),
        ("WebP without a chunk that it announces", flag.into()),
    ] {
        let far = film_with(6, &[("first_frame", file)]).difference(0, &paint);
        assert!(far < 4.0, "{what} is {far} away");
    }
}

#[test]
fn references_lie_in_the_picture_and_change_it() {
    let input = json!({"duration": 2, "references": [null, null, null, null]});
    let colours = [[200, 40, 40], [40, 180, 40], [40, 60, 200], [230, 200, 40]];
    let file = |colour| png(64, 64, png::ColorType::Rgb, &rgb(64, 64, solid(colour)));
    let files = colours.iter().enumerate().map(|(n, colour)| (format!("/references/{n}"), file(*colour))).collect();
    let film = Film::decode(&draw_with(input, &files)[0].bytes);
    for (n, colour) in colours.into_iter().enumerate() {
        // In the middle of each card, at full light.
        let seen = film.pixel(24, 86 + n * 128, 88);
        let far = seen.iter().zip(colour).map(|(seen, wanted)| (seen - f64::from(wanted)).abs()).fold(0.0, f64::max);
        assert!(far < 16.0, "card {n}: {seen:?}");
    }
    // Near the end it is dimmed as the rest is.
    let [red, ..] = film.pixel(45, 86, 88);
    assert!((20.0..120.0).contains(&red), "{red}");
    // A reference is known by its bytes, or by its name where it has one.
    let named = |name: &str| draw_with(json!({"duration": 1, "fps": 6, "references": [name]}), &BTreeMap::new());
    assert_eq!(named("assets/a"), named("assets/a"));
    assert!(named("assets/a") != named("assets/b"));
}

#[test]
fn wrong_files_are_refused_with_their_place_and_why() {
    let (width, height) = SIZE;
    let pixels = rgb(width, height, quarters(width, height));
    let whole = png(width, height, png::ColorType::Rgb, &pixels);
    let mut huge = whole.to_vec();
    huge[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]);
    let mut wide = webp(width, height, &pixels).to_vec();
    wide[21..25].copy_from_slice(&0x0FFF_FFFF_u32.to_le_bytes());
    for (file, reason) in [
        (Bytes::from_static(b"GIF89a"), "it is not a JPEG, PNG or WebP picture"),
        (Bytes::new(), "it is not a JPEG, PNG or WebP picture"),
        (whole.slice(..whole.len() / 2), "it cannot be decoded as PNG"),
        (jpeg(width, height, &pixels, 1).slice(..200), "it cannot be decoded as JPEG"),
        (webp(width, height, &pixels).slice(..90), "it cannot be decoded as WebP"),
        (huge.into(), "it is 65536 x 65536 pixels, 1 to 16777216 pixels in all are taken"),
        (wide.into(), "it is 16384 x 16384 pixels, 1 to 16777216 pixels in all are taken"),
        (vec![0xFF; (20 << 20) + 1].into(), "the file has 20971521 bytes, at most 20971520 are taken"),
    ] {
        let files = BTreeMap::from([("/first_frame".to_owned(), file)]);
        let error = try_draw(json!({"first_frame": null}), &files).unwrap_err();
        let DrawError::File { pointer, reason: given } = &error else { panic!("{error}") };
        assert_eq!(pointer, "/first_frame");
        assert!(given.starts_with(reason), "{given}");
    }
    let missing = try_draw(json!({"references": ["a", null]}), &BTreeMap::new()).unwrap_err();
    assert_eq!(missing.to_string(), "/references/1: the file is missing");
    let files = BTreeMap::from([("/last_frame".to_owned(), whole)]);
    let without_place = try_draw(json!({}), &files).unwrap_err();
    assert_eq!(without_place.to_string(), "/last_frame: the input has no place for this file");
}

#[test]
fn a_jpeg_that_asks_for_hours_ends_when_it_is_cancelled() {
    // A progressive picture, and after its scans thousands more that bring nothing.
    let edge = 2_048;
    let mut file = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut file, 50);
    encoder.set_progressive(true);
    encoder.encode(&vec![90; edge * edge], edge as u16, edge as u16, jpeg_encoder::ColorType::Luma).unwrap();
    file.truncate(file.len() - 2);
    for _ in 0..5_000 {
        file.extend_from_slice(&[0xFF, 0xDA, 0, 8, 1, 1, 0, 1, 63, 0x10]);
    }
    file.extend_from_slice(&[0xFF, 0xD9]);
    let files = BTreeMap::from([("/first_frame".to_owned(), Bytes::from(file))]);
    let asked = std::cell::Cell::new(0);
    let is_cancelled = || {
        asked.set(asked.get() + 1);
        asked.get() > 4
    };
    let end = Drawing::new(&parse(json!({"first_frame": null})).unwrap(), &files, &is_cancelled);
    assert_eq!(end.unwrap_err(), DrawError::Cancelled);
    assert!(asked.get() < 8, "it is asked {} times, and was to end at the fifth", asked.get());
}
