//! JSON as a tree: a second, simple pass over the text, which is known to be well formed by then, finds the lines.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::Fault;
use crate::schema::escape;

pub(super) fn parse(text: &str) -> Result<(Value, BTreeMap<String, usize>), Vec<Fault>> {
    let root: Value = serde_json::from_str(text)
        .map_err(|error| vec![Fault::of_file(error.line().max(1), format!("is not JSON: {error}"))])?;
    if !root.is_object() {
        return Err(vec![Fault::of_file(1, "must be an object with the list `models`".to_owned())]);
    }
    let mut scanner = Scanner { bytes: text.as_bytes(), at: 0, line: 1, lines: BTreeMap::new() };
    scanner.value("");
    Ok((root, scanner.lines))
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    line: usize,
    lines: BTreeMap<String, usize>,
}

impl Scanner<'_> {
    /// The next byte that is no space, not yet taken.
    fn next(&mut self) -> Option<u8> {
        while let Some(byte) = self.bytes.get(self.at) {
            match byte {
                b'\n' => self.line += 1,
                b' ' | b'\t' | b'\r' => {}
                _ => return Some(*byte),
            }
            self.at += 1;
        }
        None
    }

    fn value(&mut self, pointer: &str) {
        match self.next() {
            Some(b'{') => self.object(pointer),
            Some(b'[') => self.array(pointer),
            Some(b'"') => drop(self.string()),
            _ => {
                while self.bytes.get(self.at).is_some_and(|byte| !b",]} \t\r\n".contains(byte)) {
                    self.at += 1;
                }
            }
        }
    }

    fn object(&mut self, pointer: &str) {
        self.at += 1;
        while self.next() == Some(b'"') {
            let line = self.line;
            let at = format!("{pointer}/{}", escape(&self.string()));
            self.lines.insert(at.clone(), line);
            self.next();
            self.at += 1;
            self.value(&at);
            if self.next() == Some(b',') {
                self.at += 1;
            }
        }
        self.at += 1;
    }

    fn array(&mut self, pointer: &str) {
        self.at += 1;
        let mut n = 0;
        while self.next().is_some_and(|byte| byte != b']') {
            let at = format!("{pointer}/{n}");
            self.lines.insert(at.clone(), self.line);
            self.value(&at);
            if self.next() == Some(b',') {
                self.at += 1;
            }
            n += 1;
        }
        self.at += 1;
    }

    /// The text between two quotes.
    fn string(&mut self) -> String {
        let start = self.at;
        self.at += 1;
        while let Some(byte) = self.bytes.get(self.at) {
            match byte {
                b'\\' => self.at += 2,
                b'"' => break,
                _ => self.at += 1,
            }
        }
        self.at = (self.at + 1).min(self.bytes.len());
        self.bytes.get(start..self.at).and_then(|quoted| serde_json::from_slice(quoted).ok()).unwrap_or_default()
    }
}
