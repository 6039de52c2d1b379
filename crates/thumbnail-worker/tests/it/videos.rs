//! Videos as their makers mean them: the shape, the stretch and the colours that are presented, and nothing that hides in a unit.
//! What needs ffmpeg to be made or read is skipped, in so many words, where there is none.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use thumbnail_worker::pictures::{Orientation, Pixels};
use thumbnail_worker::stop::Stop;
use thumbnail_worker::videos::frames::{Poster, open};
use thumbnail_worker::videos::{Limits, Missing, facts};

use crate::cluster;
use crate::film::{BT601, BT709, Film, RATE};
use crate::paint::fixture;

fn poster(file: &[u8]) -> Poster {
    open(file, &Limits::default()).unwrap().poster(&Stop::default()).unwrap()
}

/// The colour in the middle of each quarter.
fn quarters_of(pixels: &Pixels) -> [[u8; 3]; 4] {
    [(1, 1), (3, 1), (1, 3), (3, 3)].map(|(x, y)| {
        let at = (pixels.height as usize * y / 4 * pixels.width as usize + pixels.width as usize * x / 4) * 3;
        [pixels.bytes[at], pixels.bytes[at + 1], pixels.bytes[at + 2]]
    })
}

#[track_caller]
fn near(seen: [[u8; 3]; 4], wanted: [[u8; 3]; 4], what: &str) {
    let far = seen.iter().zip(&wanted).flat_map(|(seen, wanted)| (0..3).map(|n| seen[n].abs_diff(wanted[n]))).max();
    assert!(far.unwrap() <= 12, "{what}: {seen:?} for {wanted:?}");
}

/// Four quarters of clear colours within the gamut of every film.
const PAINT: [[u8; 3]; 4] = [[200, 40, 40], [40, 180, 40], [40, 60, 200], [220, 220, 220]];

fn quarter(width: usize, height: usize) -> impl Fn(usize, usize, usize) -> [u8; 3] {
    move |_, x, y| PAINT[usize::from(x >= width / 2) + 2 * usize::from(y >= height / 2)]
}

#[test]
fn pixels_that_are_not_square_are_shown_in_their_shape() {
    for (pixel_aspect, size) in [
        (Some((4, 3)), (427, 240)),
        (Some((1, 1)), (320, 240)),
        (Some((8, 9)), (284, 240)),
        // Nothing that any camera makes.
        (Some((1_000_000, 1)), (320, 240)),
        (None, (320, 240)),
    ] {
        let mut film = Film::new(320, 240).shoot(3, quarter(320, 240));
        film.pixel_aspect = pixel_aspect;
        let file = film.file();
        let facts = facts(&file).unwrap();
        assert_eq!((facts.width, facts.height), size, "{pixel_aspect:?}");
        let poster = poster(&file);
        assert_eq!((poster.pixels.width, poster.pixels.height), size, "{pixel_aspect:?}");
        near(quarters_of(&poster.pixels), PAINT, "anamorphic");
    }
    // On its side: what is wide as stored is tall as shown.
    let mut film = Film::new(320, 240).shoot(3, quarter(320, 240));
    (film.pixel_aspect, film.matrix) = (Some((4, 3)), [0, 1, -1, 0]);
    let facts = facts(&film.file()).unwrap();
    assert_eq!((facts.width, facts.height, facts.orientation), (240, 427, Orientation::Turned90));
}

#[test]
fn an_edit_list_says_which_frames_are_presented() {
    let white = |number, _, _| if number < 30 { [200, 40, 40] } else { [40, 180, 40] };
    let mut film = Film::new(64, 64).shoot(60, white);
    for (edits, length, red) in [
        (vec![], 60, true),
        (vec![(60, 0)], 60, true),
        (vec![(20, 30)], 20, false),
        // A pause, and what follows it.
        (vec![(12, -1), (18, 36)], 30, false),
        (vec![(10, 29)], 10, true),
        // Nothing is there: it is taken for no edit.
        (vec![(10, 900)], 10, true),
    ] {
        film.edits = edits.clone();
        let file = film.file();
        let ticks = Duration::from_millis(length * 1_000 / u64::from(RATE));
        assert_eq!(facts(&file).unwrap().duration, ticks, "{edits:?}");
        let colour = quarters_of(&poster(&file).pixels)[0];
        assert_eq!(colour[0] > colour[1], red, "{edits:?}: {colour:?}");
    }
}

#[test]
fn colours_are_the_ones_that_are_meant() {
    for (width, height, weights, colour) in [
        // Without tags: broadcast's for what is low, and for what is high.
        (320, 240, BT601, None),
        (1_280, 720, BT709, None),
        // With tags, whatever the size is.
        (320, 240, BT709, Some([1, 1, 1])),
        (1_280, 720, BT601, Some([6, 6, 6])),
    ] {
        let mut film = Film::new(width, height);
        film.weights = weights;
        let mut film = film.shoot(2, quarter(width, height));
        film.colour = colour;
        near(quarters_of(&poster(&film.file()).pixels), PAINT, &format!("{width}x{height} {colour:?}"));
    }
}

#[test]
fn high_dynamic_range_in_eight_bits_is_mapped_to_what_a_screen_shows() {
    // Samples of PQ at 100 nits are 130; as if they were sRGB's they would be a dim grey.
    let mut film = Film::new(320, 240).shoot(2, |_, _, _| [130; 3]);
    film.colour = Some([9, 16, 9]);
    let [grey, ..] = quarters_of(&poster(&film.file()).pixels);
    assert!(grey.iter().all(|part| (175..=195).contains(part)), "{grey:?}");
}

#[test]
fn a_unit_that_hides_another_is_refused() {
    let film = || Film::new(64, 64).shoot(3, |_, _, _| [200; 3]);
    let hidden = {
        // The parameters of a film of another size.
        let vast = Film::new(640, 480).shoot(1, |_, _, _| [0; 3]);
        [&[0x06, 0x05, 0x10, 0x00, 0x00, 0x01][..], vast.sps()].concat()
    };
    // In the type of each kind of slice and delimiter that the decoder gets.
    for kind in [0x65, 0x61, 0x09, 0x68] {
        let mut film = film();
        let mut unit = hidden.clone();
        unit[0] = kind;
        film.insert_unit(0, &unit);
        let missing = open(&film.file(), &Limits::default()).unwrap().poster(&Stop::default()).unwrap_err();
        assert!(missing.to_string().contains("holds a start code"), "{kind:#x}: {missing}");
    }
    // Parameters of scalable and multi-view streams, which state sizes of their own, do not reach the decoder at all.
    for kind in [0x06, 0x0D, 0x0E, 0x6F, 0x74] {
        let mut film = film();
        let mut unit = hidden.clone();
        unit[0] = kind;
        film.insert_unit(0, &unit);
        let poster = poster(&film.file());
        assert_eq!((poster.pixels.width, poster.pixels.height), (64, 64), "{kind:#x}");
    }
}

#[test]
fn webm_and_fragmented_mp4_say_their_size_and_length() {
    for name in ["vp9.webm", "fragmented.mp4", "high10.mp4"] {
        let facts = facts(&fixture(name)).unwrap();
        assert_eq!((facts.width, facts.height, facts.duration), (320, 180, Duration::from_secs(2)), "{name}");
    }
    // A live recording states no length: its last block does.
    let mut live = fixture("vp9.webm");
    let at = live.windows(3).position(|bytes| bytes == [0x44, 0x89, 0x88]).unwrap();
    live[at..at + 2].copy_from_slice(&[0x44, 0x44]);
    let facts = thumbnail_worker::videos::facts(&live).unwrap();
    assert!((1_950..=2_000).contains(&facts.duration.as_millis()), "{:?}", facts.duration);
    // A fragmented file that states no length: the sum of its fragments.
    let mut silent = fixture("fragmented.mp4");
    if let Some(at) = silent.windows(4).position(|name| name == b"mehd") {
        silent[at..at + 4].copy_from_slice(b"free");
    }
    let facts = thumbnail_worker::videos::facts(&silent).unwrap();
    assert_eq!(facts.duration, Duration::from_secs(2));
    assert!(silent.windows(4).any(|name| name == b"moof"), "it has fragments");
}

fn ffmpeg_binary() -> Option<PathBuf> {
    let found = testkit::find_binary("ffmpeg").ok();
    if found.is_none() {
        eprintln!("skipped: there is no ffmpeg here, and the product needs none");
    }
    found
}

/// A file made by ffmpeg from the quarters, by `filter` and `codec`; nothing, said aloud, where it lacks the encoder.
fn made(ffmpeg: &Path, filter: &str, codec: &[&str], name: &str) -> Option<Vec<u8>> {
    let file = std::env::temp_dir().join(format!("rushes-{}-{name}", uuid::Uuid::now_v7()));
    let colours = PAINT.map(|[r, g, b]| format!("color=0x{r:02x}{g:02x}{b:02x}:s=320x240:r=12:d=1"));
    let graph = format!("[0][1]hstack[a];[2][3]hstack[b];[a][b]vstack,{filter}");
    let mut command = Command::new(ffmpeg);
    command.args(["-nostdin", "-loglevel", "error", "-y"]);
    for colour in &colours {
        command.args(["-f", "lavfi", "-i", colour]);
    }
    let status = command.args(["-filter_complex", &graph]).args(codec).arg(&file).status().unwrap();
    if !status.success() {
        eprintln!("skipped: this ffmpeg does not make {name}");
        return None;
    }
    let bytes = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    Some(bytes)
}

async fn by_ffmpeg(ffmpeg: &Path, bytes: &[u8]) -> Result<Pixels, Missing> {
    cluster::by_ffmpeg(Some(ffmpeg.to_owned()), bytes, Missing::NotAVideo).await
}

#[tokio::test]
async fn ten_bits_are_no_noise() {
    let Some(ffmpeg) = ffmpeg_binary() else { return };
    let filter = "scale=out_color_matrix=bt709:out_range=tv,\
        setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709";
    for (name, codec) in [
        ("x264.mp4", &["-c:v", "libx264", "-pix_fmt", "yuv420p10le", "-crf", "12"][..]),
        ("x265.mp4", &["-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-crf", "12", "-x265-params", "log-level=error"]),
        ("x265-422-12.mp4", &["-c:v", "libx265", "-pix_fmt", "yuv422p12le", "-x265-params", "log-level=error"]),
        ("vp9.webm", &["-c:v", "libvpx-vp9", "-pix_fmt", "yuv420p10le", "-crf", "20", "-b:v", "0"]),
        ("av1.webm", &["-c:v", "libsvtav1", "-pix_fmt", "yuv420p10le", "-crf", "20"]),
        ("prores.mov", &["-c:v", "prores_ks", "-pix_fmt", "yuv422p10le", "-f", "mov"]),
    ] {
        let Some(file) = made(&ffmpeg, filter, codec, name) else { continue };
        let pixels = by_ffmpeg(&ffmpeg, &file).await.unwrap();
        assert_eq!((pixels.width, pixels.height), (640, 480), "{name}");
        near(quarters_of(&pixels), PAINT, name);
    }
}

#[tokio::test]
async fn ffmpeg_s_frames_have_their_shape_and_colours_too() {
    let Some(ffmpeg) = ffmpeg_binary() else { return };
    let x265 = ["-c:v", "libx265", "-crf", "12", "-x265-params", "log-level=error"];
    let vp9 = ["-c:v", "libvpx-vp9", "-crf", "20", "-b:v", "0", "-cpu-used", "8"];
    for (name, tail, size) in [
        (
            "anamorphic.webm",
            "scale=720:480:out_color_matrix=bt601:out_range=tv,setsar=8/9,setparams=colorspace=unknown",
            (640, 480),
        ),
        (
            "anamorphic.mp4",
            "scale=720:480:out_color_matrix=bt601:out_range=tv,setsar=8/9,setparams=colorspace=unknown",
            (640, 480),
        ),
        (
            "hd.mp4",
            "scale=1280:720:out_color_matrix=bt709:out_range=tv,setsar=1,setparams=colorspace=unknown",
            (1_280, 720),
        ),
        (
            "sd.mp4",
            "scale=640:360:out_color_matrix=bt601:out_range=tv,setsar=1,setparams=colorspace=unknown",
            (640, 360),
        ),
    ] {
        let Some(file) = made(&ffmpeg, tail, if name.ends_with("webm") { &vp9[..] } else { &x265[..] }, name) else {
            continue;
        };
        let pixels = by_ffmpeg(&ffmpeg, &file).await.unwrap();
        assert_eq!((pixels.width, pixels.height), size, "{name}");
        near(quarters_of(&pixels), PAINT, name);
    }
}

#[tokio::test]
async fn high_dynamic_range_through_ffmpeg_is_mapped() {
    let Some(ffmpeg) = ffmpeg_binary() else { return };
    // The samples are taken as PQ's: 200 of 255 is about 1,000 nits, 40 next to nothing.
    let filter = "scale=out_color_matrix=bt2020:out_range=tv,\
        setparams=colorspace=bt2020nc:color_primaries=bt2020:color_trc=smpte2084";
    let codec = ["-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-crf", "12", "-x265-params", "log-level=error"];
    let Some(file) = made(&ffmpeg, filter, &codec, "hdr.mp4") else { return };
    let pixels = by_ffmpeg(&ffmpeg, &file).await.unwrap();
    let [red, green, blue, white] = quarters_of(&pixels);
    assert!(white.iter().all(|part| *part >= 250), "{white:?}");
    assert!(red[0] > 240 && red[1] < 90 && red[2] < 90, "{red:?}");
    assert!(green[1] > 220 && blue[2] > 240, "{green:?} {blue:?}");
}

#[tokio::test]
async fn ffmpeg_sees_nothing_of_our_environment() {
    // A program that fails with what it finds.
    let folder = std::env::temp_dir().join(format!("rushes-{}", uuid::Uuid::now_v7()));
    std::fs::create_dir(&folder).unwrap();
    let program = folder.join("ffmpeg");
    std::fs::write(&program, "#!/bin/sh\necho \"it has: $(/usr/bin/env | /usr/bin/tr '\\n' ' ')\" >&2\nexit 1\n")
        .unwrap();
    let mut rights = std::fs::metadata(&program).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut rights, 0o755);
    std::fs::set_permissions(&program, rights).unwrap();
    assert!(std::env::vars_os().any(|(name, _)| name == "CARGO_MANIFEST_DIR"), "there is something to see");
    let missing = by_ffmpeg(&program, &fixture("vp9.webm")).await.unwrap_err().to_string();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(missing.contains("ffmpeg could not decode it"), "{missing}");
    let seen = missing.split_once("it has: ").unwrap().1;
    // What the shell sets for itself.
    let own = ["PWD=", "SHLVL=", "_=", "OLDPWD="];
    assert!(seen.split_whitespace().all(|set| own.iter().any(|name| set.starts_with(name))), "{missing}");
}

#[tokio::test]
async fn frames_of_more_than_eight_bits_are_refused() {
    let folder = std::env::temp_dir().join(format!("rushes-{}", uuid::Uuid::now_v7()));
    std::fs::create_dir(&folder).unwrap();
    let program = folder.join("ffmpeg");
    // An ffmpeg that gives 16-bit pictures, whatever it is asked for.
    let script = "#!/bin/sh\ncase \"$*\" in *null*) echo '  Stream #0:0: Video: wrapped_avframe, yuv420p10le, 2x1, q=2' >&2;;\n\
        *) printf 'P6\\n2 1\\n65535\\nabcdefghijkl';; esac\n";
    std::fs::write(&program, script).unwrap();
    let mut rights = std::fs::metadata(&program).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut rights, 0o755);
    std::fs::set_permissions(&program, rights).unwrap();
    let result = by_ffmpeg(&program, &fixture("vp9.webm")).await;
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(result.unwrap_err().to_string().contains("not of 8 bits"));
}
