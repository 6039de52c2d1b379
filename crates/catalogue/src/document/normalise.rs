//! From schemas with references to one closed schema without any.
//!
//! Invariant: the result takes no more than the document's own schema. What cannot be found or has no end is `false`, which takes
//! nothing; every part that is visited counts, so that references that double at each level end in an error, not in memory.

use serde_json::{Map, Value};

use super::error::{Error, MAX_DEPTH, MAX_NODES};
use super::gap::{Gap, Open};
use super::merge;
use super::node::{self, Keyword};

/// Reads the schemas of one document.
pub(super) struct Normaliser<'a> {
    document: &'a Value,
    references: Vec<&'a str>,
    nodes: usize,
    /// Not inside a condition: closing what only decides would turn its meaning around.
    closing: bool,
    gaps: Vec<Gap>,
}

impl<'a> Normaliser<'a> {
    pub(super) const fn new(document: &'a Value) -> Self {
        Self { document, references: Vec::new(), nodes: 0, closing: true, gaps: Vec::new() }
    }

    /// The input: an object, closed at every level.
    pub(super) fn input(mut self, schema: &'a Value) -> Result<(Map<String, Value>, Vec<Gap>), Error> {
        let Value::Object(mut input) = self.closed(schema, "", 0)? else { return Err(Error::NoFields) };
        if node::types(&input) != ["object"] || !input.get("properties").is_some_and(Value::is_object) {
            return Err(Error::NoFields);
        }
        self.check_defaults(&mut input);
        Ok((input, self.gaps))
    }

    /// An output: the same, left open.
    pub(super) fn output(mut self, schema: &'a Value) -> Result<Value, Error> {
        self.closing = false;
        self.closed(schema, "", 0)
    }

    fn gap(&mut self, path: &str, open: Open) {
        if self.closing {
            self.gaps.push(Gap { path: path.to_owned(), open });
        }
    }

    fn count(&mut self, parts: usize, depth: usize) -> Result<(), Error> {
        self.nodes = self.nodes.saturating_add(parts);
        match (self.nodes > MAX_NODES, depth > MAX_DEPTH) {
            (true, _) => Err(Error::TooLarge),
            (false, true) => Err(Error::TooDeep),
            (false, false) => Ok(()),
        }
    }

    /// A node, closed where it declares fields.
    fn closed(&mut self, schema: &'a Value, path: &str, depth: usize) -> Result<Value, Error> {
        let mut value = self.open(schema, path, depth)?;
        if let Some(node) = value.as_object_mut().filter(|_| self.closing) {
            close(node);
            if says_nothing(node) {
                self.gap(path, Open::Anything);
            }
        }
        Ok(value)
    }

    /// A node whose inner ones are closed, but that is open itself, so that it can be merged with what stands beside it.
    fn open(&mut self, schema: &'a Value, path: &str, depth: usize) -> Result<Value, Error> {
        self.count(1, depth)?;
        let Value::Object(schema) = schema else {
            // `true` and whatever is no schema say nothing.
            return Ok(if schema == &Value::Bool(false) { schema.clone() } else { Value::Object(Map::new()) });
        };
        let mut result = Value::Object(self.own(schema, path, depth)?);
        if let Some(Value::String(reference)) = schema.get("$ref") {
            let target = self.referred(reference, path, depth)?;
            result = merge::both(result, target);
        }
        for branch in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            let branch = self.open(branch, path, depth + 1)?;
            result = merge::both(result, branch);
        }
        for keyword in ["anyOf", "oneOf"] {
            if let Some(Value::Array(branches)) = schema.get(keyword).filter(|of| **of != Value::Array(Vec::new())) {
                let declared = result.get("properties").is_some();
                let choice = self.choice(keyword, branches, declared, path, depth)?;
                result = merge::both(result, choice);
            }
        }
        if let Some(node) = result.as_object_mut() {
            if schema.get("nullable") == Some(&Value::Bool(true)) {
                allow_null(node);
            }
            infer_type(node);
        }
        Ok(result)
    }

    /// What a reference leads to.
    fn referred(&mut self, reference: &'a str, path: &str, depth: usize) -> Result<Value, Error> {
        let Some(pointer) = reference.strip_prefix('#') else {
            return Err(Error::Foreign(reference.chars().take(200).collect()));
        };
        let name = || reference.rsplit('/').next().unwrap_or(reference).chars().take(100).collect();
        if self.references.contains(&reference) {
            self.gap(path, Open::Recursive(name()));
            return Ok(Value::Bool(false));
        }
        let Some(target) = self.document.pointer(pointer) else {
            self.gap(path, Open::Missing(name()));
            return Ok(Value::Bool(false));
        };
        self.references.push(reference);
        let result = self.open(target, path, depth + 1);
        self.references.pop();
        result
    }

    /// `anyOf` or `oneOf`: one branch stands for itself, `null` beside one is a type of it.
    fn choice(
        &mut self,
        keyword: &str,
        branches: &'a [Value],
        declared: bool,
        path: &str,
        depth: usize,
    ) -> Result<Value, Error> {
        let mut kept = Vec::new();
        let mut null = false;
        for branch in branches {
            // Beside fields that the node declares itself, a branch that is closed would refuse them.
            let value =
                if declared { self.open(branch, path, depth + 1)? } else { self.closed(branch, path, depth + 1)? };
            match &value {
                Value::Object(node) if node::types(node) == ["null"] => null = true,
                Value::Bool(false) => {}
                _ => kept.push((value, branch)),
            }
        }
        if let [(one, _)] = kept.as_mut_slice() {
            if let Some(node) = one.as_object_mut().filter(|_| null) {
                allow_null(node);
            }
            return Ok(one.take());
        }
        if kept.is_empty() && null {
            return Ok(Value::Object(Map::from_iter([("type".to_owned(), "null".into())])));
        }
        if kept.is_empty() {
            return Ok(Value::Bool(false));
        }
        let mut list: Vec<Value> = kept.iter().map(|(value, _)| value.clone()).collect();
        if null {
            list.push(Value::Object(Map::from_iter([("type".to_owned(), "null".into())])));
        }
        let mut node = Map::new();
        if keyword == "oneOf" && kept.iter().any(|(value, _)| value.get("additionalProperties").is_some()) {
            // Closed branches differ more than open ones, so that closing alone could make one of several that matched.
            let mut open = Vec::new();
            let closing = std::mem::replace(&mut self.closing, false);
            for branch in branches {
                open.push(self.open(branch, path, depth + 1)?);
            }
            self.closing = closing;
            node.insert("oneOf".to_owned(), open.into());
            node.insert("anyOf".to_owned(), list.into());
        } else {
            node.insert(keyword.to_owned(), list.into());
        }
        Ok(Value::Object(node))
    }

    /// What a node says itself, without what it refers to and chooses from.
    fn own(&mut self, schema: &'a Map<String, Value>, path: &str, depth: usize) -> Result<Map<String, Value>, Error> {
        let mut result = Map::new();
        let known = match schema.get("type") {
            Some(Value::String(name)) => vec![name.as_str()],
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        node::set_types(&mut result, known.into_iter().filter(|name| node::is_type(name)).collect());
        for (name, value) in schema {
            match (name.as_str(), node::keyword(name)) {
                (_, Some(Keyword::Assertion)) if node::has_form(name, value) => {
                    self.count(size(value), depth)?;
                    result.insert(name.clone(), value.clone());
                }
                (_, Some(Keyword::Schema)) if !value.is_array() => {
                    result.insert(name.clone(), self.closed(value, &format!("{path}/*"), depth + 1)?);
                }
                // The list form of drafts before 2020-12.
                ("items", _) | (_, Some(Keyword::List)) => {
                    let items = value.as_array().map_or(&[][..], Vec::as_slice);
                    let items: Result<Vec<_>, _> =
                        items.iter().map(|item| self.closed(item, &format!("{path}/*"), depth + 1)).collect();
                    let items = items?;
                    if !items.is_empty() {
                        result.insert("prefixItems".to_owned(), items.into());
                    }
                }
                (_, Some(Keyword::Condition)) => {
                    let closing = std::mem::replace(&mut self.closing, false);
                    let condition = self.open(value, path, depth + 1);
                    self.closing = closing;
                    result.insert(name.clone(), condition?);
                }
                (_, Some(Keyword::Named)) => {
                    let mut of = Map::new();
                    for (key, value) in value.as_object().into_iter().flatten() {
                        let value = self.closed(value, &format!("{path}/{}", escaped(key)), depth + 1)?;
                        of.insert(key.clone(), value);
                    }
                    result.insert(name.clone(), of.into());
                }
                ("additionalProperties", _) => self.additional(schema, value, &mut result, path, depth)?,
                ("enum", _) => {
                    let values = value.as_array().filter(|values| !values.is_empty());
                    self.count(values.map_or(0, Vec::len), depth)?;
                    let values = values.map(|values| Value::Array(values.clone()));
                    result.extend(values.map(|values| (name.clone(), values)));
                }
                _ => annotation(name, value, &mut result),
            }
        }
        self.required(schema, &mut result, path);
        limits(schema, &mut result);
        order(schema, &mut result);
        Ok(result)
    }

    /// Fields beside the declared ones: none where any are declared.
    fn additional(
        &mut self,
        schema: &'a Map<String, Value>,
        value: &'a Value,
        result: &mut Map<String, Value>,
        path: &str,
        depth: usize,
    ) -> Result<(), Error> {
        if value == &Value::Bool(false) {
            result.insert("additionalProperties".to_owned(), false.into());
        } else if value.is_object() && !schema.contains_key("properties") {
            let inner = self.closed(value, &format!("{path}/*"), depth + 1)?;
            result.insert("additionalProperties".to_owned(), inner);
        }
        Ok(())
    }

    /// Fields that must be there. One that is not declared takes anything: the document says no more.
    fn required(&mut self, schema: &Map<String, Value>, result: &mut Map<String, Value>, path: &str) {
        let Some(Value::Array(names)) = schema.get("required") else { return };
        let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
        if names.is_empty() {
            return;
        }
        result.insert("required".to_owned(), names.iter().map(|name| Value::from(*name)).collect());
        if let Some(Value::Object(properties)) = result.get_mut("properties") {
            for name in names.into_iter().filter(|_| self.closing) {
                if !properties.contains_key(name) {
                    properties.insert(name.to_owned(), Value::Object(Map::new()));
                    self.gaps.push(Gap { path: format!("{path}/{}", escaped(name)), open: Open::Anything });
                }
            }
        }
    }

    /// Drops defaults of fields that the field itself does not take.
    fn check_defaults(&mut self, input: &mut Map<String, Value>) {
        let Some(Value::Object(properties)) = input.get_mut("properties") else { return };
        for (name, field) in properties.iter_mut() {
            let Some(default) = field.get("default").cloned() else { continue };
            let takes = jsonschema::options().build(field).is_ok_and(|validator| validator.is_valid(&default));
            if let Some(field) = field.as_object_mut().filter(|_| !takes) {
                field.remove("default");
                self.gaps.push(Gap { path: format!("/{}", escaped(name)), open: Open::Default });
            }
        }
    }
}

/// A key as a part of a JSON pointer.
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// How many parts a plain value has.
fn size(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(size).sum::<usize>() + 1,
        Value::Object(of) => of.values().map(size).sum::<usize>() + 1,
        _ => 1,
    }
}

/// Refuses every field that is not declared.
fn close(node: &mut Map<String, Value>) {
    if node.contains_key("properties") {
        node.insert("additionalProperties".to_owned(), false.into());
        if node::types(node).is_empty() {
            node::set_types(node, vec!["object"]);
        }
    }
}

/// Whether nothing in a node refuses anything: no type, or an object or list of what one likes.
fn says_nothing(node: &Map<String, Value>) -> bool {
    let says = |names: &[&str]| names.iter().any(|name| node.contains_key(*name));
    if says(&["enum", "const", "anyOf", "oneOf", "allOf", "$ref"]) {
        return false;
    }
    match node::types(node).iter().find(|name| **name != "null") {
        None => !node.contains_key("type"),
        Some(&"object") => !says(&["properties", "additionalProperties", "patternProperties"]),
        Some(&"array") => !says(&["items", "prefixItems"]),
        Some(_) => false,
    }
}

/// Allows `null` beside a node's types and values.
fn allow_null(node: &mut Map<String, Value>) {
    let mut types: Vec<String> = node::types(node).into_iter().map(str::to_owned).collect();
    if !types.is_empty() && !types.iter().any(|name| name == "null") {
        types.push("null".to_owned());
        node::set_types(node, types.iter().map(String::as_str).collect());
    }
    if let Some(Value::Array(values)) = node.get_mut("enum")
        && !values.contains(&Value::Null)
    {
        values.push(Value::Null);
    }
}

/// The type of a node that only tells it by its values or parts.
fn infer_type(node: &mut Map<String, Value>) {
    if node.contains_key("type") {
        return;
    }
    if let Some(Value::Array(values)) = node.get("enum") {
        let mut types: Vec<&str> = values.iter().map(node::type_of).collect();
        types.sort_unstable();
        types.dedup();
        node::set_types(node, types);
    }
}

/// Keeps what people and forms read: short descriptions, defaults, the order of fields.
fn annotation(name: &str, value: &Value, result: &mut Map<String, Value>) {
    match (name, value) {
        ("description", Value::String(text)) => {
            let text = node::description(text);
            if !text.is_empty() {
                result.insert(name.to_owned(), text.into());
            }
        }
        // Whatever may be left out need not be said to be nothing.
        ("default", Value::Null) => {}
        ("default", _) if size(value) <= 200 => {
            result.insert(name.to_owned(), value.clone());
        }
        ("deprecated" | "x-cog-secret", Value::Bool(true)) | ("x-order", Value::Number(_)) => {
            result.insert(name.to_owned(), value.clone());
        }
        // What a file may be: `max_file_size` and so on.
        ("x-fal", Value::Object(of)) => {
            let numbers = of.iter().filter(|(_, value)| value.is_number());
            let numbers: Map<_, _> = numbers.map(|(name, value)| (name.clone(), value.clone())).collect();
            result.insert("x-limits".to_owned(), numbers.into());
        }
        _ => {}
    }
}

/// Exclusive limits: a number, or in OpenAPI 3.0 a flag on the limit beside it.
fn limits(schema: &Map<String, Value>, result: &mut Map<String, Value>) {
    for (exclusive, inclusive) in [("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")] {
        match schema.get(exclusive) {
            Some(Value::Bool(true)) => {
                if let Some(limit) = result.remove(inclusive) {
                    result.insert(exclusive.to_owned(), limit);
                }
            }
            Some(limit @ Value::Number(_)) => {
                result.insert(exclusive.to_owned(), limit.clone());
            }
            _ => {}
        }
    }
}

/// fal's order of fields, as each field's own.
fn order(schema: &Map<String, Value>, result: &mut Map<String, Value>) {
    let Some(Value::Array(names)) = schema.get("x-fal-order-properties") else { return };
    let Some(Value::Object(properties)) = result.get_mut("properties") else { return };
    for (place, name) in names.iter().filter_map(Value::as_str).enumerate() {
        if let Some(Value::Object(field)) = properties.get_mut(name) {
            field.insert("x-order".to_owned(), place.into());
        }
    }
}
