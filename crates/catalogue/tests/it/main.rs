//! Tests of the catalogue through its front door: entries in, orders and violations out.
#![allow(clippy::unwrap_used)]

mod built_in;
mod conformance;
mod costs;
mod faults;
mod forms;
mod legacy;
mod moderation;
mod openrouter;
mod properties;
mod random;
mod readme;
mod real;
mod resolve;
mod shared;
mod shipped;

use std::sync::Arc;

use rushes_catalogue::{Asset, Catalogue, Fault, Format, Input, Model, Resolved, Violation};

/// A model that ships.
fn shipped_model(id: &str) -> Arc<Model> {
    Catalogue::shipped().iter().find(|model| model.id == id).unwrap_or_else(|| panic!("no {id}")).clone()
}

/// The catalogue of one entry, whose schema is given.
fn parse(entry: &str, schema: &str) -> Result<Catalogue, Vec<Fault>> {
    let read = |path: &str| {
        if path == "schema.json" { Ok(schema.to_owned()) } else { Err("is not there".to_owned()) }
    };
    Catalogue::parse(Format::Toml, entry, &read)
}

fn lines<T: ToString>(all: &[T]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// A stored file of a type.
fn asset(n: u8, mime_type: &str) -> Asset {
    Asset {
        name: format!("assets/{}", format!("{n:02x}").repeat(32)),
        extension: mime_type.rsplit('/').next().unwrap_or_default().to_owned(),
        mime_type: mime_type.to_owned(),
        size_bytes: 100_000,
        width: if mime_type.starts_with("audio/") { 0 } else { 1_280 },
        height: if mime_type.starts_with("audio/") { 0 } else { 720 },
        duration_ms: if mime_type.starts_with("image/") { 0 } else { 5_000 },
    }
}

/// Resolves an input, with assets of the names that end so in parameters.
fn resolve(model: &Model, input: &Input) -> Result<Resolved, Vec<Violation>> {
    model.resolve(input, 7, &|name| (0..4).map(|n| asset(n, "image/png")).find(|asset| asset.name == name))
}
