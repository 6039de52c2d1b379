//! What is made of documents whose fields are called in every way.

use domain::provider::Provider;
use serde_json::{Value, json};

use super::{Imported, Options, import};
use crate::{Document, Kind, Role};

fn replicate(name: &str, input: &Value, required: &[&str], output: &Value) -> Imported {
    let published = json!({"owner": "acme", "name": name, "latest_version": {"id": "1", "openapi_schema": {"components": {"schemas": {
        "Input": {"type": "object", "properties": input, "required": required}, "Output": output}}}}});
    let document = Document::read(Provider::Replicate, &published, None).unwrap();
    import(&document, &Options { checked: "2026-11-28".to_owned(), ..Options::default() })
}

fn file() -> Value {
    json!({"type": "string", "format": "uri"})
}

fn read(entry: &str) -> Value {
    let table: toml::Table = toml::from_str(entry).unwrap_or_else(|error| panic!("{error}\n{entry}"));
    serde_json::to_value(&table).unwrap()["model"][0].clone()
}

#[test]
fn a_model_of_replicate_is_an_entry() {
    let input = json!({
        "prompt": {"type": "string", "x-order": 0},
        "image": file(),
        "last_frame": file(),
        "reference_images": {"type": "array", "items": file(), "maxItems": 3},
        "duration": {"type": "integer", "enum": [4, 6, 8], "default": 8},
        "aspect_ratio": {"type": "string", "enum": ["16:9", "9:16"]},
        "resolution": {"type": "string", "enum": ["720p", "1080p"]},
        "generate_audio": {"type": "boolean"},
        "width": {"type": "integer"},
        "height": {"type": "integer"},
        "cfg_scale": {"type": "number"},
        "openai_api_key": {"type": "string", "format": "password"},
        "disable_safety_checker": {"type": "boolean"},
        "lora_weights": file(),
    });
    let imported = replicate("veo-9", &input, &["prompt"], &json!({"type": "string", "format": "uri"}));
    assert_eq!((imported.id.as_str(), imported.schema_path.as_str()), ("veo-9", "schemas/replicate/veo-9.json"));
    let report = &imported.report;
    assert_eq!(report.kind, Some(Kind::ImageToVideo));
    assert_eq!(report.parameters, ["cfg_scale", "lora_weights"]);
    assert!(report.is_whole() && report.files.is_empty(), "{report:?}");
    let hidden: Vec<_> = report.hidden.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(hidden, ["disable_safety_checker", "openai_api_key"]);
    let roles: Vec<_> = report.media.iter().map(|(role, to)| (*role, to.as_str())).collect();
    assert_eq!(
        roles,
        [(Role::FirstFrame, "image"), (Role::LastFrame, "last_frame"), (Role::Reference, "reference_images")]
    );

    let entry = read(&imported.entry);
    assert_eq!(entry["map"]["size"], json!({"width": "width", "height": "height"}));
    assert_eq!(entry["map"]["audio"], "generate_audio");
    assert_eq!(entry["media"][2], json!({"role": "REFERENCE", "to": "reference_images", "max": 3}));
    assert_eq!(entry["output"], json!({"kinds": ["video"]}));
    assert_eq!(entry["source"], "https://replicate.com/acme/veo-9");
    assert!(imported.entry.contains("#   { when = { resolution = \"1080p\", audio = true }, credits = \"?\" },"));
}

#[test]
fn a_length_in_frames_knows_its_rate() {
    let frames = |field: Value, fps: Option<u32>| {
        let mut input = json!({"prompt": {"type": "string"}, "num_frames": field});
        if let Some(fps) = fps {
            input["frames_per_second"] = json!({"type": "integer", "default": fps});
        }
        read(&replicate("wan", &input, &[], &json!({})).entry)["map"]["duration"].clone()
    };
    let field = |default: u32, text: &str| json!({"type": "integer", "default": default, "description": text});
    assert_eq!(frames(field(81, ""), Some(16)), json!({"to": "num_frames", "unit": "frames", "extra_frames": 1}));
    assert_eq!(frames(field(80, ""), Some(16)), json!({"to": "num_frames", "unit": "frames"}));
    let told = field(121, "Frames of the video, which plays at 24 fps.");
    assert_eq!(frames(told, None), json!({"to": "num_frames", "unit": "frames", "fps": 24, "extra_frames": 1}));
    // Without a rate it is nothing but a number.
    assert_eq!(frames(field(81, ""), None), Value::Null);
}

#[test]
fn what_fits_a_setting_only_by_name_is_a_parameter() {
    let input = json!({
        "prompt": {"type": "string"},
        "duration": {"type": "string", "enum": ["short", "long"]},
        "aspect_ratio": {"type": "string", "enum": ["16:9", "wide:very"]},
        "seed": {"type": "string"},
        "audio": {"type": "string", "format": "uri"},
        "fps": {"type": "boolean"},
        "mode": {"type": "string", "enum": ["standard", "pro"]},
    });
    let report = replicate("thing", &input, &[], &json!({})).report;
    assert_eq!(report.mapped, [("prompt", "prompt".to_owned())]);
    assert_eq!(report.media, [(Role::Audio, "audio".to_owned())]);
    assert_eq!(report.parameters, ["aspect_ratio", "duration", "fps", "mode", "seed"]);
    let kling = read(&replicate("kling-9", &input, &[], &json!({})).entry);
    assert_eq!(kling["map"]["resolution"], json!({"to": "mode", "values": {"720p": "standard", "1080p": "pro"}}));
}

#[test]
fn files_without_a_role_are_places_in_parameters() {
    let input = json!({
        "first_audio": file(),
        "second_audio": file(),
        "video": file(),
        "image": file(),
        "elements": {"type": "array", "items": {"type": "object", "properties": {
            "frontal_image_url": {"type": "string"}, "name": {"type": "string"}}}},
        "masks": {"type": "array", "items": {"anyOf": [{"type": "object", "properties": {"url": {"type": "string"}}}, {"type": "null"}]}},
    });
    let report = replicate("thing", &input, &["video"], &json!({})).report;
    // Beside a video that must be given, a picture is what it is changed to.
    assert_eq!(report.media, [(Role::Reference, "image".to_owned()), (Role::Source, "video".to_owned())]);
    assert_eq!(report.files, ["/elements/*/frontal_image_url", "/first_audio", "/masks/*/url", "/second_audio"]);
    assert_eq!(report.kind, Some(Kind::VideoToVideo));
}

#[test]
fn a_field_that_must_be_given_and_cannot_be_is_lost() {
    let input = json!({
        "track": {"type": "array", "items": {"$ref": "#/components/schemas/Point"}},
        "path": {"type": "array", "items": {"$ref": "#/components/schemas/Point"}},
        "api_key": {"type": "string"},
    });
    let report = replicate("thing", &input, &["track", "api_key"], &json!({})).report;
    assert_eq!(report.lost.len(), 2, "{:?}", report.lost);
    assert!(report.lost[0].starts_with("api_key must be given, and is hidden"), "{:?}", report.lost);
    assert!(report.lost[1].starts_with("track must be given, and /track/*"), "{:?}", report.lost);
    assert_eq!(report.hidden[1].0, "path");
}

#[test]
fn what_is_made_is_known_by_the_result() {
    let published = |category: &str, result: Value| {
        let schema = |schema: &Value| json!({"content": {"application/json": {"schema": schema}}});
        let input = schema(&json!({"type": "object", "properties": {"prompt": {"type": "string"}}}));
        let document = json!({"info": {"x-fal-metadata": {"category": category}}, "paths": {
            "/a/b": {"post": {"requestBody": input}},
            "/a/b/requests/{request_id}": {"get": {"responses": {"200": schema(&json!({"type": "object", "properties": result}))}}}}});
        let document = Document::read(Provider::Fal, &document, None).unwrap();
        read(&import(&document, &Options { checked: "2026-11-28".to_owned(), ..Options::default() }).entry)
    };
    let url = json!({"type": "object", "properties": {"url": {"type": "string"}}});
    let nullable = json!({"anyOf": [url, {"type": "null"}]});
    for (category, result, kind, output) in [
        (
            "text-to-video",
            json!({"seed": {"type": "integer"}, "video": url}),
            "text-to-video",
            json!({"at": "/video", "kinds": ["video"]}),
        ),
        (
            "image-to-video",
            json!({"video": nullable, "images": {"type": "array", "items": url}}),
            "image-to-video",
            json!({"at": "/video", "kinds": ["video"]}),
        ),
        (
            "text-to-image",
            json!({"images": {"type": "array", "items": url}}),
            "text-to-image",
            json!({"at": "/images", "kinds": ["image"]}),
        ),
        ("text-to-speech", json!({"audio": url}), "speech", json!({"at": "/audio", "kinds": ["audio"]})),
        ("training", json!({"audio": url}), "speech", json!({"at": "/audio", "kinds": ["audio"]})),
        ("audio-to-audio", json!({"vocals": url, "drums": url}), "speech", json!({"at": "/drums", "kinds": ["audio"]})),
        ("text-to-video", json!({"lora_file": url, "depth": {"type": "string"}}), "text-to-video", Value::Null),
    ] {
        let entry = published(category, result.clone());
        assert_eq!((&entry["kind"], &entry["output"]), (&json!(kind), &output), "{category} {result}");
    }
}

#[test]
fn a_known_price_is_written_as_rows() {
    let list = json!({"data": [{"id": "acme/veo", "supported_durations": [4, 8], "supported_resolutions": ["720p", "4K"],
        "generate_audio": true, "supported_frame_images": ["first_frame", "last_frame"], "pricing_skus": {
        "duration_seconds_with_audio": "0.40", "duration_seconds_with_audio_4k": "0.60", "duration_seconds_without_audio": "0.20"}}]});
    let document = Document::read(Provider::OpenRouter, &list, None).unwrap();
    let imported = import(&document, &Options { checked: "2026-11-28".to_owned(), ..Options::default() });
    assert_eq!(imported.report.todo, Vec::<String>::new());
    let entry = read(&imported.entry);
    let mut rows = entry["price"][0]["rows"].as_array().unwrap().clone();
    rows.sort_by_key(|row| row["credits"].to_string());
    let expected = [
        json!({"when": {"audio": false}, "credits": "0.2"}),
        json!({"when": {"audio": true}, "credits": "0.4"}),
        json!({"when": {"audio": true, "resolution": "4K"}, "credits": "0.6"}),
    ];
    assert_eq!((&entry["price"][0]["per"], rows.as_slice()), (&json!("second"), &expected[..]));
    let item = json!({"type": "image_url", "frame_type": "last_frame", "image_url": {"url": "{file}"}});
    assert_eq!(entry["media"][1], json!({"role": "LAST_FRAME", "to": "frame_images", "item": item}));
}

#[test]
fn hostile_names_stay_texts() {
    let input = json!({"a\"]\n[[m]]\nid = \"x": file(), "sync_mode": {"type": "boolean"}, "ü/~*": {"type": "array", "items": file()}});
    let imported = replicate("x\" # \n", &input, &[], &json!({}));
    let table: Value = serde_json::to_value(toml::from_str::<toml::Table>(&imported.entry).unwrap()).unwrap();
    assert_eq!(table["model"].as_array().unwrap().len(), 1, "{}", imported.entry);
    assert_eq!(table["model"][0]["files"], json!(["/a\"]\n[[m]]\nid = \"x", "/ü~1~0*/*"]));
    assert_eq!(imported.id, "x");
    assert_eq!(super::id_of("fal-ai/Kling_Video/v3/pro/image-to-video"), "kling-video-v3-pro-image-to-video");
    assert_eq!(super::id_of("///"), "model");
}

#[test]
fn other_kinds_have_their_own_words() {
    let sound = json!({"type": "object", "properties": {"audio": {"type": "object", "properties": {"url": {"type": "string"}}}}});
    let make = |category: &str, input: Value, required: &[&str], result: &Value| {
        let schema = |schema: &Value| json!({"content": {"application/json": {"schema": schema}}});
        let input = json!({"type": "object", "properties": input, "required": required});
        let document = json!({"info": {"x-fal-metadata": {"category": category}}, "paths": {
            "/a/b": {"post": {"requestBody": schema(&input)}},
            "/a/b/requests/{request_id}": {"get": {"responses": {"200": schema(result)}}}}});
        let document = Document::read(Provider::Fal, &document, None).unwrap();
        import(&document, &Options { checked: "2026-11-28".to_owned(), ..Options::default() })
    };
    // What is spoken is the prompt; how, is the model's own.
    let speech = json!({"text": {"type": "string"}, "prompt": {"type": "string"}, "voice": {"type": "string"}});
    let report = make("text-to-speech", speech, &["text"], &sound).report;
    assert_eq!(report.mapped, [("prompt", "text".to_owned())]);
    assert_eq!(report.parameters, ["prompt", "voice"]);

    let music = json!({"prompt": {"type": "string"}, "music_length_ms": {"type": "integer"}});
    let imported = make("text-to-audio", music, &["prompt"], &sound);
    assert_eq!(read(&imported.entry)["map"]["duration"], json!({"to": "music_length_ms", "unit": "milliseconds"}));

    let picture = json!({"type": "object", "properties": {"image": {"type": "object", "properties": {"url": {"type": "string"}}}}});
    let still = json!({"prompt": {"type": "string"}, "image_url": {"type": "string"}});
    let roles = |category, required| make(category, still.clone(), required, &picture).report.media[0].0;
    assert_eq!((roles("text-to-image", &[]), roles("image-to-image", &["image_url"])), (Role::Reference, Role::Source));

    let merge = json!({"video_urls": {"type": "array", "items": {"type": "string"}, "minItems": 2}});
    let imported = make("video-to-video", merge, &["video_urls"], &json!({}));
    assert_eq!(read(&imported.entry)["media"][0], json!({"role": "SOURCE", "to": "video_urls", "min": 2}));

    // Nothing that could be shown comes of it.
    let weights = json!({"type": "object", "properties": {"diffusers_lora_file": {"type": "object", "properties": {"url": {"type": "string"}}}}});
    let report = make("training", json!({"steps": {"type": "integer"}}), &[], &weights).report;
    assert_eq!(report.lost, ["its result has no video, picture or sound"]);
}
