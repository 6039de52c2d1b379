//! Tells listeners once a second that nothing is heard, for as long as nothing is: whoever watches must look for itself
//! meanwhile.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::changes::Signal;
use crate::inner::Inner;
use coherence::BOUND;
use coherence::window::Cause;

/// Watches the proof's age until the cache is closed.
pub(crate) async fn watch(inner: Arc<Inner>) {
    let mut look = interval(BOUND);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick is at once, when nothing can have been heard yet.
    look.tick().await;
    loop {
        tokio::select! {
            () = inner.stop.cancelled() => return,
            _ = look.tick() => {}
        }
        if inner.proof_age().is_none_or(|age: Duration| age > BOUND) {
            inner.signal(Signal::Gap(Cause::Silence));
        }
    }
}
