//! The text of an entry.

use std::fmt::Write as _;

use serde_json::Value;

use super::draft::Draft;
use super::{media, settings};
use crate::{Kind, Role, Row, Rule};

/// How wide a line may be before a list is broken.
const WIDTH: usize = 110;

pub(super) fn entry(draft: &Draft) -> String {
    let mut out = String::from("[[model]]\n");
    line(&mut out, "id", &text(&draft.id));
    line(&mut out, "provider", &text(draft.document.provider.as_str()));
    line(&mut out, "model", &text(&draft.document.model));
    line(&mut out, "kind", &text(kind(draft.kind)));
    line(&mut out, "schema", &text(&draft.schema_path));
    if !draft.source.is_empty() {
        line(&mut out, "source", &text(&draft.source));
    }
    line(&mut out, "checked", draft.checked);
    if !draft.hidden.is_empty() {
        out.push_str("hide = [\n");
        for (name, why) in &draft.hidden {
            let _ = writeln!(out, "  {},  # {}", text(name), comment(why));
        }
        out.push_str("]\n");
    }
    if !draft.files.is_empty() {
        let files: Vec<_> = draft.files.iter().map(|pointer| text(pointer)).collect();
        line(&mut out, "files", &list(&files));
    }
    let mut output = Vec::new();
    output.extend(draft.output.at.as_ref().map(|at| format!("at = {}", text(at))));
    let kinds: Vec<_> = draft.output.kinds.iter().map(|kind| text(kind.as_str())).collect();
    if !kinds.is_empty() {
        output.push(format!("kinds = [{}]", kinds.join(", ")));
    }
    if output.is_empty() {
        out.push_str("# TODO output: where the result has its files, and what they are: output = { at = \"/…\", kinds = [\"…\"] }\n");
    } else {
        line(&mut out, "output", &format!("{{ {} }}", output.join(", ")));
    }
    if !draft.moderation.is_empty() {
        let places = draft.moderation.iter();
        let places = places.map(|(at, category)| format!("{{ at = {}, category = {} }}", text(at), text(category)));
        line(&mut out, "moderation", &list(&places.collect::<Vec<_>>()));
    }
    if !draft.document.prices.is_empty() {
        // What is imported is what the provider asks.
        line(&mut out, "cost", &text("price"));
    }
    map(&mut out, &draft.settings);
    for slot in &draft.media {
        slot_table(&mut out, slot);
    }
    prices(&mut out, draft);
    out
}

fn line(out: &mut String, name: &str, value: &str) {
    let _ = writeln!(out, "{name} = {value}");
}

fn map(out: &mut String, settings: &[settings::Guess]) {
    if settings.is_empty() {
        return;
    }
    out.push_str("  [model.map]\n");
    for guess in settings {
        let value = match (guess.fields.as_slice(), &guess.frames) {
            ([width, height], _) => format!("{{ width = {}, height = {} }}", text(width), text(height)),
            ([field, ..], Some(frames)) => {
                let mut value = format!("{{ to = {}, unit = \"frames\"", text(field));
                if let Some(fps) = frames.fps {
                    let _ = write!(value, ", fps = {fps}");
                }
                if frames.extra > 0 {
                    let _ = write!(value, ", extra_frames = {}", frames.extra);
                }
                value + " }"
            }
            ([field, ..], None) if guess.in_milliseconds() => {
                format!("{{ to = {}, unit = \"milliseconds\" }}", text(field))
            }
            ([field, ..], None) if !guess.values.is_empty() => {
                let values = guess.values.iter().map(|(ours, theirs)| format!("{} = {}", text(ours), text(theirs)));
                format!("{{ to = {}, values = {{ {} }} }}", text(field), values.collect::<Vec<_>>().join(", "))
            }
            ([field, ..], None) => text(field),
            ([], _) => continue,
        };
        let _ = writeln!(out, "  {} = {value}", guess.setting);
    }
}

fn slot_table(out: &mut String, slot: &media::Slot) {
    out.push_str("  [[model.media]]\n");
    let _ = writeln!(out, "  role = {}", text(role(slot.role)));
    let _ = writeln!(out, "  to = {}", text(&slot.to));
    if let Some(item) = &slot.item {
        let _ = writeln!(out, "  item = {item}");
    }
    if !slot.types.is_empty() {
        let types: Vec<_> = slot.types.iter().map(|kind| text(kind.as_str())).collect();
        let _ = writeln!(out, "  types = [{}]", types.join(", "));
    }
    if let Some(min) = slot.min {
        let _ = writeln!(out, "  min = {min}");
    }
    if let Some(max) = slot.max {
        let _ = writeln!(out, "  max = {max}");
    }
    for (name, number) in &slot.limits {
        let _ = writeln!(out, "  {name} = {number}");
    }
}

fn prices(out: &mut String, draft: &Draft) {
    if draft.document.prices.is_empty() {
        template(out, draft);
    }
    for rule in &draft.document.prices {
        price(out, rule);
    }
}

/// A price as the document has it.
fn price(out: &mut String, rule: &Rule) {
    out.push_str("  [[model.price]]\n");
    let _ = writeln!(out, "  per = {}", text(&word(&rule.per)));
    for (name, value) in
        [("step", rule.step), ("minimum", rule.minimum), ("max_seconds", rule.max_seconds), ("fps", rule.fps)]
    {
        if let Some(value) = value {
            let _ = writeln!(out, "  {name} = {}", text(&value.to_string()));
        }
    }
    if rule.extra_frames > 0 {
        let _ = writeln!(out, "  extra_frames = {}", rule.extra_frames);
    }
    if let Some(of) = rule.of {
        let _ = writeln!(out, "  of = {}", text(role(of)));
    }
    let _ = writeln!(out, "  rows = [");
    for row in &rule.rows {
        let _ = writeln!(out, "    {},", row_text(row));
    }
    let _ = writeln!(out, "  ]");
}

fn row_text(row: &Row) -> String {
    let credits = format!("credits = {}", text(&row.credits.to_string()));
    if row.when.is_empty() {
        return format!("{{ {credits} }}");
    }
    let when = row.when.iter().map(|(name, values)| {
        let values: Vec<_> = values.iter().map(|value| condition(name, value)).collect();
        match values.as_slice() {
            [one] => format!("{name} = {one}"),
            several => format!("{name} = [{}]", several.join(", ")),
        }
    });
    format!("{{ when = {{ {} }}, {credits} }}", when.collect::<Vec<_>>().join(", "))
}

fn condition(name: &str, value: &str) -> String {
    if name == "audio" { value.to_owned() } else { text(value) }
}

/// The price that is to be written, with the values that it probably depends on.
fn template(out: &mut String, draft: &Draft) {
    let said = if draft.source.is_empty() { "it costs".to_owned() } else { format!("{} says", comment(&draft.source)) };
    let _ = writeln!(out, "  # TODO price: what {said}, in credits.");
    let field = |setting: &str| {
        let guess = draft.settings.iter().find(|guess| guess.setting == setting)?;
        let schema = draft.document.input.get("properties")?.get(guess.fields.first()?)?.as_object()?;
        Some(match guess.values.is_empty() {
            false => guess.values.iter().map(|(ours, _)| (*ours).to_owned()).collect(),
            true => super::field::choices(schema)?.into_iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        })
    };
    let resolutions: Vec<String> = field("resolution").unwrap_or_default();
    let audio = draft.settings.iter().any(|guess| guess.setting == "audio");
    let per = match (draft.output.kinds.first(), draft.settings.iter().any(|guess| guess.setting == "duration")) {
        (Some(crate::MediaKind::Video), true) => "second",
        _ => "output",
    };
    let resolutions: Vec<Option<&String>> =
        if resolutions.len() > 1 { resolutions.iter().map(Some).collect() } else { vec![None] };
    let audio: &[Option<bool>] = if audio { &[Some(false), Some(true)] } else { &[None] };
    let _ = writeln!(out, "  # [[model.price]]\n  # per = \"{per}\"\n  # rows = [");
    for resolution in &resolutions {
        for audio in audio {
            let mut when = Vec::new();
            when.extend(resolution.map(|resolution| format!("resolution = {}", text(resolution))));
            when.extend(audio.map(|audio| format!("audio = {audio}")));
            let when = if when.is_empty() { String::new() } else { format!("when = {{ {} }}, ", when.join(", ")) };
            let _ = writeln!(out, "  #   {{ {when}credits = \"?\" }},");
        }
    }
    let _ = writeln!(out, "  # ]");
}

/// A list on one line, or on several where it is long.
fn list(items: &[String]) -> String {
    let one = format!("[{}]", items.join(", "));
    if one.len() <= WIDTH { one } else { format!("[\n  {},\n]", items.join(",\n  ")) }
}

/// A text as a basic string of TOML, which has JSON's escapes and, of the characters below a space, no others.
fn text(text: &str) -> String {
    Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

/// A text in a comment: on one line, without control characters.
fn comment(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::TextToVideo => "text-to-video",
        Kind::ImageToVideo => "image-to-video",
        Kind::VideoToVideo => "video-to-video",
        Kind::TextToImage => "text-to-image",
        Kind::ImageToImage => "image-to-image",
        Kind::Speech => "speech",
        Kind::LipSync => "lip-sync",
        Kind::Upscale => "upscale",
    }
}

/// The name of a role in entries.
pub(super) fn role(role: Role) -> &'static str {
    match role {
        Role::FirstFrame => "FIRST_FRAME",
        Role::LastFrame => "LAST_FRAME",
        Role::Reference => "REFERENCE",
        Role::Source => "SOURCE",
        Role::Audio => "AUDIO",
        Role::Mask => "MASK",
    }
}

/// The name of what serde calls by a word.
fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
