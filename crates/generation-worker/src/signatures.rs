//! Whether a webhook comes from its provider: pure functions of its headers, its raw body, the time and the keys.
//!
//! Invariant: nothing of the body is read before its signature holds; comparisons take the same time whatever is wrong; and what
//! is signed with a time more than five minutes away is refused.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::HeaderMap;
use ring::{digest, hmac, signature};

use crate::model::NotVerified;

/// How far a signature's time may be from ours, as both providers' documentation has it.
const WINDOW: Duration = Duration::from_secs(300);

/// Parses a Standard Webhooks secret, `whsec_` and base64.
pub fn parse_secret(text: &str) -> Option<hmac::Key> {
    let bytes = STANDARD.decode(text.trim().strip_prefix("whsec_")?).ok()?;
    (!bytes.is_empty()).then(|| hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

/// Verifies by Standard Webhooks (<https://www.standardwebhooks.com>), as Replicate signs, and returns the event's id. Any of
/// the signatures may be by any of the secrets, so that both can be changed while events are under way.
pub fn verify_standard<'a>(
    headers: &'a HeaderMap,
    body: &[u8],
    now: SystemTime,
    secrets: &[hmac::Key],
) -> Result<&'a str, NotVerified> {
    let id = header(headers, "webhook-id")?;
    let time = header(headers, "webhook-timestamp")?;
    let signatures = header(headers, "webhook-signature")?;
    check_time(time, now)?;
    let mut signed = format!("{id}.{time}.").into_bytes();
    signed.extend_from_slice(body);
    let holds = signatures
        .split_ascii_whitespace()
        .filter_map(|entry| STANDARD.decode(entry.strip_prefix("v1,")?).ok())
        .any(|tag| secrets.iter().any(|secret| hmac::verify(secret, &signed, &tag).is_ok()));
    if holds { Ok(id) } else { Err(NotVerified("its signature does not hold")) }
}

/// Verifies as fal signs (ED25519 over request, user, time and the body's hash) and returns the request's id, and the user whose it is:
/// fal signs for all of its customers alike.
pub fn verify_fal<'a>(
    headers: &'a HeaderMap,
    body: &[u8],
    now: SystemTime,
    keys: &[Vec<u8>],
) -> Result<(&'a str, &'a str), NotVerified> {
    let request = header(headers, "x-fal-webhook-request-id")?;
    let user = header(headers, "x-fal-webhook-user-id")?;
    let time = header(headers, "x-fal-webhook-timestamp")?;
    let given = header(headers, "x-fal-webhook-signature")?;
    check_time(time, now)?;
    let given = hex::decode(given).map_err(|_| NotVerified("its signature cannot be read"))?;
    let hash = hex::encode(digest::digest(&digest::SHA256, body));
    let signed = format!("{request}\n{user}\n{time}\n{hash}");
    let holds = keys.iter().any(|key| {
        signature::UnparsedPublicKey::new(&signature::ED25519, key).verify(signed.as_bytes(), &given).is_ok()
    });
    if holds { Ok((request, user)) } else { Err(NotVerified("its signature does not hold")) }
}

/// The ED25519 keys of a JSON Web Key Set.
pub fn parse_key_set(set: &serde_json::Value) -> Vec<Vec<u8>> {
    let keys = set["keys"].as_array().map(Vec::as_slice).unwrap_or_default();
    keys.iter()
        .filter(|key| key["kty"].as_str().is_none_or(|kind| kind == "OKP"))
        .filter(|key| key["crv"].as_str().is_none_or(|curve| curve == "Ed25519"))
        .filter_map(|key| URL_SAFE_NO_PAD.decode(key["x"].as_str()?.trim_end_matches('=')).ok())
        .filter(|key| key.len() == 32)
        .collect()
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str, NotVerified> {
    let mut all = headers.get_all(name).iter();
    match (all.next().and_then(|value| value.to_str().ok()), all.next()) {
        (Some(value), None) if !value.is_empty() => Ok(value),
        _ => Err(NotVerified("a header of its signature is missing, or is there twice")),
    }
}

fn check_time(time: &str, now: SystemTime) -> Result<(), NotVerified> {
    let seconds: u64 = time.parse().map_err(|_| NotVerified("its time cannot be read"))?;
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    if now.abs_diff(seconds) > WINDOW.as_secs() { Err(NotVerified("it is too old or too new")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use ring::signature::{Ed25519KeyPair, KeyPair as _};
    use serde_json::json;

    use super::*;

    /// The example of the Standard Webhooks libraries, which Replicate's own client is tested with:
    /// <https://github.com/replicate/replicate-go>, `TestValidateWebhook`.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const TIME: u64 = 1_614_265_330;
    const SIGNED: [(&str, &str); 3] = [
        ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
        ("webhook-timestamp", "1614265330"),
        ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
    ];

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn the_example_of_standard_webhooks_holds_within_five_minutes() {
        let headers = headers(&SIGNED);
        let keys = [parse_secret(SECRET).unwrap()];
        for now in [TIME - 300, TIME, TIME + 300] {
            assert_eq!(verify_standard(&headers, BODY, at(now), &keys), Ok("msg_p5jXN8AQM9LWM0D4loKWxJek"));
        }
        for now in [TIME - 301, TIME + 301] {
            assert!(verify_standard(&headers, BODY, at(now), &keys).is_err());
        }
    }

    #[test]
    fn any_signature_by_any_secret_will_do() {
        let other = parse_secret("whsec_5WbX5kEWLlfzsGNjH64I8lOOqUB6e8FH").unwrap();
        let several = "v1,bm9ldHUjKzFob2VudXRob2VodWUzMjRvdWVvdW9ldQo= v2,MzJsNDk4MzI0K2VvdSMjMTEjQEBAQDEyMzMzMzEyMwo= \
                       v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        let headers = headers(&[SIGNED[0], SIGNED[1], ("webhook-signature", several)]);
        let keys = [other.clone(), parse_secret(SECRET).unwrap()];
        assert!(verify_standard(&headers, BODY, at(TIME), &keys).is_ok());
        assert!(verify_standard(&headers, BODY, at(TIME), &[other]).is_err());
        assert!(verify_standard(&headers, BODY, at(TIME), &[]).is_err());
    }

    #[test]
    fn whatever_differs_from_what_was_signed_is_refused() {
        let keys = [parse_secret(SECRET).unwrap()];
        assert!(verify_standard(&headers(&SIGNED), br#"{"test": 2432232315}"#, at(TIME), &keys).is_err());
        for (name, value) in [
            ("webhook-id", "msg_other"),
            ("webhook-timestamp", "1614265331"),
            ("webhook-timestamp", "soon"),
            ("webhook-signature", "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
            ("webhook-signature", "v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
            ("webhook-signature", "v1,"),
        ] {
            let mut wrong = headers(&SIGNED);
            wrong.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
            assert!(verify_standard(&wrong, BODY, at(TIME), &keys).is_err(), "{name}: {value}");
            wrong.remove(name);
            assert!(verify_standard(&wrong, BODY, at(TIME), &keys).is_err(), "without {name}");
        }
        let mut doubled = headers(&SIGNED);
        doubled.append("webhook-id", HeaderValue::from_static("msg_p5jXN8AQM9LWM0D4loKWxJek"));
        assert!(verify_standard(&doubled, BODY, at(TIME), &keys).is_err());
        for secret_text in ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_!"] {
            assert!(parse_secret(secret_text).is_none(), "{secret_text}");
        }
    }

    /// fal publishes no example with its keys, so the rule is followed once more by hand.
    #[test]
    fn a_webhook_of_fal_holds_by_one_of_its_keys() {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let other = Ed25519KeyPair::from_seed_unchecked(&[8; 32]).unwrap();
        let body = br#"{"request_id":"123e4567-e89b-12d3-a456-426614174000","status":"OK","payload":{}}"#;
        let hash = hex::encode(digest::digest(&digest::SHA256, body));
        let signed = format!("123e4567-e89b-12d3-a456-426614174000\nuser-1\n{TIME}\n{hash}");
        let given = hex::encode(pair.sign(signed.as_bytes()));
        let time = TIME.to_string();
        let right = [
            ("x-fal-webhook-request-id", "123e4567-e89b-12d3-a456-426614174000"),
            ("x-fal-webhook-user-id", "user-1"),
            ("x-fal-webhook-timestamp", time.as_str()),
            ("x-fal-webhook-signature", given.as_str()),
        ];
        let jwk = |pair: &Ed25519KeyPair| json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(pair.public_key())});
        let keys = parse_key_set(&json!({"keys": [{"kty": "RSA", "n": "AQAB"}, jwk(&other), jwk(&pair)]}));
        assert_eq!(keys.len(), 2);
        assert_eq!(
            verify_fal(&headers(&right), body, at(TIME + 299), &keys),
            Ok(("123e4567-e89b-12d3-a456-426614174000", "user-1"))
        );
        assert!(verify_fal(&headers(&right), body, at(TIME + 301), &keys).is_err());
        assert!(verify_fal(&headers(&right), b"{}", at(TIME), &keys).is_err());
        assert!(verify_fal(&headers(&right), body, at(TIME), &keys[..1]).is_err());
        for (at_header, value) in [(0, "another"), (1, "user-2"), (3, "00"), (3, "zz")] {
            let mut wrong = right;
            wrong[at_header].1 = value;
            assert!(verify_fal(&headers(&wrong), body, at(TIME), &keys).is_err(), "{value}");
        }
    }
}
