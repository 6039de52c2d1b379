//! The entries that ship: each loads by a line, and has its schema, its source and the day on which they were compared.

use std::path::Path;

use domain::provider::Provider;
use rushes_catalogue::import::{Options, import};
use rushes_catalogue::{Catalogue, Document, Format};
use serde_json::Value;

use crate::{lines, resolve, shared};

/// Each with the price of the plainest order.
const SHIPPED: [(&str, i64); 8] = [
    ("kling-v3-pro-i2v", 840_000),
    ("veo-3.1-i2v", 3_200_000),
    // 15 s at 24 a second and one frame, of the largest shape, which is 4:3.
    ("seedance-2.0-i2v", 4_577_266),
    ("wan-2.7-i2v", 750_000),
    ("ltx-2.3-i2v", 360_000),
    ("flux-2-pro", 30_000),
    ("replicate-veo-3.1", 3_200_000),
    ("replicate-kling-v3", 1_260_000),
];

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/models"))
}

fn no_file(path: &str) -> Result<String, String> {
    Err(format!("{path} was asked for"))
}

#[test]
fn the_shipped_entries_load_from_their_files() {
    let text = std::fs::read_to_string(folder().join("shipped.toml")).unwrap();
    let read = |path: &str| std::fs::read_to_string(folder().join(path)).map_err(|error| error.to_string());
    let catalogue = Catalogue::parse(Format::Toml, &text, &read).unwrap_or_else(|faults| panic!("{}", lines(&faults)));
    for model in Catalogue::shipped() {
        assert!(catalogue.by_id(&model.id).is_some(), "{}", model.id);
        assert!(model.source.starts_with("https://"), "{}", model.id);
        assert!(model.checked.is_some() && !model.label.is_empty(), "{}", model.id);
        assert!(!model.parameters().any(|name| name.contains("safety") || name == "sync_mode"), "{}", model.id);
    }
}

#[test]
fn a_line_switches_models_on() {
    let ids: Vec<_> = SHIPPED.iter().map(|(id, _)| format!("{id:?}")).collect();
    for (format, text) in [
        (Format::Toml, format!("use = [{}]", ids.join(", "))),
        (Format::Json, format!("{{\"use\": [{}]}}", ids.join(", "))),
    ] {
        let catalogue = Catalogue::parse(format, &text, &no_file).unwrap_or_else(|faults| panic!("{}", lines(&faults)));
        let found: Vec<_> = catalogue.all().iter().skip(2).map(|model| model.id.as_str()).collect();
        assert_eq!(found, SHIPPED.map(|(id, _)| id));
        for (id, micros) in SHIPPED {
            let model = catalogue.find(&format!("models/{id}")).unwrap();
            let resolved = resolve(model, model.sample()).unwrap_or_else(|all| panic!("{id}: {}", lines(&all)));
            assert_eq!(resolved.terms.quote().total.get(), micros, "{id}");
        }
    }
    assert_eq!(Catalogue::shipped().len(), SHIPPED.len());
}

#[test]
fn a_wrong_line_is_refused() {
    let faults = |text: &str| lines(&Catalogue::parse(Format::Toml, text, &no_file).unwrap_err());
    let unknown = faults("# mine\nuse = [\"veo-3.1-i2v\",\n \"veo-4\"]");
    assert!(
        unknown.starts_with("line 3: use[1] has \"veo-4\", and must be of kling-v3-pro-i2v, veo-3.1-i2v,"),
        "{unknown}"
    );
    assert_eq!(faults("use = [\"flux-2-pro\", \"flux-2-pro\"]"), "line 1: use[1] has \"flux-2-pro\" twice");
    assert!(faults("use = \"flux-2-pro\"").starts_with("line 1: use is wrong: "));
    let own = "use = [\"flux-2-pro\"]\n[[model]]\nid = \"flux-2-pro\"\nprovider = \"fal\"\nmodel = \"a/b\"\nprice_micros = 1\nkind = \"text-to-image\"";
    assert_eq!(faults(own), "line 3: flux-2-pro: id must be of one model only; \"flux-2-pro\" is also of `use`");
}

#[test]
fn a_schema_of_a_published_document_is_what_the_import_makes_of_it() {
    let Some(published) = shared::fal() else { return };
    let entry = published.iter().find(|one| one.id == "fal-ai/veo3.1/image-to-video").expect("the document");
    let document = Document::read(Provider::Fal, &entry.entry, None).unwrap();
    let options = Options { id: Some("veo-3.1-i2v".to_owned()), checked: "2026-01-28".to_owned(), source: None };
    let imported = import(&document, &options);
    let path = folder().join(&imported.schema_path);
    if std::env::var_os("RUSHES_WRITE_SCHEMAS").is_some() {
        std::fs::write(&path, &imported.schema).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), imported.schema, "RUSHES_WRITE_SCHEMAS=1 writes it");
    let others = SHIPPED.len() - 1;
    let marked = |model: &&std::sync::Arc<rushes_catalogue::Model>| {
        model.schema.root().get("x-rushes-reimport") == Some(&Value::Bool(true))
    };
    assert_eq!(Catalogue::shipped().iter().filter(marked).count(), others, "those that are no import say so");
}
