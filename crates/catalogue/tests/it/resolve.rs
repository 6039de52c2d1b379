//! From a request's input to an order, or to everything that is wrong with it.

use rushes_catalogue::{Input, Length, Medium, Role, Settings};
use serde_json::json;

use crate::{asset, examples, lines, resolve};

/// A first frame and a prompt.
fn input() -> Input {
    Input {
        prompt: "a harbour".to_owned(),
        media: vec![Medium { role: Role::FirstFrame, asset: asset(1, "image/png") }],
        ..Input::default()
    }
}

#[test]
fn an_order_has_what_was_asked_for_and_what_its_price_depends_on() {
    let model = examples().by_id("veo-3.1-i2v").unwrap().clone();
    let settings = Settings { length: Some(Length::Milliseconds(4_000)), audio: Some(false), ..Settings::default() };
    let resolved = resolve(&model, &Input { settings, ..input() }).unwrap();
    assert_eq!(
        serde_json::to_value(&resolved.order.input).unwrap(),
        json!({"prompt": "a harbour", "seed": 7, "image_url": null, "duration": "4s", "resolution": "720p", "generate_audio": false})
    );
    assert_eq!(resolved.order.files[0].pointer, "/image_url");
    assert_eq!(resolved.input.seed, Some(7));
    assert_eq!(resolved.input.settings.resolution.as_deref(), Some("720p"));
    assert_eq!(resolved.input.settings.aspect_ratio, None);
    assert_eq!(resolved.terms.quote().total.get(), 800_000);
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let model = examples().by_id("veo-3.1-i2v").unwrap().clone();
    let settings = Settings {
        length: Some(Length::Milliseconds(5_000)),
        resolution: Some("4K".to_owned()),
        fps: Some(24.0),
        ..Settings::default()
    };
    let parameters = json!({"duration": "8s", "auto_fix": 1, "cfg_scale": 0.5, "image_url": "https://x"});
    let media = vec![
        Medium { role: Role::FirstFrame, asset: asset(1, "video/mp4") },
        Medium { role: Role::LastFrame, asset: asset(2, "image/png") },
    ];
    let parameters = parameters.as_object().unwrap().clone();
    let violations = resolve(&model, &Input { settings, media, parameters, ..input() }).unwrap_err();
    assert_eq!(
        lines(&violations),
        "input.settings.fps must be left out: models/veo-3.1-i2v has no such setting
input.settings.duration must be one of 4, 6, 8 seconds
input.settings.resolution must be one of 720p, 1080p, 4k
input.media[0].asset must be of image/jpeg, image/png, image/webp, and is video/mp4
input.media[1].role must be left out: models/veo-3.1-i2v takes FIRST_FRAME
input.parameters.cfg_scale is no parameter of models/veo-3.1-i2v, which has auto_fix, safety_tolerance
input.parameters.duration must be left out: it is input.settings.duration
input.parameters.image_url must be left out: it is in input.media, with the role FIRST_FRAME
input.parameters.auto_fix must be true or false"
    );
}
