//! The corpus: every kind of file that others get wrong, made by code, with the right colours at four points or the reason for which
//! it is refused. `docs/pictures.md` has the table that it makes.
//!
//! `RUSHES_WRITE_PAGES=1 cargo rushes test -p thumbnail-worker -- corpus` writes the table anew; with `RUSHES_CORPUS_DIR` set, the
//! files and our thumbnails of them go there too, where `compare-with-libvips` finds them.

use std::fmt::Write as _;
use std::path::Path;

use jpeg_encoder::{ColorType, SamplingFactor};
use thumbnail_worker::model::Spec;
use thumbnail_worker::pictures::{Header, Limits, fit, render};
use thumbnail_worker::stop::Stop;
use thumbnail_worker::videos::{self, frames};

use crate::endings::interlaced;
use crate::film::{BT601, BT709, Film};
use crate::jpegs::{empty_scans, join, jpeg, segments, tiff};
use crate::paint::{QUARTERS, fixture, png, quarters, see, turned_jpeg, vast_png, webp};
use crate::profiles::{ADOBE, P3, chunk, extended, files, icc};

/// What is right of a file.
enum Right {
    /// These colours in the middles of its four quarters, within so many levels.
    Shown([[u8; 3]; 4], u8),
    /// Refused for this reason; of a video, the text of it.
    Refused(&'static str),
}

/// A file of the corpus.
struct Case {
    /// Its name, with an ending.
    file: String,
    /// What is the matter with it.
    what: &'static str,
    bytes: Vec<u8>,
    right: Right,
}

const SIZE: (u32, u32) = (400, 296);

fn case(file: &str, what: &'static str, bytes: Vec<u8>, right: Right) -> Case {
    Case { file: file.to_owned(), what, bytes, right }
}

fn whole() -> Right {
    Right::Shown(QUARTERS, 30)
}

fn jpegs() -> Vec<Case> {
    let rgb = quarters(SIZE.0, SIZE.1);
    let plain = jpeg(ColorType::Rgb, &rgb, false, SamplingFactor::F_2_2);
    let progressive = jpeg(ColorType::Rgb, &rgb, true, SamplingFactor::F_2_2);
    let open = |file: &[u8]| file[..file.len() - 2].to_vec();
    let behind = |file: &[u8], more: &[u8]| [file, more].concat();
    let scan = progressive.windows(2).position(|pair| pair == [0xFF, 0xDA]).unwrap();
    let scans = progressive[scan..scan + 14].repeat(500);
    let refused = Right::Refused;
    let mut cases = vec![
        case("420.jpg", "baseline, colour at a quarter of the size", plain.clone(), whole()),
        case("progressive.jpg", "progressive", progressive.clone(), whole()),
        case("422.jpg", "colour at half the width", fixture("subsampled-422.jpg"), whole()),
        case("restarts.jpg", "with restart markers", fixture("restarts.jpg"), whole()),
        case("cmyk.jpg", "inks", fixture("cmyk.jpg"), Right::Shown(QUARTERS, 45)),
        case("no-end.jpg", "whole, without its end", open(&plain), whole()),
        case("no-end-progressive.jpg", "whole, without its end", open(&progressive), whole()),
        case("behind.jpg", "text behind its end", behind(&plain, b"and more"), whole()),
        case("scans-behind.jpg", "500 scans behind its end", behind(&progressive, &scans), whole()),
        case("cut.jpg", "half of it", plain[..plain.len() / 2].to_vec(), refused("IMAGE_TRUNCATED")),
        case(
            "empty-scans.jpg",
            "1,000 scans without data",
            empty_scans(7_000, false, 1_000, [0, 63, 0]),
            refused("IMAGE_LIMIT_EXCEEDED"),
        ),
    ];
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
    for (number, order) in (1..).zip(turned) {
        let right = Right::Shown(order.map(|n| QUARTERS[n]), 30);
        cases.push(case(&format!("orientation-{number}.jpg"), "EXIF orientation", turned_jpeg(number, true), right));
    }
    let (own, scan) = segments(&fixture("baseline.jpg"));
    let exif = |blocks: &[Vec<u8>]| {
        let exif = blocks.iter().map(|block| (0xE1, [b"Exif\0\0", &block[..]].concat()));
        join(&exif.chain(own.iter().cloned()).collect::<Vec<_>>(), &scan)
    };
    let six = |kind| tiff(true, 0x0112, kind, 1, [6, 0, 0, 0]);
    let on_its_side = || Right::Shown([2, 0, 3, 1].map(|n| QUARTERS[n]), 30);
    cases.push(case("orientation-long.jpg", "EXIF orientation as LONG", exif(&[six(4)]), on_its_side()));
    cases.push(case("orientation-byte.jpg", "EXIF orientation as BYTE", exif(&[six(1)]), on_its_side()));
    let two = exif(&[six(3), tiff(true, 0x0112, 3, 1, [1, 0, 0, 0])]);
    cases.push(case("orientation-two.jpg", "two EXIF blocks, the first turns it", two, on_its_side()));
    let grey_as_ycc = [[200; 3]; 4];
    let (own, scan) =
        segments(&jpeg(ColorType::Ycbcr, &[200, 128, 128].repeat(400 * 296), false, SamplingFactor::F_1_1));
    let own: Vec<_> = own.into_iter().filter(|(marker, _)| !matches!(marker, 0xE0 | 0xEE)).collect();
    let with =
        |marker: (u8, Vec<u8>)| join(&std::iter::once(marker).chain(own.iter().cloned()).collect::<Vec<_>>(), &scan);
    let adobe = |transform: u8| (0xEE, [&b"Adobe\0\x64\0\0\0\0"[..], &[transform]].concat());
    let jfif = (0xE0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0".to_vec());
    cases.push(case("jfif.jpg", "JFIF says YCbCr", with(jfif), Right::Shown(grey_as_ycc, 8)));
    cases.push(case("adobe-rgb.jpg", "Adobe's marker says RGB", with(adobe(0)), Right::Shown([[200, 128, 128]; 4], 8)));
    cases.push(case(
        "adobe-unknown.jpg",
        "Adobe's marker says something else",
        with(adobe(9)),
        Right::Shown(grey_as_ycc, 8),
    ));
    cases
}

fn pngs_and_webps() -> Vec<Case> {
    let rgb = quarters(SIZE.0, SIZE.1);
    let plain = png(SIZE.0, SIZE.1, &rgb);
    let end = plain.len() - 12;
    let changed = |at: usize| {
        let mut file = plain.clone();
        file[at] ^= 0x55;
        file
    };
    let (lossy, lossless) = (webp(SIZE.0, SIZE.1, &rgb, false), webp(SIZE.0, SIZE.1, &rgb, true));
    let refused = Right::Refused;
    vec![
        case("truecolour.png", "truecolour", plain.clone(), whole()),
        case("palette.png", "palette", fixture("palette.png"), whole()),
        case("interlaced.png", "interlaced", interlaced(SIZE.0 as usize, SIZE.1 as usize, &rgb), whole()),
        case("no-end.png", "without its end", plain[..end].to_vec(), whole()),
        case("bad-checksum.png", "a bad checksum of its data", changed(end - 1), whole()),
        case("behind.png", "text behind its end", [&plain[..], b"and more"].concat(), whole()),
        case("cut.png", "half of it", plain[..plain.len() / 2].to_vec(), refused("IMAGE_TRUNCATED")),
        case("vast.png", "40,000 x 40,000 by its header", vast_png(40_000, 40_000), refused("IMAGE_LIMIT_EXCEEDED")),
        case("lossy.webp", "lossy", lossy.clone(), whole()),
        case("lossless.webp", "lossless", lossless, whole()),
        case("animated.webp", "animated: its first frame", fixture("animated.webp"), whole()),
        case("alpha-flag.webp", "promises opacity and has none", extended(0x10, SIZE, &[], &lossy[12..]), whole()),
        case("exif-flag.webp", "promises EXIF and has none", extended(0x08, SIZE, &[], &lossy[12..]), whole()),
        case("cut.webp", "half of it", lossy[..lossy.len() / 2].to_vec(), refused("IMAGE_TRUNCATED")),
    ]
}

fn profiles() -> Vec<Case> {
    let mut cases = Vec::new();
    // By the arithmetic of the standards, as the tests of profiles have it.
    for (profile, name, what, right) in [
        (icc(P3, false), "p3", "Display P3: 221, 60, 50", [239, 33, 35]),
        (icc(ADOBE, true), "adobe", "Adobe RGB: 180, 90, 70", [211, 89, 67]),
        (vec![7; 600], "damaged", "a profile that is none", [180, 90, 70]),
    ] {
        let colour = if name == "p3" { [221, 60, 50] } else { [180, 90, 70] };
        for (kind, file) in files(colour, &profile) {
            let ending = match kind {
                "png" => "png",
                "webp" | "lossless webp" => "webp",
                _ => "jpg",
            };
            let file_name = format!("{name}-{}.{ending}", kind.replace(' ', "-"));
            cases.push(case(&file_name, what, file, Right::Shown([right; 4], 6)));
        }
    }
    let plain = png(300, 200, &[221, 60, 50].repeat(300 * 200));
    let coded = [&plain[..33], &chunk(b"cICP", &[12, 13, 0, 1]), &plain[33..]].concat();
    cases.push(case("cicp.png", "Display P3 by cICP: 221, 60, 50", coded, Right::Shown([[239, 33, 35]; 4], 6)));
    cases
}

fn films() -> Vec<Case> {
    const PAINT: [[u8; 3]; 4] = [[200, 40, 40], [40, 180, 40], [40, 60, 200], [220, 220, 220]];
    let right = || Right::Shown(PAINT, 14);
    let quarter = |width: usize, height: usize| {
        move |_: usize, x: usize, y: usize| PAINT[usize::from(x >= width / 2) + 2 * usize::from(y >= height / 2)]
    };
    let film = |width: usize, height: usize, change: &dyn Fn(&mut Film)| {
        let mut film = Film::new(width, height);
        change(&mut film);
        film.shoot(6, quarter(width, height)).file()
    };
    let mut skipped =
        Film::new(320, 240).shoot(60, |n, x, y| if n < 30 { [9, 9, 250] } else { quarter(320, 240)(n, x, y) });
    skipped.edits = vec![(20, 30)];
    let mut hiding = Film::new(64, 64).shoot(2, |_, _, _| [200; 3]);
    hiding.insert_unit(0, &[0x65, 0x88, 0, 0, 1, 0x67, 0x42]);
    let bright = film_of_pq();
    vec![
        case("plain.mp4", "H.264", film(320, 240, &|_| {}), right()),
        case("anamorphic.mp4", "pixels of 4:3", film(320, 240, &|film| film.pixel_aspect = Some((4, 3))), right()),
        case(
            "on-its-side.mp4",
            "turned by 90 degrees",
            film(320, 240, &|film| film.matrix = [0, 1, -1, 0]),
            Right::Shown([2, 0, 3, 1].map(|n| PAINT[n]), 14),
        ),
        case("edited.mp4", "its first 30 frames are skipped", skipped.file(), right()),
        case("hd.mp4", "720 lines without tags: BT.709", film(1_280, 720, &|film| film.weights = BT709), right()),
        case("sd.mp4", "240 lines without tags: BT.601", film(320, 240, &|film| film.weights = BT601), right()),
        case(
            "tagged.mp4",
            "240 lines, tagged as BT.709",
            film(320, 240, &|film| (film.weights, film.colour) = (BT709, Some([1, 1, 1]))),
            right(),
        ),
        case("pq.mp4", "PQ in 8 bits: grey of 100 nits", bright, Right::Shown([[185; 3]; 4], 10)),
        case("hiding.mp4", "a unit that hides another", hiding.file(), Right::Refused("holds a start code")),
        case("ten-bits.mp4", "10 bits, without an ffmpeg", fixture("high10.mp4"), Right::Refused("no ffmpeg")),
    ]
}

fn film_of_pq() -> Vec<u8> {
    let mut film = Film::new(320, 240).shoot(2, |_, _, _| [130; 3]);
    film.colour = Some([9, 16, 9]);
    film.file()
}

/// Our thumbnail, or why there is none.
fn thumbnail(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let (spec, stop) = (Spec { quality: 100, ..Spec::default() }, Stop::default());
    if videos::Container::sniff(bytes).is_some() {
        let poster = frames::open(bytes, &videos::Limits::default()).and_then(|video| video.poster(&stop));
        let poster = poster.map_err(|missing| missing.to_string())?;
        return Ok(fit::render_webp(poster.pixels, poster.orientation, &spec));
    }
    let header = Header::read(bytes, &Limits::default()).map_err(|refused| refused.reason().to_owned())?;
    render(bytes, &header, &spec, &stop).map_err(|refused| refused.reason().to_owned())
}

/// Checks a file, and returns its row of the table.
#[track_caller]
fn check(Case { file, what, bytes, right }: &Case, folder: Option<&Path>) -> String {
    let made = thumbnail(bytes);
    if let Some(folder) = folder {
        std::fs::write(folder.join(file), bytes).unwrap();
        match &made {
            Ok(webp) => std::fs::write(folder.join(format!("{file}.ours.webp")), webp).unwrap(),
            Err(reason) => std::fs::write(folder.join(format!("{file}.refused")), reason).unwrap(),
        }
    }
    let answer = match (right, made) {
        (Right::Shown(colours, within), Ok(webp)) => {
            let seen = see(&webp);
            for ((x, y), wanted) in [(0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)].into_iter().zip(colours) {
                let is = seen.at(x, y);
                let near = is.iter().zip(wanted).all(|(is, wanted)| is.abs_diff(*wanted) <= *within);
                assert!(near, "{file} at {x}, {y}: {is:?} for {wanted:?}");
            }
            "shown, in its colours".to_owned()
        }
        (Right::Refused(reason), Err(given)) if given.contains(reason) => {
            if reason.contains(' ') {
                format!("no poster: “{reason}”")
            } else {
                format!("refused, `{reason}`")
            }
        }
        (_, made) => panic!("{file} ({what}): {:?}", made.map(|webp| webp.len())),
    };
    format!("| `{file}` | {what} | {answer} |\n")
}

#[test]
fn the_corpus_is_right_and_its_page_says_so() {
    let folder = std::env::var_os("RUSHES_CORPUS_DIR").map(std::path::PathBuf::from);
    if let Some(folder) = &folder {
        std::fs::create_dir_all(folder).unwrap();
    }
    let mut table = String::new();
    for (title, cases) in [
        ("JPEG", jpegs()),
        ("PNG and WebP", pngs_and_webps()),
        ("Colour profiles", profiles()),
        ("Videos, in process", films()),
    ] {
        write!(table, "### {title}\n\n| file | what it is | answer |\n|---|---|---|\n").unwrap();
        cases.iter().for_each(|case| table.push_str(&check(case, folder.as_deref())));
        table.push('\n');
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/pictures.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once("<!-- corpus -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- end of corpus -->\n").unwrap();
    let written = format!("{before}<!-- corpus -->\n{table}<!-- end of corpus -->\n{after}");
    if std::env::var_os("RUSHES_WRITE_PAGES").is_some() {
        std::fs::write(&path, written).unwrap();
        return;
    }
    assert!(written == page, "write docs/pictures.md anew (RUSHES_WRITE_PAGES=1)");
}
