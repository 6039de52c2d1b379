//! Posters: a good frame, the right way up, in its colours; and a clear word where there is none.

use std::path::PathBuf;
use std::time::Duration;

use thumbnail_worker::pictures::Orientation;
use thumbnail_worker::stop::Stop;
use thumbnail_worker::videos::frames::{Poster, open};
use thumbnail_worker::videos::{Limits, Missing, facts};

use crate::cluster::by_ffmpeg;
use crate::paint::fixture;

#[track_caller]
fn poster(name: &str) -> Poster {
    open(&fixture(name), &Limits::default()).unwrap().poster(&Stop::default()).unwrap()
}

#[test]
fn a_frame_of_a_fade_is_not_taken() {
    for name in ["fade-baseline.mp4", "fade-high-bframes.mp4"] {
        let poster = poster(name);
        assert!(!poster.brightness.is_nearly_black(), "{name}: {:?}", poster.brightness);
        assert!((22..48).contains(&poster.frame), "{name}: frame {} of a fade of 24", poster.frame);
        assert_eq!((poster.pixels.width, poster.pixels.height), (320, 180));
    }
}

#[test]
fn a_film_that_is_dark_throughout_still_has_a_picture() {
    let poster = poster("dark.mp4");
    assert!(poster.brightness.is_nearly_black());
    let brightest = poster.pixels.bytes.iter().max().unwrap();
    assert!(*brightest >= 0x14, "the grey box is seen: {brightest}");
}

#[test]
fn a_turned_video_is_turned() {
    assert_eq!(poster("rotated.mp4").orientation, Orientation::Turned270);
    let facts = facts(&fixture("rotated.mp4")).unwrap();
    assert_eq!((facts.width, facts.height), (180, 320));
}

#[test]
fn a_video_says_what_it_is() {
    let facts = facts(&fixture("fade-baseline.mp4")).unwrap();
    assert_eq!((facts.width, facts.height, facts.duration), (320, 180, Duration::from_secs(2)));
    assert_eq!(facts.container.mime(), "video/mp4");
    let webm = thumbnail_worker::videos::facts(&fixture("vp9.webm")).unwrap();
    assert_eq!(webm.container.mime(), "video/webm");
    assert_eq!(thumbnail_worker::videos::facts(b"neither of them at all"), None);
}

#[test]
fn what_is_not_decoded_here_is_named() {
    let missing = |name: &str| open(&fixture(name), &Limits::default()).map(|_| ()).unwrap_err();
    for name in ["vp9.webm", "high10.mp4", "fragmented.mp4"] {
        let missing = missing(name);
        assert!(missing.is_for_another_decoder(), "{name}: {missing}");
        assert!(missing.to_string().contains("no ffmpeg"), "{name}: {missing}");
    }
    assert_eq!(missing("baseline.jpg"), Missing::NotAVideo);
}

#[test]
fn a_frame_over_the_limit_is_refused_before_decoding() {
    let limits = Limits { frame_pixels: 320 * 180, ..Limits::default() };
    // 180 lines are stored as twelve macroblocks, 192.
    let missing = open(&fixture("fade-baseline.mp4"), &limits).map(|_| ()).unwrap_err();
    assert_eq!(missing, Missing::TooLarge { width: 320, height: 192, limit: 320 * 180 });
}

#[tokio::test]
async fn without_ffmpeg_the_reason_stays_the_reason() {
    let because = Missing::OtherCodec("vp09".into());
    for program in [None, Some("/nowhere/ffmpeg")] {
        let result = by_ffmpeg(program.map(PathBuf::from), &fixture("vp9.webm"), because.clone()).await;
        assert_eq!(result.unwrap_err(), because);
    }
}

#[tokio::test]
async fn with_ffmpeg_other_codecs_have_posters_too() {
    let Ok(program) = testkit::find_binary("ffmpeg") else {
        eprintln!("skipped: there is no ffmpeg here, and the product needs none");
        return;
    };
    for name in ["vp9.webm", "high10.mp4", "fragmented.mp4", "rotated.mp4"] {
        let pixels = by_ffmpeg(Some(program.clone()), &fixture(name), Missing::OtherContainer("x")).await.unwrap();
        let turned = name == "rotated.mp4";
        assert_eq!((pixels.width, pixels.height), if turned { (180, 320) } else { (320, 180) }, "{name}");
        let mean = pixels.bytes.iter().map(|value| f64::from(*value)).sum::<f64>() / pixels.bytes.len() as f64;
        assert!(mean > 25.0, "{name}: {mean}");
    }
    let broken = by_ffmpeg(Some(program.clone()), &fixture("vp9.webm")[..300], Missing::NotAVideo).await;
    assert!(matches!(broken, Err(Missing::Ffmpeg(_))), "{broken:?}");
}

#[tokio::test]
async fn both_decoders_agree() {
    let Ok(program) = testkit::find_binary("ffmpeg") else {
        eprintln!("skipped: there is no ffmpeg here, and the product needs none");
        return;
    };
    let ours = open(&fixture("rotated.mp4"), &Limits::default()).unwrap().poster(&Stop::default()).unwrap();
    let ours = ours.orientation.apply(ours.pixels);
    let theirs = by_ffmpeg(Some(program.clone()), &fixture("rotated.mp4"), Missing::NotAVideo).await.unwrap();
    // Not the same moment of the fade: which channel leads is the same nevertheless.
    let lead = |bytes: &[u8], at: usize| {
        let rgb = &bytes[at * 3..at * 3 + 3];
        (0..3).max_by_key(|n| rgb[*n]).unwrap()
    };
    let places: Vec<usize> = (0..10).map(|n| (32 * n + 16) * 180 + 60).collect();
    let agree = places.iter().filter(|at| lead(&ours.bytes, **at) == lead(&theirs.bytes, **at)).count();
    assert!(agree >= 8, "{agree} of 10 places agree");
}
