//! The workspace's files as the rules see them: paths from the root with `/`, in order, whatever machine reads them.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// The directory of the workspace, or of another checkout of it when `HOUSE_ROOT` names one.
pub(crate) fn root() -> PathBuf {
    let root =
        env::var_os("HOUSE_ROOT").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."), PathBuf::from);
    root.canonicalize().expect("the workspace's directory")
}

/// The text of a file of the workspace; nothing when there is no such file.
pub(crate) fn read(path: &str) -> Option<String> {
    fs::read_to_string(root().join(path)).ok()
}

/// The directories of our crates, `crates/cache` and so on.
pub(crate) fn crates() -> Vec<String> {
    let mut crates: Vec<_> =
        entries("crates").into_iter().filter(|path| is_file(&format!("{path}/Cargo.toml"))).collect();
    crates.sort();
    crates
}

/// Every file below a directory of the workspace, at any depth, with one of these endings.
pub(crate) fn below(directory: &str, endings: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for path in entries(directory) {
        if root().join(&path).is_dir() {
            found.extend(below(&path, endings));
        } else if endings.iter().any(|ending| path.ends_with(ending)) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Whether the workspace has this file.
pub(crate) fn is_file(path: &str) -> bool {
    root().join(path).is_file()
}

/// The Rust files of a crate: what it ships, its tests and its examples.
pub(crate) fn of_crate(directory: &str) -> Vec<String> {
    ["src", "tests", "examples", "benches"]
        .iter()
        .flat_map(|part| below(&format!("{directory}/{part}"), &[".rs"]))
        .collect()
}

fn entries(directory: &str) -> Vec<String> {
    let Ok(read) = fs::read_dir(root().join(directory)) else { return Vec::new() };
    read.map(|entry| {
        let name = entry.expect("a directory's entry").file_name();
        format!("{directory}/{}", name.to_str().expect("a name in UTF-8"))
    })
    .collect()
}

/// Every file that is part of the project: what the crates, the protos, the migrations, the deployment and the documentation
/// have, and what lies at the root.
pub(crate) fn all() -> Vec<String> {
    let mut files: Vec<_> = ["crates", "proto", "migrations", "deploy", "docs", ".ci", ".cargo"]
        .iter()
        .flat_map(|directory| below(directory, &[""]))
        .collect();
    let root = fs::read_dir(root()).expect("the workspace's directory");
    let names = root.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    files.extend(names.filter(|name| is_file(name) && name != "Cargo.lock"));
    files.sort();
    files
}
