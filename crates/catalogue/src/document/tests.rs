//! Documents of each provider, and hostile ones.

#![expect(
    clippy::needless_pass_by_value,
    reason = "json! makes values, and a reference at each call would hide the cases"
)]

use domain::provider::Provider;
use serde_json::{Map, Value, json};

use super::{Document, Error, Open};

fn fal(input: Value, more: Value) -> Value {
    let mut schemas = Map::from_iter([("In".to_owned(), input)]);
    schemas.extend(more.as_object().cloned().unwrap_or_default());
    json!({
        "info": {"x-fal-metadata": {"endpointId": "acme/video", "category": "text-to-video"}},
        "components": {"schemas": schemas},
        "paths": {"/acme/video": {"post": {"requestBody": {"content": {"application/json": {
            "schema": {"$ref": "#/components/schemas/In"}}}}}}},
    })
}

fn fields(input: Value) -> Value {
    json!({"type": "object", "properties": input})
}

fn read(input: Value, more: Value) -> Result<Document, Error> {
    Document::read(Provider::Fal, &fal(input, more), None)
}

fn field(input: Value, more: Value) -> Value {
    read(fields(json!({"x": input})), more).unwrap().input["properties"]["x"].clone()
}

#[test]
fn a_node_is_closed_and_without_references() {
    let cases = [
        (json!({"type": "string", "title": "X", "examples": ["a"]}), json!({}), json!({"type": "string"})),
        (json!({"enum": ["5", "10"]}), json!({}), json!({"type": "string", "enum": ["5", "10"]})),
        (json!({"type": "integer", "nullable": true}), json!({}), json!({"type": ["integer", "null"]})),
        (json!({"anyOf": [{"type": "integer"}, {"type": "null"}]}), json!({}), json!({"type": ["integer", "null"]})),
        (
            json!({"type": "number", "minimum": 0, "exclusiveMinimum": true}),
            json!({}),
            json!({"type": "number", "exclusiveMinimum": 0}),
        ),
        (
            json!({"type": "number", "minimum": 0, "exclusiveMinimum": false}),
            json!({}),
            json!({"type": "number", "minimum": 0}),
        ),
        // Replicate's form of an enum: a sibling schema.
        (
            json!({"allOf": [{"$ref": "#/components/schemas/shape"}], "default": "1:1", "x-order": 3}),
            json!({"shape": {"type": "string", "title": "shape", "enum": ["1:1", "16:9"], "description": "An enumeration."}}),
            json!({"type": "string", "enum": ["1:1", "16:9"], "default": "1:1", "x-order": 3, "description": "An enumeration."}),
        ),
        // Several at once are one, closed after they came together.
        (
            json!({"allOf": [
                {"type": "object", "properties": {"a": {"type": "number", "maximum": 5}}, "required": ["a"]},
                {"properties": {"a": {"type": "integer", "maximum": 3}, "b": {"type": "string"}}}]}),
            json!({}),
            json!({"type": "object", "additionalProperties": false, "required": ["a"], "properties": {
                "a": {"type": "integer", "maximum": 3}, "b": {"type": "string"}}}),
        ),
        (
            json!({"type": "array", "items": {"type": "object", "additionalProperties": true, "properties": {"u": {"type": "string"}}}}),
            json!({}),
            json!({"type": "array", "items": {"type": "object", "additionalProperties": false, "properties": {"u": {"type": "string"}}}}),
        ),
        // In a condition nothing is closed.
        (
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "not": {"properties": {"a": {"const": "b"}}}}),
            json!({}),
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": false,
                "not": {"properties": {"a": {"const": "b"}}}}),
        ),
    ];
    for (input, more, expected) in cases {
        assert_eq!(field(input.clone(), more), expected, "{input}");
    }
}

#[test]
fn what_is_left_open_is_reported() {
    let document = read(
        fields(json!({
            "track": {"type": "array", "items": {"$ref": "#/components/schemas/Gone"}},
            "tree": {"$ref": "#/components/schemas/Tree"},
            "any": {"description": "what you like"},
            "free": {"type": "object"},
            "length": {"type": "integer", "default": "5"},
        })),
        json!({"Tree": {"type": "object", "properties": {"inner": {"type": "array", "items": {"$ref": "#/components/schemas/Tree"}}}}}),
    );
    let document = document.unwrap();
    let mut gaps: Vec<_> = document.gaps.iter().map(|gap| (gap.path.as_str(), gap.open.clone())).collect();
    gaps.sort_by_key(|(path, _)| *path);
    let expected = [
        ("/any", Open::Anything),
        ("/free", Open::Anything),
        ("/length", Open::Default),
        ("/track/*", Open::Missing("Gone".to_owned())),
        ("/tree/inner/*", Open::Recursive("Tree".to_owned())),
    ];
    assert_eq!(gaps, expected);
    // What is not described is refused, not let through.
    let validator = jsonschema::validator_for(&document.schema()).unwrap();
    assert!(validator.is_valid(&json!({"track": [], "tree": {"inner": []}})));
    assert!(!validator.is_valid(&json!({"track": [1]})));
    assert!(!validator.is_valid(&json!({"tree": {"inner": [{}]}})));
    assert!(!validator.is_valid(&json!({"unknown": 1})));
}

#[test]
fn a_hostile_document_is_an_error() {
    // Ten references at each of fifteen levels: 10^15 parts.
    let level = |next: usize| {
        let fields: Map<_, _> =
            (0..10).map(|n| (format!("f{n}"), json!({"$ref": format!("#/components/schemas/L{next}")}))).collect();
        json!({"type": "object", "properties": fields})
    };
    let levels: Map<_, _> = (0..15).map(|n| (format!("L{n}"), level(n + 1))).collect();
    let doubling = json!({"$ref": "#/components/schemas/L0"});
    assert_eq!(read(fields(json!({"x": doubling})), levels.into()).unwrap_err(), Error::TooLarge);

    let mut deep = json!({"type": "string"});
    for _ in 0..100 {
        deep = json!({"type": "array", "items": deep});
    }
    assert_eq!(read(fields(json!({"x": deep})), json!({})).unwrap_err(), Error::TooDeep);

    let wide: Vec<_> = (0..40_000).collect();
    assert_eq!(read(fields(json!({"x": {"enum": wide}})), json!({})).unwrap_err(), Error::TooLarge);

    let foreign = json!({"$ref": "https://example.com/schema.json"});
    assert!(matches!(read(fields(json!({"x": foreign})), json!({})).unwrap_err(), Error::Foreign(_)));

    let circle = json!({"A": {"allOf": [{"$ref": "#/components/schemas/A"}]}});
    assert_eq!(read(json!({"$ref": "#/components/schemas/A"}), circle).unwrap_err(), Error::NoFields);
}

#[test]
fn nonsense_in_the_place_of_a_keyword_is_no_panic() {
    let nonsense =
        [json!(null), json!(-1), json!("x"), json!([]), json!({}), json!([1, {}]), json!(true), json!(1e300)];
    let keywords = [
        "type",
        "enum",
        "const",
        "properties",
        "items",
        "required",
        "anyOf",
        "oneOf",
        "allOf",
        "not",
        "if",
        "then",
        "additionalProperties",
        "minimum",
        "exclusiveMinimum",
        "multipleOf",
        "maxLength",
        "pattern",
        "format",
        "default",
        "description",
        "nullable",
        "$ref",
        "x-fal",
        "x-order",
        "x-fal-order-properties",
        "prefixItems",
        "patternProperties",
        "dependentRequired",
        "uniqueItems",
        "contains",
        "propertyNames",
    ];
    for keyword in keywords {
        for value in &nonsense {
            let node = json!({"type": "object", "properties": {"a": {"type": "string"}}, keyword: value});
            for document in [fields(json!({"x": node})), node.clone()] {
                if let Ok(document) = read(document, json!({})) {
                    jsonschema::validator_for(&document.schema()).unwrap_or_else(|e| panic!("{keyword} {value}: {e}"));
                }
            }
            for provider in Provider::ALL {
                let _ = Document::read(
                    provider,
                    &json!({keyword: value, "paths": value, "models": value, "data": value}),
                    None,
                );
                let _ = Document::read(provider, value, Some("a/b"));
            }
        }
    }
}

#[test]
fn replicate_names_the_version_of_what_is_not_official() {
    let schemas = json!({"components": {"schemas": {
        "Input": fields(json!({"prompt": {"type": "string"}})),
        "Output": {"type": "array", "items": {"type": "string", "format": "uri"}}}}});
    let model = |official: Value| {
        json!({"owner": "acme", "name": "video", "is_official": official,
        "latest_version": {"id": "0a1b", "openapi_schema": schemas}})
    };
    let read = |published: &Value, model| Document::read(Provider::Replicate, published, model);
    assert_eq!(read(&model(json!(true)), None).unwrap().model, "acme/video");
    assert_eq!(read(&model(json!(false)), Some("acme/video")).unwrap().model, "acme/video:0a1b");
    assert_eq!(read(&model(json!(true)), Some("acme/other")).unwrap_err(), Error::Other("acme/other".to_owned()));
    let output = read(&model(json!(true)), None).unwrap().output.unwrap();
    assert_eq!(output, json!({"type": "array", "items": {"type": "string", "format": "uri"}}));
    let document = Document::read(Provider::Cog, &schemas, Some("http://gpu:5000")).unwrap();
    assert_eq!(document.model, "http://gpu:5000");
    let error = read(&json!({"detail": "not found"}), None).unwrap_err().to_string();
    assert_eq!(error, "this is not Replicate's description of a model: openapi_schema is missing");
}

#[test]
fn fal_tells_what_it_does_not_have() {
    let absent = json!({"models": [{"endpoint_id": "a/b", "openapi": {"error": {"message": "not available"}}}]});
    let error = Document::read(Provider::Fal, &absent, None).unwrap_err();
    assert_eq!(error.to_string(), "the provider has no document of this model: not available");
    let two = json!({"models": [{"endpoint_id": "a/b"}, {"endpoint_id": "a/c"}]});
    assert_eq!(Document::read(Provider::Fal, &two, None).unwrap_err(), Error::Several("a/b, a/c".to_owned()));
}

fn openrouter(model: Value) -> Document {
    let list = json!({"data": [{"id": "other"}, model]});
    Document::read(Provider::OpenRouter, &list, model["id"].as_str()).unwrap()
}

/// The rows of the first rule as `condition=values …: credits`.
fn rows(document: &Document) -> Vec<String> {
    let rows = document.prices[0].rows.iter();
    rows.map(|row| {
        let when: Vec<_> = row.when.iter().map(|(name, values)| format!("{name}={}", values.join("|"))).collect();
        format!("{}: {}", when.join(" "), row.credits)
    })
    .collect()
}

#[test]
fn what_openrouter_supports_is_a_schema() {
    let document = openrouter(
        json!({"id": "acme/video", "supported_durations": [8, 4, 6], "supported_resolutions": ["720p", "4K"],
        "supported_frame_images": ["first_frame"], "generate_audio": true, "seed": false,
        "upscale_factor": {"min": 1.5, "max": 3}, "allowed_passthrough_parameters": ["enhance"]}),
    );
    let validator = jsonschema::validator_for(&document.schema()).unwrap();
    let frame = json!({"type": "image_url", "image_url": {"url": "https://x"}, "frame_type": "first_frame"});
    assert!(validator.is_valid(&json!({"prompt": "a", "duration": 6, "resolution": "4K", "frame_images": [frame]})));
    for wrong in
        [json!({"seed": 1}), json!({"duration": 5}), json!({"frame_images": [frame, frame]}), json!({"enhance": 1})]
    {
        let mut order = json!({"prompt": "a"});
        order.as_object_mut().unwrap().extend(wrong.as_object().unwrap().clone());
        assert!(!validator.is_valid(&order), "{wrong}");
    }
    assert_eq!(document.notes.len(), 1, "{:?}", document.notes);
}

#[test]
fn openrouters_prices_are_those_of_what_can_be_ordered() {
    let model = |more: Value| {
        let mut model = json!({"id": "a", "supported_resolutions": ["720p", "1080p"], "generate_audio": true,
            "supported_frame_images": ["first_frame"]});
        model.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        openrouter(model)
    };
    let cases = [
        (json!({"pricing_skus": {"duration_seconds": "0.1"}}), vec![": 0.1"]),
        (
            json!({"pricing_skus": {"duration_seconds_with_audio": "0.40", "duration_seconds_without_audio": "0.20"}}),
            vec!["audio=true: 0.4", "audio=false: 0.2"],
        ),
        // 480p and 4K are not offered, and no video can be given.
        (
            json!({"pricing_skus": {"duration_seconds_480p": "0.04", "duration_seconds": "0.08", "duration_seconds_4k": "1",
                "cents_per_second_video_continuation_720p": "41"}}),
            vec![": 0.08"],
        ),
        // It is always silent.
        (
            json!({"generate_audio": false, "pricing_skus": {"video_tokens_without_audio": "0.0000012", "video_tokens": "0.0000024"}}),
            vec![": 0.0012"],
        ),
        (
            json!({"pricing_skus": {"text_to_video_duration_seconds": "0.1", "image_to_video_duration_seconds": "0.2"}}),
            vec!["first_frame=absent: 0.1", "first_frame=present: 0.2"],
        ),
        (
            json!({"supported_frame_images": null, "pricing_skus": {"text_to_video_duration_seconds": "0.1", "image_to_video_duration_seconds": "0.2"}}),
            vec![": 0.1"],
        ),
    ];
    for (more, expected) in cases {
        let mut found = rows(&model(more.clone()));
        let mut expected: Vec<_> = expected.into_iter().map(str::to_owned).collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{more}");
    }
    let unknown = model(json!({"pricing_skus": {"cents_per_mood": "7.5"}}));
    assert_eq!((unknown.prices.len(), unknown.notes.len()), (0, 1));
    let references = model(json!({"pricing_skus": {"duration_seconds": "0.13", "reference_images": "0.04"}}));
    assert_eq!((references.prices.len(), references.notes.len()), (1, 1));
}
