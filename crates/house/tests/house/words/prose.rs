//! Comments, documentation and messages speak the field's words too: of the private words, those that mean nothing else in a
//! sentence about this project.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};

use super::table::{EXCEPTIONS, IN_PROSE, WORDS};
use crate::sources;

/// The sentences of a file, each with its line.
fn sentences(path: &str, text: &str) -> Vec<(usize, String)> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let comments = |mark| comments(text, mark);
    match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("rs") => [comments("//"), messages(text)].concat(),
        Some("proto") => comments("//"),
        Some("lua" | "sql") => comments("--"),
        Some("md") => text.lines().enumerate().map(|(at, line)| (at + 1, line.to_owned())).collect(),
        Some("toml" | "yaml" | "yml" | "py") | None => comments("#"),
        Some(_) => Vec::new(),
    }
}

/// What stands behind the mark of a comment, at a line's start or after a blank.
fn comments(text: &str, mark: &str) -> Vec<(usize, String)> {
    let behind = |line: &str| {
        let line = format!(" {line}");
        line.split_once(&format!(" {mark}")).map(|(_, comment)| comment.to_owned())
    };
    text.lines().enumerate().filter_map(|(at, line)| Some((at + 1, behind(line)?))).collect()
}

/// The strings that are sentences: they have blanks and no statement of SQL in them.
fn messages(text: &str) -> Vec<(usize, String)> {
    fn collect(tokens: TokenStream, found: &mut Vec<(usize, String)>) {
        for token in tokens {
            match token {
                // What a doc comment becomes has been read as a comment.
                TokenTree::Group(group) if group.stream().to_string().starts_with("doc =") => {}
                TokenTree::Group(group) => collect(group.stream(), found),
                TokenTree::Literal(literal) => found.push((literal.span().start().line, literal.to_string())),
                _ => {}
            }
        }
    }
    let mut found = Vec::new();
    collect(text.parse().unwrap_or_default(), &mut found);
    let sql = ["select ", "insert ", "update ", "delete ", " from ", " where ", " set ", " and ", " or "];
    found.retain(|(_, text)| {
        let sentence = text.contains('"') && text.trim_matches('"').trim().contains(' ') && !text.contains('\n');
        sentence && !sql.iter().any(|word| text.contains(word))
    });
    found
}

/// The private words of a sentence, each with what the field says.
fn private(sentence: &str) -> Vec<(String, &'static str)> {
    let words: Vec<_> = sentence.split(|char: char| !char.is_alphabetic()).filter(|word| !word.is_empty()).collect();
    let mut found = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let word = word.to_lowercase();
        let flight = word.starts_with("flight") && at > 0 && matches!(words[at - 1], "in" | "single" | "In" | "Single");
        if IN_PROSE.contains(&word.as_str()) && !flight {
            let instead = WORDS.iter().find(|private| private.forms.split(' ').any(|form| form == word));
            found.push((word, instead.map_or("", |private| private.instead)));
        }
    }
    found
}

#[test]
fn no_comment_document_or_message_has_a_private_word() {
    let landed = |path: &str| path.starts_with("migrations/202611") && path < "migrations/20261126000052";
    let excepted = |path: &str| EXCEPTIONS.iter().any(|exception| exception.name == "*" && exception.names_file(path));
    let mut found = BTreeSet::new();
    for path in sources::all().into_iter().filter(|path| !landed(path) && !excepted(path)) {
        let Some(text) = sources::read(&path) else { continue };
        for (line, sentence) in sentences(&path, &text) {
            for (word, instead) in private(&sentence) {
                found.insert((path.clone(), line, format!("`{word}`; the field says: {instead}")));
            }
        }
    }
    let lines: Vec<_> = found.iter().map(|(path, line, word)| format!("{path}:{line}: {word}")).collect();
    assert!(lines.is_empty(), "{} sentences with a private word:\n{}", lines.len(), lines.join("\n"));
}

#[test]
fn the_list_for_prose_is_part_of_the_table() {
    for word in IN_PROSE {
        assert!(WORDS.iter().any(|private| private.forms.split(' ').any(|form| form == *word)), "{word}");
    }
}

#[test]
fn a_private_word_in_a_sentence_is_found() {
    let words = |path, text| -> Vec<_> {
        sentences(path, text).iter().flat_map(|(_, sentence)| private(sentence)).map(|(word, _)| word).collect()
    };
    assert_eq!(
        words("a.rs", "/// The Wall holds.\nfn f() { warn!(\"a parcel is late\"); } // by its heir"),
        ["wall", "heir", "parcel"]
    );
    assert_eq!(words("a.md", "Each figure beside its floor."), ["floor"]);
    assert_eq!(words("a.lua", "local x = 1 -- Wall: an applier"), ["wall"]);
    assert_eq!(words("a.rs", "let wall = 1; // an in-flight load, single-flight"), [""; 0]);
    assert_eq!(words("a.rs", "query(\"select floor(x) from t\"); let url = \"http://desk\";"), [""; 0]);
}
