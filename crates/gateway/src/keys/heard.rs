//! Changes of keys, heard over NATS from whoever made them: a revoked key is forgotten in milliseconds.
//!
//! Nothing here is needed to be right: what is not heard is asked again when the lifetime of the answer is over.

use cache::{Cache, Signal};
use tokio_util::task::AbortOnDropHandle;

use super::{Hash, Known};

/// Forgets each key that `cache` says has changed, until the handle is dropped.
pub(super) fn forget(cache: Cache, known: Known) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut changes = cache.changes();
        while let Some(signal) = changes.next().await {
            if let Signal::Changed(change) = signal
                && let Some(hash) = hash(&change.key)
            {
                known.forget(&hash).await;
            }
        }
    }))
}

/// The hash in a cache key `key:{sha256 hex}`.
fn hash(key: &str) -> Option<Hash> {
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
    fn only_a_key_of_a_key_is_read() {
        let digits = "00ff".repeat(16);
        let bytes: Vec<u8> = [0, 255].repeat(16);
        assert_eq!(hash(&format!("key:{digits}")).map(Vec::from), Some(bytes));
        for wrong in
            [digits.clone(), format!("key:{digits}00"), "key:00".into(), format!("gen:{digits}"), "key:é".into()]
        {
            assert_eq!(hash(&wrong), None, "{wrong}");
        }
    }
}
