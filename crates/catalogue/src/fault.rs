//! What is wrong with a catalogue file, for its operator.

use std::fmt;

/// One thing that is wrong with a catalogue file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The line of the file, from 1.
    pub line: usize,
    /// The id of the model, or its place (`model[2]`) where that is what is wrong; empty for the file as a whole.
    pub model: String,
    /// The field, such as `map.duration`; empty for the entry as a whole.
    pub field: String,
    /// What it must be, or what is wrong with it.
    pub message: String,
}

impl Fault {
    /// A fault of the file as a whole.
    pub(crate) fn of_file(line: usize, message: String) -> Self {
        Self { line, model: String::new(), field: String::new(), message }
    }
}

impl fmt::Display for Fault {
    /// `line 12: veo-3.1-i2v: map.duration names "seconds", which the schema does not have`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: ", self.line)?;
        if !self.model.is_empty() {
            write!(f, "{}: ", self.model)?;
        }
        if !self.field.is_empty() {
            write!(f, "{} ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}
