//! Reads the fields of one table of a catalogue file; what is wrong with one does not end the reading of the others.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::tree::Report;

/// A table while it is read.
pub(super) struct Fields<'t, 'f> {
    report: Report<'t, 'f>,
    table: Option<&'t Map<String, Value>>,
    known: BTreeSet<String>,
}

impl<'t, 'f> Fields<'t, 'f> {
    pub(super) fn new(mut report: Report<'t, 'f>, value: &'t Value) -> Self {
        let table = value.as_object();
        if table.is_none() {
            report.fault("", "must be a table");
        }
        Self { report, table, known: BTreeSet::new() }
    }

    /// Adds a fault of a field.
    pub(super) fn fault(&mut self, field: &str, message: impl Into<String>) {
        self.report.fault(field, message);
    }

    /// A field as it is.
    pub(super) fn raw(&mut self, name: &str) -> Option<Value> {
        self.known.insert(name.to_owned());
        self.table?.get(name).cloned()
    }

    /// A part of a field as a type.
    pub(super) fn value<T: DeserializeOwned>(&mut self, field: &str, value: Value) -> Option<T> {
        match serde_json::from_value(value) {
            Ok(read) => Some(read),
            Err(error) => {
                self.fault(field, format!("is wrong: {error}"));
                None
            }
        }
    }

    pub(super) fn optional<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        let value = self.raw(name)?;
        self.value(name, value)
    }

    pub(super) fn required<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        if self.table.is_some_and(|table| !table.contains_key(name)) {
            self.fault(name, "must be given");
        }
        self.optional(name)
    }

    /// A text that has to have a form.
    pub(super) fn checked<T>(&mut self, name: &str, parse: fn(&str) -> Result<T, String>) -> Option<T> {
        let text: String = self.optional(name)?;
        match parse(&text) {
            Ok(read) => Some(read),
            Err(message) => {
                self.fault(name, message);
                None
            }
        }
    }

    /// The entries of a table.
    pub(super) fn table(&mut self, name: &str) -> Map<String, Value> {
        self.optional(name).unwrap_or_default()
    }

    /// The entries of a list, each read for itself.
    pub(super) fn list<T: DeserializeOwned>(&mut self, name: &str) -> Vec<T> {
        self.list_of(name, |_| ())
    }

    /// The same, each changed before it is read.
    pub(super) fn list_of<T: DeserializeOwned>(&mut self, name: &str, change: impl Fn(&mut Value)) -> Vec<T> {
        let items: Vec<Value> = self.optional(name).unwrap_or_default();
        let mut read = Vec::with_capacity(items.len());
        for (n, mut item) in items.into_iter().enumerate() {
            change(&mut item);
            read.extend(self.value(&format!("{name}[{n}]"), item));
        }
        read
    }

    /// How many entries a list has.
    pub(super) fn count(&mut self, name: &str) -> Option<usize> {
        let items: Vec<Value> = self.optional(name)?;
        Some(items.len())
    }

    /// Every field that nobody asked for is a fault.
    pub(super) fn end(&mut self) {
        let unknown: Vec<String> = self
            .table
            .into_iter()
            .flatten()
            .map(|(name, _)| name.clone())
            .filter(|name| !self.known.contains(name))
            .collect();
        for name in unknown {
            self.fault(&name, "is not a field of an entry");
        }
    }
}
