//! Fields that several requests have, read the same way.

use std::fmt::Display;

use chassis::fields::Fields;

/// Of a note or a reason.
const MAX_NOTE_CHARACTERS: usize = 500;
/// Of the name of an end user, as the account calls them.
pub(super) const MAX_END_USER_CHARACTERS: usize = 200;

/// A note of who does something, and why: one line.
pub(super) fn parse_note(fields: &mut Fields, text: &str) -> Option<String> {
    fields.line("note", text.to_owned(), MAX_NOTE_CHARACTERS)
}

/// The reason of an adjustment, which its account reads: one line.
pub(super) fn parse_reason(fields: &mut Fields, text: &str) -> Option<String> {
    fields.line("reason", text.to_owned(), MAX_NOTE_CHARACTERS)
}

/// The id in `models/{model}`, whether or not there is such a model.
pub(super) fn parse_model(name: &str) -> Result<String, impl Display + use<>> {
    let id = name.strip_prefix("models/").filter(|id| (1..=200).contains(&id.len()) && !id.contains('/'));
    id.map(str::to_owned).ok_or("must be models/{model}")
}
