//! The names that are declared outside Rust: files and directories, SQL, protos, Lua, settings and recipes.

use std::collections::BTreeSet;

use super::names::{Kind, Name};
use crate::sources;

/// The newest migration that had landed when the rule came: what it and those before it declare may only be renamed by newer ones.
const LANDED: &str = "20261126000051";

/// Every name that is declared outside Rust, with its file.
pub(crate) fn declared() -> Vec<(String, Name)> {
    let mut declared = Vec::new();
    let mut migrations = Vec::new();
    for file in sources::all() {
        let Some(name) = file.rsplit('/').next() else { continue };
        if !file.starts_with("migrations/") || name > LANDED {
            let parts = file.split('/').map(|part| part.rsplit_once('.').map_or(part, |(stem, _)| stem));
            declared.extend(parts.map(|part| (file.clone(), plain(Kind::File, part, 1))));
        }
        let Some(text) = sources::read(&file) else { continue };
        let names = match file.rsplit_once('.').map(|(_, ending)| ending) {
            Some("sql") => {
                migrations.push((file, text));
                continue;
            }
            Some("proto") if file.starts_with("proto/rushes/") => proto(&text),
            Some("lua") => lua(&text),
            Some("rs") => continue,
            _ if name == "justfile" => [recipes(&text), settings(&text)].concat(),
            _ => settings(&text),
        };
        declared.extend(names.into_iter().map(|name| (file.clone(), name)));
    }
    declared.extend(schema(&migrations));
    declared
}

fn plain(kind: Kind, name: &str, line: usize) -> Name {
    Name { kind, name: name.to_owned(), line }
}

/// The identifiers of each line, with what is not one as it stands; comments and strings are left out.
fn lines<'a>(text: &'a str, comment: &'a str) -> impl Iterator<Item = (usize, Vec<&'a str>)> {
    text.lines().enumerate().map(move |(at, line)| {
        let line = line.split(comment).next().unwrap_or_default();
        let mut tokens = Vec::new();
        let mut rest = line;
        while let Some(first) = rest.chars().next() {
            let word = |char: char| char.is_alphanumeric() || char == '_';
            let end = if word(first) {
                rest.find(|char| !word(char)).unwrap_or(rest.len())
            } else if first == '\'' || first == '"' {
                rest[1..].find(first).map_or(rest.len(), |end| end + 2)
            } else {
                first.len_utf8()
            };
            let (token, after) = rest.split_at(end);
            if !token.trim().is_empty() {
                tokens.push(token);
            }
            rest = after;
        }
        (at + 1, tokens)
    })
}

/// The names of messages, enums, values, fields, oneofs, services and methods.
fn proto(text: &str) -> Vec<Name> {
    let mut names = Vec::new();
    for (line, tokens) in lines(text, "//") {
        match tokens[..] {
            ["message" | "enum" | "service" | "rpc" | "oneof", name, ..] => names.push(plain(Kind::Proto, name, line)),
            _ => {
                if let Some(at) = tokens.iter().position(|token| *token == "=")
                    && at > 0
                    && tokens.get(at + 1).is_some_and(|number| number.parse::<u32>().is_ok())
                {
                    names.push(plain(Kind::Proto, tokens[at - 1], line));
                }
            }
        }
    }
    names
}

/// The names behind `local` and `function`.
fn lua(text: &str) -> Vec<Name> {
    let mut names = Vec::new();
    for (line, tokens) in lines(text, "--") {
        let Some(at) = tokens.iter().position(|token| *token == "local" || *token == "function") else { continue };
        for token in tokens[at + 1..].iter().take_while(|token| !["=", "in", "do"].contains(token)) {
            if token.starts_with(|char: char| char.is_alphabetic() || char == '_') && *token != "function" {
                names.push(plain(Kind::Lua, token, line));
            }
        }
    }
    names
}

/// The recipes of a justfile.
fn recipes(text: &str) -> Vec<Name> {
    let mut names = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let name = line.split([' ', ':']).next().unwrap_or_default();
        if line.contains(':') && name.starts_with(|char: char| char.is_ascii_alphabetic()) {
            names.push(plain(Kind::Function, name, at + 1));
        }
    }
    names
}

/// Every setting that a text names.
fn settings(text: &str) -> Vec<Name> {
    let mut names = Vec::new();
    for (at, line) in text.lines().enumerate() {
        for word in line.split(|char: char| !char.is_ascii_alphanumeric() && char != '_') {
            if word.starts_with("RUSHES_") {
                names.push(plain(Kind::Text, word, at + 1));
            }
        }
    }
    names
}

/// The identifiers of the schema as it stands when all migrations have run. One of a landed migration is left out when a newer
/// one renames or drops it; what a table's name begins goes with the table.
fn schema(migrations: &[(String, String)]) -> Vec<(String, Name)> {
    let landed = |file: &str| file.rsplit('/').next().is_some_and(|name| name < LANDED || name.starts_with(LANDED));
    let mut gone = BTreeSet::new();
    let mut tables = Vec::new();
    for (_, text) in migrations.iter().filter(|(file, _)| !landed(file)) {
        let tokens: Vec<_> = lines(text, "--").flat_map(|(_, tokens)| tokens).collect();
        for at in 0..tokens.len() {
            match tokens[at..] {
                ["drop", what, "if", "exists", name, ..] | ["drop", what, name, ..] => {
                    gone.insert(name);
                    if what == "table" {
                        tables.push(format!("{name}_"));
                    }
                }
                ["rename", "column" | "constraint" | "value", name, "to", ..]
                | ["rename", name, "to", ..]
                | [name, "rename", "to", ..] => {
                    gone.insert(name);
                }
                _ => {}
            }
        }
    }
    let mut names = Vec::new();
    for (file, text) in migrations {
        let mut leaving = false;
        for (line, tokens) in lines(text, "--") {
            for token in tokens {
                leaving = matches!(token, "rename" | "drop") || leaving && !matches!(token, "to" | "," | ";");
                let identifier = token.starts_with(|char: char| char.is_alphabetic());
                let gone = gone.contains(token) || tables.iter().any(|table| token.starts_with(table.as_str()));
                if identifier && !leaving && !gone {
                    names.push((file.clone(), plain(Kind::Sql, token, line)));
                }
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::{Name, lua, proto, recipes, schema, settings};

    fn names(names: &[Name]) -> Vec<&str> {
        names.iter().map(|name| name.name.as_str()).collect()
    }

    #[test]
    fn a_proto_declares_messages_fields_and_values() {
        let text = "// message Comment {\nmessage Work { // of a worker\n  map<string, uint32> parts = 1 [(x) = true];\n  \
                    string title = 2;\n  oneof end { Done done = 3; }\n}\nenum State {\n  QUEUED = 1;\n}\n\
                    service Works {\n  rpc Claim(A) returns (B) {\noption (http) = 5;";
        let expected = ["Work", "parts", "title", "end", "State", "QUEUED", "Works", "Claim"];
        for name in expected {
            assert!(names(&proto(text)).contains(&name), "{name} of {:?}", proto(text));
        }
        assert!(!names(&proto(text)).contains(&"Comment"));
    }

    #[test]
    fn lua_declares_locals_and_functions() {
        let text =
            "local key, seen = KEYS[1], 2 -- local not_this\nlocal function put(k)\nend\nfor i = 1, 2 do\nlocal x\nend";
        assert_eq!(names(&lua(text)), ["key", "seen", "put", "k", "x"]);
    }

    #[test]
    fn recipes_and_settings_are_found() {
        assert_eq!(names(&recipes("# comment: not\nup *ARGS:\n    cargo run: x\nci:\n")), ["up", "ci"]);
        assert_eq!(names(&settings("- name: RUSHES_POOL_READ # or `RUSHES_LOG`")), ["RUSHES_POOL_READ", "RUSHES_LOG"]);
    }

    #[test]
    fn the_schema_is_what_all_migrations_leave() {
        let old = "create table parcels (id uuid, verdict text); -- a flight\n\
                   create table walls (id uuid);\ncreate index walls_id on walls (id);";
        let new = "alter table parcels rename column verdict to charge;\nalter table parcels\n    rename to deliveries;\n\
                   drop table if exists walls;\nalter table deliveries add column lane text;";
        let declared = schema(&[
            ("migrations/20261121000001_old.sql".to_owned(), old.to_owned()),
            ("migrations/20261128000001_new.sql".to_owned(), new.to_owned()),
        ]);
        let declared: Vec<_> = declared.into_iter().map(|(_, name)| name.name).collect();
        for gone in ["parcels", "verdict", "walls", "walls_id", "flight"] {
            assert!(!declared.iter().any(|name| name == gone), "{gone}");
        }
        for there in ["id", "charge", "deliveries", "lane"] {
            assert!(declared.iter().any(|name| name == there), "{there}");
        }
    }
}
