//! Forgets keys that have changed, upon messages over NATS, so that a revocation takes effect in milliseconds.
//!
//! Correctness needs none of this: without a message, dashboard is asked again when the lifetime of an answer is over.

use cache::{Cache, Signal};
use tokio_util::task::AbortOnDropHandle;

use super::known::{Hash, KnownKeys};

/// Forgets each key that `cache` reports as changed, until the handle is dropped.
pub(super) fn spawn(cache: Cache, known: KnownKeys) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut changes = cache.changes();
        while let Some(signal) = changes.next().await {
            if let Signal::Changed(change) = signal
                && let Some(hash) = parse_hash(&change.key)
            {
                known.forget(&hash).await;
            }
        }
    }))
}

/// The hash in a cache key `key:{sha256 hex}`.
fn parse_hash(key: &str) -> Option<Hash> {
    let digits = key.strip_prefix("key:")?;
    let digit = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    let mut hash = Hash::default();
    for (at, byte) in hash.iter_mut().enumerate() {
        *byte = digit(2 * at)?;
    }
    (digits.len() == 2 * hash.len()).then_some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_read_from_an_api_keys_cache_key_only() {
        let digits = "00ff".repeat(16);
        let bytes: Vec<u8> = [0, 255].repeat(16);
        assert_eq!(parse_hash(&format!("key:{digits}")).map(Vec::from), Some(bytes));
        for wrong in
            [digits.clone(), format!("key:{digits}00"), "key:00".into(), format!("gen:{digits}"), "key:é".into()]
        {
            assert_eq!(parse_hash(&wrong), None, "{wrong}");
        }
    }
}
