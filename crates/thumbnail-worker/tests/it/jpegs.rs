//! JPEGs as they come: with and without an end, with bytes behind it, with markers that disagree, lying on their side in any
//! notation, and built to be slow. Each has one answer, whatever size is asked for.

use std::time::{Duration, Instant};

use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use thumbnail_worker::model::Spec;
use thumbnail_worker::pictures::{Header, Limits, Pixels, Refused, decode};
use thumbnail_worker::stop::Stop;

use crate::paint::{fixture, quarters};

/// A JPEG of 400 x 296 pixels with this way of coding.
pub(crate) fn jpeg(colour: ColorType, pixels: &[u8], progressive: bool, sampling: SamplingFactor) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = Encoder::new(&mut file, 92);
    encoder.set_progressive(progressive);
    encoder.set_sampling_factor(sampling);
    encoder.encode(pixels, 400, 296, colour).unwrap();
    file
}

/// A file in segments: each marker with its body up to the first scan, and that with all that follows.
pub(crate) fn segments(file: &[u8]) -> (Vec<(u8, Vec<u8>)>, Vec<u8>) {
    let (mut at, mut found) = (2, Vec::new());
    while file[at + 1] != 0xDA {
        let length = usize::from(u16::from_be_bytes([file[at + 2], file[at + 3]]));
        found.push((file[at + 1], file[at + 4..at + 2 + length].to_vec()));
        at += 2 + length;
    }
    (found, file[at..].to_vec())
}

pub(crate) fn join(segments: &[(u8, Vec<u8>)], scan: &[u8]) -> Vec<u8> {
    let mut file = vec![0xFF, 0xD8];
    for (marker, body) in segments {
        file.extend([0xFF, *marker]);
        file.extend(u16::try_from(body.len() + 2).unwrap().to_be_bytes());
        file.extend(body);
    }
    file.extend(scan);
    file
}

fn seen(file: &[u8], side: u32) -> Result<Pixels, Refused> {
    let spec = Spec { width: side, height: side, quality: 80 };
    Header::read(file, &Limits::default()).and_then(|header| decode(file, &header, &spec, &Stop::default()))
}

/// The colour in the middle of the picture's first quarter.
fn colour(pixels: &Pixels) -> [u8; 3] {
    let at = (pixels.height as usize / 4 * pixels.width as usize + pixels.width as usize / 4) * 3;
    [pixels.bytes[at], pixels.bytes[at + 1], pixels.bytes[at + 2]]
}

const LENGTHS: [u32; 5] = [16, 40, 100, 256, 1_024];

#[test]
fn a_file_has_one_answer_at_every_size() {
    let rgb = quarters(400, 296);
    let files = [
        ("baseline", jpeg(ColorType::Rgb, &rgb, false, SamplingFactor::F_1_1)),
        ("420", jpeg(ColorType::Rgb, &rgb, false, SamplingFactor::F_2_2)),
        ("progressive", jpeg(ColorType::Rgb, &rgb, true, SamplingFactor::F_2_2)),
        ("refined", fixture("progressive.jpg")),
        ("restarts", fixture("restarts.jpg")),
        ("grey", fixture("grey.jpg")),
        ("cmyk", fixture("cmyk.jpg")),
    ];
    for (name, whole) in files {
        let open = &whole[..whole.len() - 2];
        let half = &whole[..whole.len() / 2];
        let behind = |more: &[u8]| [&whole, more].concat();
        let scan = whole.windows(2).position(|pair| pair == [0xFF, 0xDA]).unwrap();
        for (what, file, taken) in [
            ("whole", whole.clone(), true),
            ("zeros behind it", behind(&[0; 100]), true),
            ("text behind it", behind(b"appended by a camera's own software"), true),
            ("another behind it", behind(&fixture("baseline.jpg")), true),
            ("half of another behind it", behind(&fixture("progressive.jpg")[..2_000]), true),
            ("scans behind it", behind(&whole[scan..scan + 14].repeat(2_000)), true),
            ("no end", open.to_vec(), true),
            ("no end, one byte of the marker", [open, &[0xFF]].concat(), true),
            ("no end, but zeros", [open, &[0; 100]].concat(), true),
            ("cut in its middle", half.to_vec(), false),
            ("cut near its end", whole[..whole.len() - 40].to_vec(), false),
            // Whoever cut it closed it: browsers show it, and so do we.
            ("cut and closed", [half, &[0xFF, 0xD9]].concat(), !matches!(name, "restarts" | "refined")),
        ] {
            for side in LENGTHS {
                let answer = seen(&file, side);
                assert_eq!(answer.is_ok(), taken, "{name}, {what}, at {side}: {answer:?}");
            }
        }
    }
}

#[test]
fn markers_say_what_the_components_mean_in_libjpeg_s_order() {
    // Three components of one colour each, written as they are.
    let plain = [210, 90, 60];
    let as_ycc = {
        let [y, cb, cr] = plain.map(f64::from);
        [y + 1.402 * (cr - 128.0), y - 0.344_14 * (cb - 128.0) - 0.714_14 * (cr - 128.0), y + 1.772 * (cb - 128.0)]
            .map(|value| value.round().clamp(0.0, 255.0) as u8)
    };
    let pixels = plain.repeat(400 * 296);
    let adobe = |transform: u8| (0xEE, [&b"Adobe\0\x64\0\0\0\0"[..], &[transform]].concat());
    let jfif = (0xE0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0".to_vec());
    for (progressive, sampling) in
        [(false, SamplingFactor::F_1_1), (false, SamplingFactor::F_2_1), (true, SamplingFactor::F_1_1)]
    {
        let (own, scan) = segments(&jpeg(ColorType::Ycbcr, &pixels, progressive, sampling));
        let own: Vec<_> = own.into_iter().filter(|(marker, _)| !matches!(marker, 0xE0 | 0xEE)).collect();
        for (what, ids, markers, wanted) in [
            ("nothing", [1, 2, 3], vec![], as_ycc),
            ("unknown ids", [7, 8, 9], vec![], as_ycc),
            ("ids from zero", [0, 1, 2], vec![], as_ycc),
            ("ids RGB", *b"RGB", vec![], plain),
            ("ids rgb", *b"rgb", vec![], as_ycc),
            ("JFIF over ids RGB", *b"RGB", vec![jfif.clone()], as_ycc),
            ("JFIF over Adobe", [1, 2, 3], vec![jfif.clone(), adobe(0)], as_ycc),
            ("Adobe over ids", [1, 2, 3], vec![adobe(0)], plain),
            ("Adobe over ids RGB", *b"RGB", vec![adobe(1)], as_ycc),
            ("Adobe of another kind", [1, 2, 3], vec![adobe(9)], as_ycc),
            ("half a JFIF", *b"RGB", vec![(0xE0, b"JFIF\0".to_vec())], plain),
            ("half an Adobe", *b"RGB", vec![(0xEE, b"Adobe\0\x64\0\0".to_vec())], plain),
        ] {
            let mut whole = markers;
            whole.extend(own.iter().cloned());
            let mut were = [0; 3];
            for (marker, body) in &mut whole {
                if matches!(marker, 0xC0..=0xC2) {
                    (0..3).for_each(|n| were[n] = std::mem::replace(&mut body[6 + n * 3], ids[n]));
                }
            }
            // Each scan names its components too.
            let mut scan = scan.clone();
            let mut at = 0;
            while let Some(found) = scan[at..].windows(2).position(|pair| pair == [0xFF, 0xDA]) {
                at += found;
                for n in 0..usize::from(scan[at + 4]) {
                    let id = &mut scan[at + 5 + n * 2];
                    *id = ids[were.iter().position(|was| was == id).unwrap()];
                }
                at += 2;
            }
            let file = join(&whole, &scan);
            for side in LENGTHS {
                let seen = colour(&seen(&file, side).unwrap());
                let far = seen.iter().zip(wanted).map(|(seen, wanted)| seen.abs_diff(wanted)).max().unwrap();
                assert!(far <= 6, "{what}, {progressive}, at {side}: {seen:?} for {wanted:?}");
            }
        }
    }
}

/// A TIFF block with one entry.
pub(crate) fn tiff(little: bool, tag: u16, kind: u16, count: u32, value: [u8; 4]) -> Vec<u8> {
    let short = |number: u16| if little { number.to_le_bytes() } else { number.to_be_bytes() };
    let long = |number: u32| if little { number.to_le_bytes() } else { number.to_be_bytes() };
    let mut block = if little { b"II\x2A\0".to_vec() } else { b"MM\0\x2A".to_vec() };
    block.extend(long(8));
    block.extend(short(1));
    block.extend([short(tag), short(kind)].concat());
    block.extend(long(count));
    block.extend(value);
    block.extend([0; 4]);
    block
}

#[test]
fn an_orientation_counts_in_every_type_of_whole_number() {
    let (own, scan) = segments(&fixture("baseline.jpg"));
    let with = |blocks: &[Vec<u8>]| {
        let exif = blocks.iter().map(|block| (0xE1, [b"Exif\0\0", &block[..]].concat()));
        join(&exif.chain(own.iter().cloned()).collect::<Vec<_>>(), &scan)
    };
    let swaps = |blocks: &[Vec<u8>]| Header::read(&with(blocks), &Limits::default()).unwrap().orientation.swaps();
    for little in [true, false] {
        for (kind, size) in [(1, 1), (3, 2), (4, 4), (6, 1), (8, 2), (9, 4)] {
            let mut value = [0; 4];
            value[if little { 0 } else { size - 1 }] = 6;
            assert!(swaps(&[tiff(little, 0x0112, kind, 1, value)]), "type {kind}, little {little}");
        }
        let six = |kind| tiff(little, 0x0112, kind, 1, if little { [6, 0, 0, 0] } else { [0, 6, 0, 0] });
        // Text, a fraction, and a number that is nobody's type.
        for kind in [2, 5, 7, 10, 12, 200] {
            assert!(!swaps(&[six(kind)]), "type {kind}");
        }
        // The first block counts, whether or not it says how the camera was held.
        let (upright, silent) = (tiff(little, 0x0112, 3, 1, [0; 4]), tiff(little, 0x0100, 3, 1, [0; 4]));
        assert!(swaps(&[six(3), upright.clone()]));
        assert!(!swaps(&[upright, six(3)]));
        assert!(!swaps(&[silent, six(3)]));
        // Many values stand elsewhere, and are no orientation.
        assert!(!swaps(&[tiff(little, 0x0112, 4, 5, [6, 0, 0, 0])]));
    }
}

/// A picture of this many pixels a side by its header, with so many scans of one component and no data.
pub(crate) fn empty_scans(side: u16, progressive: bool, scans: usize, spectrum: [u8; 3]) -> Vec<u8> {
    let (mut own, _) = segments(&fixture("baseline.jpg"));
    for (marker, body) in &mut own {
        if matches!(marker, 0xC0..=0xC2) {
            *marker = if progressive { 0xC2 } else { 0xC0 };
            body[1..5].copy_from_slice(&[side.to_be_bytes(), side.to_be_bytes()].concat());
            for part in body[6..].chunks_exact_mut(3) {
                part[1] = 0x11;
            }
        }
    }
    let scan = [&[0xFF, 0xDA, 0, 8, 1, 1, 0][..], &spectrum].concat();
    let mut file = join(&own, &scan.repeat(scans));
    file.extend([0xFF, 0xD9]);
    file
}

#[test]
fn scans_without_data_are_bounded_by_the_work_that_they_are() {
    for (what, file) in [
        ("sequential", empty_scans(7_000, false, 1_000, [0, 63, 0])),
        ("progressive", empty_scans(7_000, true, 1_000, [0, 0, 0])),
        // Few enough in number, and too much in work.
        ("refining", empty_scans(7_000, true, 90, [1, 63, 0x10])),
    ] {
        let started = Instant::now();
        let refused = seen(&file, 256).unwrap_err();
        assert!(matches!(refused, Refused::TooMuchWork { .. }), "{what}: {refused}");
        assert!(started.elapsed() < Duration::from_millis(100), "{what}: {:?}", started.elapsed());
    }
    // Of what a scan costs a small picture may have many.
    let small = fixture("progressive.jpg");
    let scan = small.windows(2).position(|pair| pair == [0xFF, 0xDA]).unwrap();
    let end = small.len() - 2;
    let many = [&small[..end], &small[scan..scan + 14].repeat(40), &small[end..]].concat();
    assert_eq!(Header::read(&many, &Limits::default()).map(|_| ()), Ok(()));
}

#[test]
fn decoding_ends_when_it_is_stopped() {
    let file = empty_scans(2_500, false, 99, [0, 63, 0]);
    let header = Header::read(&file, &Limits::default()).unwrap();
    let started = Instant::now();
    let stop = Stop::after(Duration::from_millis(20));
    let refused = decode(&file, &header, &Spec::default(), &stop).unwrap_err();
    assert!(refused.to_string().contains("stopped"), "{refused}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}
