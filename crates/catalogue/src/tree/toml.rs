//! TOML as a tree: the parser keeps the place of every value.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::Fault;
use crate::schema::escape;

pub(super) fn parse(text: &str) -> Result<(Value, BTreeMap<String, usize>), Vec<Fault>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader { text, lines: BTreeMap::new(), faults: Vec::new() };
    for error in errors {
        let line = error.span().map_or(1, |span| reader.line(span.start));
        reader.faults.push(Fault::of_file(line, format!("is not TOML: {}", error.message())));
    }
    if reader.faults.is_empty() {
        let root = reader.table(table.get_ref(), "");
        if reader.faults.is_empty() {
            return Ok((root, reader.lines));
        }
    }
    Err(reader.faults)
}

struct Reader<'a> {
    text: &'a str,
    lines: BTreeMap<String, usize>,
    faults: Vec<Fault>,
}

impl Reader<'_> {
    fn line(&self, at: usize) -> usize {
        let before = &self.text.as_bytes()[..at.min(self.text.len())];
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }

    fn table(&mut self, table: &DeTable<'_>, pointer: &str) -> Value {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        let mut fields = Map::new();
        for (name, value) in entries {
            let at = format!("{pointer}/{}", escape(name.get_ref()));
            // A table's own span is its header; a key's is where a reader looks for it.
            self.lines.insert(at.clone(), self.line(name.span().start));
            let value = self.value(value, &at);
            fields.insert(name.get_ref().to_string(), value);
        }
        Value::Object(fields)
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>, pointer: &str) -> Value {
        match value.get_ref() {
            DeValue::String(text) => Value::String(text.to_string()),
            DeValue::Boolean(truth) => Value::Bool(*truth),
            DeValue::Datetime(time) => Value::String(time.to_string()),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Value::Number(Number::from(number)),
                Err(_) => self.refuse(value, "is a number beyond 64 bits"),
            },
            DeValue::Float(number) => match number.as_str().parse().ok().and_then(Number::from_f64) {
                Some(number) => Value::Number(number),
                None => self.refuse(value, "is no number that JSON has"),
            },
            DeValue::Array(items) => {
                let mut all = Vec::with_capacity(items.len());
                for (n, item) in items.iter().enumerate() {
                    let at = format!("{pointer}/{n}");
                    self.lines.insert(at.clone(), self.line(item.span().start));
                    all.push(self.value(item, &at));
                }
                Value::Array(all)
            }
            DeValue::Table(table) => self.table(table, pointer),
        }
    }

    fn refuse(&mut self, value: &Spanned<DeValue<'_>>, message: &str) -> Value {
        let text = self.text.get(value.span()).unwrap_or_default();
        self.faults.push(Fault::of_file(self.line(value.span().start), format!("{text} {message}")));
        Value::Null
    }
}
