//! The rules of the workspace that a compiler does not hold: which crate may use which, and that every file says what lives
//! in it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Each crate and the crates of ours that it may depend on; the table of `docs/architecture.md`.
const MAY_USE: [(&str, &[&str]); 23] = [
    ("rushes-proto", &[]),
    ("rushes-domain", &[]),
    ("rushes-catalogue", &["rushes-domain"]),
    ("rushes-chassis", &[]),
    ("rushes-schema", &[]),
    ("rushes-coherence", &[]),
    ("rushes-sim", &["rushes-coherence"]),
    ("rushes-cache", &["rushes-chassis", "rushes-coherence"]),
    ("rushes-jobs", &["rushes-chassis"]),
    ("gateway", &["rushes-proto", "rushes-domain", "rushes-chassis", "rushes-cache"]),
    ("dashboard", &["rushes-proto", "rushes-domain", "rushes-chassis", "rushes-cache", "rushes-jobs"]),
    (
        "generation-status",
        &["rushes-proto", "rushes-domain", "rushes-catalogue", "rushes-chassis", "rushes-cache", "rushes-jobs"],
    ),
    ("thumbnail-worker", &["rushes-proto", "rushes-domain", "rushes-chassis", "rushes-jobs"]),
    ("generation-worker", &["rushes-proto", "rushes-domain", "rushes-chassis"]),
    ("provider-double", &[]),
    ("rushes-spans", &[]),
    ("rushes-testkit", &["rushes-proto", "rushes-chassis", "rushes-schema", "rushes-spans"]),
    ("rushes-cli", &["rushes-proto", "rushes-catalogue", "rushes-chassis", "rushes-schema", "rushes-spans"]),
    (
        "rushes-lab",
        &["rushes-proto", "rushes-chassis", "rushes-testkit", "rushes-sim", "provider-double", "rushes-cli"],
    ),
    (
        "rushes-fuzz",
        &[
            "rushes-domain",
            "rushes-catalogue",
            "rushes-chassis",
            "thumbnail-worker",
            "generation-status",
            "generation-worker",
        ],
    ),
    ("rushes-house", &[]),
    ("rushes-launch", &[]),
    (
        "rushes-dev",
        &["rushes-proto", "rushes-chassis", "rushes-schema", "rushes-testkit", "rushes-cli", "rushes-launch"],
    ),
];

/// What anyone may use in tests.
const IN_TESTS: [&str; 5] = ["rushes-testkit", "rushes-schema", "rushes-proto", "rushes-sim", "provider-double"];

/// What one crate may use in its tests besides: the test of a warm read's allocations has all hops in its own process.
const IN_TESTS_OF: (&str, [&str; 3]) = ("rushes-dev", ["dashboard", "gateway", "generation-status"]);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

#[test]
fn crates_use_only_what_the_table_allows() {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let table: BTreeMap<_, _> = MAY_USE.into_iter().collect();
    let packages = metadata["packages"].as_array().unwrap();
    let names: BTreeSet<_> = packages.iter().map(|p| p["name"].as_str().unwrap()).collect();
    assert_eq!(names, table.keys().copied().collect(), "the table names every crate, and no other");
    for package in packages {
        let name = package["name"].as_str().unwrap();
        // By the workspace's resolver what a test turns on is on in what ships.
        assert_eq!(package["features"], serde_json::json!({}), "{name} has features");
        for dependency in package["dependencies"].as_array().unwrap() {
            let used = dependency["name"].as_str().unwrap();
            if !names.contains(used) {
                continue;
            }
            let in_its_tests = name == IN_TESTS_OF.0 && IN_TESTS_OF.1.contains(&used);
            let in_tests = dependency["kind"] == "dev" && (IN_TESTS.contains(&used) || in_its_tests);
            assert!(in_tests || table[name].contains(&used), "{name} may not use {used}");
        }
    }
}

#[test]
fn the_documentation_shows_the_same_table() {
    let text = std::fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    for (name, uses) in MAY_USE {
        let short = name.trim_start_matches("rushes-");
        let row = text.lines().find(|line| line.starts_with(&format!("| `{short}` |")));
        let row = row.unwrap_or_else(|| panic!("docs/architecture.md has no row for {short}"));
        let said: BTreeSet<_> = row.rsplit('|').nth(1).unwrap().split('`').skip(1).step_by(2).collect();
        let may: BTreeSet<_> = uses.iter().map(|used| used.trim_start_matches("rushes-")).collect();
        assert_eq!(said, may, "{short}");
    }
}

#[test]
fn every_file_says_what_lives_in_it_and_is_small() {
    let mut folders = vec![root().join("crates")];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                assert!(text.starts_with("//! "), "{} does not open with //!", path.display());
                assert!(text.lines().count() <= 500, "{} is longer than 500 lines", path.display());
                let name = path.file_stem().unwrap().to_str().unwrap();
                assert!(!["util", "utils", "helpers", "common", "misc", "mod"].contains(&name), "{}", path.display());
                files += 1;
            }
        }
    }
    assert!(files > 50);
}

/// A test is named there as `crate::file::test`, in backticks: a file below `tests/it`, or `src/file`.
#[test]
fn every_test_that_the_degradation_table_names_exists() {
    let text = std::fs::read_to_string(root().join("docs/degradation.md")).unwrap();
    let named: Vec<Vec<_>> = text
        .split('`')
        .skip(1)
        .step_by(2)
        .map(|code| code.split("::").collect())
        .filter(|path: &Vec<_>| path.len() == 3)
        .collect();
    assert!(named.len() >= 100, "only {} tests are named", named.len());
    for test in named {
        let folder = if test[1].starts_with("src/") { "" } else { "tests/it/" };
        let path = root().join(format!("crates/{}/{folder}{}.rs", test[0], test[1]));
        let source = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let lines: Vec<_> = source.lines().collect();
        let at = lines.iter().position(|line| line.contains(&format!("fn {}(", test[2])));
        let at = at.unwrap_or_else(|| panic!("{} has no {}", path.display(), test[2]));
        assert!(at > 0 && lines[at - 1].contains("test"), "{} is not a test", test.join("::"));
    }
    for row in text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| What")) {
        assert!(row.matches("::").count() >= 2, "a row names no test: {row}");
    }
}

/// The laboratory's runs are trusted because they find these; after a change of what a patch touches it is made anew.
#[test]
fn every_planted_defect_says_what_it_is_and_still_applies() {
    let mut patches = 0;
    for entry in std::fs::read_dir(root().join("crates/lab/defects")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let intent = text.split("diff --git").next().unwrap();
        assert!(text.starts_with("Defect: "), "{} does not say what it breaks", path.display());
        for part in ["To redo: ", "Found by: "] {
            assert!(intent.lines().any(|line| line.starts_with(part)), "{} has no line `{part}`", path.display());
        }
        let applies = Command::new("git").args(["apply", "--check"]).arg(&path).current_dir(root()).output().unwrap();
        assert!(applies.status.success(), "{}", String::from_utf8_lossy(&applies.stderr));
        patches += 1;
    }
    assert!(patches > 0);
}
