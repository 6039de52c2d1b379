//! Every document of the shared data, from what was published to an order.

use domain::provider::Provider;
use rushes_catalogue::Document;

use crate::shared;

/// How many documents there are.
const DOCUMENTS: usize = 252;

#[test]
fn every_document_normalises_and_compiles() {
    let Some(published) = shared::fal() else { return };
    assert_eq!(published.len(), DOCUMENTS);
    let mut gaps = Vec::new();
    for one in &published {
        let document =
            Document::read(Provider::Fal, &one.entry, None).unwrap_or_else(|error| panic!("{}: {error}", one.id));
        assert_eq!(document.model, one.id);
        jsonschema::validator_for(&document.schema()).unwrap_or_else(|error| panic!("{}: {error}", one.id));
        assert!(document.output.is_some(), "{}", one.id);
        gaps.extend(document.gaps.iter().map(|gap| format!("{}: {gap}", one.id)));
    }
    println!("{} documents; {} gaps:\n{}", published.len(), gaps.len(), gaps.join("\n"));
}
