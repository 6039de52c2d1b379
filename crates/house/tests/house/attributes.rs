//! Every attribute of a span is named by a constant of `chassis::telemetry::attributes`, so that one file has the names of all.
//!
//! In a span's macro such a name stands in braces. Written out are only `otel.…`, which are no attributes but say what the span is,
//! and what the macro itself understands (`parent: …`).

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::sources::{below, crates, read};

/// Crates whose spans no operator sees: in no image.
const IN_NO_IMAGE: [&str; 5] = ["crates/dev", "crates/lab", "crates/provider-double", "crates/sim", "crates/testkit"];

/// The fields of spans in a source whose names are written out.
fn written_out(tokens: TokenStream, found: &mut Vec<String>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (at, token) in tokens.iter().enumerate() {
        let TokenTree::Group(group) = token else { continue };
        if at >= 2 && is_span_macro(&tokens[at - 2], &tokens[at - 1]) {
            let wrong = fields(group.stream()).into_iter().filter(|field| !is_allowed(field));
            found.extend(wrong.map(|field| field.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")));
        }
        written_out(group.stream(), found);
    }
}

fn is_span_macro(name: &TokenTree, bang: &TokenTree) -> bool {
    let is_span = |name: &str| name == "span" || name.ends_with("_span");
    matches!(name, TokenTree::Ident(name) if is_span(&name.to_string()))
        && matches!(bang, TokenTree::Punct(bang) if bang.as_char() == '!')
}

/// The arguments of a macro, each up to its comma, as its first two tokens.
fn fields(arguments: TokenStream) -> Vec<Vec<TokenTree>> {
    let arguments: Vec<TokenTree> = arguments.into_iter().collect();
    let is_comma = |token: &TokenTree| matches!(token, TokenTree::Punct(comma) if comma.as_char() == ',');
    arguments
        .split(is_comma)
        .filter(|field| !field.is_empty())
        .map(|field| field[..field.len().min(2)].to_vec())
        .collect()
}

fn is_allowed(field: &[TokenTree]) -> bool {
    match &field[0] {
        TokenTree::Group(braced) => braced.delimiter() == Delimiter::Brace,
        TokenTree::Literal(_) => true,
        TokenTree::Ident(name) if name == "otel" => true,
        // `parent: …` and `target: …` are followed by a colon, a field by a dot or an equals sign.
        TokenTree::Ident(_) => matches!(field.get(1), Some(TokenTree::Punct(sign)) if sign.as_char() == ':'),
        TokenTree::Punct(_) => false,
    }
}

/// The first words of the fields that are written out in a source.
fn check(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    written_out(text.parse().expect("Rust"), &mut found);
    found
}

#[test]
fn spans_take_the_names_of_their_attributes_from_one_file() {
    let mut wrong = Vec::new();
    for directory in crates().iter().filter(|directory| !IN_NO_IMAGE.contains(&directory.as_str())) {
        for path in below(&format!("{directory}/src"), &[".rs"]) {
            let fields = check(&read(&path).expect("a file"));
            wrong.extend(fields.into_iter().map(|field| format!("{path}: {field}")));
        }
    }
    assert!(wrong.is_empty(), "attributes without a constant of chassis::telemetry::attributes:\n{}", wrong.join("\n"));
}

#[test]
fn a_name_that_is_written_out_is_found() {
    let right = r#"fn f() { info_span!(parent: None, "work", otel.kind = "client", { attributes::JOB } = %job, { A } = Empty,) }"#;
    assert_eq!(check(right), Vec::<String>::new());
    let wrong = r#"mod m { fn f() { g(tracing::info_span!("work", rushes.job = %job, reports = 3, %job, job)); } }"#;
    assert_eq!(check(wrong), ["rushes .", "reports =", "% job", "job"]);
}
