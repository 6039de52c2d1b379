//! The credential in the headers of a call: a key is a secret of 256 random bits, of which only the SHA-256 goes on. What was made up
//! has another form, and ends here.

use domain::api_key;
use http::{HeaderMap, header::AUTHORIZATION};
use sha2::{Digest as _, Sha256};

use super::known::Hash;
use crate::error::Refusal;

/// The hash of the key in `authorization: Bearer …` or `x-api-key`.
pub(super) fn parse(headers: &HeaderMap) -> Result<Hash, Refusal> {
    let bearer = |text: &str| {
        let (scheme, key) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim().to_owned())
    };
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    // A call with both headers means the standard one, whatever is in the other.
    let key = match (headers.get(AUTHORIZATION), text("x-api-key")) {
        (Some(_), _) => text(AUTHORIZATION.as_str()).and_then(bearer),
        (None, key) => key.map(str::to_owned),
    };
    let key = key.ok_or(Refusal::Missing)?;
    // Anything of another form cannot be a key of ours, so dashboard need not be asked about it.
    if !api_key::is_well_formed(&key) {
        return Err(Refusal::Malformed);
    }
    Ok(Sha256::digest(key.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "rsk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA1McdoK";

    fn check(headers: &[(&'static str, &str)], expected: Result<(), Refusal>) {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        let headers: HeaderMap = headers.collect();
        let expected = expected.map(|()| Hash::from(Sha256::digest(KEY)));
        assert_eq!(parse(&headers), expected, "{headers:?}");
    }

    #[test]
    fn a_key_is_read_from_either_header_and_only_in_its_form() {
        check(&[("authorization", &format!("Bearer {KEY}"))], Ok(()));
        check(&[("authorization", &format!("bearer {KEY}"))], Ok(()));
        check(&[("x-api-key", KEY)], Ok(()));
        check(&[], Err(Refusal::Missing));
        check(&[("authorization", KEY)], Err(Refusal::Missing));
        check(&[("authorization", &format!("Basic {KEY}"))], Err(Refusal::Missing));
        check(&[("authorization", "Bearer rsk_short"), ("x-api-key", KEY)], Err(Refusal::Malformed));
        check(&[("x-api-key", &KEY[4..])], Err(Refusal::Malformed));
        check(&[("x-api-key", &format!("{KEY}A"))], Err(Refusal::Malformed));
        check(&[("x-api-key", &KEY.replace('A', "!"))], Err(Refusal::Malformed));
        check(&[("x-api-key", &KEY.replace('A', "B"))], Err(Refusal::Malformed));
    }
}
