//! The form of an API key: `rsk_`, 256 random bits in 43 characters of base64url, and a checksum in 6 characters of base62.
//!
//! Invariant: a text that was mistyped, cut or made up does not have this form but once in four billion times, so that nobody need be
//! asked about it. The checksum is no secret and proves nothing: a key is good because its hash is stored.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

/// What every key begins with, for people and for scanners of secrets.
pub const PREFIX: &str = "rsk_";
/// The characters of a whole key.
pub const LENGTH: usize = PREFIX.len() + RANDOM + CHECKSUM;

/// The characters of 256 bits in base64url.
const RANDOM: usize = 43;
/// The characters of 32 bits in base62.
const CHECKSUM: usize = 6;
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The key of these random bits.
#[must_use]
pub fn from_random(random: [u8; 32]) -> String {
    let mut key = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
    let checksum = checksum(&key);
    key.push_str(&checksum);
    key
}

/// Whether a text has the form of a key, checksum included.
#[must_use]
pub fn is_well_formed(text: &str) -> bool {
    let Some((key, sum)) = text.split_at_checked(LENGTH - CHECKSUM) else { return false };
    let random = key.strip_prefix(PREFIX).and_then(|random| URL_SAFE_NO_PAD.decode(random).ok());
    random.is_some_and(|random| random.len() == 32) && sum == checksum(key)
}

/// The CRC-32 of a text, its most significant digit first.
fn checksum(text: &str) -> String {
    let mut rest = crc32fast::hash(text.as_bytes());
    let mut digits = [b'0'; CHECKSUM];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[(rest % 62) as usize];
        rest /= 62;
    }
    digits.into_iter().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_form_for_ever() {
        // Keys are stored by their hash, so what was a key once must stay one.
        assert_eq!(from_random([0; 32]), "rsk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA1McdoK");
        for byte in 0..=255 {
            let key = from_random([byte; 32]);
            assert!(key.len() == LENGTH && is_well_formed(&key), "{key}");
        }
    }

    #[test]
    fn whatever_is_changed_is_no_key() {
        let key = from_random([7; 32]);
        for at in 0..key.len() {
            for other in ['0', 'A', 'z', '_', '-', '!'] {
                let mut wrong = key.clone();
                wrong.replace_range(at..=at, &other.to_string());
                assert_eq!(is_well_formed(&wrong), wrong == key, "{wrong}");
            }
            assert!(!is_well_formed(&key[..at]));
        }
        for wrong in [format!("{key}0"), format!(" {key}"), key.to_uppercase(), "rsk_é".repeat(9)] {
            assert!(!is_well_formed(&wrong), "{wrong}");
        }
    }
}
