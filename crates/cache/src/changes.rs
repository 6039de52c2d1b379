//! The stream of changes that a process receives: its watches are fed from it, by one subscription for all of them.
//!
//! Invariant: a listener that may have missed a change gets a [`Signal::Gap`] or [`Signal::Lagged`] before anything later; it then
//! reads again.

use std::sync::Arc;

use tokio::sync::broadcast;

use coherence::window::Cause;

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key's text, see [`crate::Key::as_str`].
    pub key: Arc<str>,
    /// The key's version at or after the change. The same version may come more than once, and not always in order.
    pub version: i64,
}

impl Change {
    /// The key's kind: the text before the first colon.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.key.split(':').next().unwrap_or_default()
    }

    /// The key's second part: the account of rows and aggregates that have one.
    #[must_use]
    pub fn account(&self) -> Option<uuid::Uuid> {
        self.key.split(':').nth(1)?.parse().ok()
    }

    /// The key's third part: the row's id.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.key.splitn(3, ':').nth(2)
    }
}

/// What a listener receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// A key changed.
    Changed(Change),
    /// Changes may have been missed, for this reason; repeated every second for as long as the relay is unresponsive.
    Gap(Cause),
    /// The listener itself was too slow, and this many signals were dropped.
    Lagged(u64),
}

/// A listener; see [`crate::Cache::changes`].
#[derive(Debug)]
pub struct Changes(pub(crate) broadcast::Receiver<Signal>);

impl Changes {
    /// The next signal; nothing after the cache was closed.
    pub async fn next(&mut self) -> Option<Signal> {
        match self.0.recv().await {
            Ok(signal) => Some(signal),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Signal::Lagged(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_names_its_parts() {
        let account = uuid::Uuid::from_u128(7);
        let change = Change { key: format!("gen:{account}:abc").into(), version: 3 };
        assert_eq!((change.kind(), change.account(), change.id()), ("gen", Some(account), Some("abc")));
        let key = Change { key: "key:ff00".into(), version: 1 };
        assert_eq!((key.kind(), key.account(), key.id()), ("key", None, None));
    }

    #[tokio::test]
    async fn a_slow_listener_gets_the_number_of_signals_that_it_missed() {
        let (sender, receiver) = broadcast::channel(2);
        let mut changes = Changes(receiver);
        for version in 0..5 {
            sender.send(Signal::Changed(Change { key: "k".into(), version })).unwrap();
        }
        assert_eq!(changes.next().await, Some(Signal::Lagged(3)));
        assert!(matches!(changes.next().await, Some(Signal::Changed(change)) if change.version == 3));
        drop(sender);
        changes.next().await;
        assert_eq!(changes.next().await, None);
    }
}
