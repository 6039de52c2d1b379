//! Signatures of providers' webhooks: what a stranger sends to an address that everybody can reach.

use std::sync::LazyLock;
use std::time::{Duration, UNIX_EPOCH};

use generation_worker::signatures::{parse_key_set, parse_secret, verify_fal, verify_standard};
use http::{HeaderMap, HeaderName, HeaderValue};
use ring::hmac;
use ring::signature::{Ed25519KeyPair, KeyPair as _};

/// When the webhooks of the corpus were signed.
const SIGNED: Duration = Duration::from_secs(1_614_265_330);
/// How much later a signature holds no longer.
const TOO_LATE: Duration = Duration::from_secs(601);
/// More lines than this are no headers.
const MAX_HEADERS: usize = 64;

/// The secret that the libraries of Standard Webhooks are tested with.
static SECRETS: LazyLock<Vec<hmac::Key>> = LazyLock::new(|| secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"));
static OTHER_SECRETS: LazyLock<Vec<hmac::Key>> = LazyLock::new(|| secret("whsec_5WbX5kEWLlfzsGNjH64I8lOOqUB6e8FH"));
static KEYS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| public_key([7; 32]));
static OTHER_KEYS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| public_key([8; 32]));

fn secret(text: &str) -> Vec<hmac::Key> {
    parse_secret(text).into_iter().collect()
}

fn public_key(seed: [u8; 32]) -> Vec<Vec<u8>> {
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).ok();
    pair.iter().map(|pair| pair.public_key().as_ref().to_vec()).collect()
}

/// A webhook is refused, or what was signed is this body, at about this time, by this key. Its headers are lines, which an empty one ends.
pub(crate) fn webhook_signatures(bytes: &[u8]) {
    let (headers, body) = split(bytes);
    let signed_at = UNIX_EPOCH + SIGNED;
    let longer = [body, b" "].concat();
    if verify_standard(&headers, body, signed_at, &SECRETS).is_ok() {
        assert!(verify_standard(&headers, &longer, signed_at, &SECRETS).is_err(), "another body");
        assert!(verify_standard(&headers, body, signed_at + TOO_LATE, &SECRETS).is_err(), "another time");
        assert!(verify_standard(&headers, body, signed_at, &OTHER_SECRETS).is_err(), "another secret");
    }
    if verify_fal(&headers, body, signed_at, &KEYS).is_ok() {
        assert!(verify_fal(&headers, &longer, signed_at, &KEYS).is_err(), "another body");
        assert!(verify_fal(&headers, body, signed_at + TOO_LATE, &KEYS).is_err(), "another time");
        assert!(verify_fal(&headers, body, signed_at, &OTHER_KEYS).is_err(), "another key");
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = parse_secret(text);
    }
    if let Ok(set) = serde_json::from_slice(bytes) {
        assert!(parse_key_set(&set).iter().all(|key| key.len() == 32));
    }
}

fn split(bytes: &[u8]) -> (HeaderMap, &[u8]) {
    let end = bytes.windows(2).position(|pair| pair == b"\n\n");
    let (head, body) = end.map_or((bytes, &[][..]), |end| (&bytes[..end], &bytes[end + 2..]));
    let lines = head.split(|byte| *byte == b'\n').take(MAX_HEADERS);
    let pair = |line: &[u8]| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        Some((name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?))
    };
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(pair) {
        headers.append(name, value);
    }
    (headers, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mutations of what is refused anyway would try next to nothing.
    #[test]
    fn the_corpus_has_a_webhook_of_each_kind_that_is_believed() {
        let (headers, body) = split(include_bytes!("../../corpus/webhook_signatures/standard"));
        assert!(verify_standard(&headers, body, UNIX_EPOCH + SIGNED, &SECRETS).is_ok());
        let (headers, body) = split(include_bytes!("../../corpus/webhook_signatures/fal"));
        assert!(verify_fal(&headers, body, UNIX_EPOCH + SIGNED, &KEYS).is_ok());
    }
}
