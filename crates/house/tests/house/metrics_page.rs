//! `docs/metrics.md` is what the crates declare with `chassis::metrics!`, and no metric is recorded past a declaration.
//!
//! `RUSHES_WRITE_PAGES=1 cargo rushes test -p rushes-house metrics_page` writes the page anew.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::visit::{self, Visit};

use crate::sources::{below, crates, read, root};

/// The page.
const PAGE: &str = "docs/metrics.md";

const HEAD: &str = "\
# Metrics

What each process shows at `/metrics` of its admin port, in Prometheus's format. A series appears when it is first recorded. The
values of every label come from closed sets of Rushes' own, or from the operator's catalogue: nothing outside can choose one.

This page is made of the tables in the sources, and a test holds it to them.
";

/// One declared metric.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Declared {
    name: String,
    kind: String,
    unit: String,
    labels: Vec<String>,
    help: String,
}

/// The metrics that a source declares.
fn declared(text: &str) -> Result<Vec<Declared>, syn::Error> {
    struct Tables(Vec<Declared>);
    impl<'ast> Visit<'ast> for Tables {
        fn visit_macro(&mut self, call: &'ast syn::Macro) {
            let path: Vec<_> = call.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            if path == ["chassis", "metrics"] || path == ["crate", "metrics"] {
                self.0.extend(rows(call.tokens.clone()));
            }
            visit::visit_macro(self, call);
        }
    }
    let file = syn::parse_file(text)?;
    let mut tables = Tables(Vec::new());
    tables.visit_file(&file);
    Ok(tables.0)
}

/// The rows of one table: doc comments, then `STATIC = kind "name" in "unit" by ["label", …];`.
fn rows(tokens: TokenStream) -> Vec<Declared> {
    let mut found = Vec::new();
    let (mut help, mut words, mut labels) = (String::new(), Vec::new(), Vec::new());
    for token in tokens {
        match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket => {
                let inner = strings(group.stream());
                let doc = group.stream().into_iter().next().is_some_and(|first| first.to_string() == "doc");
                if doc { help.push_str(&inner.concat()) } else { labels = inner }
            }
            TokenTree::Punct(punct) if punct.as_char() == ';' => {
                if let [_, kind, name, _, unit, _] = words.as_slice() {
                    let [kind, name, unit]: [&String; 3] = [kind, name, unit];
                    found.push(Declared {
                        name: name.clone(),
                        kind: kind.clone(),
                        unit: unit.clone(),
                        labels: std::mem::take(&mut labels),
                        help: help.split_whitespace().collect::<Vec<_>>().join(" "),
                    });
                }
                words.clear();
                help.clear();
            }
            TokenTree::Ident(ident) => words.push(ident.to_string()),
            TokenTree::Literal(literal) => words.push(literal.to_string().trim_matches('"').to_owned()),
            _ => {}
        }
    }
    found
}

/// The strings among tokens.
fn strings(tokens: TokenStream) -> Vec<String> {
    let string = |token| match token {
        TokenTree::Literal(literal) => {
            syn::parse_str::<syn::LitStr>(&literal.to_string()).ok().map(|text| text.value())
        }
        _ => None,
    };
    tokens.into_iter().filter_map(string).collect()
}

/// The metrics of a crate's shipped sources.
fn of_crate(directory: &str) -> Vec<Declared> {
    let mut found = Vec::new();
    for file in below(&format!("{directory}/src"), &[".rs"]) {
        let text = read(&file).expect("a file that was just listed");
        found.extend(declared(&text).unwrap_or_else(|error| panic!("{file}: {error}")));
    }
    found.sort();
    found
}

fn page() -> String {
    let mut page = HEAD.to_owned();
    for directory in crates() {
        let metrics = of_crate(&directory);
        if metrics.is_empty() {
            continue;
        }
        let name = directory.trim_start_matches("crates/");
        page.push_str(&format!(
            "\n## {name}\n\n| metric | kind | unit | labels | what it tells |\n|---|---|---|---|---|\n"
        ));
        for Declared { name, kind, unit, labels, help } in metrics {
            let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
            page.push_str(&format!("| `{name}` | {kind} | {unit} | {} | {help} |\n", labels.join(", ")));
        }
    }
    page
}

#[test]
fn the_page_has_every_declared_metric() {
    let page = page();
    if std::env::var_os("RUSHES_WRITE_PAGES").is_some() {
        std::fs::write(root().join(PAGE), &page).expect("the page can be written");
    }
    let written = read(PAGE).unwrap_or_default();
    let missing: Vec<_> = page.lines().filter(|line| !written.lines().any(|other| other == *line)).collect();
    let extra: Vec<_> = written.lines().filter(|line| !page.lines().any(|other| other == *line)).collect();
    assert!(written == page, "write {PAGE} anew (RUSHES_WRITE_PAGES=1); missing: {missing:#?}; too much: {extra:#?}");
}

#[test]
fn every_metric_has_the_prefix_and_a_sentence() {
    for metric in crates().iter().flat_map(|directory| of_crate(directory)) {
        assert!(metric.name.starts_with("rushes_"), "{metric:?}");
        assert!(metric.help.ends_with('.') && metric.help.len() > 10, "{metric:?}");
    }
}

#[test]
fn no_service_records_what_is_not_declared() {
    let mut found = Vec::new();
    for directory in crates() {
        if ["crates/dev", "crates/lab", "crates/testkit", "crates/provider-double"].contains(&directory.as_str()) {
            continue;
        }
        for file in below(&format!("{directory}/src"), &[".rs"]) {
            let text = read(&file).expect("a file that was just listed");
            for (at, line) in text.lines().enumerate() {
                let recorded = ["counter!(", "gauge!(", "histogram!("].iter().any(|call| line.contains(call));
                if recorded && !line.trim_start().starts_with("//") {
                    found.push(format!("{file}:{}", at + 1));
                }
            }
        }
    }
    assert!(found.is_empty(), "declare these with chassis::metrics!: {found:#?}");
}

#[test]
fn tables_are_read_with_their_docs() {
    let source = r#"
        chassis::metrics! {
            /// Orders that
            /// were taken.
            ORDERS = counter "rushes_orders_total" in "orders" by ["model", "outcome"];
            /// What waits.
            WAITING = gauge "rushes_waiting" in "orders" by [];
        }
    "#;
    let found = declared(source).unwrap();
    assert_eq!(found[0].help, "Orders that were taken.");
    assert_eq!((found[0].name.as_str(), found[0].labels.len()), ("rushes_orders_total", 2));
    assert_eq!((found[1].kind.as_str(), found[1].labels.len()), ("gauge", 0));
}
