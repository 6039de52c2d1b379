//! The public names of providers' keys, as workers say them.
//!
//! Invariant: what is stored, and becomes the label of a metric, is `{provider}/{hash}` of plain letters and digits.

use chassis::fields::Fields;

/// Of a key's public name.
const MAX_KEY_CHARACTERS: usize = 100;

/// The public name of a key, `{provider}/{hash}`, or nothing.
pub(super) fn parse_key(fields: &mut Fields, text: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let named = text.split_once('/').is_some_and(|(provider, hash)| {
        [provider, hash].iter().all(|part| !part.is_empty() && part.chars().all(plain))
    });
    let fits = text.is_empty() || (named && text.len() <= MAX_KEY_CHARACTERS);
    if !fits {
        fields.wrong(
            "provider_key",
            format_args!("must be {{provider}}/{{hash}}, of at most {MAX_KEY_CHARACTERS} characters, or empty"),
        );
    }
    fits.then(|| text.to_owned())
}
