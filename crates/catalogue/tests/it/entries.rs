//! What an entry may say, and what is said of one that is wrong.

use rushes_catalogue::{Catalogue, Kind, Role};

use crate::{examples, resolve};

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
fn the_entries_of_real_models_load() {
    let catalogue = examples();
    for (id, micros) in [
        ("kling-v3-pro-i2v", 840_000),
        ("veo-3.1-i2v", 3_200_000),
        // 15 s at 24 a second and one frame, of the largest shape, which is 4:3.
        ("seedance-2.0-i2v", 4_577_266),
        ("wan-2.7-i2v", 750_000),
        ("ltx-2.3-i2v", 360_000),
        ("flux-2-pro", 30_000),
        ("replicate-veo-3.1", 3_200_000),
        ("replicate-kling-v3", 1_260_000),
    ] {
        let model = catalogue.by_id(id).unwrap_or_else(|| panic!("no {id}"));
        let resolved = resolve(model, model.sample()).unwrap();
        assert_eq!(resolved.terms.quote().total.get(), micros, "{id}: {:?}", resolved.order.input);
    }
    assert_eq!(catalogue.by_id("flux-2-pro").unwrap().kind, Kind::TextToImage);
}
