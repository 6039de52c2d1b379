//! A document as it was published: its own schema, compiled without anything of the catalogue's.

use std::collections::BTreeSet;

use jsonschema::Validator;
use serde_json::{Map, Value, json};

/// The input's schema of a document.
pub(super) struct Original {
    fields: BTreeSet<String>,
    validator: Validator,
}

impl Original {
    pub(super) fn of(entry: &Value) -> Self {
        let mut document = entry["openapi"].clone();
        let id = entry["endpoint_id"].as_str().expect("an id");
        let post = &document["paths"][format!("/{id}")]["post"];
        let schema = post["requestBody"]["content"]["application/json"]["schema"].clone();
        let reference = schema["$ref"].as_str().expect("a reference").to_owned();
        // Two documents refer to what they do not have; whatever stands there is right by them.
        for name in ["TrajectoryPoint", "TrackPoint"] {
            let schemas = document["components"]["schemas"].as_object_mut().expect("schemas");
            schemas.entry(name).or_insert_with(|| json!({}));
        }
        let input = document.pointer(reference.trim_start_matches('#')).expect("the input").clone();
        let fields = input["properties"].as_object().expect("fields").keys().cloned().collect();
        let root = json!({"$ref": reference, "components": document["components"].take()});
        let validator = jsonschema::draft202012::new(&root).unwrap_or_else(|error| panic!("{id}: {error}"));
        Self { fields, validator }
    }

    /// The names of all fields.
    pub(super) fn fields(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(String::as_str)
    }

    /// Fails where the document does not take an order, or does not know one of its keys.
    pub(super) fn check(&self, id: &str, order: &Map<String, Value>) {
        let unknown: Vec<_> = order.keys().filter(|key| !self.fields.contains(*key)).collect();
        assert!(unknown.is_empty(), "{id} does not know {unknown:?}");
        let order = Value::Object(order.clone());
        let errors: Vec<_> = self.validator.iter_errors(&order).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{id}: {order}: {}", errors.join("; "));
    }
}
