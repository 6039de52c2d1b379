//! Each form that a common field can have at a provider, there and back.

use std::sync::Arc;

use rushes_catalogue::{Input, Model, SettingName};
use serde_json::{Value, json};

use crate::{lines, parse, random::put, resolve};

/// A model with these properties and this map, at a price per output.
fn model(map: &str, properties: &Value) -> Arc<Model> {
    let schema = json!({"type": "object", "properties": properties}).to_string();
    let entry = format!(
        "[[model]]\nid = \"one\"\nprovider = \"fal\"\nmodel = \"a/b\"\nkind = \"text-to-video\"\nschema = \"schema.json\"\n\
         map = {map}\nprice = [{{ per = \"output\", rows = [{{ credits = 1 }}] }}]\n"
    );
    let catalogue = parse(&entry, &schema).unwrap_or_else(|faults| panic!("{}", lines(&faults)));
    catalogue.by_id("one").unwrap().clone()
}

/// What a setting's text is sent as, or what is said of it.
fn sent(model: &Model, settings: &[(SettingName, &str)]) -> Result<Value, String> {
    let mut input = Input::default();
    settings.iter().for_each(|(name, text)| put(&mut input, *name, text));
    let resolved = resolve(model, &input).map_err(|all| lines(&all))?;
    assert_eq!(resolved.input.settings, { resolve(model, &resolved.input).unwrap().input.settings });
    Ok(Value::Object(resolved.order.input))
}

fn check(name: SettingName, map: &str, field: &Value, cases: &[(&str, Value)], refused: &[(&str, &str)]) {
    let model = model(map, &json!({"f": field}));
    for (text, value) in cases {
        assert_eq!(sent(&model, &[(name, text)]), Ok(json!({"f": value})), "{field} {text}");
    }
    for (text, says) in refused {
        assert_eq!(sent(&model, &[(name, text)]), Err(format!("{} {says}", name.path())), "{field} {text}");
    }
}

#[test]
fn durations() {
    let name = SettingName::Duration;
    let plain = r#"{ duration = "f" }"#;
    for (field, cases, refused) in [
        (
            json!({"enum": [4, 6, 8], "type": "integer"}),
            vec![("4s", json!(4))],
            vec![("5s", "must be one of 4, 6, 8 seconds")],
        ),
        (json!({"enum": ["5", "10"]}), vec![("5s", json!("5"))], vec![("auto", "must be one of 5, 10 seconds")]),
        (json!({"enum": ["4s", "8s"]}), vec![("8s", json!("8s"))], vec![("8.001s", "must be one of 4, 8 seconds")]),
        (
            json!({"enum": ["auto", "4", "5"]}),
            vec![("auto", json!("auto")), ("4s", json!("4"))],
            vec![("6s", "must be one of 4, 5 seconds, or auto")],
        ),
        (
            json!({"type": "integer", "minimum": 2, "maximum": 15}),
            vec![("2s", json!(2)), ("15s", json!(15))],
            vec![
                ("2.5s", "must be from 2 to 15 seconds, whole ones"),
                ("16s", "must be from 2 to 15 seconds, whole ones"),
            ],
        ),
        (
            json!({"type": "integer", "minimum": -1, "maximum": 12}),
            vec![("auto", json!(-1)), ("3s", json!(3))],
            vec![("0s", "must be from 1 to 12 seconds, whole ones, or auto")],
        ),
        (
            json!({"type": "number", "minimum": 1, "maximum": 30}),
            vec![("7.5s", json!(7.5)), ("4s", json!(4))],
            vec![("0.999s", "must be from 1 to 30 seconds")],
        ),
        (
            json!({"anyOf": [{"type": "number", "maximum": 9, "multipleOf": 0.5}, {"const": "auto"}, {"type": "null"}]}),
            vec![("auto", json!("auto")), ("2.5s", json!(2.5))],
            vec![("2.6s", "must be from 0.001 to 9 seconds in steps of 0.5, or auto")],
        ),
        (json!({"type": "string", "default": "5s"}), vec![("6s", json!("6s"))], vec![]),
        (json!({"type": "string", "default": "5"}), vec![("6s", json!("6"))], vec![]),
    ] {
        check(name, plain, &field, &cases, &refused);
    }
    let ms = json!({"type": "integer", "minimum": 1000, "maximum": 9000});
    check(name, r#"{ duration = { to = "f", unit = "milliseconds" } }"#, &ms, &[("2.5s", json!(2500))], &[]);
    let words = json!({"enum": ["short", "long"]});
    let map = r#"{ duration = { to = "f", values = { "5" = "short", "10s" = "long" } } }"#;
    check(name, map, &words, &[("5s", json!("short"))], &[("7s", "must be one of 5, 10 seconds")]);
}

#[test]
fn durations_in_frames() {
    let name = SettingName::Duration;
    let map = r#"{ duration = { to = "f", unit = "frames", fps = 16, extra_frames = 1 } }"#;
    let field = json!({"type": "integer", "minimum": 17, "maximum": 161});
    let says = "must be from 1 to 10 seconds, in whole frames of 16 a second";
    check(name, map, &field, &[("5s", json!(81)), ("5.063s", json!(82))], &[("5.06s", says), ("11s", says)]);
    let listed = json!({"enum": ["85", "129"]});
    let map = r#"{ duration = { to = "f", unit = "frames", fps = 24 } }"#;
    check(name, map, &listed, &[("3.542s", json!("85"))], &[("4s", "must be one of 3.542, 5.375 seconds")]);

    let properties = json!({
        "num_frames": {"type": "integer", "minimum": 8, "maximum": 240, "default": 120},
        "rate": {"type": "integer", "enum": [24, 30], "default": 24},
    });
    let model = model(r#"{ duration = "num_frames", fps = "rate" }"#, &properties);
    let (duration, fps) = (SettingName::Duration, SettingName::Fps);
    assert_eq!(sent(&model, &[(duration, "4s")]), Ok(json!({"num_frames": 96, "rate": 24})));
    assert_eq!(sent(&model, &[(duration, "4s"), (fps, "30")]), Ok(json!({"num_frames": 120, "rate": 30})));
    let longest = sent(&model, &[(duration, "9s"), (fps, "30")]).unwrap_err();
    assert_eq!(longest, "input.settings.duration must be from 0.267 to 8 seconds, in whole frames of 30 a second");
}

#[test]
fn sizes() {
    let name = SettingName::Size;
    let plain = r#"{ size = "f" }"#;
    let side = json!({"type": "integer", "minimum": 256, "maximum": 2048, "multipleOf": 8});
    let object = json!({"type": "object", "properties": {"width": side, "height": side}});
    let says =
        "must be a size such as 1280x720, width from 256 to 2048 in steps of 8, height from 256 to 2048 in steps of 8";
    let large = json!({"width": 1280, "height": 720});
    check(
        name,
        plain,
        &object,
        &[("1280x720", large.clone())],
        &[("1281x720", says), ("square", says), ("01280x720", says)],
    );
    let either = json!({"anyOf": [object, {"enum": ["square", "landscape_16_9"]}]});
    check(name, plain, &either, &[("1280x720", large), ("square", json!("square"))], &[]);
    let listed = json!({"enum": ["1280*720", "720*1280"]});
    check(name, plain, &listed, &[("720x1280", json!("720*1280"))], &[("1x1", "must be one of 1280x720, 720x1280")]);
    check(name, plain, &json!({"type": "string", "default": "832*480"}), &[("1280x720", json!("1280*720"))], &[]);
    check(name, plain, &json!({"type": "string"}), &[("1280x720", json!("1280x720"))], &[]);
    let pair = model(r#"{ size = { width = "w", height = "h" } }"#, &json!({"w": side, "h": side}));
    assert_eq!(sent(&pair, &[(name, "1280x720")]), Ok(json!({"w": 1280, "h": 720})));
    let pair = model(r#"{ size = { width = "w", height = "h", max = 1024 } }"#, &json!({"w": side, "h": side}));
    assert!(sent(&pair, &[(name, "1280x720")]).is_err());
    let says = "must be a size such as 1024x1024, width from 128 to 512, height from 128 to 512";
    let limited = r#"{ size = { to = "f", min = 128, max = 512 } }"#;
    check(name, limited, &json!({"type": "string"}), &[("512x128", json!("512x128"))], &[("513x128", says)]);
    let both = model(
        r#"{ size = "size", aspect_ratio = "ratio" }"#,
        &json!({"size": {"type": "string"}, "ratio": {"enum": ["16:9", "adaptive"]}}),
    );
    let says = "input.settings.size must be left out where aspect_ratio or resolution is given";
    assert_eq!(sent(&both, &[(name, "1280x720"), (SettingName::AspectRatio, "16:9")]), Err(says.to_owned()));
    assert_eq!(sent(&both, &[(SettingName::AspectRatio, "auto")]), Ok(json!({"ratio": "adaptive"})));
}

#[test]
fn what_is_on_or_off_and_what_is_counted() {
    let plain = r#"{ audio = "f" }"#;
    let (on, off) = (json!(true), json!(false));
    check(SettingName::Audio, plain, &json!({"type": "boolean"}), &[("true", on.clone()), ("false", off.clone())], &[]);
    check(SettingName::Audio, plain, &json!({"enum": ["on", "off"]}), &[("true", json!("on"))], &[]);
    let muted = r#"{ audio = { to = "f", values = { true = false, false = true } } }"#;
    check(SettingName::Audio, muted, &json!({"type": "boolean"}), &[("true", off), ("false", on)], &[]);
    let fps = r#"{ fps = "f" }"#;
    let says = "must be one of 24, 25";
    check(SettingName::Fps, fps, &json!({"enum": [24, 25]}), &[("24", json!(24))], &[("24.5", says), ("NaN", says)]);
    check(SettingName::Fps, fps, &json!({"enum": ["24", "30"]}), &[("30", json!("30"))], &[]);
    let range = json!({"type": "number", "minimum": 1, "maximum": 60});
    check(
        SettingName::Fps,
        fps,
        &range,
        &[("23.976", json!(23.976)), ("24", json!(24))],
        &[("61", "must be a number from 1 to 60")],
    );
    let outputs = r#"{ outputs = "f" }"#;
    let range = json!({"type": "integer", "minimum": 1, "maximum": 4});
    check(SettingName::Outputs, outputs, &range, &[("4", json!(4))], &[("5", "must be a whole number from 1 to 4")]);
    let open = json!({"type": "integer", "default": 1});
    check(SettingName::Outputs, outputs, &open, &[("16", json!(16))], &[("17", "must be a whole number from 1 to 16")]);
}

#[test]
fn a_resolution_by_another_name() {
    let map = r#"{ resolution = { to = "f", values = { "720p" = "std", "1080p" = "pro" } } }"#;
    let field = json!({"enum": ["std", "pro"]});
    let refused = [("std", "must be one of 720p, 1080p")];
    check(SettingName::Resolution, map, &field, &[("720p", json!("std")), ("1080p", json!("pro"))], &refused);
}

#[test]
fn a_seed_is_chosen_where_the_model_takes_one() {
    let model = model(r#"{ seed = "f" }"#, &json!({"f": {"type": "integer", "minimum": 0, "maximum": 99}}));
    let seed = |input: &Input, chosen: i64| model.resolve(input, chosen, &|_| None).map(|resolved| resolved.input.seed);
    assert_eq!(seed(&Input::default(), 7), Ok(Some(7)));
    assert_eq!(seed(&Input::default(), 1_234), Ok(Some(34)));
    assert_eq!(seed(&Input::default(), -1), Ok(Some(99)));
    assert_eq!(seed(&Input { seed: Some(5), ..Input::default() }, 7), Ok(Some(5)));
    let refused = seed(&Input { seed: Some(100), ..Input::default() }, 7).unwrap_err();
    assert_eq!(lines(&refused), "input.seed must be a whole number from 0 to 99");
}

/// A seed that was drawn and that the model's own schema refuses would be told to a user who gave none.
#[test]
fn a_drawn_seed_is_one_that_the_schema_takes() {
    for schema in [
        json!({"type": "integer"}),
        json!({"type": "integer", "maximum": 65_535}),
        json!({"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 10}),
        json!({"type": "integer", "minimum": -1}),
        json!({"type": "integer", "minimum": 5_000_000_000_u64}),
        json!({"type": "integer", "minimum": -100, "maximum": -1}),
        json!({"type": "integer", "minimum": 1, "maximum": 100, "multipleOf": 10}),
        json!({"type": "integer", "multipleOf": 4}),
        json!({"type": "number", "minimum": 0, "maximum": 9}),
        json!({"type": "integer", "enum": [1, 2, 42]}),
        json!({"anyOf": [{"type": "integer", "maximum": 50}, {"type": "null"}]}),
        json!({"type": "string"}),
    ] {
        let model = model(r#"{ seed = "f" }"#, &json!({"f": schema.clone()}));
        for drawn in [0, 1, 7, 65_536, 123_456_789, (1 << 31) - 1] {
            let resolved = model.resolve(&Input::default(), drawn, &|_| None);
            let resolved = resolved.unwrap_or_else(|refused| panic!("{schema} {drawn}: {}", lines(&refused)));
            let seed = resolved.input.seed.unwrap();
            assert!(seed >= 0 || schema["maximum"] == -1, "{schema} {drawn}: {seed} is below what anybody means");
            let again = Input { seed: resolved.input.seed, ..Input::default() };
            let again = model.resolve(&again, 3, &|_| None).unwrap();
            assert_eq!(again.order.input, resolved.order.input, "{schema} {drawn}");
            assert_eq!((resolved.order.unasked, again.order.unasked), (vec!["f".to_owned()], vec![]), "{schema}");
        }
    }
}

/// A seed of more digits used to be rounded on its way, and made another video than the one that it was to repeat.
#[test]
fn a_seed_is_one_that_every_reader_keeps_and_that_the_model_takes() {
    const EXACT: i64 = (1 << 53) - 1;
    let taken = |schema: Value, seed: i64| {
        let model = model(r#"{ seed = "f" }"#, &json!({ "f": schema }));
        let input = Input { seed: Some(seed), ..Input::default() };
        let sent = model.resolve(&input, 7, &|_| None).map(|resolved| resolved.order.input["f"].clone());
        sent.map_err(|all| lines(&all))
    };
    let any = "input.seed must be a whole number from -9007199254740991 to 9007199254740991";
    for schema in [
        json!({"type": "integer"}),
        json!({"type": ["integer", "null"]}),
        json!({"anyOf": [{"type": "integer", "maximum": i64::MAX}, {"type": "null"}]}),
    ] {
        for seed in [0, 1 << 31, 1 << 32, EXACT, -EXACT] {
            assert_eq!(taken(schema.clone(), seed), Ok(Value::from(seed)), "{schema}");
        }
        for seed in [EXACT + 1, -EXACT - 1, i64::MAX, i64::MIN] {
            let refused = taken(schema.clone(), seed).unwrap_err();
            assert!(refused == any || schema["anyOf"].is_array(), "{schema} {seed}: {refused}");
        }
    }
    for (max, name) in [(i64::from(i32::MAX), "2147483647"), (i64::from(u32::MAX), "4294967295")] {
        let schema = json!({"type": "integer", "minimum": 0, "maximum": max});
        assert_eq!(taken(schema.clone(), max), Ok(Value::from(max)));
        let expected = format!("input.seed must be a whole number from 0 to {name}");
        assert_eq!(taken(schema, max + 1), Err(expected));
    }
}
