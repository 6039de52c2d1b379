//! What the README shows is what the catalogue takes, and what it lists as faults is what the catalogue says.

use rushes_catalogue::{Catalogue, Format};
use serde_json::json;

use crate::{lines, resolve};

const README: &str = include_str!("../../README.md");

#[test]
fn the_entry_of_the_readme_loads() {
    let (_, entry) = README.split_once("```toml\n").unwrap();
    let (entry, _) = entry.split_once("```").unwrap();
    let schema = json!({"type": "object", "required": ["prompt"], "properties": {
        "prompt": {"type": "string"},
        "seed": {"type": "integer"},
        "duration": {"enum": ["5", "10"], "default": "5"},
        "aspect_ratio": {"enum": ["16:9", "9:16"], "default": "16:9"},
        "mode": {"enum": ["standard", "pro"], "default": "standard"},
        "generate_audio": {"type": "boolean", "default": true},
        "image_url": {"type": "string"},
        "elements": {"type": "array", "items": {"type": "object", "properties": {"image_url": {"type": "string"}}}},
        "sync_mode": {"type": "boolean"},
        "queue": {"enum": ["fast", "slow"]},
    }});
    let read = |path: &str| {
        assert_eq!(path, "schemas/acme-film.json");
        Ok(schema.to_string())
    };
    let catalogue = Catalogue::parse(Format::Toml, entry, &read).unwrap_or_else(|faults| panic!("{}", lines(&faults)));
    let model = catalogue.find("models/acme-film").unwrap();
    let mut input = model.sample().clone();
    assert_eq!(resolve(model, &input).unwrap().terms.quote().total.get(), 840_000);
    input.settings.resolution = Some("1080p".to_owned());
    assert_eq!(resolve(model, &input).unwrap().terms.quote().total.get(), 1_260_000);
    input.settings.length = Some(rushes_catalogue::Length::Milliseconds(10_000));
    assert_eq!(lines(&resolve(model, &input).unwrap_err()), "input.settings.duration must be 5 seconds at 1080p");
}

/// Each part of a sentence, between what differs, is in the source.
#[test]
fn every_fault_of_the_readme_is_one_of_the_source() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut source = String::new();
    let mut folders = vec![folder];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                source.push_str(&std::fs::read_to_string(path).unwrap().replace("\\\"", "\""));
            }
        }
    }
    let (_, table) = README.split_once("## Faults").unwrap();
    let (mut parts, mut missing) = (0, Vec::new());
    for row in table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| field")) {
        let sentences = row.rsplit('|').nth(1).unwrap().replace("\\`", "`").replace("\\*", "✱");
        // What stands between asterisks is one of many; of the rest three words or more are the source's own.
        for part in sentences.split(';').flat_map(|sentence| sentence.split('*').step_by(2)) {
            let part = part.trim().trim_start_matches("`.field` ").replace('✱', "*");
            if part.split_whitespace().count() >= 3 && !NUMBERS.contains(&part.as_str()) {
                parts += 1;
                if !source.contains(&part) {
                    missing.push(part);
                }
            }
        }
    }
    assert!(missing.is_empty(), "said nowhere: {missing:#?}");
    assert!(parts > 60, "{parts}");
}

/// Sentences whose numbers are constants of the source.
const NUMBERS: [&str; 4] = [
    "must be 1 to 20",
    "must be 0 to 1000000000000000",
    "must be 1 to 20000 (2000 without a schema)",
    "must be at most 50 texts of 4 to 200 characters, without spaces around them",
];
