//! Every target over its corpus, and then over mutations of it, with stable Rust and no tool.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fuzz::TARGETS;

/// The files that pictures and videos begin from besides their own corpus.
const FIXTURES: &str = "../thumbnail-worker/tests/fixtures";

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn names_in(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let mut folders = vec![folder("corpus").join(target)];
    if ["pictures", "videos", "media"].contains(&target) {
        folders.push(folder(FIXTURES));
    }
    let mut files: Vec<_> = folders
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files.into_iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// A file with some bytes changed, taken out, doubled, cut off, or taken from another.
fn mutated(random: &mut fastrand::Rng, file: &[u8], other: &[u8]) -> Vec<u8> {
    let mut file = file.to_vec();
    for _ in 0..=random.usize(..6) {
        // Most near the beginning, where sizes and counts are.
        let reach = if random.u8(..3) == 0 { file.len() } else { file.len().min(600) };
        let at = random.usize(..=reach);
        let end = (at + random.usize(..=24)).min(file.len());
        match random.u8(..7) {
            0 if at < file.len() => file[at] ^= 1 << random.u8(..8),
            1 if at < file.len() => file[at] = random.u8(..),
            2 => file[at..end].fill(0xFF),
            3 => drop(file.drain(at..end)),
            4 => {
                let part = file[at..end].to_vec();
                file.splice(at..at, part);
            }
            5 if !other.is_empty() => {
                let from = random.usize(..other.len());
                let part = &other[from..(from + random.usize(..=64)).min(other.len())];
                file.splice(at..end, part.iter().copied());
            }
            6 if random.u8(..4) == 0 => file.truncate(at),
            _ => {}
        }
    }
    file
}

/// A target over its corpus, and then over mutations of it until its time is over.
fn replay(name: &str) {
    let seconds = std::env::var_os("RUSHES_FUZZ_SECONDS").and_then(|text| text.to_str()?.parse().ok()).unwrap_or(2.0);
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let (target, corpus) = (fuzz::find(name).unwrap(), corpus(name));
    assert!(!corpus.is_empty(), "{name} has no corpus");
    let try_one = |what: String, bytes: &[u8]| {
        let outcome = catch_unwind(AssertUnwindSafe(|| target(bytes)));
        assert!(
            outcome.is_ok(),
            "{name}: {what} breaks it: {}",
            String::from_utf8_lossy(&bytes[..bytes.len().min(400)])
        );
    };
    for (number, file) in corpus.iter().enumerate() {
        try_one(format!("file {number} of its corpus"), file);
    }
    let mut seed = 0;
    while Instant::now() < until {
        let mut random = fastrand::Rng::with_seed(seed);
        let (file, other) = (&corpus[random.usize(..corpus.len())], &corpus[random.usize(..corpus.len())]);
        let bytes = mutated(&mut random, file, other);
        try_one(format!("mutation {seed}"), &bytes);
        seed += 1;
    }
    println!("{name}: {} files and {seed} mutations", corpus.len());
}

macro_rules! replayed {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                replay(stringify!($name));
            }
        )*

        const REPLAYED: &[&str] = &[$(stringify!($name)),*];
    };
}

replayed! {
    pictures videos media page_tokens resume_tokens identities webhook_signatures grpc_frames grpc_web names catalogue schemas
}

#[test]
fn a_targets_name_is_that_of_its_corpus_and_of_its_program() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(REPLAYED.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>(), targets);
    assert_eq!(names_in(&folder("corpus")), targets);
    assert_eq!(names_in(&folder("libfuzzer/targets")), targets);
    let manifest = std::fs::read_to_string(folder("libfuzzer/Cargo.toml")).unwrap();
    for target in targets {
        assert!(manifest.contains(&format!("name = \"{target}\"")), "libfuzzer/Cargo.toml has no {target}");
    }
}
