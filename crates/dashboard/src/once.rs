//! Requests that are carried out once: a client's request id with the hash of what it asked for. The pair is stored with
//! the row that the request made, so the same request finds that row and another request under the same id is told.

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// A request id and what came with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Once {
    /// Chosen by the client, unique in its account.
    pub(crate) id: Uuid,
    /// SHA-256 over the body.
    pub(crate) sha256: [u8; 32],
}

impl Once {
    /// The request `id` with `body`: all that the service reads of the request, in order.
    pub(crate) fn new(id: Uuid, body: &[&[u8]]) -> Self {
        let mut digest = Sha256::new();
        for part in body {
            // With its length, or "ab" + "c" would be "a" + "bc".
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        Self { id, sha256: digest.finalize().into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_body_has_another_hash() {
        let hash = |body: &[&[u8]]| Once::new(Uuid::nil(), body).sha256;
        assert_eq!(hash(&[b"ab", b"c"]), hash(&[b"ab", b"c"]));
        assert_ne!(hash(&[b"ab", b"c"]), hash(&[b"a", b"bc"]));
        assert_ne!(hash(&[b"ab"]), hash(&[b"ab", b""]));
    }
}
