//! The table of grants beside the statements in the sources: a service has the rights that its statements take, and no others.

use std::collections::BTreeSet;
use std::path::Path;

use schema::{GRANTS, Service};

/// What the statements of a text do, as words of `grant`, each with its table.
fn uses(text: &str, tables: &BTreeSet<&'static str>) -> BTreeSet<(&'static str, &'static str)> {
    let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|w| !w.is_empty()).collect();
    let mut found = BTreeSet::new();
    let mut locks = false;
    for at in 0..words.len() {
        let (verb, name) = match words[at..] {
            ["insert", "into", name, ..] => ("insert", name),
            ["delete", "from", name, ..] => ("delete", name),
            ["update", name, "set", ..] | ["update", name, _, "set", ..] => ("update", name),
            ["on", "conflict", ..] | ["for", "update" | "share" | "no" | "key", ..] => {
                locks = true;
                continue;
            }
            [name, ..] => ("select", name),
            [] => break,
        };
        found.extend(tables.get(name).map(|table| (verb, *table)));
    }
    // A lock, and what is done where a row is there already, names no table: it may be of any that the text names.
    if locks {
        let named: Vec<_> = found.iter().map(|(_, table)| ("update", *table)).collect();
        found.extend(named);
    }
    found
}

/// The sources in a folder, without comments.
fn sources(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|end| end == "rs" || end == "sql") {
            let text = std::fs::read_to_string(&path).unwrap();
            let code = |line: &&str| !line.trim_start().starts_with("//") && !line.trim_start().starts_with("--");
            found.push(text.lines().filter(code).collect::<Vec<_>>().join("\n"));
        }
    }
    found
}

fn rights(service: Service, table: &str) -> &'static str {
    GRANTS.iter().find(|grant| (grant.service, grant.table) == (service, table)).map_or("", |grant| grant.rights)
}

fn may(service: Service, verb: &str, table: &str) -> bool {
    let (rights, _columns) = rights(service, table).split_once('(').unwrap_or((rights(service, table), ""));
    rights.split(", ").any(|right| right.trim() == verb)
}

#[test]
fn rights_are_what_the_sources_take() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let tables: BTreeSet<_> = GRANTS.iter().map(|grant| grant.table).collect();
    let uses_in = |folder: &Path| sources(folder).iter().flat_map(|text| uses(text, &tables)).collect::<BTreeSet<_>>();
    let own = |name: &str| uses_in(&crates.join(name).join("src"));
    let (jobs, cache, triggers) = (own("jobs"), own("cache"), uses_in(&crates.with_file_name("migrations")));
    for service in Service::ALL {
        let name = service.name();
        let statements = own(name);
        for (verb, table) in statements.iter().filter(|(verb, _)| ["insert", "delete"].contains(verb)) {
            assert!(may(service, verb, table), "{name} does {verb} {table} and has {:?}", rights(service, table));
        }
        let mut all = [&statements, &jobs, &triggers].into_iter().flatten().copied().collect::<BTreeSet<_>>();
        if service != Service::ThumbnailWorker {
            all.extend(&cache);
        }
        for verb in ["select", "insert", "update", "delete"] {
            for table in tables.iter().filter(|table| may(service, verb, table)) {
                assert!(all.contains(&(verb, *table)), "{name} may {verb} {table}, and no statement does");
            }
        }
    }
}

#[test]
fn a_table_has_one_writer() {
    // What several write has rows of each, or columns of each.
    let shared =
        ["projects", "scenes", "notices", "jobs", "job_turns", "job_events", "outbox", "cache_key", "cache_clock"];
    for grant in GRANTS.iter().filter(|grant| grant.rights != "select" && !shared.contains(&grant.table)) {
        let others = GRANTS.iter().filter(|other| other.table == grant.table && other.service != grant.service);
        for other in others {
            // Who may only update a generated column locks rows.
            let reads =
                |rights: &str| ["select", "select, update (kind)"].contains(&rights) || rights.starts_with("select (");
            let (one, another) = (grant.service.name(), other.service.name());
            assert!(reads(grant.rights) || reads(other.rights), "{one} and {another} write {}", grant.table);
        }
    }
    for table in ["projects", "scenes"] {
        let columns = |service| {
            let (_, columns) = rights(service, table).split_once("update (").unwrap();
            columns.trim_end_matches(')').split(", ").collect::<BTreeSet<_>>()
        };
        let (dashboard, copied) = (columns(Service::Dashboard), columns(Service::GenerationStatus));
        assert!(dashboard.is_disjoint(&copied), "{table}: both write {:?}", dashboard.intersection(&copied));
    }
}
