//! No name says in a private word what the field has a word for.

mod names;
mod other;
mod prose;
mod table;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

use names::{Kind, Name};
use table::{EXCEPTIONS, Exception, PLAIN_IN_LOCALS, Private, Reach, WORDS};

use crate::sources;

/// A private word in a declared name.
#[derive(PartialEq, Eq, Debug)]
struct Violation {
    file: String,
    line: usize,
    kind: Kind,
    name: String,
    word: String,
    instead: &'static str,
}

/// The words of a name: of `MOST_SCANS` and `MostScans` alike `most` and `scans`.
fn words(name: &str) -> Vec<String> {
    let chars: Vec<_> = name.chars().collect();
    let mut words: Vec<String> = vec![String::new()];
    for (at, char) in chars.iter().enumerate() {
        let before = at.checked_sub(1).map(|before| chars[before]);
        let hump = char.is_uppercase()
            && (before.is_some_and(|before| !before.is_uppercase())
                || chars.get(at + 1).is_some_and(|next| next.is_lowercase()));
        if !char.is_alphabetic() || hump {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| char.is_alphabetic()) {
            word.extend(char.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Forms of the table by their first word, each with the words of the whole form.
type Forms = BTreeMap<&'static str, Vec<(&'static Private, Vec<&'static str>)>>;

static FORMS: LazyLock<Forms> = LazyLock::new(|| {
    let mut forms = Forms::new();
    for private in WORDS {
        for form in private.forms.split(' ') {
            let form: Vec<_> = form.split('_').collect();
            forms.entry(form[0]).or_default().push((private, form));
        }
    }
    forms
});

/// The private words in one name of a file.
fn check(file: &str, name: &Name) -> Vec<Violation> {
    let words = words(&name.name);
    let mut found = Vec::new();
    for at in 0..words.len() {
        for (private, form) in FORMS.get(words[at].as_str()).into_iter().flatten() {
            let whole =
                words[at..].len() >= form.len() && words[at..].iter().zip(form).all(|(word, form)| word == form);
            if whole && reaches(private, file, name, &words, at, form.len()) {
                found.push(Violation {
                    file: file.to_owned(),
                    line: name.line,
                    kind: name.kind,
                    name: name.name.clone(),
                    word: form.join(" "),
                    instead: private.instead,
                });
            }
        }
    }
    found
}

fn reaches(private: &Private, file: &str, name: &Name, words: &[String], at: usize, length: usize) -> bool {
    let file = |parts: &[&str]| parts.iter().any(|part| file.contains(part));
    match private.reach {
        Reach::Everywhere => true,
        Reach::NotInSentences => name.kind != Kind::Test,
        Reach::AloneAs(kinds) => words.len() == length && kinds.contains(&name.kind),
        Reach::NamesIn(parts) => name.kind != Kind::Test && file(parts),
        Reach::In(parts) => file(parts),
        Reach::NotIn(parts) => !file(parts),
        Reach::UnlessAfter(good) => at == 0 || !good.contains(&words[at - 1].as_str()),
        Reach::UnlessBefore(good) => words.get(at + length).is_none_or(|next| !good.contains(&next.as_str())),
    }
}

/// Every private word in the names that the workspace's files declare, exceptions included.
static FOUND: LazyLock<Vec<Violation>> = LazyLock::new(|| {
    let mut declared = other::declared();
    for directory in sources::crates() {
        for file in sources::of_crate(&directory) {
            let text = sources::read(&file).expect("a file that was listed");
            let names = names::of_rust(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
            declared.extend(names.into_iter().map(|name| (file.clone(), name)));
        }
    }
    let mut found: Vec<_> = declared.iter().flat_map(|(file, name)| check(file, name)).collect();
    found.sort_by(|a, b| (&a.file, a.line, &a.name).cmp(&(&b.file, b.line, &b.name)));
    found.dedup();
    found
});

impl Exception {
    fn names_file(&self, path: &str) -> bool {
        self.file.strip_suffix('*').map_or_else(|| path == self.file, |start| path.starts_with(start))
    }

    fn covers(&self, violation: &Violation) -> bool {
        self.names_file(&violation.file) && (self.name == "*" || self.name == violation.name)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, kind, name, word, instead } = self;
        let kind = format!("{kind:?}").to_lowercase();
        write!(out, "{file}:{line}: {kind} `{name}` has the word `{word}`; the field says: {instead}")
    }
}

/// Fails with every private word in the names of these kinds that is no exception.
fn assert_none(of: impl Fn(&Violation) -> bool) {
    let excepted = |violation: &Violation| EXCEPTIONS.iter().any(|exception| exception.covers(violation));
    let lines: Vec<_> =
        FOUND.iter().filter(|violation| of(violation) && !excepted(violation)).map(ToString::to_string).collect();
    assert!(lines.is_empty(), "{} names with a private word:\n{}", lines.len(), lines.join("\n"));
}

#[test]
fn no_declared_name_has_a_private_word() {
    assert_none(|violation| violation.kind != Kind::Local);
}

#[test]
fn no_local_name_has_a_private_word() {
    assert_none(|violation| violation.kind == Kind::Local && !PLAIN_IN_LOCALS.contains(&violation.word.as_str()));
}

#[test]
fn every_exception_is_needed_and_says_why() {
    for exception in EXCEPTIONS {
        let Exception { file, name, reason } = exception;
        assert!(!reason.is_empty(), "the exception of `{name}` in {file} gives no reason");
        assert!(
            FOUND.iter().any(|violation| exception.covers(violation)),
            "nothing needs the exception of `{name}` in {file}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::names::{Kind, Name, of_rust};
    use super::{check, words};

    /// The private words in a Rust file's names, with the kinds of what has them.
    fn found(file: &str, source: &str) -> Vec<(Kind, String)> {
        let names = of_rust(source).unwrap();
        names.iter().flat_map(|name| check(file, name)).map(|violation| (violation.kind, violation.word)).collect()
    }

    #[track_caller]
    fn finds(source: &str, kind: Kind, word: &str) {
        assert_eq!(found("crates/any/src/lib.rs", source), [(kind, word.to_owned())], "{source}");
    }

    #[track_caller]
    fn finds_none(file: &str, source: &str) {
        assert_eq!(found(file, source), [], "{source}");
    }

    #[test]
    fn a_name_is_split_where_a_reader_would() {
        assert_eq!(words("MOST_SCANS"), ["most", "scans"]);
        assert_eq!(words("HTTPServerOf2Walls"), ["http", "server", "of", "walls"]);
        assert_eq!(words("rushes_job_rings-lost.total"), ["rushes", "job", "rings", "lost", "total"]);
        assert_eq!(words("l1Fence"), ["l", "fence"]);
        assert_eq!(words("_"), [""; 0]);
    }

    #[test]
    fn whatever_is_declared_is_seen() {
        finds("fn ring() {}", Kind::Function, "ring");
        finds("struct S; impl S { fn board(&self) {} }", Kind::Function, "board");
        finds("trait T { fn depart(&self); }", Kind::Function, "depart");
        finds("trait T { type Lane; const N: u8; }", Kind::Type, "lane");
        finds("#[tokio::test] async fn every_wall_is_checked() {}", Kind::Test, "wall");
        finds("struct Weather;", Kind::Type, "weather");
        finds("enum E { Deposed }", Kind::Variant, "deposed");
        finds("struct S { parcel: u8 }", Kind::Field, "parcel");
        finds("enum E { V { heir: u8 } }", Kind::Field, "heir");
        finds("const PATIENCE: u8 = 1;", Kind::Constant, "patience");
        finds("static MOST_SCANS: u8 = 1;", Kind::Constant, "most");
        finds("mod told {}", Kind::Module, "told");
        finds("type Tally = u8;", Kind::Type, "tally");
        finds("use a::Reader as Desk;", Kind::Type, "desk");
        finds("fn f<Wish>() {}", Kind::Type, "wish");
        finds("macro_rules! walls { () => {} }", Kind::Macro, "walls");
        finds("macro_rules! m { () => { struct Verdict; } }", Kind::Type, "verdict");
        finds("ids! { ParcelId, GenerationId }", Kind::Macro, "parcel");
        finds("fn f() { let flaw = 1; }", Kind::Local, "flaw");
        finds("fn f(flaw: u8) {}", Kind::Local, "flaw");
        finds("fn f() { g(|flaw| 1); }", Kind::Local, "flaw");
        finds("fn f() { tokio::select! { _ = a => { let flaw = 1; } } }", Kind::Local, "flaw");
        finds("fn f() { lay_to_rest() } fn lay_to_rest() {}", Kind::Function, "lay to rest");
    }

    #[test]
    fn a_string_that_is_one_name_is_seen() {
        finds("fn f() { metrics::counter!(\"jobs_swept_total\", \"kind\" => k); }", Kind::Text, "swept");
        finds("fn f() { gauge!(\"x\", \"lane\" => l); }", Kind::Text, "lane");
        finds("const NAME: &str = \"RUSHES_SECTION_PATIENCE\";", Kind::Text, "patience");
        finds("#[serde(rename = \"verdict\")] struct S;", Kind::Text, "verdict");
        finds("fn f() { info_span!(\"cache.peek\"); }", Kind::Text, "peek");
        finds_none("crates/any/src/lib.rs", "fn f() { println!(\"the last wall of the desk\"); }");
    }

    #[test]
    fn what_is_used_and_not_declared_is_none() {
        finds_none(
            "crates/any/src/lib.rs",
            "use ring::hmac; fn f() { 1.5_f64.floor(); ring::rand(); items.iter().fold(0, g); }",
        );
        finds_none("crates/any/src/lib.rs", "/// The wall of the flight.\nfn f() {} // A parcel.");
        finds_none(
            "crates/any/src/lib.rs",
            "mod dashboard; mod folder; struct InFlight; struct RingBuffer; fn shadow_read() {}",
        );
    }

    #[test]
    fn a_word_is_private_where_the_table_says() {
        finds_none("crates/jobs/src/lease.rs", "struct Fence;");
        assert_eq!(found("crates/cache/src/inner.rs", "struct Fence;").len(), 1);
        finds_none("crates/generation-status/src/model.rs", "struct Progress { stage: u8 }");
        assert_eq!(found("crates/gateway/tests/it/main.rs", "struct Stage;").len(), 1);
        finds_none("crates/any/src/lib.rs", "#[test] fn the_relay_stands_still() {}");
        assert_eq!(found("crates/any/src/lib.rs", "fn stands() {}").len(), 1);
        finds_none("crates/any/src/lib.rs", "fn listed_once() {} struct Listed;");
        assert_eq!(found("crates/any/src/lib.rs", "fn listed() {}").len(), 1);
        assert_eq!(found("crates/any/src/lib.rs", "mod utils {} mod helpers {} mod once {}").len(), 3);
    }

    #[test]
    fn every_form_of_the_table_is_found_somewhere() {
        let places = ["crates/sim/src/a.rs", "crates/jobs/src/a.rs", "crates/any/tests/it/a.rs"];
        for private in super::WORDS {
            for form in private.forms.split(' ') {
                let name = |kind| Name { kind, name: form.to_owned(), line: 1 };
                let kinds = [Kind::Function, Kind::Module];
                let mut tries = places.iter().flat_map(|place| kinds.map(|kind| check(place, &name(kind))));
                assert!(
                    tries.any(|found| found.iter().any(|violation| violation.instead == private.instead)),
                    "{form}"
                );
            }
        }
    }
}
