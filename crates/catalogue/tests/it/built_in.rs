//! The models that every installation has.

use rushes_catalogue::{Catalogue, Format, MediaKind, Role};
use serde_json::json;

use crate::{lines, resolve};

#[test]
fn the_built_in_models_are_there_and_cost_what_they_did() {
    let catalogue = Catalogue::built_in();
    let ids: Vec<_> = catalogue.all().iter().map(|model| model.id.as_str()).collect();
    assert_eq!(ids, ["local-sketch", "local-still"]);
    let sketch = catalogue.find("").unwrap();
    assert_eq!(sketch.default_terms().quote().total.get(), 50_000);
    assert_eq!((sketch.prompt_characters(), sketch.max_media(Role::Reference)), (2_000, 4));
    assert_eq!(catalogue.find("models/local-still").unwrap().default_terms().quote().total.get(), 10_000);
    assert!(catalogue.find("local-sketch").is_none());
}

#[test]
fn an_entry_changes_only_what_it_says() {
    let text = "[[model]]\nid = \"local-still\"\nprovider = \"local\"\nprice_micros = 5\nprompt_characters = 3\n";
    let catalogue = Catalogue::parse(Format::Toml, text, &|_| Err("is not there".to_owned())).unwrap();
    let model = catalogue.find("models/local-still").unwrap();
    let mut input = model.sample().clone();
    let resolved = resolve(model, &input).unwrap();
    assert_eq!((resolved.terms.quote().total.get(), resolved.order.model.as_str()), (5, "local-still"));
    assert_eq!((&resolved.order.input["kind"], resolved.order.output_kinds[0]), (&json!("image"), MediaKind::Image));
    input.prompt = "four".to_owned();
    assert_eq!(lines(&resolve(model, &input).unwrap_err()), "input.prompt must be 1 to 3 characters");
}
