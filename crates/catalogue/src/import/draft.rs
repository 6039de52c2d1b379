//! Everything that is written of an entry.

use super::output::Output;
use super::{media, settings};
use crate::{Document, Kind};

/// Everything that is written of an entry.
pub(super) struct Draft<'a> {
    pub(super) id: String,
    pub(super) document: &'a Document,
    pub(super) kind: Kind,
    pub(super) schema_path: String,
    pub(super) checked: &'a str,
    pub(super) source: String,
    pub(super) settings: Vec<settings::Guess>,
    pub(super) media: Vec<media::Slot>,
    pub(super) files: Vec<String>,
    pub(super) hidden: Vec<(String, String)>,
    pub(super) output: Output,
    pub(super) moderation: Vec<(String, &'static str)>,
}
