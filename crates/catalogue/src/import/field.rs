//! One field of a document's input, as far as its name and schema tell what it is for.

use serde_json::{Map, Value};

use super::names;
use crate::document::Document;

/// A field of the input.
pub(super) struct Field<'a> {
    pub(super) name: &'a str,
    pub(super) schema: &'a Map<String, Value>,
    pub(super) required: bool,
    /// Whether the provider says which texts are files.
    pub(super) says_files: bool,
}

/// Every field, in the document's order.
pub(super) fn of(document: &Document) -> Vec<Field<'_>> {
    let required: Vec<&str> = document
        .input
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let mut fields = Vec::new();
    for (name, schema) in document.input.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let Some(schema) = schema.as_object() else { continue };
        let says_files = document.provider != domain::provider::Provider::Fal;
        fields.push(Field { name, schema, required: required.contains(&name.as_str()), says_files });
    }
    let place = |field: &Field| field.schema.get("x-order").and_then(Value::as_u64).unwrap_or(u64::MAX);
    fields.sort_by(|a, b| (place(a), a.name).cmp(&(place(b), b.name)));
    fields
}

/// The nodes that a value may be by: itself, or the branches that it chooses from, without `null`.
pub(super) fn branches(schema: &Map<String, Value>) -> Vec<&Map<String, Value>> {
    let of = ["anyOf", "oneOf"].iter().find_map(|keyword| schema.get(*keyword)?.as_array());
    match of {
        Some(branches) => branches.iter().filter_map(Value::as_object).filter(|node| !has_type(node, "null")).collect(),
        None => vec![schema],
    }
}

/// Whether a node is of this type; one that may also be `null` is.
pub(super) fn has_type(node: &Map<String, Value>, name: &str) -> bool {
    match node.get("type") {
        Some(Value::String(one)) => one == name,
        Some(Value::Array(names)) => match name {
            "null" => names.iter().all(|one| one == "null"),
            name => names.iter().any(|one| one == name),
        },
        _ => false,
    }
}

/// The values that a node lists, without `null`.
pub(super) fn choices(node: &Map<String, Value>) -> Option<Vec<&Value>> {
    let values = node.get("enum")?.as_array()?;
    Some(values.iter().filter(|value| !value.is_null()).collect())
}

impl<'a> Field<'a> {
    pub(super) fn is(&self, name: &str) -> bool {
        branches(self.schema).iter().any(|node| has_type(node, name))
    }

    pub(super) fn is_number(&self) -> bool {
        self.is("integer") || self.is("number")
    }

    /// A text that is not one of a list.
    pub(super) fn is_free_text(&self) -> bool {
        branches(self.schema).iter().any(|node| has_type(node, "string") && choices(node).is_none())
    }

    /// The values of all lists.
    pub(super) fn values(&self) -> Vec<&'a Value> {
        branches(self.schema).into_iter().filter_map(choices).flatten().collect()
    }

    pub(super) fn default(&self) -> Option<&'a Value> {
        self.schema.get("default")
    }

    pub(super) fn description(&self) -> &'a str {
        self.schema.get("description").and_then(Value::as_str).unwrap_or_default()
    }

    /// The items of a list.
    pub(super) fn items(&self) -> Option<&'a Map<String, Value>> {
        branches(self.schema).into_iter().find(|node| has_type(node, "array"))?.get("items")?.as_object()
    }

    /// Whether it takes the address of a file, or a list of them.
    pub(super) fn is_file(&self) -> bool {
        let of = self.items().unwrap_or(self.schema);
        is_file(self.name, of, self.says_files)
    }

    /// Why it is not offered, if it is not.
    pub(super) fn hidden(&self, document: &Document) -> Option<String> {
        if let Some(why) = names::hidden(self.name) {
            return Some(why.to_owned());
        }
        let is_secret = self.schema.get("x-cog-secret") == Some(&Value::Bool(true))
            || self.schema.get("format").and_then(Value::as_str) == Some("password");
        if is_secret {
            return Some("a secret does not belong into an order".to_owned());
        }
        if self.schema.get("deprecated") == Some(&Value::Bool(true)) && !self.required {
            return Some("the provider does not want it used any more".to_owned());
        }
        let gap = document
            .gaps_of(self.name)
            .find(|gap| matches!(gap.open, crate::document::Open::Missing(_) | crate::document::Open::Recursive(_)));
        gap.filter(|_| !self.required).map(|gap| format!("it cannot be checked: {gap}"))
    }

    /// Places for files in it, as pointers with `*` for the items of lists.
    pub(super) fn files(&self, found: &mut Vec<String>) {
        walk(self.name, self.schema, &format!("/{}", escape(self.name)), self.says_files, found);
    }
}

fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn walk(name: &str, node: &Map<String, Value>, path: &str, says_files: bool, found: &mut Vec<String>) {
    for branch in branches(node) {
        if is_file(name, branch, says_files) {
            if !found.iter().any(|known| known == path) {
                found.push(path.to_owned());
            }
            continue;
        }
        if let Some(items) = branch.get("items").and_then(Value::as_object) {
            walk(name, items, &format!("{path}/*"), says_files, found);
        }
        for (inner, node) in branch.get("properties").and_then(Value::as_object).into_iter().flatten() {
            if let Some(node) = node.as_object() {
                // `url` alone is of what is around it.
                let called = if names::is_bare(inner) { format!("{name}_{inner}") } else { inner.clone() };
                walk(&called, node, &format!("{path}/{}", escape(inner)), says_files, found);
            }
        }
    }
}

/// Whether a text is the address of a picture, a video or a sound.
fn is_file(name: &str, node: &Map<String, Value>, says_files: bool) -> bool {
    let text = branches(node).iter().any(|node| has_type(node, "string") && choices(node).is_none());
    if !text || names::is_no_medium(name) {
        return false;
    }
    let is_uri = node.get("format").and_then(Value::as_str) == Some("uri");
    match says_files {
        true => is_uri || names::is_address(name),
        false => is_uri || names::is_address(name) || names::role(name, true).is_some() && names::stem(name) != "audio",
    }
}
