//! Signals a gap once a second for as long as the relay is unresponsive: whoever watches must read by itself meanwhile.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::changes::Signal;
use crate::inner::Inner;
use coherence::BOUND;
use coherence::window::Cause;

/// Watches the proof's age until the cache is closed.
pub(crate) async fn watch(inner: Arc<Inner>) {
    let mut check = interval(BOUND);
    check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick is immediate, when no message can have come yet.
    check.tick().await;
    loop {
        tokio::select! {
            () = inner.stop.cancelled() => return,
            _ = check.tick() => {}
        }
        if inner.proof_age().is_none_or(|age: Duration| age > BOUND) {
            inner.signal(Signal::Gap(Cause::Unresponsive));
        }
    }
}
