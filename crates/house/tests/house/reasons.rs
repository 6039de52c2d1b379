//! Every reason that a caller may read stands in `docs/errors.md`, and the page names no other.
//!
//! A reason is a string in upper snake case in what the services ship. A string of that form which is no reason stands in
//! [`NOT_REASONS`] with what it is, so that a new one has to be one or the other.

use std::collections::{BTreeMap, BTreeSet};

use syn::visit::{self, Visit};

use crate::sources::{below, read};

/// The page.
const PAGE: &str = "docs/errors.md";

/// The crates whose words reach callers.
const CRATES: [&str; 8] =
    ["chassis", "dashboard", "domain", "gateway", "generation-status", "generation-worker", "jobs", "thumbnail-worker"];

/// Strings in upper snake case that no caller reads as a reason, and what they are.
const NOT_REASONS: &[(&str, &str)] = &[
    ("ALREADY_COMPLETED", "fal's answer to a cancel"),
    ("CARGO_PKG_NAME", "cargo's"),
    ("CARGO_PKG_VERSION", "cargo's"),
    ("IN_PROGRESS", "fal's state of an order"),
    ("IN_QUEUE", "fal's state of an order"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "OpenTelemetry's setting"),
    ("OTEL_TRACES_SAMPLER_ARG", "OpenTelemetry's setting"),
    ("OUTPUT_DELAYED", "a wait reason"),
    ("PROVIDER_UNAVAILABLE", "a wait reason"),
];

/// Names of gRPC's codes, which are no reasons of ours.
const CODES: [&str; 11] = [
    "ABORTED",
    "ALREADY_EXISTS",
    "CANCELLED",
    "DATA_LOSS",
    "FAILED_PRECONDITION",
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "OUT_OF_RANGE",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "UNIMPLEMENTED",
];

/// Whether a string has the form of a reason of more than one word.
fn is_reason(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_uppercase())
        && text.contains('_')
        && !text.ends_with('_')
        && !text.starts_with("RUSHES_")
        && text.chars().all(|char| char.is_ascii_uppercase() || char.is_ascii_digit() || char == '_')
}

/// The reasons among a source's strings, tests left out.
fn reasons_of(text: &str) -> Result<BTreeSet<String>, syn::Error> {
    struct Strings(BTreeSet<String>);
    impl<'ast> Visit<'ast> for Strings {
        fn visit_lit_str(&mut self, literal: &'ast syn::LitStr) {
            if is_reason(&literal.value()) {
                self.0.insert(literal.value());
            }
        }

        fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
            let test = |attribute: &syn::Attribute| {
                attribute.path().is_ident("cfg")
                    && attribute.meta.require_list().is_ok_and(|list| list.tokens.to_string() == "test")
            };
            if !module.attrs.iter().any(test) {
                visit::visit_item_mod(self, module);
            }
        }
    }
    let file = syn::parse_file(text)?;
    let mut strings = Strings(BTreeSet::new());
    strings.visit_file(&file);
    Ok(strings.0)
}

/// The reasons that a page lists: the first cell of each row, where that is a name in upper snake case in backquotes.
fn reasons_on(page: &str) -> BTreeSet<String> {
    let first = |line: &str| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned());
    page.lines()
        .filter_map(first)
        .filter(|name| name.chars().all(|char| char.is_ascii_uppercase() || "_0123456789".contains(char)))
        .collect()
}

/// The reasons in the code, with a file that has each.
fn in_the_code() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for file in CRATES.iter().flat_map(|name| below(&format!("crates/{name}/src"), &[".rs"])) {
        let text = read(&file).expect("a file that was just listed");
        for reason in reasons_of(&text).unwrap_or_else(|error| panic!("{file}: {error}")) {
            found.entry(reason).or_insert_with(|| file.clone());
        }
    }
    found.retain(|reason, _| !CODES.contains(&reason.as_str()) && !NOT_REASONS.iter().any(|(name, _)| name == reason));
    found
}

#[test]
fn every_reason_is_explained_and_no_other() {
    let page = reasons_on(&read(PAGE).expect("the page of errors"));
    let code = in_the_code();
    let unexplained: Vec<_> = code.iter().filter(|(reason, _)| !page.contains(*reason)).collect();
    // A reason of one word cannot be told from any other word in capitals, so the page may name one that is not found.
    let gone: Vec<_> = page.iter().filter(|reason| reason.contains('_') && !code.contains_key(*reason)).collect();
    assert!(unexplained.is_empty(), "say in {PAGE} when these come and what to do: {unexplained:#?}");
    assert!(gone.is_empty(), "{PAGE} explains what no service says any more: {gone:#?}");
}

#[test]
fn every_string_that_is_no_reason_is_still_in_the_code() {
    let files = CRATES.iter().flat_map(|name| below(&format!("crates/{name}/src"), &[".rs"]));
    let texts: String = files.filter_map(|file| read(&file)).collect();
    let gone: Vec<_> = NOT_REASONS.iter().filter(|(name, _)| !texts.contains(&format!("\"{name}\""))).collect();
    assert!(gone.is_empty(), "not needed any more: {gone:?}");
}

#[test]
fn reasons_are_found_in_code_and_not_in_tests() {
    let source = r#"
        fn f() { g("KEY_UNKNOWN", "key", "RUSHES_LOG", "A_", "Not_This") }
        #[cfg(test)] mod tests { fn t() { g("IN_A_TEST") } }
    "#;
    assert_eq!(reasons_of(source).unwrap(), BTreeSet::from(["KEY_UNKNOWN".to_owned()]));
}

#[test]
fn a_page_lists_what_begins_its_rows() {
    let page = "text `NOT_A_ROW`\n| reason | code |\n|---|---|\n| `KEY_UNKNOWN` | `UNAUTHENTICATED` |\n| `words` | |\n";
    assert_eq!(reasons_on(page), BTreeSet::from(["KEY_UNKNOWN".to_owned()]));
}
