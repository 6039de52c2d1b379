//! Tokens that clients hand back: of pages, and of watches that go on.

use chassis::keyring::tokens::Tokens;
use domain::page;
use uuid::Uuid;

use super::KEYS;

const ACCOUNT: Uuid = Uuid::from_u128(1);

/// A token of a page is refused, or is the one that would be given for what it says; and what is sealed opens for its own account alone.
pub(crate) fn page_tokens(bytes: &[u8]) {
    let Some(keys) = &*KEYS else { return };
    let tokens = Tokens::new(keys, "pages");
    let (seal, another) = (tokens.seal(ACCOUNT, b"things"), tokens.seal(Uuid::from_u128(2), b"things"));
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Some(body) = seal.open(text)
    {
        assert_eq!(seal.token(&body), text);
        assert_eq!(another.open(text), None, "another account's");
    }
    let token = seal.token(bytes);
    assert_eq!(seal.open(&token).as_deref(), Some(bytes));
    assert_eq!(another.open(&token), None, "another account's");
    if let Ok(Some(cursor)) = page::cursor(&token, |_| Some(bytes.to_vec())) {
        assert_eq!(cursor.to_bytes(), bytes);
    }
}

/// What a resume token carries is refused, or is read as what is written for it, however it was written. The first byte is the number
/// of generations that the watch names, none for one of all.
pub(crate) fn resume_tokens(bytes: &[u8]) {
    let (Some(keys), Some((names, body))) = (&*KEYS, bytes.split_first()) else { return };
    let tokens = Tokens::new(keys, "watches");
    let reread = |body: &[u8]| generation_status::reread_resume_token(&tokens, usize::from(*names), body);
    if let Some(written) = reread(body) {
        assert_eq!(reread(&written).as_ref(), Some(&written));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mutations of what is refused anyway would try next to nothing.
    #[test]
    fn the_corpora_have_tokens_that_are_believed() {
        let tokens = Tokens::new(KEYS.as_ref().unwrap(), "pages");
        let page = include_str!("../../corpus/page_tokens/page");
        assert!(tokens.seal(ACCOUNT, b"things").open(page).is_some());
        for token in [
            include_bytes!("../../corpus/resume_tokens/named").as_slice(),
            include_bytes!("../../corpus/resume_tokens/parent"),
        ] {
            let tokens = Tokens::new(KEYS.as_ref().unwrap(), "watches");
            let reread = generation_status::reread_resume_token(&tokens, usize::from(token[0]), &token[1..]);
            assert_eq!(reread.as_deref(), Some(&token[1..]));
        }
    }
}
