//! The models that every installation has.

use rushes_catalogue::{Catalogue, Role};

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
