//! Each shape of price that was found in the field, as rows; and what has no price.

use super::super::{Facts, Made, MadeOutput, Per, Rule, Unpriced, terms, unpriced};
use super::{d, lines, order, rule, values, video};
use crate::{MediaKind, Role};

fn image(width: u32, height: u32) -> MadeOutput {
    MadeOutput { kind: MediaKind::Image, width, height, duration_ms: 0 }
}

#[track_caller]
fn quoted(rules: &[Rule], facts: &Facts) -> (Vec<String>, i64) {
    let quote = terms(rules, facts).expect("a price").quote();
    (lines(&quote), quote.total.get())
}

#[track_caller]
fn captured(rules: &[Rule], facts: &Facts, made: &[MadeOutput], run_ms: Option<u64>) -> (Vec<String>, i64) {
    let capture = terms(rules, facts).expect("a price").capture(&Made { outputs: made.to_vec(), run_ms });
    (lines(&capture), capture.total.get())
}

fn seconds(text: &str, values: &str) -> Facts {
    Facts { seconds: Some(d(text)), ..order(values) }
}

#[test]
fn seconds_by_resolution_and_a_cent_for_each_picture() {
    let rules = [
        rule(Per::Second, &[("resolution=480p", "0.08"), ("resolution=720p", "0.14"), ("resolution=1080p", "0.25")]),
        rule(Per::InputImage, &[("", "0.01")]),
    ];
    let media = [(Role::FirstFrame, (1, d("0"))), (Role::Reference, (2, d("0"))), (Role::Audio, (0, d("4")))];
    let facts = Facts { media: media.into(), ..seconds("6", "resolution=720p") };
    let lines = vec!["6 second x 0.14 = 0.84".to_owned(), "3 input_image x 0.01 = 0.03".to_owned()];
    assert_eq!(quoted(&rules, &facts), (lines, 870_000));
    assert_eq!(
        quoted(&rules, &seconds("6", "resolution=720p")).0,
        ["6 second x 0.14 = 0.84"],
        "no line without a picture"
    );
}

#[test]
fn voices_are_a_parameter() {
    let rules =
        [rule(Per::Second, &[("audio=true voice=some", "0.196"), ("audio=true", "0.168"), ("audio=false", "0.112")])];
    assert_eq!(quoted(&rules, &seconds("5", "audio=true voice=some")).1, 980_000);
    assert_eq!(quoted(&rules, &seconds("5", "audio=true voice=none")).1, 840_000);
    assert_eq!(quoted(&rules, &seconds("5", "audio=false voice=some")).1, 560_000);
}

#[test]
fn each_output() {
    let rules =
        [rule(Per::Output, &[("resolution=480p", "0.05"), ("resolution=580p", "0.075"), ("resolution=720p", "0.10")])];
    let facts = Facts { outputs: 4, ..order("resolution=580p") };
    assert_eq!(quoted(&rules, &facts), (vec!["4 output x 0.075 = 0.3".to_owned()], 300_000));
    assert_eq!(captured(&rules, &facts, &[video(0, 0, 0); 3], None).1, 225_000, "three of four were made");
    assert_eq!(captured(&rules, &facts, &[video(0, 0, 0); 5], None).1, 300_000, "a gift is not charged");
}

#[test]
fn seconds_that_go_in_and_seconds_that_come_out() {
    let rules = [
        rule(Per::Second, &[("resolution=720p", "0.10")]),
        Rule { of: Some(Role::Source), ..rule(Per::InputSecond, &[("", "0.10")]) },
    ];
    let facts = Facts { media: [(Role::Source, (0, d("3.5")))].into(), ..seconds("5", "resolution=720p") };
    assert_eq!(quoted(&rules, &facts).1, 850_000);
    assert_eq!(captured(&rules, &facts, &[video(1280, 720, 4_500)], None).1, 800_000);
}

#[test]
fn a_minimum() {
    let rules = [Rule { minimum: Some(d("0.56")), ..rule(Per::Second, &[("", "0.28")]) }];
    assert_eq!(quoted(&rules, &seconds("5", "")).1, 1_400_000);
    assert_eq!(quoted(&rules, &seconds("1", "")), (vec!["1 second x 0.28 = 0.56".to_owned()], 560_000));
    assert_eq!(captured(&rules, &seconds("5", ""), &[video(0, 0, 1_500)], None).1, 560_000);
    assert_eq!(captured(&rules, &seconds("5", ""), &[], None), (vec![], 0), "nothing was made");
}

#[test]
fn stills_by_megapixels_each_rounded_up() {
    let rules =
        [rule(Per::Output, &[("", "0.015")]), Rule { step: Some(d("1")), ..rule(Per::Megapixel, &[("", "0.015")]) }];
    let one = Facts { size: Some((1024, 768)), ..order("") };
    assert_eq!(quoted(&rules, &one).1, 30_000, "the first megapixel is 3 cents");
    let larger = Facts { size: Some((1920, 1080)), outputs: 2, ..order("") };
    assert_eq!(quoted(&rules, &larger).1, 120_000, "two of three megapixels each");
    assert_eq!(captured(&rules, &larger, &[image(1920, 1080), image(1024, 768)], None).1, 90_000);
}

#[test]
fn megapixels_of_a_video_over_all_frames() {
    let rules = [rule(Per::VideoMegapixel, &[("", "0.0024075")])];
    let facts = Facts { size: Some((1920, 1080)), fps: Some(d("25")), ..seconds("6", "") };
    assert_eq!(quoted(&rules, &facts), (vec!["311.04 video_megapixel x 0.0024075 = 0.7488288".to_owned()], 748_829));
    assert_eq!(
        captured(&rules, &facts, &[video(1280, 720, 6_000)], None).0,
        ["138.24 video_megapixel x 0.0024075 = 0.3328128"]
    );
    // Megapixels times seconds, for an upscaler that does not ask for frames.
    let upscale = [Rule {
        fps: Some(d("1")),
        ..rule(Per::VideoMegapixel, &[("creativity=0", "0.075"), ("creativity=1", "0.105")])
    }];
    let facts = Facts { size: Some((2000, 1000)), ..seconds("5.5", "creativity=1") };
    assert_eq!(quoted(&upscale, &facts).0, ["11 video_megapixel x 0.105 = 1.155"]);
    assert_eq!(
        captured(&upscale, &facts, &[video(2000, 1000, 5_400)], None).0,
        ["10.8 video_megapixel x 0.105 = 1.134"]
    );
}

#[test]
fn seconds_of_a_machine() {
    let rules = [Rule { max_seconds: Some(d("600")), ..rule(Per::GpuSecond, &[("", "0.000975")]) }];
    assert_eq!(quoted(&rules, &order("")), (vec!["600 gpu_second x 0.000975 = 0.585".to_owned()], 585_000));
    assert_eq!(
        captured(&rules, &order(""), &[video(0, 0, 0)], Some(12_345)).1,
        12_037,
        "12.036375 millicredits, rounded up"
    );
    assert_eq!(captured(&rules, &order(""), &[video(0, 0, 0)], Some(700_000)).1, 585_000, "never more than was held");
    assert_eq!(captured(&rules, &order(""), &[video(0, 0, 0)], None).1, 585_000, "the provider did not say");
    assert_eq!(captured(&rules, &order(""), &[], Some(12_345)).1, 0, "nothing was made");
    assert_eq!(terms(&rules, &order("")).expect("a price").max_run_ms(), Some(600_000));
}

#[test]
fn characters_of_a_speech() {
    let rules = [Rule { step: Some(d("1000")), ..rule(Per::Character, &[("", "0.0001")]) }];
    let facts = Facts { characters: 1_001, ..order("") };
    assert_eq!(quoted(&rules, &facts), (vec!["2000 character x 0.0001 = 0.2".to_owned()], 200_000));
    let sound = MadeOutput { kind: MediaKind::Audio, width: 0, height: 0, duration_ms: 60_000 };
    assert_eq!(captured(&rules, &facts, &[sound], None).1, 200_000);
}

#[test]
fn a_frame_more_is_no_further_second() {
    let rules = [Rule { step: Some(d("1")), ..rule(Per::Second, &[("", "0.1")]) }];
    let open = seconds("15", "");
    for (duration_ms, micros) in
        [(5_000, 500_000), (5_042, 500_000), (5_063, 500_000), (5_200, 600_000), (5_720, 600_000)]
    {
        assert_eq!(captured(&rules, &open, &[video(0, 0, duration_ms)], None).1, micros, "{duration_ms} ms");
    }
}

#[test]
fn a_file_that_does_not_tell_counts_as_ordered() {
    let rules = [rule(Per::Second, &[("", "0.1")])];
    let two = Facts { outputs: 2, ..seconds("5", "") };
    assert_eq!(captured(&rules, &two, &[video(0, 0, 0), video(0, 0, 3_000)], None).1, 800_000);
    assert_eq!(
        captured(&rules, &two, &[video(0, 0, 5_042)], None).1,
        500_000,
        "one of two, and no longer than ordered"
    );
    assert_eq!(
        captured(&rules, &two, &[video(0, 0, 3_000), image(640, 360)], None).1,
        300_000,
        "a poster plays no second"
    );
    assert_eq!(captured(&rules, &seconds("5", ""), &[image(640, 360)], None).1, 500_000, "an animated picture");
}

#[test]
fn what_is_open_is_held_at_its_dearest() {
    let rules = [rule(
        Per::Second,
        &[("resolution=720p", "0.1"), ("resolution=1080p audio=true", "0.3"), ("resolution=1080p", "0.2")],
    )];
    assert_eq!(quoted(&rules, &seconds("1", "audio=true resolution=720p|1080p")).1, 300_000);
    assert_eq!(quoted(&rules, &seconds("1", "audio=false resolution=720p|1080p")).1, 200_000);
    assert_eq!(quoted(&rules, &seconds("1", "audio=true|false resolution=720p|1080p")).1, 300_000);
}

#[test]
fn a_margin_multiplies_rates_and_minimums() {
    let rules = [Rule { minimum: Some(d("0.56")), ..rule(Per::Second, &[("", "0.28")]) }];
    let terms = terms(&rules, &seconds("5", "")).expect("a price").with_margin(d("1.15")).expect("a price");
    assert_eq!(lines(&terms.quote()), ["5 second x 0.322 = 1.61"]);
    let short = terms.capture(&Made { outputs: vec![video(0, 0, 1_000)], run_ms: None });
    assert_eq!(short.total.get(), 644_000);
    assert_eq!(terms.with_margin(d("999999999999999")), Err(Unpriced::TooLarge));
}

#[test]
fn terms_read_back_are_the_same() {
    let rules = [
        Rule { fps: Some(d("24")), extra_frames: 1, ..rule(Per::Kilotoken, &[("", "0.014")]) },
        Rule { step: Some(d("0.5")), minimum: Some(d("0.01")), ..rule(Per::Second, &[("", "0.1")]) },
    ];
    let facts = Facts { size: Some((640, 640)), outputs: 3, ..seconds("4", "") };
    let frozen = terms(&rules, &facts).expect("a price");
    let text = serde_json::to_string(&frozen).expect("JSON");
    assert_eq!(serde_json::from_str::<crate::Terms>(&text).expect("terms"), frozen);
}

#[test]
fn what_has_no_row_is_refused_by_name() {
    let rules = [
        rule(Per::Generation, &[("", "0.01")]),
        rule(Per::Second, &[("resolution=720p audio=true", "0.2"), ("audio=false", "0.1")]),
    ];
    let refused = |facts: &Facts| terms(&rules, facts).expect_err("no price").to_string();
    assert_eq!(
        refused(&seconds("5", "audio=true resolution=1080p")),
        "rule 2 of the price (per second) has no row for audio true, resolution 1080p"
    );
    assert_eq!(
        refused(&seconds("5", "audio=true|false resolution=720p|1080p")),
        "rule 2 of the price (per second) has no row for audio true, resolution 1080p"
    );
    assert_eq!(
        refused(&seconds("5", "audio=false")),
        "rule 2 of the price (per second) needs resolution, which the order leaves open"
    );
    assert_eq!(
        refused(&order("audio=false resolution=720p")),
        "rule 2 of the price (per second) needs the length, which the order leaves open"
    );
    assert_eq!(terms(&[], &order("")), Err(Unpriced::NoRules));
    assert_eq!(
        terms(&[rule(Per::Second, &[("", "999999999999")])], &seconds("999999999", "")),
        Err(Unpriced::TooLarge)
    );
    for per in [Per::Second, Per::Megapixel, Per::VideoMegapixel, Per::Kilotoken, Per::GpuSecond] {
        assert!(matches!(terms(&[rule(per, &[("", "1")])], &order("")), Err(Unpriced::Unknown { .. })), "{per:?}");
    }
}

#[test]
fn an_entry_that_cannot_price_each_order_is_refused_with_the_order() {
    let allowed =
        values("resolution=480p|720p|1080p|4k audio=true|false duration=1|2|3|4|5|6|7|8 first_frame=present|absent");
    let faults = |rules: &[Rule]| unpriced(rules, &allowed);
    let priced = [rule(Per::Second, &[("resolution=4k", "0.4"), ("audio=true", "0.2"), ("", "0.1")])];
    assert_eq!(faults(&priced), None);
    let gap = [
        rule(Per::Generation, &[("", "0")]),
        rule(Per::Second, &[("resolution=480p|720p audio=true", "0.2"), ("audio=false", "0.1")]),
    ];
    assert_eq!(faults(&gap).expect("a fault"), "rule 2 (per second) has no row for audio true, resolution 1080p");
    assert_eq!(
        faults(&[rule(Per::Second, &[("quality=high", "0.2"), ("", "0.1")])]).expect("a fault"),
        "rule 1 (per second) asks for `quality`, which no order has"
    );
    for (rule, fault) in [
        (rule(Per::Second, &[]), "has no row for any order"),
        (Rule { step: Some(d("0")), ..rule(Per::Second, &[("", "1")]) }, "has a step of 0"),
        (rule(Per::GpuSecond, &[("", "1")]), "needs `max_seconds`, the longest run that is paid for, in seconds"),
        (rule(Per::Kilotoken, &[("", "1")]), "counts frames, but neither it nor a setting says `fps`"),
        (Rule { fps: Some(d("0")), ..rule(Per::Kilotoken, &[("", "1")]) }, "has an fps of 0"),
    ] {
        let found = faults(std::slice::from_ref(&rule)).expect("a fault");
        assert!(found.ends_with(fault), "{found}");
    }
    assert!(faults(&[]).is_some(), "free by omission");
}

#[test]
fn many_values_that_no_row_tells_apart_are_few() {
    let numbers = (0..2_000).map(|number| number.to_string()).collect::<Vec<_>>();
    let allowed = ["a", "b", "c", "d"].map(|name| (name.to_owned(), numbers.clone())).into();
    let rules = [rule(Per::Generation, &[("a=1 b=2", "1"), ("c=3", "2"), ("d=4 a=5|6", "3")])];
    assert!(unpriced(&rules, &allowed).expect("a gap").contains("has no row for a 0, b 0, c 0, d 0"));
}
