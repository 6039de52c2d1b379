//! The JSON Schema of a provider's input: read closed, asked for its properties, and used to check an input.
//!
//! Invariant: an object that declares properties takes no others, at any depth, so that what a provider would ignore is refused
//! here.

mod close;
mod pointer;
mod property;
mod words;

use jsonschema::{Draft, Validator};
use serde_json::{Map, Number, Value};

pub(crate) use pointer::escape;
pub use property::Property;
pub(crate) use property::{Limits, enumerated, is_type, same};
pub(crate) use words::{list, shown};

/// A closed schema, compiled.
#[derive(Debug)]
pub struct Schema {
    root: Value,
    validator: Validator,
}

impl Schema {
    /// Reads and compiles a schema of draft 2020-12: an object with its properties.
    ///
    /// # Errors
    /// One sentence that says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let root = serde_json::from_str(text).map_err(|error| format!("is not JSON: {error}"))?;
        Self::new(root)
    }

    pub(crate) fn new(mut root: Value) -> Result<Self, String> {
        if !root.get("properties").is_some_and(Value::is_object) {
            return Err("must be the schema of an object, with its properties".to_owned());
        }
        close::close(&mut root, "")?;
        if root.get("additionalProperties") != Some(&Value::Bool(false)) {
            return Err("must have additionalProperties = false".to_owned());
        }
        let validator = compile(&root)?;
        Ok(Self { root, validator })
    }

    /// The whole schema.
    #[must_use]
    pub const fn root(&self) -> &Value {
        &self.root
    }

    /// The property of this name.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<Property<'_>> {
        self.root.get("properties")?.get(name).map(|property| Property::new(&self.root, property))
    }

    /// The names of all properties.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.root["properties"].as_object().into_iter().flatten().map(|(name, _)| name.as_str())
    }

    /// The names of the properties that must be given.
    pub fn required(&self) -> impl Iterator<Item = &str> {
        self.root.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    }

    /// Whether this property must be given.
    #[must_use]
    pub fn requires(&self, name: &str) -> bool {
        self.required().any(|required| required == name)
    }

    /// What is wrong with an input: for each thing where it is, as a JSON pointer, and what it must be, for people.
    #[must_use]
    pub fn validate(&self, input: &Value) -> Vec<(String, String)> {
        let mut all = Vec::new();
        for error in self.validator.iter_errors(input) {
            words::describe(&error, &mut all);
        }
        all
    }

    /// Whether the property of this name may have this value.
    pub(crate) fn admits(&self, name: &str, value: &Value) -> bool {
        let input = Value::Object(Map::from_iter([(name.to_owned(), value.clone())]));
        let at = format!("/{}", escape(name));
        let inside = |pointer: &str| pointer == at || pointer.starts_with(&format!("{at}/"));
        !self.validate(&input).iter().any(|(pointer, _)| inside(pointer))
    }

    /// The value with whole doubles as integers wherever the schema has integers: a client's numbers may all be doubles.
    pub(crate) fn with_integers(&self, name: &str, value: &Value) -> Value {
        match self.property(name) {
            Some(property) => integers(&property, value),
            None => value.clone(),
        }
    }
}

fn integers(property: &Property<'_>, value: &Value) -> Value {
    match value {
        Value::Number(number) if property.has_integers() => Value::Number(whole(number)),
        Value::Array(items) => {
            let of = property.items();
            items.iter().map(|item| of.as_ref().map_or_else(|| item.clone(), |of| integers(of, item))).collect()
        }
        Value::Object(fields) => fields
            .iter()
            .map(|(name, field)| {
                let of = property.field(name);
                (name.clone(), of.map_or_else(|| field.clone(), |of| integers(&of, field)))
            })
            .collect(),
        other => other.clone(),
    }
}

/// The greatest double below which every whole number is one.
const MAX_WHOLE: f64 = 9_007_199_254_740_992.0;

fn whole(number: &Number) -> Number {
    match number.as_f64() {
        Some(double) if number.is_f64() && double.fract() == 0.0 && double.abs() <= MAX_WHOLE => {
            Number::from(double as i64)
        }
        _ => number.clone(),
    }
}

/// A schema that is used as it is: a rule across fields.
pub(crate) fn compile(schema: &Value) -> Result<Validator, String> {
    jsonschema::options()
        .with_draft(Draft::Draft202012)
        .build(schema)
        .map_err(|error| format!("is no JSON Schema: {error}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "a test says `json!` where it is used")]
    fn schema(properties: Value) -> Schema {
        Schema::new(json!({"type": "object", "properties": properties, "required": ["prompt"]})).unwrap()
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let schema = schema(json!({
            "prompt": {"type": "string", "maxLength": 5},
            "duration": {"type": "integer", "enum": [4, 6, 8]},
            "size": {"anyOf": [
                {"type": "object", "properties": {"width": {"type": "integer", "minimum": 64}}},
                {"type": "string", "enum": ["square", "wide"]},
            ]},
            "seed": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
            "tags": {"type": "array", "maxItems": 1, "items": {"type": "string"}},
        }));
        for (input, at, says) in [
            (json!({}), "/prompt", "must be given"),
            (json!({"prompt": "a harbour"}), "/prompt", "must have at most 5 characters"),
            (json!({"prompt": 3}), "/prompt", "must be a text"),
            (json!({"prompt": "a", "duration": 5}), "/duration", "must be one of 4, 6, 8"),
            (json!({"prompt": "a", "colour": 5}), "/colour", "is not known"),
            (json!({"prompt": "a", "size": {"width": 3}}), "/size/width", "must be at least 64"),
            (json!({"prompt": "a", "size": {"weight": 300}}), "/size/weight", "is not known"),
            (json!({"prompt": "a", "size": "tall"}), "/size", "must be one of square, wide"),
            (json!({"prompt": "a", "size": 3}), "/size", "must be an object or a text"),
            (json!({"prompt": "a", "seed": "x"}), "/seed", "must be a whole number or null"),
            (json!({"prompt": "a", "tags": ["a", "b"]}), "/tags", "must have at most 1 entry"),
            (json!({"prompt": "a", "tags": [1]}), "/tags/0", "must be a text"),
        ] {
            assert_eq!(schema.validate(&input), [(at.to_owned(), says.to_owned())], "{input}");
        }
        assert_eq!(schema.validate(&json!({"prompt": "a", "duration": 6, "seed": null})), []);
    }

    #[test]
    fn a_schema_is_closed_or_refused() {
        for (text, says) in [
            ("nothing", "is not JSON"),
            (r#"{"type": "string"}"#, "must be the schema of an object"),
            (r#"{"properties": {}, "additionalProperties": true}"#, "must not have additionalProperties = true"),
            (
                r#"{"properties": {}, "additionalProperties": {"type": "string"}}"#,
                "must have additionalProperties = false",
            ),
            (r#"{"properties": {"a": {"type": "thing"}}}"#, "is no JSON Schema"),
        ] {
            let error = Schema::parse(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn doubles_become_integers_where_the_schema_has_integers() {
        let schema = schema(json!({
            "prompt": {"type": "string"},
            "n": {"type": "integer"},
            "x": {"type": "number"},
            "six": {"enum": [6, 8]},
            "nodes": {"type": "array", "items": {"type": "object", "properties": {"at": {"type": "integer"}}}},
        }));
        for (name, before, after) in [
            ("n", json!(6.0), "6"),
            ("n", json!(6.5), "6.5"),
            ("x", json!(6.0), "6.0"),
            ("six", json!(8.0), "8"),
            ("nodes", json!([{"at": 3.0}]), r#"[{"at":3}]"#),
        ] {
            assert_eq!(schema.with_integers(name, &before).to_string(), after, "{name}");
        }
    }
}
