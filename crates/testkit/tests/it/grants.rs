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

/// The sources in a folder that ship, without comments: what tests state, nobody grants.
fn sources(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.file_stem().is_some_and(|name| name == "tests") {
            continue;
        }
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|end| end == "rs" || end == "sql") {
            let text = std::fs::read_to_string(&path).unwrap();
            // A module of tests within a file is its end.
            let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            let code = |line: &&str| !line.trim_start().starts_with("//") && !line.trim_start().starts_with("--");
            found.push(text.lines().filter(code).collect::<Vec<_>>().join("\n"));
        }
    }
    found
}

fn rights(service: Service, table: &str) -> &'static str {
    GRANTS.iter().find(|grant| (grant.service, grant.table) == (service, table)).map_or("", |grant| grant.rights)
}

/// Whether a service has a right to a table, or to some of its columns.
fn may(service: Service, verb: &str, table: &str) -> bool {
    // What is in parentheses are columns.
    let rights = rights(service, table).split('(').map(|part| part.split_once(')').map_or(part, |(_, rest)| rest));
    rights.flat_map(|part| part.split(',')).any(|right| right.trim() == verb)
}

/// The text of every literal of a source, where the statements are.
fn literals(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = source;
    while let Some(at) = rest.find('"') {
        let (before, after) = (&rest[..at], &rest[at + 1..]);
        // A quotation mark as a character is none of a literal.
        if before.ends_with('\'') || before.ends_with("'\\") {
            rest = after;
            continue;
        }
        let hashes = before.len() - before.trim_end_matches('#').len();
        let is_raw = before.trim_end_matches('#').ends_with('r');
        let close = format!("\"{}", "#".repeat(if is_raw { hashes } else { 0 }));
        let mut from = 0;
        let end = loop {
            let Some(end) = after[from..].find(&close).map(|end| from + end) else { return found };
            let escapes = after[..end].len() - after[..end].trim_end_matches('\\').len();
            if is_raw || escapes % 2 == 0 {
                break end;
            }
            from = end + 1;
        };
        found.push(after[..end].to_owned());
        rest = &after[end + close.len()..];
    }
    found
}

/// What a literal does, as words of `grant`, with each table: what it reads, writes, and changes. Whoever writes rows by a condition reads
/// them, too.
fn takes(literal: &str, tables: &BTreeSet<String>) -> BTreeSet<(&'static str, String)> {
    let is_between = |c: char| !c.is_alphanumeric() && !['_', ','].contains(&c);
    let words: Vec<&str> = literal.split(is_between).filter(|word| !word.is_empty()).collect();
    let mut found = BTreeSet::new();
    let mut take = |verb, name: &str| {
        // A list of tables is commas without spaces between.
        let name = name.trim_matches(',');
        if tables.contains(name) {
            found.insert((verb, name.to_owned()));
        }
    };
    for at in 0..words.len() {
        match words[at..] {
            ["insert", "into", name, ..] => take("insert", name),
            ["delete", "from", name, ..] => {
                take("delete", name);
                take("select", name);
            }
            ["update", name, "set", ..] | ["update", name, _, "set", ..] => {
                take("update", name);
                take("select", name);
            }
            ["from" | "join" | "using", name, ..] => take("select", name),
            _ => {}
        }
    }
    found
}

/// The tables that migrations make.
fn tables(migrations: &Path) -> BTreeSet<String> {
    let texts = sources(migrations);
    let words = texts.iter().flat_map(|text| {
        let made = text.match_indices("create table ").map(|(at, verb)| &text[at + verb.len()..]);
        made.filter_map(|rest| rest.split_whitespace().next())
    });
    words.map(str::to_owned).collect()
}

#[test]
fn a_literal_says_what_it_takes() {
    let tables: BTreeSet<_> = ["a", "b", "c"].map(str::to_owned).into();
    let source = r##"let x = '"'; f("select 1 from a, b join c", r#"delete from "b" u"#, "update a t set \"x\" = 1 where from");"##;
    let found: BTreeSet<_> = literals(source).iter().flat_map(|text| takes(text, &tables)).collect();
    let expected = [("select", "a"), ("select", "b"), ("select", "c"), ("delete", "b"), ("update", "a")];
    assert_eq!(found, expected.map(|(verb, table)| (verb, table.to_owned())).into());
}

#[test]
fn what_a_services_statements_take_it_has() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let tables = tables(&crates.with_file_name("migrations"));
    assert!(tables.len() > 30 && tables.contains("generations"), "{tables:?}");
    for service in Service::ALL {
        let name = service.name();
        // The relay and the reads of versions are the same in all that have a cache; of the queue's functions each service calls some.
        let mut folders = vec![crates.join(name).join("src")];
        if service != Service::ThumbnailWorker {
            folders.push(crates.join("cache/src"));
        }
        let texts = folders.iter().flat_map(|folder| sources(folder));
        let taken: BTreeSet<_> =
            texts.flat_map(|text| literals(&text)).flat_map(|literal| takes(&literal, &tables)).collect();
        assert!(taken.len() > 10, "{name}: {taken:?}");
        for (verb, table) in taken {
            assert!(may(service, verb, &table), "{name} does {verb} {table} and has {:?}", rights(service, &table));
        }
    }
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
    let shared = [
        "account_erasures",
        "projects",
        "scenes",
        "notices",
        "jobs",
        "job_turns",
        "job_events",
        "outbox",
        "cache_key",
        "cache_clock",
    ];
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
            let (columns, _) = columns.split_once(')').unwrap();
            columns.split(", ").collect::<BTreeSet<_>>()
        };
        let (dashboard, copied) = (columns(Service::Dashboard), columns(Service::GenerationStatus));
        assert!(dashboard.is_disjoint(&copied), "{table}: both write {:?}", dashboard.intersection(&copied));
    }
}
