//! Every setting of a sketch is honoured, and what is not allowed is refused by name.

use serde_json::json;

use super::film::Film;
use super::{draw, film, refusal};

#[test]
fn shape_resolution_rate_and_length_are_what_was_asked_for() {
    for (shape, width, height) in [
        ("16:9", 256, 144),
        ("9:16", 144, 256),
        ("1:1", 144, 144),
        ("4:3", 192, 144),
        ("3:4", 144, 192),
        ("21:9", 336, 144),
    ] {
        let film = film(json!({"aspect_ratio": shape, "resolution": "144p", "duration": 1, "fps": 6}));
        assert_eq!((film.width, film.height, film.frames.len(), film.rate), (width, height, 6, 6), "{shape}");
        assert!(film.lumas()[3] > 30.0, "{shape}: {:?}", film.lumas());
    }
    for (resolution, width, height) in
        [("144p", 256, 144), ("240p", 426, 240), ("360p", 640, 360), ("480p", 854, 480), ("720p", 1280, 720)]
    {
        let film = film(json!({"resolution": resolution, "duration": 1, "fps": 6}));
        assert_eq!((film.width, film.height), (width, height), "{resolution}");
    }
    for (rate, seconds, frames) in
        [(6, json!(30), 180), (12, json!(2.5), 30), (24, json!(1.0), 24), (25, json!(1.5), 38), (30, json!(2), 60)]
    {
        let film = film(json!({"resolution": "144p", "duration": seconds, "fps": rate}));
        assert_eq!((film.rate, film.frames.len()), (rate, frames), "{rate} {seconds}");
    }
}

#[test]
fn each_output_is_a_take_of_its_own_seed() {
    let small = |more: serde_json::Value| {
        let mut input = json!({"resolution": "144p", "duration": 1, "fps": 6});
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        draw(input)
    };
    let takes = small(json!({"seed": 41, "outputs": 3}));
    assert_eq!(takes.len(), 3);
    for (n, take) in takes.iter().enumerate() {
        assert_eq!((take.extension, take.mime_type), ("mp4", "video/mp4"));
        assert_eq!(small(json!({"seed": 41 + n}))[0], *take, "take {n}");
    }
    assert!(takes[0] != takes[1] && takes[1] != takes[2] && takes[0] != takes[2]);
    // The last of all seeds is followed by the first.
    assert_eq!(small(json!({"seed": i64::MAX, "outputs": 2}))[1], small(json!({"seed": i64::MIN}))[0]);
}

#[test]
fn what_is_not_to_be_there_is_written_into_the_picture() {
    let plain = film(json!({"duration": 1}));
    let without = film(json!({"duration": 1, "negative_prompt": "fog, people"}));
    let bar = |film: &Film| film.frames[12][0][..26 * 640].to_vec();
    let below = |film: &Film| film.frames[12][0][40 * 640..].to_vec();
    let lit = |bar: &[u8]| bar.iter().filter(|sample| **sample > 60).count();
    assert_eq!(lit(&bar(&plain)), 0);
    assert!(lit(&bar(&without)) > 100, "{}", lit(&bar(&without)));
    let moved = below(&plain).iter().zip(below(&without)).filter(|(a, b)| a.abs_diff(*b) > 8).count();
    assert!(moved < 200, "{moved} samples of the landscape changed");
}

#[test]
fn every_wrong_field_is_named_with_what_it_may_be() {
    for (input, wrong) in [
        (json!({}), "prompt: it is required"),
        (json!({"prompt": 7}), "prompt: it has to be a text of at most 20000 characters"),
        (json!({"prompt": "x".repeat(20_001)}), "prompt: it has to be a text of at most 20000 characters"),
        (json!({"prompt": "x", "kind": "sound"}), "kind: it has to be video or image"),
        (json!({"prompt": "x", "seed": 1.5}), "seed: it has to be a whole number of 64 bits"),
        (json!({"prompt": "x", "duration": 0.9}), "duration: it has to be a number of seconds from 1 to 30"),
        (json!({"prompt": "x", "duration": 30.1}), "duration: it has to be a number of seconds from 1 to 30"),
        (json!({"prompt": "x", "duration": "4"}), "duration: it has to be a number of seconds from 1 to 30"),
        (json!({"prompt": "x", "fps": 23}), "fps: it has to be one of 6, 12, 24, 25, 30"),
        (
            json!({"prompt": "x", "aspect_ratio": "2:1"}),
            "aspect_ratio: it has to be one of 16:9, 9:16, 1:1, 4:3, 3:4, 21:9",
        ),
        (json!({"prompt": "x", "resolution": "1080p"}), "resolution: it has to be one of 144p, 240p, 360p, 480p, 720p"),
        (json!({"prompt": "x", "audio": 1}), "audio: it has to be true or false"),
        (json!({"prompt": "x", "outputs": 5}), "outputs: it has to be a whole number from 1 to 4"),
        (json!({"prompt": "x", "outputs": 0}), "outputs: it has to be a whole number from 1 to 4"),
        (json!({"prompt": "x", "first_frame": 5}), "first_frame: it has to be a file"),
        (
            json!({"prompt": "x", "references": [null, null, null, null, null]}),
            "references: it has to be at most four files",
        ),
        (json!({"prompt": "x", "references": [1]}), "references: it has to be at most four files"),
        (json!({"prompt": "x", "size": "640x360"}), "size: a video has none"),
        (json!({"prompt": "x", "cfg_scale": 1}), "cfg_scale: there is no such field"),
        (json!({"prompt": "x", "kind": "image", "fps": 24}), "fps: a still has none"),
        (json!({"prompt": "x", "kind": "image", "last_frame": null}), "last_frame: a still has none"),
        (
            json!({"prompt": "x", "kind": "image", "size": "63x200"}),
            "size: it has to be WxH, or a width and a height, from 64 to 2048 pixels",
        ),
        (
            json!({"prompt": "x", "kind": "image", "size": "2049x200"}),
            "size: it has to be WxH, or a width and a height, from 64 to 2048 pixels",
        ),
        (
            json!({"prompt": "x", "kind": "image", "size": {"width": 200}}),
            "size: it has to be WxH, or a width and a height, from 64 to 2048 pixels",
        ),
        (
            json!({"prompt": "x", "kind": "image", "size": "200x200", "resolution": "360p"}),
            "size: it takes the place of aspect_ratio and resolution, and cannot be beside them",
        ),
        (
            json!({"fps": "fast", "colour": "red", "audio": "loud"}),
            "colour: there is no such field; prompt: it is required; fps: it has to be one of 6, 12, 24, 25, 30; \
             audio: it has to be true or false",
        ),
    ] {
        assert_eq!(refusal(&input), wrong, "{input:.80}");
    }
}

#[test]
fn numbers_may_be_written_as_fractions_and_an_absent_value_as_null() {
    let plain = draw(json!({"resolution": "144p", "duration": 1, "fps": 6, "seed": 3}));
    let other = json!({
        "kind": "video", "resolution": "144p", "duration": 1.0, "fps": 6.0, "seed": 3.0, "outputs": 1.0,
        "audio": null, "aspect_ratio": null, "negative_prompt": null, "references": [],
    });
    assert_eq!(draw(other), plain);
}
