//! The seal on the tokens of a caller's own writes. What a token demands costs a read of the database, so only what a service has
//! said, and to this account, is passed on.
//!
//! Invariant: no token reaches a service that has not left through a gateway with one of our keys, in a reply to the same
//! account; seals are compared in constant time.

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use chassis::keyring::{InternalKeys, Keyring, MAC_BYTES};
use chassis::request::token;
use http::{HeaderMap, HeaderValue};
use uuid::Uuid;

/// How metadata is written, and read with padding or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_encode_padding(false).with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Seals tokens.
#[derive(Clone, Debug)]
pub(super) struct Seal(Keyring);

impl Seal {
    pub(super) fn new(keys: &InternalKeys) -> Self {
        Self(keys.of("tokens of own writes"))
    }

    /// Takes the seals off the tokens of a request of `account`. One that has none of ours, or was another account's, demands nothing and
    /// is left out: it may be of before the keys were changed, and is of use for seconds.
    pub(super) fn open(&self, headers: &mut HeaderMap, account: Uuid) {
        if !headers.contains_key(token::HEADER) {
            return;
        }
        let values = headers.get_all(token::HEADER).iter().take(token::MAX_PER_REQUEST);
        let opened: Vec<_> = values.filter_map(|value| self.opened(value, account)).collect();
        headers.remove(token::HEADER);
        for value in opened {
            headers.append(token::HEADER, value);
        }
    }

    /// Puts a seal on the token of a reply to `account`.
    pub(super) fn seal(&self, headers: &mut HeaderMap, account: Uuid) {
        let Some(value) = headers.remove(token::HEADER) else { return };
        // What is no token of a service is of no use to anybody.
        let Ok(mut token) = BASE64.decode(value.as_bytes()) else { return };
        let mac = self.0.sign(&[account.as_bytes(), &token]);
        token.extend_from_slice(&mac);
        if let Ok(value) = HeaderValue::try_from(BASE64.encode(token)) {
            headers.insert(token::HEADER, value);
        }
    }

    fn opened(&self, value: &HeaderValue, account: Uuid) -> Option<HeaderValue> {
        let sealed = BASE64.decode(value.as_bytes()).ok()?;
        let (token, mac) = sealed.split_at_checked(sealed.len().checked_sub(MAC_BYTES)?)?;
        let fits = self.0.verify(&[account.as_bytes(), token], mac);
        fits.then(|| HeaderValue::try_from(BASE64.encode(token)).ok()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "one key of 32 or more characters";
    const TWO: &str = "two key of 32 or more characters";
    const ACCOUNT: Uuid = Uuid::from_u128(1);

    fn keys(text: &str) -> Seal {
        Seal::new(&InternalKeys::parse(text).unwrap())
    }

    fn with(token: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(token::HEADER, token.parse().unwrap());
        headers
    }

    fn sealed(by: &str, token: &str) -> HeaderMap {
        let mut headers = with(token);
        keys(by).seal(&mut headers, ACCOUNT);
        headers
    }

    /// The tokens that are passed on of these headers.
    fn opened(keys_text: &str, mut headers: HeaderMap, account: Uuid) -> Vec<HeaderValue> {
        keys(keys_text).open(&mut headers, account);
        headers.get_all(token::HEADER).iter().cloned().collect()
    }

    #[test]
    fn a_sealed_token_is_opened_for_its_account_alone() {
        let headers = sealed(ONE, "AQID");
        assert_ne!(headers[token::HEADER], "AQID");
        assert!(opened(ONE, headers.clone(), Uuid::from_u128(2)).is_empty());
        assert!(opened(TWO, headers.clone(), ACCOUNT).is_empty());
        assert_eq!(opened(ONE, headers, ACCOUNT), ["AQID"]);
    }

    #[test]
    fn what_was_made_up_or_changed_is_left_out() {
        let real = BASE64.decode(sealed(ONE, "AQID")[token::HEADER].as_bytes()).unwrap();
        for at in 0..real.len() {
            let mut changed = real.clone();
            changed[at] ^= 1;
            assert!(opened(ONE, with(&BASE64.encode(changed)), ACCOUNT).is_empty(), "byte {at}");
        }
        for forged in ["", "AQID", "???", &"A".repeat(64)] {
            assert!(opened(ONE, with(forged), ACCOUNT).is_empty(), "{forged}");
        }
        let mut both = sealed(ONE, "AQID");
        both.append(token::HEADER, HeaderValue::from_static("AQID"));
        assert_eq!(opened(ONE, both, ACCOUNT), ["AQID"], "one of two");
        assert!(opened(ONE, HeaderMap::new(), ACCOUNT).is_empty());
    }

    #[test]
    fn keys_are_rotated_with_both_in_the_list() {
        for (sealed_by, opened_by, opens) in [
            (ONE.to_owned(), format!("{TWO},{ONE}"), true),
            (format!("{TWO},{ONE}"), format!("{ONE}, {TWO}"), true),
            (format!("{TWO},{ONE}"), ONE.to_owned(), false),
        ] {
            assert_eq!(!opened(&opened_by, sealed(&sealed_by, "AQID"), ACCOUNT).is_empty(), opens);
        }
    }
}
