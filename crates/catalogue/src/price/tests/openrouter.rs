//! OpenRouter's keys as rows: the 35 keys of its 24 video models of 21 August 2026 (`scripts/openrouter.video-models.json` of
//! TanStack/ai at d3aa104, MIT).

use std::collections::{BTreeMap, BTreeSet};

use super::super::openrouter::{NotSku, rules};
use super::super::{Facts, Per, Rule, terms, unpriced};
use super::{d, lines, order, values};
use crate::Role;

/// Each key, and what one of its units costs under which conditions: `per [of role] [conditions] [minimum]`, at a price of 1.
const KEYS: [(&str, &str); 35] = [
    ("cents_per_image_input", "input_image 0.01"),
    ("cents_per_megapixel_second_creative", "video_megapixel at 1 fps creativity=1 0.01"),
    ("cents_per_megapixel_second_precise", "video_megapixel at 1 fps creativity=0 0.01"),
    ("cents_per_second_output", "second 0.01"),
    ("cents_per_second_output_1080p", "second resolution=1080p 0.01"),
    ("cents_per_second_output_720p", "second resolution=720p 0.01"),
    ("cents_per_second_video_continuation_1080p", "second resolution=1080p source=present 0.01"),
    ("cents_per_second_video_continuation_720p", "second resolution=720p source=present 0.01"),
    ("cents_per_video_output_second_1080p", "second resolution=1080p 0.01"),
    ("cents_per_video_output_second_480p", "second resolution=480p 0.01"),
    ("cents_per_video_output_second_720p", "second resolution=720p 0.01"),
    ("duration_seconds", "second 1"),
    ("duration_seconds_1024p", "second resolution=1024p 1"),
    ("duration_seconds_1080p", "second resolution=1080p 1"),
    ("duration_seconds_720p", "second resolution=720p 1"),
    ("duration_seconds_with_audio", "second audio=true 1"),
    ("duration_seconds_with_audio_4k", "second audio=true resolution=4K 1"),
    ("duration_seconds_with_audio_720p", "second audio=true resolution=720p 1"),
    ("duration_seconds_without_audio", "second audio=false 1"),
    ("duration_seconds_without_audio_4k", "second audio=false resolution=4K 1"),
    ("duration_seconds_without_audio_720p", "second audio=false resolution=720p 1"),
    ("image_to_video_duration_seconds_1080p", "second first_frame=present resolution=1080p 1"),
    ("image_to_video_duration_seconds_720p", "second first_frame=present resolution=720p 1"),
    ("minimum_cents_per_generation", ""),
    ("reference_images", "input_image of Reference 1"),
    ("text_to_video_duration_seconds_1080p", "second first_frame=absent resolution=1080p 1"),
    ("text_to_video_duration_seconds_480p", "second first_frame=absent resolution=480p 1"),
    ("text_to_video_duration_seconds_720p", "second first_frame=absent resolution=720p 1"),
    ("video_tokens", "kilotoken at 24 fps 1000"),
    ("video_tokens_1080p", "kilotoken at 24 fps resolution=1080p 1000"),
    ("video_tokens_1080p_with_video_input", "kilotoken at 24 fps resolution=1080p source=present 1000"),
    ("video_tokens_4k", "kilotoken at 24 fps resolution=4K 1000"),
    ("video_tokens_4k_with_video_input", "kilotoken at 24 fps resolution=4K source=present 1000"),
    ("video_tokens_with_video_input", "kilotoken at 24 fps source=present 1000"),
    ("video_tokens_without_audio", "kilotoken at 24 fps audio=false 1000"),
];

/// Each model with its resolutions and its prices.
#[rustfmt::skip]
const MODELS: [(&str, &str, &str); 24] = [
    ("alibaba/happyhorse-1.0", "720p|1080p", "duration_seconds_720p=0.0988 duration_seconds_1080p=0.1694"),
    ("alibaba/happyhorse-1.1", "720p|1080p", "duration_seconds_720p=0.0988 duration_seconds_1080p=0.1278"),
    ("alibaba/wan-2.6", "720p|1080p", "text_to_video_duration_seconds_480p=0.04 text_to_video_duration_seconds_720p=0.08 image_to_video_duration_seconds_720p=0.10 text_to_video_duration_seconds_1080p=0.12 image_to_video_duration_seconds_1080p=0.15"),
    ("alibaba/wan-2.7", "720p|1080p", "duration_seconds=0.1"),
    ("black-forest-labs/flux-3-video", "720p|1080p", "cents_per_second_output=17 cents_per_second_output_720p=17 cents_per_second_output_1080p=29 cents_per_second_video_continuation_720p=41 cents_per_second_video_continuation_1080p=53"),
    ("black-forest-labs/flux-video-upscale", "", "cents_per_megapixel_second_precise=7.5 cents_per_megapixel_second_creative=10.5"),
    ("bytedance/seedance-1-5-pro", "480p|720p|1080p", "video_tokens=0.0000024 video_tokens_without_audio=0.0000012"),
    ("bytedance/seedance-2.0", "480p|720p|1080p|4K", "video_tokens=0.000007 video_tokens_4k=0.000004 video_tokens_1080p=0.0000077 video_tokens_without_audio=0.000007 video_tokens_with_video_input=0.0000043 video_tokens_4k_with_video_input=0.0000024 video_tokens_1080p_with_video_input=0.0000047"),
    ("bytedance/seedance-2.0-fast", "480p|720p", "video_tokens=0.0000042 video_tokens_without_audio=0.0000042 video_tokens_with_video_input=0.000002475"),
    ("bytedance/seedance-2.0-mini", "480p|720p", "video_tokens=0.0000035 video_tokens_without_audio=0.0000035 video_tokens_with_video_input=0.0000021"),
    ("bytedance/seedance-2.5", "480p|720p", "video_tokens=0.0000107 video_tokens_without_audio=0.0000107 video_tokens_with_video_input=0.0000064"),
    ("google/veo-3.1", "720p|1080p|4K", "duration_seconds_with_audio=0.40 duration_seconds_with_audio_4k=0.60 duration_seconds_without_audio=0.20 duration_seconds_without_audio_4k=0.40"),
    ("google/veo-3.1-fast", "720p|1080p|4K", "duration_seconds_with_audio=0.12 duration_seconds_with_audio_4k=0.30 duration_seconds_without_audio=0.10 duration_seconds_with_audio_720p=0.10 duration_seconds_without_audio_4k=0.25 duration_seconds_without_audio_720p=0.08"),
    ("google/veo-3.1-lite", "720p|1080p", "duration_seconds_with_audio=0.08 duration_seconds_without_audio=0.05 duration_seconds_with_audio_720p=0.05 duration_seconds_without_audio_720p=0.03"),
    ("kwaivgi/kling-v3.0-pro", "720p", "duration_seconds=0.112 duration_seconds_with_audio=0.168 text_to_video_duration_seconds_480p=0.112 text_to_video_duration_seconds_720p=0.112 image_to_video_duration_seconds_720p=0.112 text_to_video_duration_seconds_1080p=0.112 image_to_video_duration_seconds_1080p=0.112"),
    ("kwaivgi/kling-v3.0-std", "720p", "duration_seconds=0.084 duration_seconds_with_audio=0.126 text_to_video_duration_seconds_480p=0.084 text_to_video_duration_seconds_720p=0.084 image_to_video_duration_seconds_720p=0.084 text_to_video_duration_seconds_1080p=0.084 image_to_video_duration_seconds_1080p=0.084"),
    ("kwaivgi/kling-video-o1", "720p", "duration_seconds=0.1120"),
    ("minimax/hailuo-2.3", "1080p", "duration_seconds=0.0817"),
    ("minimax/hailuo-3", "2K", "duration_seconds=0.13 reference_images=0.04"),
    ("openai/sora-2-pro", "720p|1080p", "duration_seconds_720p=0.30 duration_seconds_1024p=0.50 duration_seconds_1080p=0.50"),
    ("runway/aleph-2", "", "cents_per_second_output=28 minimum_cents_per_generation=56"),
    ("runway/gen-4.5", "720p", "cents_per_second_output=12"),
    ("x-ai/grok-imagine-video", "480p|720p", "cents_per_image_input=0.2 cents_per_video_output_second_480p=5 cents_per_video_output_second_720p=7"),
    ("x-ai/grok-imagine-video-1.5", "480p|720p|1080p", "cents_per_image_input=1 cents_per_video_output_second_480p=8 cents_per_video_output_second_720p=14 cents_per_video_output_second_1080p=25"),
];

fn skus(text: &str) -> BTreeMap<String, String> {
    text.split_whitespace()
        .filter_map(|sku| sku.split_once('='))
        .map(|(key, price)| (key.to_owned(), price.to_owned()))
        .collect()
}

fn resolutions(text: &str) -> Vec<String> {
    text.split('|').filter(|resolution| !resolution.is_empty()).map(str::to_owned).collect()
}

fn written(rule: &Rule) -> String {
    let of = rule.of.map(|role| format!(" of {role:?}")).unwrap_or_default();
    let fps = rule.fps.map(|fps| format!(" at {fps} fps")).unwrap_or_default();
    let rows: Vec<String> = rule
        .rows
        .iter()
        .map(|row| {
            let when =
                row.when.iter().map(|(name, values)| format!(" {name}={}", values.join("|"))).collect::<String>();
            format!("{}{of}{fps}{when} {}", rule.per.as_str(), row.credits)
        })
        .collect();
    rows.join("; ")
}

fn model(id: &str) -> Vec<Rule> {
    let (_, own, prices) = MODELS.iter().find(|(model, ..)| *model == id).expect("a model");
    rules(&skus(prices), &resolutions(own)).expect("rules")
}

#[test]
fn each_key_is_a_row() {
    for (key, meaning) in KEYS {
        let found = rules(&[(key.to_owned(), "1".to_owned())].into(), &["4K".to_owned()]);
        if key == "minimum_cents_per_generation" {
            assert_eq!(found, Err(NotSku::Minimum(key.to_owned())));
            continue;
        }
        let found = found.expect(key);
        assert_eq!(found.iter().map(written).collect::<Vec<_>>(), [meaning], "{key}");
    }
    let used: BTreeSet<String> = MODELS.iter().flat_map(|(_, _, prices)| skus(prices).into_keys()).collect();
    assert_eq!(used.into_iter().collect::<Vec<_>>(), KEYS.map(|(key, _)| key));
}

#[test]
fn each_model_is_priced_whatever_is_ordered() {
    for (id, own, prices) in MODELS {
        let rules = rules(&skus(prices), &resolutions(own)).expect(id);
        let own = if own.is_empty() { "none" } else { own };
        let allowed = values(&format!(
            "resolution={own} audio=true|false first_frame=present|absent source=present|absent creativity=0|1"
        ));
        assert_eq!(unpriced(&rules, &allowed), None, "{id}");
    }
}

#[test]
fn the_key_with_more_conditions_wins_and_else_the_dearer_one() {
    let seconds = |id: &str, values: &str| {
        let facts = Facts { seconds: Some(d("1")), ..order(&format!("source=absent {values}")) };
        terms(&model(id), &facts).expect("a price").parts[0].rate.to_string()
    };
    for (id, order, rate) in [
        ("google/veo-3.1-fast", "audio=true resolution=4K", "0.3"),
        ("google/veo-3.1-fast", "audio=true resolution=1080p", "0.12"),
        ("google/veo-3.1-fast", "audio=true resolution=720p", "0.1"),
        ("google/veo-3.1-fast", "audio=false resolution=720p", "0.08"),
        // `duration_seconds_with_audio` .168 beside `image_to_video_duration_seconds_1080p` .112: neither is part of the other.
        ("kwaivgi/kling-v3.0-pro", "audio=true first_frame=present resolution=1080p", "0.168"),
        ("kwaivgi/kling-v3.0-pro", "audio=false first_frame=present resolution=1080p", "0.112"),
        ("kwaivgi/kling-v3.0-pro", "audio=true first_frame=absent resolution=4K", "0.168"),
        ("alibaba/wan-2.6", "first_frame=present resolution=720p", "0.1"),
        ("alibaba/wan-2.6", "first_frame=absent resolution=720p", "0.08"),
        ("openai/sora-2-pro", "resolution=1080p", "0.5"),
    ] {
        assert_eq!(seconds(id, order), rate, "{id} {order}");
    }
    let continued = Facts { seconds: Some(d("10")), ..order("source=present resolution=1080p") };
    let flux = terms(&model("black-forest-labs/flux-3-video"), &continued).expect("a price");
    assert_eq!(lines(&flux.quote()), ["10 second x 0.53 = 5.3"]);
    assert_eq!(
        model("kwaivgi/kling-v3.0-pro").iter().map(written).collect::<Vec<_>>(),
        ["second audio=true 0.168; second 0.112"],
        "rows that change nothing are left out"
    );
}

#[test]
fn tokens_minimums_and_pictures() {
    let tokens = |values: &str| {
        let facts = Facts { seconds: Some(d("4")), size: Some((640, 640)), ..order(values) };
        terms(&model("bytedance/seedance-2.0"), &facts).expect("a price").quote()
    };
    assert_eq!(lines(&tokens("source=absent resolution=480p audio=true")), ["38.8 kilotoken x 0.007 = 0.2716"]);
    assert_eq!(tokens("source=present resolution=480p audio=true").lines[0].unit_price, d("0.0043"));
    assert_eq!(
        tokens("source=present resolution=4K audio=false").lines[0].unit_price,
        d("0.007"),
        "the dearer of three"
    );
    let aleph = model("runway/aleph-2");
    assert_eq!((aleph[0].minimum, aleph[0].rows[0].credits), (Some(d("0.56")), d("0.28")));
    let facts =
        Facts { seconds: Some(d("5")), media: [(Role::Reference, (2, d("0")))].into(), ..order("resolution=720p") };
    let grok = terms(&model("x-ai/grok-imagine-video-1.5"), &facts).expect("a price");
    assert_eq!(lines(&grok.quote()), ["5 second x 0.14 = 0.7", "2 input_image x 0.01 = 0.02"]);
    let hailuo = model("minimax/hailuo-3");
    assert_eq!(
        hailuo.iter().map(|rule| (rule.per, rule.of)).collect::<Vec<_>>(),
        [(Per::Second, None), (Per::InputImage, Some(Role::Reference))]
    );
}

#[test]
fn a_key_that_is_not_understood_in_full_is_refused() {
    for key in [
        "duration_seconds_offpeak",
        "duration_seconds_720p_480p",
        "duration_hours",
        "video_tokens_",
        "duration_seconds_k",
        "",
    ] {
        let found = rules(&[(key.to_owned(), "1".to_owned())].into(), &[]);
        assert_eq!(found, Err(NotSku::Key(key.to_owned())), "{key}");
    }
    let found = rules(&[("duration_seconds".to_owned(), "free".to_owned())].into(), &[]);
    assert_eq!(
        found.expect_err("no number").to_string(),
        "the price `duration_seconds` must be a decimal number of at most twelve places, such as 0.168"
    );
}
