//! A model of OpenRouter's list, from what it supports to what is sent.

use domain::provider::Provider;
use rushes_catalogue::import::{Options, import};
use rushes_catalogue::{Catalogue, Document, Format, Input, Length, Medium, Role, Settings};
use serde_json::{Value, json};

use crate::{asset, lines, resolve};

#[test]
fn each_frame_is_an_item_of_the_list_that_says_which_it_is() {
    let list = json!({"data": [{"id": "acme/veo", "supported_durations": [4, 8], "supported_resolutions": ["720p", "4K"],
        "supported_aspect_ratios": ["16:9"], "generate_audio": true, "seed": true,
        "supported_frame_images": ["first_frame", "last_frame"],
        "pricing_skus": {"duration_seconds_with_audio": "0.40", "duration_seconds_with_audio_4k": "0.60",
            "duration_seconds_without_audio": "0.20"}}]});
    let document = Document::read(Provider::OpenRouter, &list, None).unwrap();
    let imported = import(&document, &Options { checked: "2026-11-28".to_owned(), ..Options::default() });
    let catalogue = Catalogue::parse(Format::Toml, &imported.entry, &|_| Ok(imported.schema.clone()));
    let catalogue = catalogue.unwrap_or_else(|faults| panic!("{}\n{}", lines(&faults), imported.entry));
    let model = catalogue.by_id("veo").unwrap();

    let frame = |role, n| Medium { role, asset: asset(n, "image/png") };
    let order = |media: Vec<Medium>| {
        let settings = Settings {
            length: Some(Length::Milliseconds(8_000)),
            resolution: Some("4K".to_owned()),
            audio: Some(true),
            ..Settings::default()
        };
        let input = Input { prompt: "a harbour".to_owned(), media, settings, ..Input::default() };
        resolve(model, &input).unwrap_or_else(|all| panic!("{}", lines(&all)))
    };
    let item = |which: &str| json!({"type": "image_url", "frame_type": which, "image_url": {"url": null}});
    let both = order(vec![frame(Role::LastFrame, 2), frame(Role::FirstFrame, 1)]);
    assert_eq!(
        Value::Object(both.order.input),
        json!({"prompt": "a harbour", "seed": 7, "duration": 8, "resolution": "4K", "generate_audio": true,
            "frame_images": [item("last_frame"), item("first_frame")]})
    );
    let places: Vec<_> =
        both.order.files.iter().map(|file| (file.pointer.as_str(), file.asset.name.as_str())).collect();
    let (first, last) = (asset(1, "image/png").name, asset(2, "image/png").name);
    assert_eq!(
        places,
        [("/frame_images/0/image_url/url", last.as_str()), ("/frame_images/1/image_url/url", first.as_str())]
    );
    assert_eq!(both.terms.quote().total.get(), 4_800_000);
    assert_eq!(order(Vec::new()).order.input.get("frame_images"), None);
    let twice = Input {
        prompt: "a".to_owned(),
        media: vec![frame(Role::FirstFrame, 1), frame(Role::FirstFrame, 2)],
        ..model.sample().clone()
    };
    let refused = lines(&resolve(model, &twice).unwrap_err());
    assert_eq!(refused, "input.media[1].role must be another: models/veo takes at most 1 FIRST_FRAME");
}

#[test]
fn an_item_without_a_place_for_the_file_does_not_load() {
    let schema = json!({"type": "object", "properties": {"prompt": {"type": "string"}, "one": {"type": "string"},
        "frames": {"type": "array", "items": {"type": "object", "properties": {"url": {"type": "string"}}}}}});
    for (media, says) in [
        (
            "to = \"frames\"\nitem = { url = \"here\" }",
            "item must be a table with one place for the file's address, \"{file}\"",
        ),
        ("to = \"frames\"\nitem = { url = \"{file}\", other = \"{file}\" }", "item must be a table with one place"),
        ("to = \"one\"\nitem = { url = \"{file}\" }", "item must be left out, since \"one\" is no list"),
        ("to = \"frames\"", "to names \"frames\", which is neither a text nor a list of texts"),
    ] {
        let text = format!(
            "[[model]]\nid = \"a\"\nprovider = \"fal\"\nmodel = \"a/b\"\nkind = \"image-to-video\"\nschema = \"s\"\n\
             price_micros = 1\nmap = {{ prompt = \"prompt\" }}\n[[model.media]]\nrole = \"FIRST_FRAME\"\n{media}\n"
        );
        let faults = Catalogue::parse(Format::Toml, &text, &|_| Ok(schema.to_string())).unwrap_err();
        assert!(lines(&faults).contains(says), "{media}: {}", lines(&faults));
    }
}
