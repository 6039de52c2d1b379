//! What cargo compiles, and with which features: for this program, for the services that it runs, for the tests, for the image.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// Features that packages of others have in the tests' build besides the image's, since a test asks for them. None of our own
/// packages may be here: a service under test is then the one that ships.
const FURTHER_IN_TESTS: [(&str, &[&str]); 8] = [
    ("byteorder", &["default"]),
    ("linux-raw-sys", &["prctl"]),
    // re_mp4, by which tests read videos, asks for them.
    ("num-rational", &["default", "serde"]),
    ("num-traits", &["i128"]),
    ("proc-macro2", &["span-locations"]),
    ("rustix", &["process"]),
    ("syn", &["visit"]),
    // Lets a test stop its own clock; nothing that ships asks for it.
    ("tokio", &["test-util"]),
];

/// The packages that cargo compiles for a selection of packages, each with the sets of features that it is compiled with.
fn compiled(edges: &str, selection: &[String]) -> BTreeMap<String, BTreeSet<String>> {
    let mut command = launch::cargo();
    command.args(["tree", "--locked", "--edges", edges, "--prefix", "none", "--format", "{p}|{f}"]).args(selection);
    // What the caller's environment says of features is not how the image is built.
    for name in ["CARGO_RESOLVER_FEATURE_UNIFICATION", "CARGO_UNSTABLE_FEATURE_UNIFICATION"] {
        command.env_remove(name);
    }
    let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut compiled = BTreeMap::<String, BTreeSet<String>>::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        // A blank line stands between the trees of two packages.
        let Some((package, features)) = line.trim_end_matches(" (*)").split_once('|') else { continue };
        compiled.entry(package.to_owned()).or_default().insert(features.to_owned());
    }
    compiled
}

fn packages(names: &[&str]) -> Vec<String> {
    names.iter().flat_map(|name| ["--package".to_owned(), (*name).to_owned()]).collect()
}

/// Each package with all of its features together.
fn features(edges: &str, selection: &[String]) -> BTreeMap<String, BTreeSet<String>> {
    let split = |sets: BTreeSet<String>| {
        sets.iter().flat_map(|set| set.split(',')).filter(|one| !one.is_empty()).map(str::to_owned).collect()
    };
    compiled(edges, selection).into_iter().map(|(package, sets)| (package, split(sets))).collect()
}

/// The packages that the image is built of, as the Dockerfile names them.
fn image() -> Vec<String> {
    let dockerfile = include_str!("../../../../../deploy/Dockerfile");
    let command = dockerfile.split("cargo build").nth(1).unwrap().split("&&").next().unwrap();
    assert!(!command.contains("--features") && !command.contains("--all-features"), "{command}");
    let words: Vec<_> = command.split_whitespace().filter(|word| *word != "\\").collect();
    words.windows(2).filter(|pair| pair[0] == "--package").map(|pair| pair[1].to_owned()).collect()
}

/// `up`, torture, the crash-point run and nemesis run services that the launcher built with this program, or [`services`] without it; the
/// tests build them with the whole workspace.
#[test]
fn the_services_that_run_here_have_the_features_of_the_image() {
    let named = image();
    let named: Vec<_> = named.iter().map(String::as_str).collect();
    assert!(SERVICES.iter().all(|service| named.contains(service)), "{named:?}");
    let image = features("normal,build", &packages(&named));
    let alone = features("normal,build", &packages(&SERVICES));
    let run = features("normal,build", &packages(&launch::packages(&["up".to_owned()])));
    let tested = features("normal,build,dev", &["--workspace".to_owned()]);
    let none = BTreeSet::new();
    let mut wrong = Vec::new();
    for package in alone.keys() {
        let (ours, ships) = (&run[package], image.get(package).unwrap_or(&none));
        if alone[package] != *ours {
            wrong.push(format!("{package} is built with {ours:?} by the launcher and with {:?} else", alone[package]));
        }
        if ours != ships {
            wrong.push(format!("{package} runs with {ours:?} and ships with {ships:?}"));
        }
        let name = package.split(' ').next().unwrap_or_default();
        let further = FURTHER_IN_TESTS.iter().find(|(known, _)| *known == name).map_or(&[][..], |(_, further)| further);
        let tested = tested.get(package).unwrap_or(&none);
        let more: Vec<_> = tested.difference(ships).filter(|feature| !further.contains(&feature.as_str())).collect();
        if !more.is_empty() || !tested.is_superset(ships) {
            wrong.push(format!("{package} is tested with {tested:?} and ships with {ships:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(
        alone.keys().any(|package| package.starts_with("rushes-coherence ")),
        "the services have the coherent cache"
    );
}

/// Else the first `cargo rushes up` compiles ring, sqlx, tonic and what depends on them twice.
#[test]
fn what_this_program_and_the_services_share_is_compiled_once() {
    let ours = compiled("normal,build", &packages(&["rushes-dev"]));
    let twice: Vec<String> = compiled("normal,build", &packages(&SERVICES))
        .iter()
        .filter_map(|(package, features)| {
            let known = ours.get(package)?;
            (!features.is_subset(known)).then(|| format!("{package}: {features:?}, here {known:?}"))
        })
        .collect();
    assert!(twice.is_empty(), "give crates/dev/Cargo.toml the features that the services want:\n{}", twice.join("\n"));
}
