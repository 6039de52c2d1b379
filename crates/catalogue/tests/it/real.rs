//! The same for the documents that a provider publishes, where they are at hand: `../shared/data/fal`, beside the repository.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;

use fastrand::Rng;
use flate2::read::GzDecoder;
use rushes_catalogue::{Catalogue, Format, Role};
use serde_json::{Value, json};

use crate::properties::{assert_in_order, assert_reachable, assert_refuses};
use crate::{lines, random, resolve};

/// The documents, if they are there.
fn documents() -> Option<Vec<Value>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folders = [folder.join("../shared/data/fal"), folder.join("../../shared/data/fal")];
    let folder = folders.into_iter().find(|folder| folder.is_dir())?;
    let mut all = Vec::new();
    for name in ["image-to-video.json.gz", "text-to-video.json.gz"] {
        let mut text = String::new();
        let file = std::fs::File::open(folder.join(name)).unwrap();
        GzDecoder::new(file).read_to_string(&mut text).unwrap();
        let mut document: Value = serde_json::from_str(&text).unwrap();
        all.append(document["models"].as_array_mut().unwrap());
    }
    Some(all)
}

/// The input's schema with what it refers to beside it.
fn schema(document: &Value) -> Option<Value> {
    let text =
        document.pointer("/openapi/components/schemas")?.to_string().replace("#/components/schemas/", "#/$defs/");
    let all: BTreeMap<String, Value> = serde_json::from_str(&text).unwrap();
    let (_, input) = all.iter().find(|(name, schema)| name.ends_with("Input") && schema["properties"].is_object())?;
    let mut input = input.clone();
    input["$defs"] = json!(all);
    Some(input)
}

/// An entry that maps what is called as everybody calls it.
fn entry(id: usize, schema: &Value) -> Value {
    let properties = schema["properties"].as_object().unwrap();
    let has = |name: &&&str| properties.contains_key(**name);
    let mut map = serde_json::Map::new();
    for (ours, theirs) in [
        ("prompt", &["prompt"][..]),
        ("negative_prompt", &["negative_prompt"]),
        ("seed", &["seed"]),
        ("aspect_ratio", &["aspect_ratio"]),
        ("resolution", &["resolution"]),
        ("size", &["video_size", "image_size"]),
        ("audio", &["generate_audio"]),
        ("fps", &["fps", "frames_per_second", "frame_rate"]),
    ] {
        if let Some(theirs) = theirs.iter().find(has) {
            map.insert(ours.to_owned(), json!(theirs));
        }
    }
    if has(&&"duration") {
        map.insert("duration".to_owned(), json!("duration"));
    } else if has(&&"num_frames") {
        let rate = if map.contains_key("fps") { Value::Null } else { json!(16) };
        map.insert("duration".to_owned(), json!({"to": "num_frames", "fps": rate}));
    }
    let mut media = Vec::new();
    for (role, names) in [
        (Role::FirstFrame, &["image_url", "start_image_url", "first_frame_url"][..]),
        (Role::LastFrame, &["end_image_url", "last_frame_url", "tail_image_url"]),
        (Role::Reference, &["image_urls", "reference_image_urls"]),
        (Role::Audio, &["audio_url"]),
        (Role::Source, &["video_url"]),
    ] {
        if let Some(name) = names.iter().find(has) {
            media.push(json!({"role": role, "to": name}));
        }
    }
    let price = json!([{"per": "generation", "rows": [{"credits": "1"}]}]);
    json!({"id": format!("m{id}"), "provider": "fal", "model": "a/b", "kind": "image-to-video", "schema": id.to_string(),
        "map": map, "media": media, "price": price})
}

#[test]
fn every_published_document_that_is_mapped_takes_what_it_says() {
    let Some(documents) = documents() else {
        println!("skipped: ../shared/data/fal is not there");
        return;
    };
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = Rng::with_seed(seed);
    let (documents, schemas): (Vec<&Value>, Vec<Value>) =
        documents.iter().filter_map(|document| Some((document, schema(document)?))).unzip();
    let read = |path: &str| Ok(schemas[path.parse::<usize>().unwrap()].to_string());
    let (mut loaded, mut orders, mut reached) = (0, 0, 0);
    for (n, schema) in schemas.iter().enumerate() {
        let file = json!({"models": [entry(n, schema)]}).to_string();
        let catalogue = match Catalogue::parse(Format::Json, &file, &read) {
            Ok(catalogue) => catalogue,
            Err(faults) => {
                println!("{}: {}", documents[n]["endpoint_id"], lines(&faults));
                continue;
            }
        };
        loaded += 1;
        let model = catalogue.by_id(&format!("m{n}")).unwrap();
        for _ in 0..10 {
            let input = random::input(model, &mut rng);
            let resolved = resolve(model, &input);
            let resolved = resolved.unwrap_or_else(|all| panic!("{}: {}", documents[n]["endpoint_id"], lines(&all)));
            assert_in_order(model, &input, &resolved);
            orders += 1;
        }
        reached += assert_reachable(model, &[]);
        assert_refuses(model, &mut rng);
    }
    println!("{loaded} of {} load; {orders} orders, {reached} values reached", schemas.len());
    assert!(loaded * 100 >= schemas.len() * 95);
}
