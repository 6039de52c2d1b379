//! What a provider changed in what a model takes, since its schema was stored.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Map, Value};

/// A difference between a stored schema and the one that the provider publishes now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The field, with what is within it: `elements/*/name`; empty for the input as a whole.
    pub field: String,
    /// What changed.
    pub what: What,
}

/// What changed about a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// It is new; `required` where orders without it are refused now.
    Added {
        /// Whether it must be given.
        required: bool,
    },
    /// It is gone.
    Removed,
    /// It must be given now.
    Required,
    /// It need not be given any more.
    Optional,
    /// Values that it takes now.
    Takes(Vec<String>),
    /// Values that it takes no more.
    Refuses(Vec<String>),
    /// A keyword has another value: its name, the one before and the one now; `-` for none.
    Keyword(String, String, String),
}

impl Change {
    /// Whether an order that the stored schema takes may be refused, or dropped without a word, by the provider.
    #[must_use]
    pub fn breaks(&self) -> bool {
        match &self.what {
            What::Added { required } => *required,
            What::Removed | What::Required | What::Refuses(_) => true,
            What::Optional | What::Takes(_) => false,
            What::Keyword(name, before, now) => match name.as_str() {
                "default" => false,
                "minimum" | "exclusiveMinimum" | "minLength" | "minItems" => {
                    narrower(before, now, |before, now| now > before)
                }
                "maximum" | "exclusiveMaximum" | "maxLength" | "maxItems" => {
                    narrower(before, now, |before, now| now < before)
                }
                _ => true,
            },
        }
    }
}

/// Whether a limit came, or moved so that less is within.
fn narrower(before: &str, now: &str, less: fn(f64, f64) -> bool) -> bool {
    match (before.parse(), now.parse()) {
        (Ok(before), Ok(now)) => less(before, now),
        _ => now != NONE,
    }
}

const NONE: &str = "-";

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = if self.field.is_empty() { "the input" } else { &self.field };
        match &self.what {
            What::Added { required: true } => write!(f, "{field} is new and must be given"),
            What::Added { required: false } => write!(f, "{field} is new"),
            What::Removed => write!(f, "{field} is gone"),
            What::Required => write!(f, "{field} must be given now"),
            What::Optional => write!(f, "{field} need not be given any more"),
            What::Takes(values) => write!(f, "{field} takes {} now", values.join(", ")),
            What::Refuses(values) => write!(f, "{field} takes {} no more", values.join(", ")),
            What::Keyword(name, before, now) => write!(f, "{field}: {name} was {before} and is {now}"),
        }
    }
}

/// What changed from the stored schema to the live one, those that break orders first.
#[must_use]
pub fn changes(stored: &Value, live: &Value) -> Vec<Change> {
    let mut found = Vec::new();
    compare("", stored, live, &mut found);
    found.sort_by_key(|change| !change.breaks());
    found
}

fn compare(field: &str, stored: &Value, live: &Value, found: &mut Vec<Change>) {
    let (Value::Object(stored), Value::Object(live)) = (stored, live) else {
        if stored != live {
            keyword(field, "schema", Some(stored), Some(live), found);
        }
        return;
    };
    let names: BTreeSet<&String> = stored.keys().chain(live.keys()).collect();
    for name in names {
        let (before, now) = (stored.get(name), live.get(name));
        match name.as_str() {
            "description" | "$schema" | "deprecated" => {}
            name if name.starts_with("x-") => {}
            "properties" => properties(field, (stored, before), (live, now), found),
            // With its fields.
            "required" => {}
            "enum" => values(field, before, now, found),
            "items" if before.is_some() && now.is_some() => {
                let inner = if field.is_empty() { "*".to_owned() } else { format!("{field}/*") };
                compare(&inner, before.unwrap_or(&Value::Null), now.unwrap_or(&Value::Null), found);
            }
            name if before != now => keyword(field, name, before, now, found),
            _ => {}
        }
    }
}

fn properties(
    field: &str,
    (stored, before): (&Map<String, Value>, Option<&Value>),
    (live, now): (&Map<String, Value>, Option<&Value>),
    found: &mut Vec<Change>,
) {
    let empty = Map::new();
    let (before, now) = (before.and_then(Value::as_object), now.and_then(Value::as_object));
    let (before, now) = (before.unwrap_or(&empty), now.unwrap_or(&empty));
    let requires = |node: &Map<String, Value>, name: &str| {
        node.get("required").and_then(Value::as_array).is_some_and(|names| names.iter().any(|one| one == name))
    };
    let names: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    for name in names {
        let inner = if field.is_empty() { name.clone() } else { format!("{field}/{name}") };
        let (was_required, is_required) = (requires(stored, name), requires(live, name));
        let mut add = |what| found.push(Change { field: inner.clone(), what });
        match (before.get(name), now.get(name)) {
            (None, _) => add(What::Added { required: is_required }),
            (_, None) => add(What::Removed),
            (Some(before), Some(now)) => {
                match (was_required, is_required) {
                    (false, true) => add(What::Required),
                    (true, false) => add(What::Optional),
                    _ => {}
                }
                compare(&inner, before, now, found);
            }
        }
    }
}

fn values(field: &str, before: Option<&Value>, now: Option<&Value>, found: &mut Vec<Change>) {
    let (Some(Value::Array(before)), Some(Value::Array(now))) = (before, now) else {
        return keyword(field, "enum", before, now, found);
    };
    let only = |of: &[Value], other: &[Value]| -> Vec<String> {
        of.iter().filter(|value| !other.contains(value)).map(shown).collect()
    };
    let (gone, new) = (only(before, now), only(now, before));
    if !gone.is_empty() {
        found.push(Change { field: field.to_owned(), what: What::Refuses(gone) });
    }
    if !new.is_empty() {
        found.push(Change { field: field.to_owned(), what: What::Takes(new) });
    }
}

fn keyword(field: &str, name: &str, before: Option<&Value>, now: Option<&Value>, found: &mut Vec<Change>) {
    let text = |value: Option<&Value>| value.map_or_else(|| NONE.to_owned(), shown);
    found.push(Change { field: field.to_owned(), what: What::Keyword(name.to_owned(), text(before), text(now)) });
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string().chars().take(120).collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_changed_is_reported_the_breaking_first() {
        let stored = json!({"type": "object", "required": ["prompt"], "properties": {
            "prompt": {"type": "string", "maxLength": 2500, "description": "a"},
            "duration": {"type": "string", "enum": ["5", "10"], "default": "5"},
            "seed": {"type": "integer"},
            "elements": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}}}},
            "cfg": {"type": "number", "minimum": 0, "maximum": 1},
        }});
        let live = json!({"type": "object", "required": ["prompt", "image"], "x-rushes-checked": "2027-01-01", "properties": {
            "prompt": {"type": "string", "maxLength": 1000, "description": "b"},
            "duration": {"type": "string", "enum": ["5", "8"], "default": "8"},
            "image": {"type": "string"},
            "elements": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "integer"}}}},
            "cfg": {"type": "number", "minimum": 0, "maximum": 2},
        }});
        let texts: Vec<_> = changes(&stored, &live).iter().map(|c| (c.breaks(), c.to_string())).collect();
        let texts: Vec<_> = texts.iter().map(|(breaks, text)| (*breaks, text.as_str())).collect();
        assert_eq!(
            texts,
            [
                (true, "duration takes 10 no more"),
                (true, "elements/*/name: type was string and is integer"),
                (true, "image is new and must be given"),
                (true, "prompt: maxLength was 2500 and is 1000"),
                (true, "seed is gone"),
                (false, "cfg: maximum was 1 and is 2"),
                (false, "duration: default was 5 and is 8"),
                (false, "duration takes 8 now"),
            ]
        );
        assert_eq!(changes(&stored, &stored), []);
    }

    #[test]
    fn a_limit_that_comes_breaks_and_one_that_goes_does_not() {
        let field = |node: Value| json!({"properties": {"x": node}});
        for (before, now, breaks) in [
            (json!({}), json!({"maximum": 5}), true),
            (json!({"maximum": 5}), json!({}), false),
            (json!({"minimum": 5}), json!({"minimum": 4}), false),
            (json!({"minimum": 4}), json!({"minimum": 5}), true),
            (json!({}), json!({"minimum": 5}), true),
            (json!({"minimum": 5}), json!({}), false),
            (json!({"enum": [1]}), json!({}), true),
            (json!({"type": "integer"}), json!({"type": "number"}), true),
        ] {
            let found = changes(&field(before.clone()), &field(now.clone()));
            assert_eq!(found.len(), 1, "{before} {now}");
            assert_eq!(found[0].breaks(), breaks, "{before} {now}: {}", found[0]);
        }
    }
}
