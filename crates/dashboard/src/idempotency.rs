//! Idempotency keys: a client's request id with the hash of the request's body. The pair is stored with the row that the
//! request made, so that a repetition finds that row, and another request under the same id is refused.

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// A request id and the hash of what was asked under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IdempotencyKey {
    /// Chosen by the client, unique in its account.
    pub(crate) request_id: Uuid,
    /// The SHA-256 of the body.
    pub(crate) body_sha256: [u8; 32],
}

impl IdempotencyKey {
    /// The key of the request `request_id` with `body`: every field that the service reads of the request, in order.
    pub(crate) fn new(request_id: Uuid, body: &[&[u8]]) -> Self {
        let mut digest = Sha256::new();
        for part in body {
            // Each part is hashed with its length, or "ab" + "c" would be "a" + "bc".
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        Self { request_id, body_sha256: digest.finalize().into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_body_has_another_hash() {
        let hash = |body: &[&[u8]]| IdempotencyKey::new(Uuid::nil(), body).body_sha256;
        assert_eq!(hash(&[b"ab", b"c"]), hash(&[b"ab", b"c"]));
        assert_ne!(hash(&[b"ab", b"c"]), hash(&[b"a", b"bc"]));
        assert_ne!(hash(&[b"ab"]), hash(&[b"ab", b""]));
    }
}
