//! Documents that providers published, which lie outside of this repository.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The files of fal's documents.
const FILES: [&str; 2] = ["fal/image-to-video.json.gz", "fal/text-to-video.json.gz"];

/// A document as fal published it, with the id of its model.
pub(crate) struct Published {
    pub(crate) id: String,
    pub(crate) entry: Value,
}

/// Where the data is: where the variable says, else beside the repository or above it.
fn folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("RUSHES_SHARED_DATA") {
        return folder.into();
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let root = root.canonicalize().unwrap_or(root);
    let mut above = root.ancestors().skip(1).take(3).map(|folder| folder.join("shared/data"));
    above.find(|folder| folder.is_dir()).unwrap_or_else(|| root.join("../shared/data"))
}

/// fal's documents: those that it has, without the models that it only names. `None` where the data is not there.
pub(crate) fn fal() -> Option<Vec<Published>> {
    let mut found = Vec::new();
    for file in FILES {
        let path = folder().join(file);
        let Ok(bytes) = std::fs::read(&path) else {
            eprintln!("SKIPPED: {} is not there; RUSHES_SHARED_DATA says where the documents are", path.display());
            return None;
        };
        let mut text = String::new();
        flate2::read::GzDecoder::new(bytes.as_slice()).read_to_string(&mut text).expect("a whole file");
        let mut list: Value = serde_json::from_str(&text).expect("JSON");
        for entry in list["models"].as_array_mut().expect("a list") {
            let id = entry["endpoint_id"].as_str().expect("an id").to_owned();
            if entry["openapi"].get("error").is_none() {
                found.push(Published { id, entry: entry.take() });
            }
        }
    }
    Some(found)
}
