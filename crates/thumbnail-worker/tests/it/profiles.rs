//! Colour profiles: the same colour as numbers of Display P3 and Adobe RGB comes out as sRGB in every format; a profile that is
//! damaged, or not for its picture, changes nothing.

use jpeg_encoder::{ColorType, Encoder};
use thumbnail_worker::model::Spec;
use thumbnail_worker::pictures::{Header, Limits, render};
use thumbnail_worker::stop::Stop;

use crate::paint::see;

/// Colorants for the white of D50, red, green, blue.
pub(crate) const P3: [[f64; 3]; 3] =
    [[0.515_12, 0.2412, -0.001_05], [0.291_98, 0.692_25, 0.041_89], [0.1571, 0.066_57, 0.784_07]];
pub(crate) const ADOBE: [[f64; 3]; 3] =
    [[0.609_74, 0.311_11, 0.019_47], [0.205_28, 0.625_67, 0.060_87], [0.149_19, 0.063_22, 0.744_57]];

/// A profile of a screen by its colorants, with sRGB's curve or a plain gamma of 2.2.
pub(crate) fn icc(colorants: [[f64; 3]; 3], gamma: bool) -> Vec<u8> {
    let fixed = |value: f64| ((value * 65_536.0).round() as i32).to_be_bytes();
    let xyz = |values: [f64; 3]| [&b"XYZ \0\0\0\0"[..], &values.map(fixed).concat()].concat();
    let curve = if gamma {
        b"curv\0\0\0\0\0\0\0\x01\x02\x33\0\0".to_vec()
    } else {
        let numbers = [2.4, 1.0 / 1.055, 0.055 / 1.055, 1.0 / 12.92, 0.040_45];
        [&b"para\0\0\0\0\0\x03\0\0"[..], &numbers.map(fixed).concat()].concat()
    };
    let [red, green, blue] = colorants;
    tagged(
        *b"RGB ",
        &[
            (*b"wtpt", xyz([0.9642, 1.0, 0.8249])),
            (*b"rXYZ", xyz(red)),
            (*b"gXYZ", xyz(green)),
            (*b"bXYZ", xyz(blue)),
            (*b"rTRC", curve.clone()),
            (*b"gTRC", curve.clone()),
            (*b"bTRC", curve),
        ],
    )
}

fn tagged(space: [u8; 4], tags: &[([u8; 4], Vec<u8>)]) -> Vec<u8> {
    let mut file = vec![0; 128];
    file[8..12].copy_from_slice(&[4, 0x20, 0, 0]);
    file[12..24].copy_from_slice(&[&b"mntr"[..], &space, b"XYZ "].concat());
    file[36..40].copy_from_slice(b"acsp");
    file[68..80].copy_from_slice(&[0, 0, 0xF6, 0xD6, 0, 1, 0, 0, 0, 0, 0xD3, 0x2D]);
    file.extend((tags.len() as u32).to_be_bytes());
    let mut at = file.len() + tags.len() * 12;
    for (name, body) in tags {
        file.extend(name);
        file.extend((at as u32).to_be_bytes());
        file.extend((body.len() as u32).to_be_bytes());
        at += body.len();
    }
    tags.iter().for_each(|(_, body)| file.extend(body));
    let length = (file.len() as u32).to_be_bytes();
    file[..4].copy_from_slice(&length);
    file
}

/// A picture of one colour in each format, with a profile.
pub(crate) fn files(colour: [u8; 3], profile: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let rgb = colour.repeat(300 * 200);
    let jpeg = |progressive| {
        let mut file = Vec::new();
        let mut encoder = Encoder::new(&mut file, 98);
        encoder.set_progressive(progressive);
        encoder.add_icc_profile(profile).unwrap();
        encoder.encode(&rgb, 300, 200, ColorType::Rgb).unwrap();
        file
    };
    let png = || {
        let mut file = Vec::new();
        let mut info = png::Info::with_size(300, 200);
        info.color_type = png::ColorType::Rgb;
        info.bit_depth = png::BitDepth::Eight;
        info.icc_profile = Some(profile.into());
        let mut writer = png::Encoder::with_info(&mut file, info).unwrap().write_header().unwrap();
        writer.write_image_data(&rgb).unwrap();
        writer.finish().unwrap();
        file
    };
    let webp = |lossless| {
        let plain = webp::Encoder::from_rgb(&rgb, 300, 200).encode_simple(lossless, 98.0).unwrap().to_vec();
        extended(0x20, (300, 200), &[(*b"ICCP", profile.to_vec())], &plain[12..])
    };
    vec![
        ("baseline", jpeg(false)),
        ("progressive", jpeg(true)),
        ("png", png()),
        ("webp", webp(false)),
        ("lossless webp", webp(true)),
    ]
}

/// An extended WebP: flags, size, chunks before and behind.
pub(crate) fn extended(
    flags: u8,
    (width, height): (u32, u32),
    before: &[([u8; 4], Vec<u8>)],
    behind: &[u8],
) -> Vec<u8> {
    let mut body = b"WEBPVP8X\x0A\0\0\0".to_vec();
    body.extend([flags, 0, 0, 0]);
    body.extend(&(width - 1).to_le_bytes()[..3]);
    body.extend(&(height - 1).to_le_bytes()[..3]);
    for (name, chunk) in before {
        body.extend(name);
        body.extend((chunk.len() as u32).to_le_bytes());
        body.extend(chunk);
        body.extend(vec![0; chunk.len() % 2]);
    }
    body.extend(behind);
    [&b"RIFF"[..], &(body.len() as u32).to_le_bytes(), &body].concat()
}

fn middle(file: &[u8]) -> [u8; 3] {
    let header = Header::read(file, &Limits::default()).unwrap();
    see(&render(file, &header, &Spec { quality: 100, ..Spec::default() }, &Stop::default()).unwrap()).at(0.5, 0.5)
}

#[track_caller]
fn near(what: &str, seen: [u8; 3], wanted: [u8; 3]) {
    assert!(
        seen.iter().zip(wanted).all(|(seen, wanted)| seen.abs_diff(wanted) <= 5),
        "{what}: {seen:?} for {wanted:?}"
    );
}

/// sRGB of a colour, by the arithmetic of the standards.
fn srgb_of(colour: [u8; 3], light: impl Fn(f64) -> f64, matrix: [[f64; 3]; 3]) -> [u8; 3] {
    let light = colour.map(|sample| light(f64::from(sample) / 255.0));
    matrix.map(|row| {
        let part: f64 = row.iter().zip(light).map(|(factor, part)| factor * part).sum();
        let part = part.clamp(0.0, 1.0);
        let sample = if part <= 0.003_130_8 { part * 12.92 } else { 1.055 * part.powf(1.0 / 2.4) - 0.055 };
        (sample * 255.0).round() as u8
    })
}

fn srgb_curve(sample: f64) -> f64 {
    if sample <= 0.040_45 { sample / 12.92 } else { ((sample + 0.055) / 1.055).powf(2.4) }
}

#[test]
fn wide_colours_become_srgb_in_every_format() {
    let from_p3 = [[1.224_94, -0.224_94, 0.0], [-0.042_057, 1.042_057, 0.0], [-0.019_638, -0.078_636, 1.098_273]];
    let from_adobe = [[1.398_28, -0.398_28, 0.0], [0.0, 1.0, 0.0], [0.0, -0.042_94, 1.042_94]];
    for colour in [[221, 60, 50], [90, 180, 70], [60, 70, 200], [128, 128, 128], [20, 30, 25]] {
        let wanted = srgb_of(colour, srgb_curve, from_p3);
        for (name, file) in files(colour, &icc(P3, false)) {
            near(&format!("P3, {name}"), middle(&file), wanted);
        }
        let wanted = srgb_of(colour, |sample| sample.powf(563.0 / 256.0), from_adobe);
        for (name, file) in files(colour, &icc(ADOBE, true)) {
            near(&format!("Adobe RGB, {name}"), middle(&file), wanted);
        }
    }
}

#[test]
fn a_profile_that_cannot_be_used_changes_nothing() {
    let colour = [200, 60, 50];
    let good = icc(P3, false);
    let curve = b"curv\0\0\0\0\0\0\0\x01\x01\x00\0\0".to_vec();
    let grey =
        tagged(*b"GRAY", &[(*b"wtpt", b"XYZ \0\0\0\0\0\0\xF6\xD6\0\x01\0\0\0\0\xD3\x2D".to_vec()), (*b"kTRC", curve)]);
    let inks = tagged(*b"CMYK", &[]);
    for (what, profile) in [
        ("half", good[..good.len() / 2].to_vec()),
        ("no tags", good[..128].to_vec()),
        ("text", b"this is no profile, whatever its segment says".repeat(8)),
        ("zeros", vec![0; 500]),
        ("of grey", grey),
        ("of inks", inks),
        ("too long", [&good[..], &vec![0; 5 << 20]].concat()),
    ] {
        for (name, file) in files(colour, &profile) {
            near(&format!("{what}, {name}"), middle(&file), colour);
        }
    }
}

#[test]
fn a_grey_picture_follows_its_grey_profile() {
    // Light in proportion to the sample: a middle grey is bright.
    let curve = b"curv\0\0\0\0\0\0\0\x01\x01\x00\0\0".to_vec();
    let white = b"XYZ \0\0\0\0\0\0\xF6\xD6\0\x01\0\0\0\0\xD3\x2D".to_vec();
    let profile = tagged(*b"GRAY", &[(*b"wtpt", white), (*b"kTRC", curve)]);
    let mut file = Vec::new();
    let mut encoder = Encoder::new(&mut file, 98);
    encoder.add_icc_profile(&profile).unwrap();
    encoder.encode(&[128; 300 * 200], 300, 200, ColorType::Luma).unwrap();
    near("linear grey", middle(&file), [188; 3]);
}

#[test]
fn png_s_coded_colours_count_before_its_profile() {
    let plain = &files([221, 60, 50], &icc(P3, false))[2].1;
    let with = |more: &[u8]| [&plain[..33], more, &plain[33..]].concat();
    // Plain sRGB, said in two ways.
    near("cICP", middle(&with(&chunk(b"cICP", &[1, 13, 0, 1]))), [221, 60, 50]);
    near("sRGB", middle(&with(&chunk(b"sRGB", &[0]))), [221, 60, 50]);
    let wide = srgb_of(
        [221, 60, 50],
        srgb_curve,
        [[1.224_94, -0.224_94, 0.0], [-0.042_057, 1.042_057, 0.0], [-0.019_638, -0.078_636, 1.098_273]],
    );
    near("cICP of P3", middle(&with(&chunk(b"cICP", &[12, 13, 0, 1]))), wide);
}

/// A chunk of a PNG.
pub(crate) fn chunk(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let named = [&name[..], body].concat();
    let length = (body.len() as u32).to_be_bytes();
    [&length[..], &named, &crc32(&named).to_be_bytes()].concat()
}

/// The checksum of a PNG's chunk.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0xEDB8_8320 } else { sum >> 1 })
    })
}
