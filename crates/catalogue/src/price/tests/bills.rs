//! The bills of real calls, as recorded in April and May 2026 (HAR files of justintanner/apicity, MIT), to the cent.

use super::super::{Facts, Made, Per, Rule, terms};
use super::{d, lines, order, rule, video};
use crate::Role;

/// The quote, and the capture of these outputs, as text.
#[track_caller]
fn check(rules: &[Rule], facts: &Facts, made: &[crate::MadeOutput], line: &str, micros: i64) {
    let terms = terms(rules, facts).expect("a price");
    let quote = terms.quote();
    assert_eq!((lines(&quote), quote.total.get()), (vec![line.to_owned()], micros), "the quote");
    let capture = terms.capture(&Made { outputs: made.to_vec(), run_ms: None });
    assert_eq!((lines(&capture), capture.total.get()), (vec![line.to_owned()], micros), "the capture");
}

#[test]
fn kling_of_five_silent_seconds_is_56_cents() {
    let rules = [rule(Per::Second, &[("audio=true", "0.168"), ("audio=false", "0.112")])];
    let facts = Facts { seconds: Some(d("5")), ..order("audio=false") };
    check(&rules, &facts, &[video(1280, 720, 5_042)], "5 second x 0.112 = 0.56", 560_000);
}

#[test]
fn veo_of_four_silent_seconds_is_80_cents() {
    let rules = [rule(
        Per::Second,
        &[
            ("resolution=720p|1080p audio=false", "0.20"),
            ("resolution=720p|1080p audio=true", "0.40"),
            ("resolution=4k audio=false", "0.40"),
            ("resolution=4k audio=true", "0.60"),
        ],
    )];
    let facts = Facts { seconds: Some(d("4")), ..order("audio=false resolution=720p") };
    check(&rules, &facts, &[video(1280, 720, 4_000)], "4 second x 0.2 = 0.8", 800_000);
}

#[test]
fn seedance_of_four_seconds_square_is_97_frames() {
    let rules = [Rule { fps: Some(d("24")), extra_frames: 1, ..rule(Per::Kilotoken, &[("", "0.014")]) }];
    let facts = Facts { seconds: Some(d("4")), size: Some((640, 640)), ..order("") };
    // However the probe rounds 97 / 24 seconds, and where the file has 96 of the 97 frames that are billed.
    for duration_ms in [4_000, 4_041, 4_042, 4_083] {
        check(&rules, &facts, &[video(640, 640, duration_ms)], "38.8 kilotoken x 0.014 = 0.5432", 543_200);
    }
    // Left to the model, the length is what the file has.
    let open = Facts { seconds: Some(d("15")), size: Some((864, 496)), ..order("") };
    let terms = terms(&rules, &open).expect("a price");
    for duration_ms in [4_000, 4_041, 4_042] {
        let capture = terms.capture(&Made { outputs: vec![video(640, 640, duration_ms)], run_ms: None });
        assert_eq!(lines(&capture), ["38.8 kilotoken x 0.014 = 0.5432"]);
    }
}

#[test]
fn wan_of_two_seconds_is_billed_by_its_nominal_length() {
    let rules = [rule(Per::Second, &[("resolution=720p", "0.10"), ("resolution=1080p", "0.15")])];
    let facts = Facts { seconds: Some(d("2")), ..order("resolution=720p") };
    check(&rules, &facts, &[video(1280, 720, 2_020)], "2 second x 0.1 = 0.2", 200_000);
}

#[test]
fn a_length_that_the_model_chose_is_billed_as_the_file_is() {
    let rules = [rule(Per::Second, &[("", "0.1")])];
    let terms = terms(&rules, &Facts { seconds: Some(d("8")), ..order("") }).expect("a price");
    for (duration_ms, line, micros) in
        [(3_008, "3.008 second x 0.1 = 0.3008", 300_800), (3_029, "3.029 second x 0.1 = 0.3029", 302_900)]
    {
        let capture = terms.capture(&Made { outputs: vec![video(0, 0, duration_ms)], run_ms: None });
        assert_eq!((lines(&capture), capture.total.get()), (vec![line.to_owned()], micros));
    }
}

#[test]
fn lip_sync_rounds_the_sound_up_to_seconds() {
    let rules = [Rule { step: Some(d("1")), of: Some(Role::Audio), ..rule(Per::InputSecond, &[("", "0.05")]) }];
    let facts = Facts {
        media: [(Role::Source, (0, d("30"))), (Role::Audio, (0, d("5.72")))].into(),
        seconds: Some(d("5.72")),
        ..order("")
    };
    check(&rules, &facts, &[video(1280, 720, 5_760)], "6 input_second x 0.05 = 0.3", 300_000);
}
