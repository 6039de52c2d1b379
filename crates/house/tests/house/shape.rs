//! Every service has the same shape, and every file says what is in it.
//!
//! A service's module is of a kind, by the name of its top: `grpc`, `store`, `model` and so on; what has no such name is a rule.

mod layers;
mod services;

use std::collections::BTreeSet;

use syn::{ImplItem, Item, Type};

use crate::sources;

/// No file that ships or tests is longer.
const MAX_LINES: usize = 500;

/// Nine files in ten are no longer than this.
const NINE_IN_TEN: usize = 420;

/// What a text lacks of a file of the house.
fn file_faults(path: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if !text.starts_with("//!") {
        faults.push(format!("{path} does not begin with `//!`: what is in it, and which invariant it keeps"));
    }
    let lines = text.lines().count();
    if lines > MAX_LINES {
        faults.push(format!("{path} has {lines} lines, and {MAX_LINES} is the limit"));
    }
    faults
}

/// The functions that a source gives to a type of this name, and whether it declares that type.
fn methods(text: &str, of: &str) -> (bool, BTreeSet<String>) {
    let mut declared = false;
    let mut methods = BTreeSet::new();
    for item in syn::parse_file(text).map(|file| file.items).unwrap_or_default() {
        match item {
            Item::Struct(item) => declared |= item.ident == of,
            Item::Enum(item) => declared |= item.ident == of,
            Item::Impl(block) if block.trait_.is_none() => {
                let Type::Path(name) = &*block.self_ty else { continue };
                if name.path.segments.last().is_some_and(|last| last.ident == of) {
                    methods.extend(block.items.iter().filter_map(|item| match item {
                        ImplItem::Fn(function) => Some(function.sig.ident.to_string()),
                        _ => None,
                    }));
                }
            }
            _ => {}
        }
    }
    (declared, methods)
}

fn assert_none(faults: &[String], rule: &str) {
    assert!(faults.is_empty(), "{rule}; {} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn every_file_says_what_is_in_it_and_is_short() {
    let files: Vec<_> = sources::crates().iter().flat_map(|directory| sources::of_crate(directory)).collect();
    let texts: Vec<_> = files.iter().map(|file| (file, sources::read(file).expect("a file that was listed"))).collect();
    let faults: Vec<_> = texts.iter().flat_map(|(file, text)| file_faults(file, text)).collect();
    assert_none(&faults, "a file begins with what is in it and has an end");
    let long = texts.iter().filter(|(_, text)| text.lines().count() > NINE_IN_TEN).count();
    assert!(long * 10 <= texts.len(), "{long} of {} files have more than {NINE_IN_TEN} lines", texts.len());
}

#[test]
fn a_file_without_its_line_or_its_end_is_found() {
    assert_eq!(file_faults("a.rs", "//! Good.\n"), Vec::<String>::new());
    assert_eq!(file_faults("a.rs", "// Not a doc comment.\n").len(), 1);
    assert_eq!(file_faults("a.rs", &format!("//! Long.\n{}", "\n".repeat(MAX_LINES))).len(), 1);
}

#[test]
fn the_methods_of_a_type_are_found() {
    let source =
        "pub struct Service; impl Service { pub fn open() {} } impl Drop for Service { fn drop(&mut self) {} }";
    assert_eq!(methods(source, "Service"), (true, BTreeSet::from(["open".to_owned()])));
    assert_eq!(methods(source, "Bound"), (false, BTreeSet::new()));
}
