//! What is said of an entry that is wrong: each fault with its line and its field, and all of them at once.

use crate::{lines, parse};

const SCHEMA: &str = r#"{"type": "object", "required": ["prompt", "image_url", "mode"], "properties": {
    "prompt": {"type": "string"},
    "image_url": {"type": "string"},
    "image_urls": {"type": "array", "maxItems": 3, "items": {"type": "string"}},
    "duration": {"type": "string", "enum": ["5", "10"], "default": "5"},
    "resolution": {"type": "string", "enum": ["720p", "1080p"], "default": "720p"},
    "audio": {"type": "boolean", "default": true},
    "num_frames": {"type": "integer", "minimum": 9, "maximum": 161},
    "style": {"type": "string", "enum": ["film", "cartoon"], "default": "film"},
    "mode": {"type": "string", "enum": ["fast", "good"], "default": "good"},
    "count": {"type": "integer"},
    "nodes": {"type": "array", "items": {"type": "object", "properties": {"url": {"type": "string"}}}}
}}"#;

/// Line 4 is `map`, line 5 `media`, line 6 the price; each case puts its own in their places, or lines behind them.
fn entry(map: &str, media: &str, price: &str, more: &str) -> String {
    format!(
        "[[model]]\nid = \"one\"\nprovider = \"fal\"\nmap = {map}\nmedia = [{media}]\nprice = [{price}]\n\
         model = \"a/b\"\nkind = \"image-to-video\"\nschema = \"schema.json\"\n{more}"
    )
}

const MAP: &str = r#"{ prompt = "prompt", duration = "duration", resolution = "resolution", audio = "audio" }"#;
const MEDIA: &str = r#"{ role = "FIRST_FRAME", to = "image_url" }"#;
const PRICE: &str = r#"{ per = "second", rows = [{ credits = "0.1" }] }"#;

fn check(entry: &str, says: &str) {
    let faults = parse(entry, SCHEMA).map(|_| ()).unwrap_err();
    assert_eq!(lines(&faults), says, "{entry}");
}

#[test]
fn a_right_entry_has_none() {
    let more = "hide = [\"count\"]\nfixed = { mode = \"fast\" }\nfiles = [\"/nodes/*/url\"]\naliases = [\"uno\"]\n";
    parse(&entry(MAP, MEDIA, PRICE, more), SCHEMA).unwrap_or_else(|faults| panic!("{}", lines(&faults)));
}

/// It is told with the model, and would be more than one answer.
#[test]
fn a_schema_that_is_too_long_for_an_answer() {
    let choices = |count: usize| (0..count).map(|at| format!("\"{at:0>60}\"")).collect::<Vec<_>>().join(", ");
    let schema = |count: usize| SCHEMA.replace(r#""film", "cartoon""#, &format!(r#""film", {}"#, choices(count)));
    parse(&entry(MAP, MEDIA, PRICE, ""), &schema(16_000)).unwrap_or_else(|faults| panic!("{}", lines(&faults)));
    let faults = parse(&entry(MAP, MEDIA, PRICE, ""), &schema(17_000)).map(|_| ()).unwrap_err();
    let says = lines(&faults);
    assert!(says.starts_with("line 9: one: schema describes parameters in 1"), "{says}");
    assert!(says.ends_with(" bytes, at most 1048576 are told: `hide` some of them"), "{says}");
    let hidden = entry(MAP, MEDIA, PRICE, "hide = [\"style\"]\n");
    parse(&hidden, &schema(17_000)).unwrap_or_else(|faults| panic!("{}", lines(&faults)));
}

#[test]
fn a_field_that_the_schema_lacks() {
    for (map, says) in [
        (r#"{ fps = "rate" }"#, r#"map.fps names "rate", which the schema does not have"#),
        (
            r#"{ prompt = { to = "prompt", max = 9 } }"#,
            "map.prompt must not have a min or a max, since it is no number in limits",
        ),
        (r#"{ seed = { to = "count", min = 9, max = 8 } }"#, "map.seed must not have a min above its max"),
        (
            r#"{ shape = "style" }"#,
            "map.shape must be one of prompt, negative_prompt, seed, duration, aspect_ratio, resolution, size, audio, fps, outputs",
        ),
        (r#"{ audio = "style" }"#, r#"map.audio names "style", whose schema has no value that this setting can have"#),
        (r#"{ duration = "audio" }"#, r#"map.duration names "audio", which is true or false"#),
        (r#"{ duration = { } }"#, "map.duration must say which field it is: `to`, or of a size `width` and `height`"),
        (
            r#"{ duration = { too = "x" } }"#,
            "map.duration is wrong: unknown field `too`, expected one of `to`, `width`, `height`, `values`, `min`, `max`, `unit`, `fps`, `extra_frames`",
        ),
        (
            r#"{ duration = "num_frames" }"#,
            "map.duration.fps must be given, since the field counts frames and no setting says how many there are a second",
        ),
        (r#"{ duration = { to = "num_frames", fps = 0 } }"#, "map.duration.fps must be more than 0"),
        (
            r#"{ resolution = { to = "mode", values = { "720p" = "slow" } } }"#,
            r#"map.resolution.values has slow, which "mode" cannot be"#,
        ),
        (
            r#"{ resolution = { to = "mode", values = { "720p" = "fast", "1080p" = "fast" } } }"#,
            "map.resolution.values has fast twice",
        ),
        (
            r#"{ duration = { to = "mode", values = { "long" = "fast" } } }"#,
            r#"map.duration.values has "long", which this setting cannot be"#,
        ),
        (
            r#"{ prompt = "prompt", negative_prompt = "prompt" }"#,
            "map.negative_prompt names a field that prompt names as well",
        ),
        (r#"{ prompt = "image_url" }"#, r#"media[0].to names "image_url", which `map` names as well"#),
    ] {
        let price = r#"{ per = "generation", rows = [{ credits = 1 }] }"#;
        let line = if says.starts_with("media") { 5 } else { 4 };
        check(&entry(map, MEDIA, price, ""), &format!("line {line}: one: {says}"));
    }
}

#[test]
fn a_place_for_files_that_is_none() {
    for (media, says) in [
        (
            r#"{ role = "FIRST_FRAME", to = "picture" }"#,
            r#"media[0].to names "picture", which the schema does not have"#,
        ),
        (
            r#"{ role = "FIRST_FRAME", to = "count" }"#,
            r#"media[0].to names "count", which is neither a text nor a list of texts"#,
        ),
        (
            r#"{ role = "REFERENCE", to = "image_url", max = 2 }"#,
            r#"media[0].max must be 1, since "image_url" takes one file and no list"#,
        ),
        (
            r#"{ role = "REFERENCE", to = "image_urls", max = 4 }"#,
            r#"media[0].max must be at most 3, which is what "image_urls" takes"#,
        ),
        (
            r#"{ role = "REFERENCE", to = "image_urls", max = 1, min = 2 }"#,
            "media[0].max must be at least 1, and no less than min",
        ),
        (
            r#"{ role = "REFERENCE", to = "image_urls", types = ["text"] }"#,
            r#"media[0].types has "text", and takes image, video, audio or their types"#,
        ),
        (
            r#"{ role = "REFERENCE", to = "image_urls", forms = ["ftp"] }"#,
            "media[0].forms must be of data, upload, url",
        ),
        (
            r#"{ role = "LOGO", to = "image_urls" }"#,
            "media[0] is wrong: unknown variant `LOGO`, expected one of `FIRST_FRAME`, `LAST_FRAME`, `REFERENCE`, `SOURCE`, `AUDIO`, `MASK`",
        ),
        (r#"{ role = "REFERENCE", to = "image_urls", maxx = 4 }"#, "media[0] is wrong: unknown field `maxx`"),
        (
            r#"{ role = "REFERENCE", to = "image_url" }, { role = "FIRST_FRAME", to = "image_url" }"#,
            r#"media[1].to names "image_url", as another one does"#,
        ),
        (
            r#"{ role = "REFERENCE", to = "image_url" }, { role = "REFERENCE", to = "image_urls" }"#,
            "media[1].role has the role and a type of another one, so that a file would have two places",
        ),
    ] {
        check(&entry(MAP, media, PRICE, ""), &format!("line 5: one: {says}"));
    }
}

#[test]
fn a_price_that_is_not_whole() {
    let row = |rows: &str| format!(r#"{{ per = "second", rows = [{rows}] }}"#);
    for (price, says) in [
        (String::new(), "price must be given: a model without a price would be free".to_owned()),
        (row(r#"{ when = { resolution = "720p" }, credits = 1 }"#), "price[0] (per second) has no row for resolution 1080p".to_owned()),
        (row(r#"{ when = { resolution = "720P" }, credits = 1 }"#), r#"price[0].rows[0].when asks for resolution "720P", which it cannot be: it has 720p, 1080p"#.to_owned()),
        (row(r#"{ when = { colour = "red" }, credits = 1 }"#), r#"price[0].rows[0].when asks for "colour", which is no setting, role or parameter with listed values"#.to_owned()),
        (row(r#"{ when = { prompt = "red" }, credits = 1 }"#), r#"price[0].rows[0].when asks for "prompt", which is no setting, role or parameter with listed values"#.to_owned()),
        (row(r#"{ when = { style = "film", audio = true }, credits = 1 }, { when = { audio = false }, credits = 2 }"#), "price[0] (per second) has no row for audio true, style cartoon".to_owned()),
        (row(r#"{ credits = "1e3" }"#), "price[0] is wrong: must be a decimal number of at most twelve places, such as 0.168".to_owned()),
        (r#"{ per = "minute", rows = [] }"#.to_owned(), "price[0] is wrong: unknown variant `minute`, expected one of `generation`, `output`, `second`, `input_second`, `input_image`, `megapixel`, `video_megapixel`, `kilotoken`, `gpu_second`, `character`".to_owned()),
        (r#"{ per = "gpu_second", rows = [{ credits = 1 }] }"#.to_owned(), "price[0] (per gpu_second) needs `max_seconds`, the longest run that is paid for, in seconds".to_owned()),
        (r#"{ per = "kilotoken", rows = [{ credits = 1 }] }"#.to_owned(), "price[0] (per kilotoken) counts frames, but neither it nor a setting says `fps`".to_owned()),
        (r#"{ per = "generation", step = 0, rows = [{ credits = 1 }] }"#.to_owned(), "price[0] (per generation) has a step of 0".to_owned()),
    ] {
        let faults = lines(&parse(&entry(MAP, MEDIA, &price, ""), SCHEMA).map(|_| ()).unwrap_err());
        assert!(faults.starts_with(&format!("line 6: one: {says}")), "{price}: {faults}");
    }
    // A size is needed, and nothing says it.
    let price = r#"{ per = "megapixel", rows = [{ credits = 1 }] }"#;
    let map = r#"{ prompt = "prompt" }"#;
    let says = "line 1: one: refuses an order with its own defaults: input has no price: rule 1 of the price (per megapixel) needs the size in pixels, which the order leaves open";
    check(&entry(map, MEDIA, price, ""), says);
}

#[test]
fn everything_else() {
    for (more, says) in [
        ("hide = [\"colour\"]", r#"line 10: one: hide names "colour", which the schema does not have"#),
        ("hide = [\"duration\"]", r#"line 10: one: hide names "duration", which is offered by `map` or `media`"#),
        ("fixed = { colour = 1 }", "line 10: one: fixed.colour is not in the schema"),
        ("fixed = { audio = true }", "line 10: one: fixed.audio has another use as well: in `map`, `media` or `hide`"),
        ("fixed = { mode = \"slow\" }", "line 10: one: fixed.mode cannot be slow"),
        (
            "files = [\"nodes\"]",
            "line 10: one: files[0] must be a JSON pointer, with * for each entry of a list: /elements/*/image_url",
        ),
        ("files = [\"/nodes/*/uri\"]", r#"line 10: one: files[0] "/nodes/*/uri" leads to nothing in the schema"#),
        ("files = [\"/nodes\"]", r#"line 10: one: files[0] "/nodes" leads to what is no text"#),
        ("files = [\"/image_url\"]", r#"line 10: one: files[0] "/image_url" is in "image_url", which is no parameter"#),
        (
            "sizes = { \"4k\" = \"3840x2160\" }",
            "line 10: one: sizes.4k is neither a resolution nor a size of this model",
        ),
        (
            "sizes = { \"720p\" = { \"16:9\" = \"big\" } }",
            r#"line 10: one: sizes.720p has "big", and must have sizes such as 1280x720"#,
        ),
        ("markup = 0", "line 10: one: markup must be more than 0"),
        ("retire = \"soon\"", "line 10: one: retire must be a day such as 2026-11-28"),
        ("price_micros = 3", "line 10: one: price_micros must be left out where `price` is given"),
        ("max_run = \"long\"", "line 10: one: max_run must be a time up to 720h, such as 90s, 30m or 24h"),
        ("label = 3", "line 10: one: label is wrong: invalid type: integer `3`, expected a string"),
        ("colour = 3", "line 10: one: colour is not a field of an entry"),
        ("aliases = [\"one\"]", r#"line 10: one: aliases must be of one model only; "one" is also of one"#),
        ("aliases = [\"Uno!\"]", "line 10: one: aliases must be 1 to 63 of a-z, 0-9, '-' and '.'"),
        (
            "[[model.rule]]\nfield = \"x\"\nmessage = \"m\"\nif = {}\nthen = {}",
            "line 11: one: rule[0].field must be a path such as input.settings.duration",
        ),
        (
            "[[model.rule]]\nfield = \"input\"\nmessage = \"m\"\nif = {}",
            "line 10: one: rule[0] must have `then` or `else`",
        ),
        (
            "[[model.rule]]\nfield = \"input\"\nmessage = \"no\"\nif = { required = [\"duration\"] }\nthen = { required = [\"audio\"] }",
            "line 1: one: refuses an order with its own defaults: input no",
        ),
    ] {
        check(&entry(MAP, MEDIA, PRICE, more), says);
    }
    let hidden = SCHEMA.replace(r#""enum": ["fast", "good"], "default": "good""#, r#""enum": ["fast", "good"]"#);
    let faults = parse(&entry(MAP, MEDIA, PRICE, "hide = [\"mode\"]"), &hidden).map(|_| ()).unwrap_err();
    let says =
        r#"line 10: one: hide names "mode", which the provider requires and which has no default: put it into `fixed`"#;
    assert_eq!(lines(&faults), says);
    let without = entry(MAP, MEDIA, PRICE, "").replace("kind = \"image-to-video\"\n", "");
    check(&without, "line 1: one: kind must be given, such as text-to-video or image-to-video");
    let elsewhere = entry(MAP, MEDIA, PRICE, "").replace("schema.json", "other.json");
    check(&elsewhere, "line 9: one: schema \"other.json\" is not there");
}

#[test]
fn all_faults_come_in_the_order_of_their_lines() {
    let entry = entry(
        r#"{ prompt = "words", fps = "rate" }"#,
        r#"{ role = "FIRST_FRAME", to = "picture" }"#,
        r#"{ per = "second", rows = [{ when = { colour = "red" }, credits = "1" }] }"#,
        "start_deadline = \"soon\"\ncolor = 1\n[[model]]\nid = \"One\"\nprovider = \"luma\"\n",
    );
    check(
        &entry,
        "line 4: one: map.prompt names \"words\", which the schema does not have
line 4: one: map.fps names \"rate\", which the schema does not have
line 5: one: media[0].to names \"picture\", which the schema does not have
line 6: one: price[0].rows[0].when asks for \"colour\", which is no setting, role or parameter with listed values
line 10: one: start_deadline must be a time up to 720h, such as 90s, 30m or 24h
line 11: one: color is not a field of an entry
line 14: One: provider must be one of local, replicate, fal, openrouter, cog",
    );
}
