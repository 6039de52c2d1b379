//! The catalogue file of before: JSON, a model with a prompt and one price.

use std::time::Duration;

use rushes_catalogue::{Catalogue, Fault, Format, Input, Role};

use crate::{lines, resolve};

fn parse(json: &str) -> Result<Catalogue, Vec<Fault>> {
    Catalogue::parse(Format::Json, json, &|_| Err("is not there".to_owned()))
}

fn entry(more: &str) -> String {
    format!(r#"{{"models": [{{"id": "one", "provider": "fal", "model": "a/b", "price_micros": 250000{more}}}]}}"#)
}

#[test]
fn an_omitted_field_has_a_default() {
    let all = parse(&entry(r#", "start_deadline": "90s", "total_deadline": "30m""#)).unwrap();
    let model = all.by_id("one").unwrap();
    let (start, total) = (Duration::from_secs(90), Duration::from_secs(1_800));
    assert_eq!((model.start_deadline, model.total_deadline), (start, total));
    assert_eq!((model.max_attempts, model.prompt_characters(), model.max_media(Role::Reference)), (3, 2_000, 0));
    assert_eq!(parse(&entry("")).unwrap().by_id("one").unwrap().total_deadline, Duration::from_secs(25 * 3_600));
}

#[test]
fn such_a_model_takes_a_prompt_and_a_seed_at_one_price() {
    let all = parse(&entry(r#", "refusals": ["flagged as sensitive", "moderated"], "output": "/videos/1/a~1b~0""#));
    let model = all.unwrap().by_id("one").unwrap().clone();
    let mut input = Input { prompt: "a harbour".to_owned(), ..Input::default() };
    let resolved = resolve(&model, &input).unwrap();
    assert_eq!(serde_json::to_string(&resolved.order.input).unwrap(), r#"{"prompt":"a harbour","seed":7}"#);
    assert_eq!(resolved.order.refusals, ["flagged as sensitive", "moderated"]);
    assert_eq!(resolved.order.output.as_deref(), Some("/videos/1/a~1b~0"));
    assert_eq!(resolved.terms.quote().total.get(), 250_000);
    input.settings.audio = Some(true);
    input.prompt = "a".repeat(2_001);
    assert_eq!(
        lines(&resolve(&model, &input).unwrap_err()),
        "input.prompt must be 1 to 2000 characters\ninput.settings.audio must be left out: models/one has no such setting"
    );
    let model = parse(&entry(r#", "seed": false, "prompt_characters": 3"#)).unwrap().by_id("one").unwrap().clone();
    let input = Input { prompt: "abc".to_owned(), ..Input::default() };
    let resolved = resolve(&model, &input).unwrap();
    assert_eq!(serde_json::to_string(&resolved.order.input).unwrap(), r#"{"prompt":"abc"}"#);
    assert!(resolve(&model, &Input { seed: Some(1), ..input }).is_err());
    assert_eq!(
        lines(&resolve(&model, &Input::default()).unwrap_err()),
        "input.prompt must be given: 1 to 3 characters"
    );
}

#[test]
fn the_built_in_model_can_be_replaced() {
    let json = r#"{"models": [{"id": "local-sketch", "provider": "local", "price_micros": 7, "reference_assets": 2}]}"#;
    let catalogue = parse(json).unwrap();
    assert_eq!(catalogue.all().len(), 2);
    let model = catalogue.find("").unwrap();
    assert_eq!((model.default_terms().quote().total.get(), model.max_media(Role::Reference)), (7, 2));
    assert_eq!(model.max_media(Role::FirstFrame), 1);
    let none = parse(&json.replace(": 2", r#": 0, "seed": false"#)).unwrap();
    let model = none.find("models/local-sketch").unwrap();
    assert_eq!(model.max_media(Role::Reference), 0);
    assert_eq!(model.parameters().count(), 0);
}

#[test]
fn a_wrong_field_is_named_in_the_fault() {
    let whole = entry("");
    let many = format!(r#", "refusals": [{}"long enough"]"#, r#""long enough", "#.repeat(50));
    for (json, named) in [
        (entry(r#", "prize_micros": 3"#), "prize_micros is not a field of an entry"),
        (entry(r#", "reference_assets": 1"#), "reference_assets must be at most 0 for this provider"),
        (entry(r#", "max_attempts": 0"#), "max_attempts must be 1 to 20"),
        (entry(r#", "prompt_characters": 2001"#), "prompt_characters must be 1 to 2000"),
        (entry(r#", "start_deadline": "soon""#), "start_deadline must be a time up to 720h, such as 90s, 30m or 24h"),
        (entry(r#", "start_deadline": "999999999999999999999h""#), "start_deadline must be a time"),
        (entry(r#", "start_deadline": "2s", "total_deadline": "1s""#), "total_deadline must be no shorter than start"),
        (entry(r#", "refusals": ["no"]"#), "refusals must be at most 50 texts of 4 to 200 characters"),
        (entry(r#", "refusals": [" flagged"]"#), "refusals must"),
        (entry(&many), "refusals must"),
        (entry(r#", "output": """#), "output must be a JSON pointer"),
        (entry(r#", "output": "video.url""#), "output must be a JSON pointer"),
        (entry(r#", "output": "/a~2""#), "output must be a JSON pointer"),
        (entry(r#", "output": "/a~""#), "output must be a JSON pointer"),
        (entry(r#", "map": {"prompt": "prompt"}"#), "map needs the model's schema"),
        (whole.replace("250000", "-1"), "price_micros must be 0 to"),
        (whole.replace(r#", "price_micros": 250000"#, ""), "price must be given"),
        (whole.replace("one", "One"), "id must be 1 to 63 of a-z, 0-9, '-' and '.'"),
        (whole.replace("one", "t/o"), "id must be"),
        (whole.replace("fal", "luma"), "provider must be one of local, replicate, fal, openrouter, cog"),
        (whole.replace("fal", "local"), "provider must be one of replicate, fal, openrouter, cog, or local for"),
        (whole.replace(r#""id": "one", "#, ""), "id must be given"),
        ("[]".to_owned(), "must be an object"),
        ("{}".to_owned(), "model must be a list"),
    ] {
        let faults = lines(&parse(&json).unwrap_err());
        assert!(faults.contains(named), "{named}: {faults}");
    }
    let one = r#"{"id": "local-sketch", "provider": "local", "price_micros": 1}"#;
    let file = |entries: &str| format!(r#"{{"models": [{entries}]}}"#);
    assert!(parse(&file(one)).is_ok());
    let faults = parse(&file(&format!("{one},\n{one}"))).unwrap_err();
    let says = r#"line 2: local-sketch: id must be of one model only; "local-sketch" is also of local-sketch"#;
    assert_eq!(lines(&faults), says);
    for more in [r#", "model": "a/b"}"#, r#", "refusals": ["moderated"]}"#, r#", "output": "/video"}"#] {
        let faults = lines(&parse(&file(&one.replace('}', more))).unwrap_err());
        assert!(faults.contains("since the provider is local"), "{more}: {faults}");
    }
}

#[test]
fn a_models_name_has_the_form_of_its_provider() {
    for (provider, name, right) in [
        ("replicate", "acme/video", true),
        ("replicate", "acme/video:5c7d5dc6", true),
        ("replicate", "acme/video/extra", false),
        ("replicate", "acme/video:", false),
        ("replicate", "acme", false),
        ("replicate", "", false),
        ("fal", "acme/video", true),
        ("fal", "workflows/acme/video/text", true),
        ("fal", "acme", false),
        ("fal", "acme//video", false),
        ("fal", "acme/video?x=1", false),
        ("fal", "acme/a video", false),
        ("openrouter", "google/veo-3.1", true),
        ("openrouter", "veo-3.1", false),
        ("cog", "video-box", true),
        ("cog", "", false),
    ] {
        let json = entry("").replace("fal", provider).replace("a/b", name);
        let read = parse(&json);
        assert_eq!(read.is_ok(), right, "{provider} {name}: {:?}", read.err());
        assert!(right || lines(&read.unwrap_err()).starts_with("line 1: one: model must be "));
    }
}
