//! From a request's input to an order, or to everything that is wrong with it.

use std::sync::Arc;

use rushes_catalogue::{Input, Length, MediaKind, Medium, Model, Role, Settings};
use serde_json::json;

use crate::{asset, lines, parse, resolve, shipped_model};

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
    let model = shipped_model("veo-3.1-i2v");
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
fn everything_that_is_wrong_is_said_at_once() {
    let model = shipped_model("veo-3.1-i2v");
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
input.parameters.cfg_scale is no parameter of models/veo-3.1-i2v, which has auto_fix
input.parameters.duration must be left out: it is input.settings.duration
input.parameters.image_url must be left out: it is in input.media, with the role FIRST_FRAME
input.parameters.auto_fix must be true or false"
    );
}

/// A model that has something of everything.
fn whole() -> Arc<Model> {
    let schema = json!({
        "type": "object",
        "required": ["prompt", "steps", "safety"],
        "properties": {
            "prompt": {"type": "string", "maxLength": 40},
            "seconds": {"enum": ["auto", "4", "8", "12"], "default": "4"},
            "quality": {"enum": ["draft", "final"]},
            "sound": {"type": "boolean", "default": true},
            "shape": {"enum": ["16:9", "9:16"], "default": "16:9"},
            "count": {"type": "integer", "minimum": 1, "maximum": 4, "default": 2},
            "steps": {"type": "integer", "minimum": 1, "maximum": 50, "default": 30},
            "safety": {"type": "boolean", "default": true},
            "queue": {"type": "string"},
            "pictures": {"type": "array", "items": {"type": "string"}},
            "clips": {"type": "array", "items": {"type": "string"}},
            "nodes": {"type": "array", "maxItems": 3, "items": {
                "type": "object",
                "required": ["at"],
                "properties": {"at": {"type": "integer"}, "image_url": {"type": "string", "format": "uri"}},
            }},
        },
    });
    let entry = r#"
        [[model]]
        id = "whole"
        provider = "replicate"
        model = "a/b"
        kind = "image-to-video"
        schema = "schema.json"
        map = { prompt = "prompt", duration = "seconds", audio = "sound", aspect_ratio = "shape", outputs = "count" }
        hide = ["safety"]
        fixed = { queue = "fast" }
        files = ["/nodes/*/image_url"]
        output = { at = "/videos", kinds = ["video", "image"] }
        max_run = "10m"
        markup = 1.5
        [[model.media]]
        role = "REFERENCE"
        to = "pictures"
        max = 2
        max_bytes = 200_000
        min_width = 300
        forms = ["data", "upload"]
        [[model.media]]
        role = "REFERENCE"
        to = "clips"
        types = ["video"]
        max = 1
        max_seconds = 9
        [[model.price]]
        per = "second"
        rows = [
          { when = { quality = "final", reference = "present" }, credits = "0.3" },
          { when = { quality = "final" }, credits = "0.2" },
          { credits = "0.1" },
        ]
        [[model.rule]]
        field = "input.settings.aspect_ratio"
        message = "must be left out where references are given, which decide the shape"
        if = { required = ["pictures"] }
        then = { not = { required = ["shape"] } }
    "#;
    let catalogue = parse(entry, &schema.to_string()).unwrap_or_else(|faults| panic!("{}", lines(&faults)));
    catalogue.by_id("whole").unwrap().clone()
}

fn request(more: &serde_json::Value) -> Input {
    let mut input = json!({"prompt": "a harbour", "parameters": {"quality": "final"}});
    input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(input).unwrap()
}

#[test]
fn the_order_has_what_the_entry_fixes_and_what_the_provider_requires() {
    let model = whole();
    let resolved = resolve(&model, &request(&json!({}))).unwrap();
    let sent = json!({"prompt": "a harbour", "seconds": "4", "quality": "final", "count": 2, "steps": 30, "safety": true, "queue": "fast"});
    assert_eq!(serde_json::Value::Object(resolved.order.input), sent);
    // Neither sound nor shape is what the price depends on.
    let settings = Settings { length: Some(Length::Milliseconds(4_000)), outputs: Some(2), ..Settings::default() };
    assert_eq!(resolved.input.settings, settings);
    assert_eq!(serde_json::Value::Object(resolved.input.parameters), json!({"quality": "final", "steps": 30}));
    assert_eq!((resolved.order.max_outputs, resolved.order.max_run_ms), (2, Some(600_000)));
    assert_eq!(resolved.order.output.as_deref(), Some("/videos"));
    assert_eq!(resolved.order.output_kinds, [MediaKind::Video, MediaKind::Image]);
    // Four seconds of two outputs at 0.2, and half as much again.
    assert_eq!(resolved.terms.quote().total.get(), 2_400_000);
    // The first of the values that have no default.
    assert_eq!(model.default_terms().quote().total.get(), 1_200_000);
}

#[test]
fn what_the_price_depends_on_must_be_given_where_nothing_says_it() {
    let violations = resolve(&whole(), &request(&json!({"parameters": {}}))).unwrap_err();
    assert_eq!(lines(&violations), "input.parameters.quality must be given, since the price depends on it");
}

#[test]
fn a_length_that_the_model_chooses_is_held_at_its_longest() {
    let resolved = resolve(&whole(), &request(&json!({"settings": {"length": "auto", "outputs": 1}}))).unwrap();
    assert_eq!(resolved.order.input["seconds"], "auto");
    assert_eq!(resolved.terms.quote().total.get(), 3_600_000);
}

#[test]
fn files_go_to_the_place_of_their_role_and_type_in_their_order() {
    let media = [(1, "image/png"), (2, "video/mp4"), (3, "image/jpeg")]
        .map(|(n, kind)| Medium { role: Role::Reference, asset: asset(n, kind) });
    let input = Input { media: media.to_vec(), ..request(&json!({})) };
    let resolved = resolve(&whole(), &input).unwrap();
    assert_eq!(resolved.order.input["pictures"], json!([null, null]));
    let files: Vec<_> =
        resolved.order.files.iter().map(|file| (file.pointer.as_str(), &file.asset, file.forms.len())).collect();
    let wanted =
        [("/pictures/0", &media[0].asset, 2), ("/clips/0", &media[1].asset, 0), ("/pictures/1", &media[2].asset, 2)];
    assert_eq!(files, wanted);
    assert_eq!(resolved.terms.quote().total.get(), 3_600_000, "references are dearer");
    let input = Input { settings: Settings { aspect_ratio: Some("9:16".to_owned()), ..Settings::default() }, ..input };
    let violations = resolve(&whole(), &input).unwrap_err();
    let says = "input.settings.aspect_ratio must be left out where references are given, which decide the shape";
    assert_eq!(lines(&violations), says);
}

#[test]
fn a_file_beyond_the_limits_is_refused() {
    let mut media = Vec::new();
    for (n, kind) in [
        (0, "image/png"),
        (1, "audio/mpeg"),
        (2, "image/png"),
        (3, "video/mp4"),
        (4, "image/png"),
        (5, "image/png"),
        (6, "image/png"),
    ] {
        media.push(Medium { role: Role::Reference, asset: asset(n, kind) });
    }
    media[0].asset.size_bytes = 200_001;
    media[2].asset.width = 299;
    media[3].asset.duration_ms = 9_001;
    let violations = resolve(&whole(), &Input { media, ..request(&json!({})) }).unwrap_err();
    assert_eq!(
        lines(&violations),
        "input.media[0].asset must have at most 200000 bytes, and has 200001
input.media[1].asset must be of image/jpeg, image/png, image/webp, video/mp4, video/webm, video/quicktime, and is audio/mpeg
input.media[2].asset must be at least 300x1 pixels, and is 299x720
input.media[3].asset must play at most 9 seconds, and plays 9.001
input.media[4].role must be another: models/whole takes at most 2 REFERENCE of image/jpeg, image/png, image/webp"
    );
}

#[test]
fn assets_stand_in_parameters_where_the_entry_says_so() {
    let model = whole();
    let name = asset(1, "image/png").name;
    let nodes = json!([{"at": 3.0, "image_url": name}, {"at": 4}]);
    let input = request(&json!({"parameters": {"quality": "draft", "nodes": nodes}}));
    assert_eq!(model.asset_names(&input), std::slice::from_ref(&name));
    let resolved = resolve(&model, &input).unwrap();
    assert_eq!(resolved.order.input["nodes"].to_string(), r#"[{"at":3,"image_url":null},{"at":4}]"#);
    assert_eq!(resolved.order.files[0].pointer, "/nodes/0/image_url");
    assert_eq!(resolved.input.parameters["nodes"][0]["image_url"], name);

    let unknown = format!("assets/{}", "ab".repeat(32));
    let nodes = json!([{"at": 1, "image_url": "https://example.com/a.png"}, {"at": 1, "image_url": unknown}, {"image_url": name, "to": 1}]);
    let input = request(&json!({"parameters": {"quality": name, "steps": 51, "nodes": nodes}}));
    assert_eq!(
        lines(&resolve(&model, &input).unwrap_err()),
        "input.parameters.nodes[0].image_url must be an asset, as assets/{sha256}
input.parameters.nodes[1].image_url is no asset of the account
input.parameters.quality must be no asset: the model takes no file here
input.parameters.nodes[2].to is not known
input.parameters.nodes[2].at must be given
input.parameters.quality must be one of draft, final
input.parameters.steps must be at most 50"
    );
}

#[test]
fn no_more_than_fifty_violations_are_answered() {
    let parameters: serde_json::Map<_, _> = (0..80).map(|n| (format!("x{n}"), json!(1))).collect();
    let violations = resolve(&whole(), &request(&json!({"parameters": parameters}))).unwrap_err();
    assert_eq!(violations.len(), rushes_catalogue::MAX_VIOLATIONS);
}

#[test]
fn a_model_tells_what_it_takes() {
    let model = whole();
    let all: Vec<String> = model
        .setting_descriptions()
        .into_iter()
        .map(|one| {
            format!("{} {:?} {:?} {:?} {}", one.name.as_str(), one.values, one.max, one.default_value, one.required)
        })
        .collect();
    assert_eq!(
        all,
        [
            r#"prompt [] None "" true"#,
            r#"duration ["auto", "4s", "8s", "12s"] None "4s" false"#,
            r#"aspect_ratio ["16:9", "9:16"] None "16:9" false"#,
            r#"audio ["true", "false"] None "true" false"#,
            r#"outputs [] Some(4.0) "2" false"#,
        ]
    );
    assert_eq!((model.prompt_characters(), model.max_media(Role::Reference)), (40, 3));
    let schema: serde_json::Value = serde_json::from_str(&model.parameters_schema()).unwrap();
    let names: Vec<_> = schema["properties"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["nodes", "quality", "steps"]);
    assert_eq!((&schema["required"], &schema["additionalProperties"]), (&json!(["quality"]), &json!(false)));
    let place = &schema["properties"]["nodes"]["items"]["properties"]["image_url"];
    assert_eq!(*place, json!({"type": "string", "pattern": "^assets/[0-9a-f]{64}$"}));
}

#[test]
fn of_rows_that_the_model_may_still_choose_the_dearest_is_held() {
    let schema = json!({"type": "object", "properties": {
        "seconds": {"enum": ["auto", "4", "8"], "default": "auto"},
        "shape": {"enum": ["auto", "1:1", "16:9"], "default": "auto"},
    }});
    let entry = r#"
        model = [{ id = "one", provider = "fal", model = "a/b", kind = "text-to-video", schema = "schema.json",
          map = { duration = "seconds", aspect_ratio = "shape" },
          price = [{ per = "generation", rows = [
            { when = { duration = 4, aspect_ratio = "1:1" }, credits = 1 },
            { when = { duration = "8s", aspect_ratio = "1:1" }, credits = 3 },
            { when = { duration = 4 }, credits = 5 },
            { credits = 4 },
          ] }] }]"#;
    let catalogue = parse(entry, &schema.to_string()).unwrap_or_else(|faults| panic!("{}", lines(&faults)));
    let model = catalogue.by_id("one").unwrap();
    let price = |settings: serde_json::Value| {
        let input: Input = serde_json::from_value(json!({"settings": settings})).unwrap();
        let resolved = resolve(model, &input).unwrap_or_else(|all| panic!("{}", lines(&all)));
        (resolved.terms.quote().total.get() / 1_000_000, resolved.order.input.len())
    };
    assert_eq!(price(json!({})), (5, 2));
    assert_eq!(price(json!({"length": {"milliseconds": 8_000}})), (4, 2));
    assert_eq!(price(json!({"length": "auto", "aspect_ratio": "1:1"})), (3, 2));
    assert_eq!(price(json!({"length": {"milliseconds": 4_000}, "aspect_ratio": "1:1"})), (1, 2));
}

#[test]
fn an_address_is_no_asset_whatever_the_caller_finds() {
    let nodes = json!([{"at": 1, "image_url": "https://example.com/a.png"}]);
    let input = request(&json!({"parameters": {"quality": "draft", "nodes": nodes}}));
    let violations = whole().resolve(&input, 7, &|_| Some(asset(1, "image/png"))).map(|_| ()).unwrap_err();
    assert_eq!(lines(&violations), "input.parameters.nodes[0].image_url must be an asset, as assets/{sha256}");
}
