//! A catalogue file, TOML or JSON, as one tree with the line of each part.

mod json;
mod toml;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::Fault;
use crate::schema::escape;

/// How a catalogue file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// TOML.
    Toml,
    /// JSON.
    Json,
}

impl Format {
    /// By the file's ending: JSON for `.json`, else TOML.
    #[must_use]
    pub fn of_path(path: &str) -> Self {
        let ending = path.rsplit_once('.').map_or("", |(_, ending)| ending);
        if ending.eq_ignore_ascii_case("json") { Self::Json } else { Self::Toml }
    }
}

/// A file's content.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) root: Value,
    /// By JSON pointer.
    lines: BTreeMap<String, usize>,
}

impl Tree {
    /// Reads a file.
    pub(crate) fn parse(format: Format, text: &str) -> Result<Self, Vec<Fault>> {
        let (root, lines) = match format {
            Format::Toml => toml::parse(text)?,
            Format::Json => json::parse(text)?,
        };
        Ok(Self { root, lines })
    }

    /// The line of a part, or of the nearest one around it of which it is known.
    pub(crate) fn line(&self, pointer: &str) -> usize {
        let mut at = pointer;
        loop {
            if let Some(line) = self.lines.get(at) {
                return *line;
            }
            let Some((around, _)) = at.rsplit_once('/') else { return 1 };
            at = around;
        }
    }
}

/// Adds the faults of one part of a file, each with its line.
pub(crate) struct Report<'t, 'f> {
    tree: &'t Tree,
    at: String,
    model: String,
    faults: &'f mut Vec<Fault>,
}

impl<'t, 'f> Report<'t, 'f> {
    /// A report of the part at a JSON pointer.
    pub(crate) fn new(tree: &'t Tree, at: &str, model: &str, faults: &'f mut Vec<Fault>) -> Self {
        Self { tree, at: at.to_owned(), model: model.to_owned(), faults }
    }

    /// Adds a fault of a field, such as `price[1].rows`.
    pub(crate) fn fault(&mut self, field: &str, message: impl Into<String>) {
        let mut pointer = self.at.clone();
        for part in field.split(['.', '[', ']']).filter(|part| !part.is_empty()) {
            pointer = format!("{pointer}/{}", escape(part));
        }
        let (line, model) = (self.tree.line(&pointer), self.model.clone());
        self.faults.push(Fault { line, model, field: field.to_owned(), message: message.into() });
    }

    /// How many faults there are by now.
    pub(crate) fn count(&self) -> usize {
        self.faults.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_has_its_line() {
        let toml = "# two\n[[model]]\nid = \"one\"\n  [model.map]\n  prompt = \"text\"\n[[model]]\nid = 2\nprice = [\n  { per = 1 },\n  { per = 2 } ]\n";
        let json = "{\"model\":\n [\n {\"id\": \"one\\\"{\",\n \"map\": {\"prompt\":\n \"text\"}},\n {\"id\":\n 2, \"price\":\n [{\"per\": 1},\n {\"per\":\n 2}]}]}";
        for (format, text, lines) in
            [(Format::Toml, toml, [2, 3, 5, 6, 10, 10]), (Format::Json, json, [3, 3, 4, 6, 9, 9])]
        {
            let tree = Tree::parse(format, text).unwrap();
            assert_eq!(tree.root["model"][1]["price"][1]["per"], 2);
            let at = [
                "/model/0",
                "/model/0/id",
                "/model/0/map/prompt",
                "/model/1",
                "/model/1/price/1",
                "/model/1/price/1/per",
            ];
            assert_eq!(at.map(|at| tree.line(at)), lines, "{format:?}");
            assert_eq!(tree.line("/model/0/map/prompt/values/x"), lines[2]);
        }
    }

    #[test]
    fn what_cannot_be_read_is_said_with_its_line() {
        for (format, text, line) in [
            (Format::Toml, "a = 1\nb = \n", 2),
            (Format::Toml, "a = 1\na = 2\n", 2),
            (Format::Json, "{\"a\": 1,\n\"b\": }", 2),
            (Format::Json, "[]", 1),
            (Format::Json, "", 1),
        ] {
            let faults = Tree::parse(format, text).unwrap_err();
            assert_eq!(faults[0].line, line, "{text}: {faults:?}");
        }
    }
}
