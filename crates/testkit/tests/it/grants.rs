//! The table of grants beside the statements in the sources: a service has the rights that its statements take, and no others.

use std::collections::BTreeSet;
use std::path::Path;

use schema::{GRANTS, Service};

/// The writes to `table` that a text has, as words of `grant`.
fn writes(text: &str, table: &str) -> BTreeSet<&'static str> {
    let words: Vec<&str> =
        text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()).collect();
    let mut found = BTreeSet::new();
    for at in 0..words.len() {
        match words[at..] {
            ["insert", "into", name, ..] if name == table => _ = found.insert("insert"),
            ["delete", "from", name, ..] if name == table => _ = found.insert("delete"),
            ["update", name, "set", ..] | ["update", name, _, "set", ..] if name == table => {
                found.insert("update");
            }
            // A lock, and what is done where a row is there already.
            ["on", "conflict", ..] | ["for", "update" | "share" | "no" | "key", ..] => _ = found.insert("update"),
            _ => {}
        }
    }
    // These two name no table: they are of the statements that read or insert it.
    if !words.contains(&table) {
        found.clear();
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

#[test]
fn rights_are_what_the_sources_take() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let own = |name: &str| sources(&crates.join(name).join("src"));
    let triggers = sources(&crates.with_file_name("migrations"));
    for service in Service::ALL {
        let statements = own(service.name());
        let mut all = [statements.clone(), own("jobs"), triggers.clone()].concat();
        if service != Service::ThumbnailWorker {
            all.extend(own("cache"));
        }
        let tables: BTreeSet<_> = GRANTS.iter().map(|grant| grant.table).collect();
        for table in tables {
            let granted = rights(service, table);
            for text in &statements {
                let named = ["insert", "delete"].into_iter().filter(|verb| writes(text, table).contains(verb));
                for verb in named {
                    assert!(granted.contains(verb), "{} does {verb} {table} and has {granted:?}", service.name());
                }
            }
            for verb in ["insert", "update", "delete"].into_iter().filter(|verb| granted.contains(verb)) {
                let taken = all.iter().any(|text| writes(text, table).contains(verb));
                assert!(taken, "{} may {verb} {table}, and no statement does", service.name());
            }
            if granted.contains("select") {
                let words =
                    |text: &String| text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == table);
                assert!(all.iter().any(words), "{} may select {table}, and no statement does", service.name());
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
            assert_eq!(
                other.rights,
                "select",
                "{} and {} write {}",
                grant.service.name(),
                other.service.name(),
                grant.table
            );
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
