//! The files that each service has, and what stands in those that are alike.

use std::collections::BTreeSet;

use syn::Item;

use super::{assert_none, methods};
use crate::sources;

/// The deployables.
pub(super) const SERVICES: [&str; 5] =
    ["gateway", "dashboard", "generation-status", "generation-worker", "thumbnail-worker"];

/// The parts of a service, each a file of this name or a directory of it.
const PARTS: [&str; 11] =
    ["main", "lib", "config", "service", "error", "model", "grpc", "cache", "store", "events", "crash_points"];

/// The parts that a service has no use for, and why.
const ABSENT: &[(&str, &str, &str)] = &[
    ("gateway", "grpc", "it forwards the bytes of every call; the one service that it answers is limit_service.rs"),
    ("gateway", "cache", "it keeps nothing but whose a key is, in keys.rs"),
    ("gateway", "store", "it has no database: keys come from the dashboard"),
    ("gateway", "crash_points", "it does nothing that could be left half done"),
    ("dashboard", "crash_points", "each of its writes is one transaction"),
    ("generation-worker", "cache", "it reads nothing twice"),
    ("generation-worker", "store", "it has no database: leases and results go through generation-status"),
    ("thumbnail-worker", "cache", "a thumbnail is found by its key; what it reads of the database is read once"),
    ("thumbnail-worker", "crash_points", "its job is repeated as a whole"),
];

/// What the parts that are alike declare: the file, the type, and its methods.
const DECLARE: &[(&str, &str, &[&str])] = &[
    ("config", "Config", &["read"]),
    ("service", "Service", &["open", "bind"]),
    ("service", "Bound", &["addr", "admin_addr", "serve"]),
    ("error", "Error", &[]),
];

/// What one service's files lack of the shape; `files` are the paths below its `src`.
fn faults(service: &str, files: &BTreeSet<String>, read: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
    let mut faults = Vec::new();
    for part in PARTS {
        let there = files.contains(&format!("{part}.rs"));
        let absent = ABSENT.iter().find(|(of, what, _)| *of == service && *what == part);
        if let (true, Some((.., reason))) = (there, absent) {
            faults.push(format!("{service} has {part}.rs, and the table says: {reason}"));
        } else if !there && absent.is_none() {
            faults.push(format!("{service} has no {part}.rs, and the table of absent parts no reason for that"));
        }
    }
    for file in files.iter().filter(|file| file.ends_with("/mod.rs")) {
        faults.push(format!("{service} has {file}; a module's file stands beside its directory"));
    }
    for (part, of, wanted) in DECLARE {
        let Some(text) = read(&format!("{part}.rs")) else { continue };
        let (declared, found) = methods(&text, of);
        if !declared {
            faults.push(format!("{service}'s {part}.rs does not declare {of}"));
        }
        for method in wanted.iter().filter(|method| !found.contains(**method)) {
            faults.push(format!("{service}'s {part}.rs has no {of}::{method}"));
        }
    }
    faults.extend(read("lib.rs").iter().flat_map(|text| not_contents(service, text)));
    faults
}

/// A library's root is a table of contents.
fn not_contents(service: &str, text: &str) -> Option<String> {
    let items = syn::parse_file(text).map(|file| file.items).unwrap_or_default();
    let contents = |item: &Item| match item {
        Item::Mod(module) => module.content.is_none(),
        Item::Use(_) => true,
        _ => false,
    };
    let other = items.iter().filter(|item| !contents(item)).count();
    (other > 0).then(|| format!("{service}'s lib.rs has {other} items that are neither `mod` nor `use`"))
}

/// A service's `main.rs` with its own name and its crash points taken out, and without its first lines, which say what it is.
fn without_name(service: &str, text: &str) -> String {
    let text = text.replace(service, "SERVICE").replace(&service.replace('-', "_"), "SERVICE");
    let text = text.replace(", crash_points};", "};").replace("crash_points::ALL", "&[]");
    text.lines().skip_while(|line| line.starts_with("//!")).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_service_has_the_same_parts() {
    let mut found = Vec::new();
    for service in SERVICES {
        let directory = format!("crates/{service}/src");
        let files = sources::below(&directory, &[".rs"]);
        let files =
            files.iter().filter_map(|file| file.strip_prefix(&format!("{directory}/"))).map(str::to_owned).collect();
        found.extend(faults(service, &files, &|file| sources::read(&format!("{directory}/{file}"))));
    }
    assert_none(&found, "services have one shape");
}

#[test]
fn main_is_the_same_in_every_service() {
    // The thumbnail-worker's process is its decoders' as well.
    let alike = SERVICES.into_iter().filter(|service| *service != "thumbnail-worker").collect::<Vec<_>>();
    let mains = alike
        .iter()
        .map(|service| {
            let text = sources::read(&format!("crates/{service}/src/main.rs")).expect("a service's main");
            without_name(service, &text)
        })
        .collect::<Vec<_>>();
    for (service, main) in alike.iter().zip(&mains) {
        let differ = main.lines().zip(mains[0].lines()).find(|(this, first)| this != first);
        assert!(*main == mains[0], "{service}'s main.rs is not that of {}: {differ:?}", alike[0]);
    }
}

#[test]
fn what_is_missing_or_too_much_is_found() {
    let good = |file: &str| {
        Some(match file {
            "config.rs" => "pub struct Config; impl Config { pub fn read() {} }",
            "service.rs" => {
                "pub struct Service; impl Service { pub fn open() {} pub fn bind() {} }
                 pub struct Bound; impl Bound { fn addr() {} fn admin_addr() {} async fn serve() {} }"
            }
            "error.rs" => "pub enum Error {}",
            "lib.rs" => "mod config; pub use config::Config;",
            _ => return None,
        })
    };
    let read = |file: &str| good(file).map(str::to_owned);
    let files: BTreeSet<_> =
        PARTS.iter().filter(|part| **part != "crash_points").map(|part| format!("{part}.rs")).collect();
    assert_eq!(faults("dashboard", &files, &read), Vec::<String>::new());

    let mut without = files.clone();
    without.remove("store.rs");
    assert_eq!(faults("dashboard", &without, &read).len(), 1);
    let mut with = files.clone();
    with.extend(["crash_points.rs".to_owned(), "store/mod.rs".to_owned()]);
    assert_eq!(faults("dashboard", &with, &read).len(), 2);

    let no_serve =
        |file: &str| read(file).map(|text| text.replace("serve", "run").replace("enum Error", "enum Failure"));
    assert_eq!(faults("dashboard", &files, &no_serve).len(), 2);
    let drawer = |file: &str| if file == "lib.rs" { Some("mod config; fn build() {}".to_owned()) } else { read(file) };
    assert_eq!(faults("dashboard", &files, &drawer).len(), 1);
}

#[test]
fn mains_differ_in_their_name_alone() {
    let main = |name: &str| {
        format!("//! The {name}.\nuse {}::Service;\nfn main() {{ run(\"{name}\") }}", name.replace('-', "_"))
    };
    assert_eq!(without_name("gateway", &main("gateway")), without_name("thumbnail-worker", &main("thumbnail-worker")));
    assert_ne!(without_name("gateway", &main("gateway")), without_name("gateway", &main("dashboard")));
}
