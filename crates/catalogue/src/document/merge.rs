//! Two schemas that must both hold, as one.
//!
//! Invariant: the result takes no more than either. What stands closer, the first, gives its descriptions and defaults.

use serde_json::{Map, Value};

use super::node;

/// What both take.
pub(super) fn both(first: Value, second: Value) -> Value {
    match (first, second) {
        (Value::Object(first), Value::Object(second)) if second.is_empty() => Value::Object(first),
        (Value::Object(first), Value::Object(second)) => objects(first, second),
        (Value::Bool(false), _) | (_, Value::Bool(false)) => Value::Bool(false),
        (other, Value::Bool(_)) | (_, other) => other,
    }
}

fn objects(mut first: Map<String, Value>, second: Map<String, Value>) -> Value {
    if !merge_types(&mut first, &second) {
        return Value::Bool(false);
    }
    let mut rest = Map::new();
    for (name, value) in second {
        if name == "type" {
            continue;
        }
        let Some(own) = first.get_mut(&name) else {
            first.insert(name, value);
            continue;
        };
        match (name.as_str(), own, value) {
            (_, own, value) if *own == value => {}
            ("properties" | "patternProperties", Value::Object(own), Value::Object(of)) => {
                for (key, value) in of {
                    let merged = match own.remove(&key) {
                        Some(field) => both(field, value),
                        None => value,
                    };
                    own.insert(key, merged);
                }
            }
            ("required", Value::Array(own), Value::Array(names)) => {
                for name in names {
                    if !own.contains(&name) {
                        own.push(name);
                    }
                }
            }
            ("enum", Value::Array(own), Value::Array(values)) => own.retain(|value| values.contains(value)),
            ("items" | "additionalProperties", own, value) => *own = both(own.take(), value),
            ("minimum" | "exclusiveMinimum" | "minLength" | "minItems" | "minProperties", own, value) => {
                if number(&value) > number(own) {
                    *own = value;
                }
            }
            ("maximum" | "exclusiveMaximum" | "maxLength" | "maxItems" | "maxProperties", own, value) => {
                if number(&value) < number(own) {
                    *own = value;
                }
            }
            ("uniqueItems", own, value) => *own = Value::Bool(*own == Value::Bool(true) || value == Value::Bool(true)),
            ("default" | "description" | "deprecated" | "x-order" | "x-limits" | "x-cog-secret", _, _) => {}
            (_, _, value) => {
                rest.insert(name, value);
            }
        }
    }
    if first.get("enum").and_then(Value::as_array).is_some_and(Vec::is_empty) {
        return Value::Bool(false);
    }
    if !rest.is_empty() {
        let all = first.entry("allOf").or_insert_with(|| Value::Array(Vec::new()));
        if let Some(all) = all.as_array_mut() {
            all.push(Value::Object(rest));
        }
    }
    Value::Object(first)
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

/// The types that both allow; whether there are any.
fn merge_types(first: &mut Map<String, Value>, second: &Map<String, Value>) -> bool {
    let (own, other) = (node::types(first), node::types(second));
    let allowed: Vec<String> = match (own.is_empty(), other.is_empty()) {
        (_, true) => return true,
        (true, false) => other.into_iter().map(str::to_owned).collect(),
        (false, false) => {
            let mut allowed = Vec::new();
            for name in &own {
                // Every integer is a number.
                if other.contains(name) || *name == "integer" && other.contains(&"number") {
                    allowed.push((*name).to_owned());
                } else if *name == "number" && other.contains(&"integer") {
                    allowed.push("integer".to_owned());
                }
            }
            allowed
        }
    };
    if allowed.is_empty() {
        return false;
    }
    node::set_types(first, allowed.iter().map(String::as_str).collect());
    true
}
