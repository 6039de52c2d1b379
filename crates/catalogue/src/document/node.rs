//! The keywords of JSON Schema that are read, and small operations on nodes.

use serde_json::{Map, Value};

/// How much of a description is kept, in characters.
const MAX_DESCRIPTION: usize = 280;

/// What a keyword's value is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keyword {
    /// A plain assertion that is kept as it is.
    Assertion,
    /// One schema.
    Schema,
    /// One schema that asserts nothing by itself; nothing in it is closed.
    Condition,
    /// A list of schemas.
    List,
    /// Schemas by name.
    Named,
}

/// What this keyword is; `None` for what has a step of its own, and for what is dropped.
pub(super) fn keyword(name: &str) -> Option<Keyword> {
    Some(match name {
        "const" | "multipleOf" | "maxLength" | "minLength" | "pattern" | "format" | "maxItems" | "minItems"
        | "uniqueItems" | "maxContains" | "minContains" | "maxProperties" | "minProperties" | "dependentRequired"
        | "maximum" | "minimum" => Keyword::Assertion,
        "items" => Keyword::Schema,
        "not" | "if" | "then" | "else" | "contains" | "propertyNames" => Keyword::Condition,
        "prefixItems" => Keyword::List,
        "properties" | "patternProperties" => Keyword::Named,
        _ => return None,
    })
}

/// Whether an assertion's value is of a kind that it can have. One that is not means nothing, and does not compile.
pub(super) fn has_form(name: &str, value: &Value) -> bool {
    match name {
        "const" => true,
        "multipleOf" => value.as_f64().is_some_and(|number| number > 0.0),
        "maximum" | "minimum" => value.is_number(),
        "pattern" | "format" => value.is_string(),
        "uniqueItems" => value.is_boolean(),
        "dependentRequired" => value
            .as_object()
            .is_some_and(|of| of.values().all(|names| names.as_array().is_some_and(|names| all_strings(names)))),
        _ => value.as_u64().is_some(),
    }
}

fn all_strings(values: &[Value]) -> bool {
    values.iter().all(Value::is_string)
}

/// A node's types.
pub(super) fn types(node: &Map<String, Value>) -> Vec<&str> {
    match node.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// Sets a node's types: one as a word, several as a list.
pub(super) fn set_types(node: &mut Map<String, Value>, mut types: Vec<&str>) {
    types.dedup();
    let value = match types.as_slice() {
        [] => return,
        [one] => Value::from(*one),
        several => several.iter().map(|name| Value::from(*name)).collect(),
    };
    node.insert("type".to_owned(), value);
}

/// The type of a value, `integer` for whole numbers.
pub(super) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Whether a name is one of the types.
pub(super) fn is_type(name: &str) -> bool {
    matches!(name, "null" | "boolean" | "number" | "integer" | "string" | "array" | "object")
}

/// A description on one line, cut at a word.
pub(super) fn description(text: &str) -> String {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if line.chars().count() + word.chars().count() > MAX_DESCRIPTION {
            line.push('…');
            break;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    line
}

/// The same with the keys of every object in order, whatever the map that holds them keeps.
pub(super) fn sorted(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(sorted).collect(),
        Value::Object(of) => {
            let mut keys: Vec<_> = of.iter().collect();
            keys.sort_by_key(|(key, _)| *key);
            Value::Object(keys.into_iter().map(|(key, value)| (key.clone(), sorted(value))).collect())
        }
        plain => plain.clone(),
    }
}
