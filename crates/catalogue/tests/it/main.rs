//! Tests of the catalogue through its front door: entries in, orders and violations out.

mod entries;
mod resolve;

use std::path::Path;

use rushes_catalogue::{Asset, Catalogue, Format, Input, Model, Resolved, Violation};

/// The catalogue of `tests/entries`.
fn examples() -> Catalogue {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/entries");
    let read = |path: &str| std::fs::read_to_string(folder.join(path)).map_err(|error| error.to_string());
    let text = std::fs::read_to_string(folder.join("models.toml")).expect("the entries");
    Catalogue::parse(Format::Toml, &text, &read).unwrap_or_else(|faults| panic!("{}", lines(&faults)))
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
