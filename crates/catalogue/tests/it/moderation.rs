//! Where an entry says that a provider's answer tells of its moderation: frozen with the order, guessed by the import.

use domain::provider::Provider;
use rushes_catalogue::import::{Options, import};
use rushes_catalogue::{Document, Effect, ModerationRule, Order};
use serde_json::{Value, json};

use crate::{lines, parse, resolve};

const SCHEMA: &str = r#"{"type": "object", "required": ["prompt"], "properties": {"prompt": {"type": "string"}}}"#;

fn entry(moderation: &str) -> String {
    format!(
        r#"
        [[model]]
        id = "still"
        provider = "fal"
        model = "acme/still"
        kind = "text-to-image"
        schema = "schema.json"
        map = {{ prompt = "prompt" }}
        price_micros = 1
        {moderation}
        "#
    )
}

#[test]
fn the_places_are_frozen_with_the_order() {
    let rules = r#"moderation = [ { at = "/has_nsfw_concepts", category = "nsfw", effect = "blurred" },
                                  { at = "/logs", contains = "NSFW content", category = "nsfw" } ]"#;
    let catalogue = parse(&entry(rules), SCHEMA).unwrap_or_else(|faults| panic!("{}", lines(&faults)));
    let model = catalogue.find("models/still").unwrap();
    let order = resolve(model, model.sample()).unwrap().order;
    let rule = |at: &str, contains: Option<&str>, effect| ModerationRule {
        at: at.to_owned(),
        contains: contains.map(str::to_owned),
        category: "nsfw".to_owned(),
        effect,
    };
    let expected = [rule("/has_nsfw_concepts", None, Some(Effect::Blurred)), rule("/logs", Some("NSFW content"), None)];
    assert_eq!(order.moderation, expected);
    let frozen = serde_json::to_string(&order).unwrap();
    assert_eq!(serde_json::from_str::<Order>(&frozen).unwrap(), order);
    // Orders of before have none.
    let mut before: Value = serde_json::from_str(&frozen).unwrap();
    before.as_object_mut().unwrap().remove("moderation");
    assert_eq!(serde_json::from_value::<Order>(before).unwrap().moderation, []);
}

#[test]
fn a_place_that_is_none_is_a_fault() {
    for (moderation, says) in [
        (
            r#"[{ at = "nsfw", category = "nsfw" }]"#,
            "moderation[0].at must be a JSON pointer such as /has_nsfw_concepts",
        ),
        (
            r#"[{ at = "/a", category = "Not safe" }]"#,
            "moderation[0].category must be 1 to 60 of a-z, 0-9, '-' and '_'",
        ),
        (
            r#"[{ at = "/a", category = "x", contains = "no" }]"#,
            "moderation[0].contains must be a text of 4 to 200 characters",
        ),
        (
            r#"[{ at = "/a", category = "x", effect = "burnt" }]"#,
            "moderation[0] is wrong: unknown variant `burnt`, expected `blurred` or `replaced`",
        ),
        (r#"[{ at = "/a" }]"#, "moderation[0] is wrong: missing field `category`"),
    ] {
        let faults = parse(&entry(&format!("moderation = {moderation}")), SCHEMA).map(|_| ()).unwrap_err();
        assert_eq!(lines(&faults), format!("line 10: still: {says}"), "{moderation}");
    }
}

#[test]
fn an_import_finds_the_fields_in_which_results_tell_it() {
    let published = |output: &Value| {
        json!({"owner": "acme", "name": "still", "latest_version": {"id": "1", "openapi_schema": {"components": {"schemas": {
            "Input": {"type": "object", "properties": {"prompt": {"type": "string"}}}, "Output": output}}}}})
    };
    let moderation = |output: &Value| {
        let document = Document::read(Provider::Replicate, &published(output), None).unwrap();
        let entry = import(&document, &Options { checked: "2026-11-28".to_owned(), ..Options::default() }).entry;
        let found = entry.lines().find(|line| line.starts_with("moderation = ")).map(str::to_owned);
        (found, entry)
    };
    let file = json!({"type": "string", "format": "uri"});
    let told = json!({"type": "object", "properties": {
        "image": file, "nsfw": {"type": "boolean"}, "has_nsfw_concepts": {"type": "array", "items": {"type": "boolean"}}}});
    let (found, entry) = moderation(&told);
    let expected = r#"moderation = [{ at = "/output/has_nsfw_concepts", category = "nsfw" }, { at = "/output/nsfw", category = "nsfw" }]"#;
    assert_eq!(found.as_deref(), Some(expected), "{entry}");
    // A number is no word, and an address alone says nothing.
    let score = json!({"type": "object", "properties": {"image": file, "nsfw": {"type": "number"}}});
    assert_eq!(moderation(&score).0, None);
    assert_eq!(moderation(&file).0, None);
}
