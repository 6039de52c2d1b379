//! The models that every installation has: they are drawn by the worker itself, and need no key and no network.

/// Their entries.
pub(crate) const ENTRIES: &str = include_str!("../models/local.toml");

/// The schema with this path.
pub(crate) fn schema(path: &str) -> Option<&'static str> {
    match path {
        "schemas/local-sketch.json" => Some(include_str!("../models/schemas/local-sketch.json")),
        "schemas/local-still.json" => Some(include_str!("../models/schemas/local-still.json")),
        _ => None,
    }
}
