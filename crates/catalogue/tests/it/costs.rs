//! What an entry says of its provider's own cost: found for what was made, beside the price and never of it.

use domain::money::Micros;
use rushes_catalogue::{Asset, Catalogue, Format, Input, Made, MadeOutput, MediaKind, Settings, Terms};

const SCHEMA: &str = r#"{"type": "object", "required": ["prompt"], "properties": {
    "prompt": {"type": "string"}, "duration": {"type": "integer", "enum": [4, 8], "default": 8},
    "generate_audio": {"type": "boolean", "default": true}, "tier": {"type": "string", "enum": ["a", "b"]}}}"#;

fn entry(cost: &str) -> String {
    format!(
        r#"
        [[model]]
        id = "clip"
        provider = "fal"
        model = "acme/clip"
        kind = "text-to-video"
        schema = "clip.json"
        map = {{ prompt = "prompt", duration = "duration", audio = "generate_audio" }}
        markup = "1.5"
        price = [ {{ per = "second", rows = [ {{ credits = "0.1" }} ] }} ]
        {cost}
        "#
    )
}

fn parse(cost: &str) -> Result<Catalogue, Vec<String>> {
    Catalogue::parse(Format::Toml, &entry(cost), &|_| Ok(SCHEMA.to_owned()))
        .map_err(|faults| faults.iter().map(ToString::to_string).collect())
}

fn terms(cost: &str, input: &Input) -> Terms {
    let catalogue = parse(cost).unwrap();
    let none: &dyn Fn(&str) -> Option<Asset> = &|_| None;
    catalogue.by_id("clip").unwrap().resolve(input, 1, none).unwrap().terms
}

fn made(seconds: u64) -> Made {
    let output = MadeOutput { kind: MediaKind::Video, width: 640, height: 360, duration_ms: seconds * 1_000 };
    Made { outputs: vec![output], run_ms: None }
}

fn prompt() -> Input {
    Input { prompt: "a harbour".to_owned(), ..Input::default() }
}

#[test]
fn the_cost_is_of_what_was_made_and_without_markup_or_margin() {
    let cost = r#"cost = [ { per = "second", rows = [ { when = { audio = true }, credits = "0.07" }, { credits = "0.05" } ] },
                           { per = "generation", rows = [ { credits = 0.01 } ] } ]"#;
    let own = terms(cost, &prompt());
    let silent = Settings { audio: Some(false), ..Settings::default() };
    let silent = terms(cost, &Input { settings: silent, ..prompt() });
    let priced = terms("cost = \"price\"", &prompt());
    for (terms, expected) in [(&own, 570_000), (&silent, 410_000), (&priced, 800_000)] {
        let dearer = terms.with_margin("1.2".parse().unwrap()).unwrap();
        for terms in [terms, &dearer] {
            assert_eq!(terms.expected_cost(&made(8)).map_or(0, Micros::get), expected);
        }
        assert_eq!(terms.quote().total.get(), 1_200_000);
        assert_eq!(dearer.quote().total.get(), 1_440_000);
    }
    assert_eq!(own.expected_cost(&made(4)).unwrap().get(), 290_000);
    assert_eq!(own.expected_cost(&Made::default()), None, "nothing was made");
    assert_eq!(terms("", &prompt()).expected_cost(&made(8)), None, "it is not said");
    let frozen = serde_json::to_string(&own).unwrap();
    assert_eq!(serde_json::from_str::<Terms>(&frozen).unwrap(), own);
    assert!(!serde_json::to_string(&terms("", &prompt())).unwrap().contains("cost"));
}

#[test]
fn what_the_cost_depends_on_is_sent() {
    let cost = r#"cost = [ { per = "output", rows = [ { when = { tier = "a" }, credits = "0.1" }, { when = { tier = "b" }, credits = "0.2" } ] } ]"#;
    let catalogue = parse(cost).unwrap();
    let model = catalogue.by_id("clip").unwrap();
    let refused = model.resolve(&prompt(), 1, &|_| None).unwrap_err();
    assert_eq!(refused.iter().map(|wrong| wrong.field.as_str()).collect::<Vec<_>>(), ["input.parameters.tier"]);
    let parameters = [("tier".to_owned(), "b".into())].into_iter().collect();
    let terms = terms(cost, &Input { parameters, ..prompt() });
    assert_eq!(terms.expected_cost(&made(8)).unwrap().get(), 200_000);
}

#[test]
fn a_cost_that_is_none_is_a_fault() {
    for (cost, says) in [
        ("cost = \"twice\"", "line 11: clip: cost must be \"price\", or a list as a price is one"),
        (
            r#"cost = [ { per = "second", rows = [ { when = { audio = true }, credits = "0.1" } ] } ]"#,
            "line 11: clip: cost[0] (per second) has no row for audio false",
        ),
        (
            r#"cost = [ { per = "second", rows = [ { when = { hue = "red" }, credits = "0.1" } ] } ]"#,
            "line 11: clip: cost[0].rows[0].when asks for \"hue\", which is no setting, role or parameter with listed values",
        ),
    ] {
        assert_eq!(parse(cost).map(|_| ()).unwrap_err(), [says], "{cost}");
    }
}
