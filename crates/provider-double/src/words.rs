//! The words of a prompt that ask for a fault: `[word]`, `[word:3]` for three requests, `[word:ever]`.

use crate::kinds::Times;

/// How a prompt asks for a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Plainly,
    For(Times),
}

/// Whether the prompt asks for it.
pub(crate) fn asked(prompt: &str, word: &str) -> Option<Asked> {
    let inner = prompt.split('[').skip(1).filter_map(|rest| rest.split_once(']')).map(|(inner, _)| inner);
    inner.filter_map(|inner| inner.strip_prefix(word)).find_map(|rest| match rest.strip_prefix(':') {
        Some("ever") => Some(Asked::For(Times::Ever)),
        Some(number) => Some(Asked::For(Times::First(number.parse().ok()?))),
        None => rest.is_empty().then_some(Asked::Plainly),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_asks_plainly_or_for_a_number_of_requests() {
        for (prompt, expected) in [
            ("a harbour [file-403] at dawn", Some(Asked::Plainly)),
            ("[late][file-403:2]", Some(Asked::For(Times::First(2)))),
            ("[file-403:ever]", Some(Asked::For(Times::Ever))),
            ("[file-403:soon]", None),
            ("[file-4030]", None),
            ("file-403", None),
            ("[file-403", None),
        ] {
            assert_eq!(asked(prompt, "file-403"), expected, "{prompt}");
        }
    }
}
