//! What a service's modules may know: a request reads downward, and only the edges know the wire and the database.

use super::assert_none;
use super::services::SERVICES;
use crate::circles::modules::Modules;
use crate::circles::{ROOTS, needs};

/// The kinds of a service's modules, the lowest first: each may need those before it and its own. What is not named here is a
/// rule; `config` is read by whoever it is for and may name any.
///
/// Rules, cache and store are one layer: a store asks a rule that decides, and a rule asks a store that executes. That these are
/// not the same two modules is held by the rule against circles.
const LAYERS: [&[&str]; 5] = [
    &["model", "crash_points", "metrics"],
    &["error", "events"],
    &["store", "cache", "rules"],
    &["grpc"],
    &["service", "crate"],
];

/// Which kinds may name which crate of the edge: tonic is the wire, sqlx the database.
const EDGES: &[(&str, &[&str])] = &[("tonic", &["grpc", "service", "error"]), ("sqlx", &["store"])];

/// Modules that name a crate of the edge although their kind may not, with all that is inside them, and why.
const EXCEPTIONS: &[(&str, &str, &str, &str)] = &[
    ("gateway", "crate", "tonic", "an edge from end to end: it forwards bodies and statuses and decides nothing else"),
    ("generation-worker", "crate::clients", "tonic", "the clients of generation-status and thumbnail-worker"),
];

/// Where a crate that is no service may have SQL.
const SQL: &[(&str, &str)] = &[
    ("crates/cache/src/outbox.rs", "writes the outbox in the caller's transaction"),
    ("crates/cache/src/relay/", "drains the outbox"),
    ("crates/cache/src/store.rs", "reads versions and the clock"),
    ("crates/cache/src/bin/cache-cost/", "a measurement"),
    ("crates/chassis/src/postgres", "pools, and the map of their errors"),
    ("crates/dev/src/", "the tool makes a demo's account and looks at what its servers hold"),
    ("crates/jobs/", "the queue is its tables"),
    ("crates/lab/", "the laboratory reads the books"),
    ("crates/schema/src/", "the migrator"),
    ("crates/testkit/", "private servers"),
];

/// The kind of a module.
fn kind(module: &str) -> &str {
    let top = module.split("::").nth(1).unwrap_or("crate");
    if top == "config" || LAYERS.iter().any(|kinds| kinds.contains(&top)) { top } else { "rules" }
}

/// Whether a module is another or inside it.
fn is_inside(module: &str, outer: &str) -> bool {
    module.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn layer(kind: &str) -> Option<usize> {
    LAYERS.iter().position(|kinds| kinds.contains(&kind))
}

/// Every module that needs one of a higher layer, with the first place where it does.
fn upward(service: &str, modules: &Modules) -> Vec<String> {
    let mut found = Vec::new();
    for ((from, to), places) in needs(modules) {
        let [from, to] = [from, to].map(|index| &modules.0[index]);
        let [lower, higher] = [from, to].map(|module| layer(kind(&module.name)));
        if let (Some(lower), Some(higher)) = (lower, higher)
            && lower < higher
            && let Some((line, path)) = places.first()
        {
            let (from_name, to_name) = (&from.name, &to.name);
            found.push(format!("{}:{line} {path}: {service}'s {from_name} points up at {to_name}", from.file));
        }
    }
    found
}

/// Every place of a crate, with the module's name, where a path begins with the name of another crate.
fn names<'a>(modules: &'a Modules, krate: &'a str) -> impl Iterator<Item = (&'a str, String)> {
    modules.0.iter().flat_map(move |module| {
        let imports = module.imports.iter().map(|import| (&import.path, import.line));
        let mentions = module.mentions.iter().map(|mention| (&mention.path, mention.line));
        imports
            .chain(mentions)
            .filter(move |(path, _)| path[0] == krate)
            .map(|(path, line)| (module.name.as_str(), format!("{}:{line} {}", module.file, path.join("::"))))
    })
}

/// Every place where a module of a service knows an edge that its kind may not know.
fn edges(service: &str, modules: &Modules) -> Vec<String> {
    let mut found = Vec::new();
    for (krate, kinds) in EDGES {
        for (module, place) in names(modules, krate) {
            let excepted = EXCEPTIONS
                .iter()
                .any(|(of, outer, which, _)| *of == service && which == krate && is_inside(module, outer));
            if module != "crate" && !kinds.contains(&kind(module)) && !excepted {
                found.push(format!("{place}: {service}'s {} {module} names {krate}", kind(module)));
            }
        }
    }
    found
}

/// Every place of a crate that is no service where SQL is written outside the table.
fn sql(root: &str, modules: &Modules) -> Vec<String> {
    names(modules, "sqlx")
        .map(|(_, place)| place)
        .filter(|place| !SQL.iter().any(|(start, _)| place.starts_with(start)))
        .map(|place| format!("{place}: in {root}, which the table of SQL does not name"))
        .collect()
}

/// The modules of a service's library.
fn library(service: &str) -> Option<&'static Modules> {
    let root = format!("crates/{service}/src/lib.rs");
    ROOTS.iter().find(|(of, _)| *of == root).map(|(_, modules)| modules)
}

fn of_services(check: fn(&str, &Modules) -> Vec<String>) -> Vec<String> {
    let libraries = SERVICES.iter().filter_map(|service| Some((service, library(service)?)));
    libraries.flat_map(|(service, modules)| check(service, modules)).collect()
}

/// The roots of the crates that are no service.
fn elsewhere() -> impl Iterator<Item = &'static (String, Modules)> {
    ROOTS.iter().filter(|(root, _)| !SERVICES.iter().any(|service| root.starts_with(&format!("crates/{service}/"))))
}

#[test]
fn a_request_reads_downward() {
    assert_none(&of_services(upward), "grpc -> rules -> cache and store -> model, and nothing points up");
}

#[test]
fn only_the_edges_know_the_wire_and_the_database() {
    assert_none(&of_services(edges), "rules know neither tonic nor sqlx");
}

#[test]
fn sql_is_where_the_table_says() {
    let found: Vec<_> = elsewhere().flat_map(|(root, modules)| sql(root, modules)).collect();
    assert_none(&found, "SQL is in few places");
}

#[test]
fn every_exception_is_needed_and_says_why() {
    for (service, module, krate, reason) in EXCEPTIONS {
        let modules = library(service).expect("a service's library");
        let needed = names(modules, krate).any(|(of, _)| is_inside(of, module));
        assert!(needed && !reason.is_empty(), "nothing in {service}'s {module} names {krate}");
    }
    for (start, reason) in SQL {
        let needed = elsewhere().any(|(_, modules)| names(modules, "sqlx").any(|(_, place)| place.starts_with(start)));
        assert!(needed && !reason.is_empty(), "nothing below {start} has SQL");
    }
}

fn modules(files: &[(&str, &str)]) -> Modules {
    let text = |path: &str| files.iter().find(|(name, _)| path == format!("src/{name}")).map(|(_, text)| *text);
    Modules::load("src/lib.rs", &|path| text(path).map(str::to_owned))
}

#[test]
fn what_points_up_is_found() {
    let root = ("lib.rs", "mod grpc; mod model; mod scenes; mod store; pub use grpc::Api;");
    let down = [
        root,
        ("grpc.rs", "use crate::scenes::Rules; pub struct Api(Rules);"),
        ("scenes.rs", "use crate::store::Store; pub struct Rules(Store);"),
        ("store.rs", "use crate::model::Scene; pub struct Store(Scene);"),
        ("model.rs", "pub struct Scene;"),
    ];
    assert_eq!(upward("any", &modules(&down)), Vec::<String>::new());
    let mut up = down;
    up[4] = ("model.rs", "pub struct Scene(crate::store::Row);");
    assert_eq!(upward("any", &modules(&up)).len(), 1);
}

#[test]
fn a_rule_that_names_the_wire_or_the_database_is_found() {
    let with = |rule: &'static str| {
        modules(&[
            ("lib.rs", "mod scenes; mod store; #[cfg(test)] mod tests;"),
            ("store.rs", "fn read() { sqlx::query(\"select 1\"); }"),
            ("scenes.rs", rule),
        ])
    };
    assert_eq!(edges("any", &with("use chassis::postgres::Pool;")), Vec::<String>::new());
    assert_eq!(edges("any", &with("use tonic::{Code, Status};")).len(), 2);
    assert_eq!(edges("any", &with("fn read() { let _ = format!(\"{}\", sqlx::query(\"select 1\")); }")).len(), 1);
    assert_eq!(sql("any", &with("")).len(), 1, "store.rs is not in the table, since its crate is none of ours");
}
