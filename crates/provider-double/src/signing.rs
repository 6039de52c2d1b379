//! Signatures as the two providers make them, written apart from the code that verifies them.

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use ring::{digest, hmac};
use serde_json::{Value, json};

/// The headers of a webhook.
pub(crate) type Headers = Vec<(&'static str, String)>;

/// What webhooks are signed with.
#[derive(Debug)]
pub(crate) struct Signer {
    secret: hmac::Key,
    pair: Ed25519KeyPair,
}

impl Signer {
    pub(crate) fn new(secret: &str, seed: u64) -> Result<Self> {
        let bytes = STANDARD.decode(secret.trim_start_matches("whsec_")).context("the secret is whsec_ and base64")?;
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        let pair = Ed25519KeyPair::from_seed_unchecked(&key).ok().context("making a key pair")?;
        Ok(Self { secret: hmac::Key::new(hmac::HMAC_SHA256, &bytes), pair })
    }

    /// By Standard Webhooks.
    pub(crate) fn replicate(&self, id: &str, seconds: u64, body: &str, forged: bool) -> Headers {
        let tag =
            hmac::sign(&self.secret, format!("{id}.{seconds}.{body}{}", if forged { "!" } else { "" }).as_bytes());
        vec![
            ("webhook-id", id.to_owned()),
            ("webhook-timestamp", seconds.to_string()),
            ("webhook-signature", format!("v1,{}", STANDARD.encode(tag))),
        ]
    }

    /// By fal's rule.
    pub(crate) fn fal(&self, request: &str, seconds: u64, body: &str, forged: bool) -> Headers {
        let user = "user-of-the-double";
        let hash = hex::encode(digest::digest(&digest::SHA256, body.as_bytes()));
        let shift = u64::from(forged);
        let signature = self.pair.sign(format!("{request}\n{user}\n{}\n{hash}", seconds + shift).as_bytes());
        vec![
            ("x-fal-webhook-request-id", request.to_owned()),
            ("x-fal-webhook-user-id", user.to_owned()),
            ("x-fal-webhook-timestamp", seconds.to_string()),
            ("x-fal-webhook-signature", hex::encode(signature)),
        ]
    }

    /// The key set that fal publishes.
    pub(crate) fn key_set(&self) -> Value {
        json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": "double",
                         "x": URL_SAFE_NO_PAD.encode(self.pair.public_key())}]})
    }
}
