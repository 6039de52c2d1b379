//! The heartbeat of one watch's stream, and its end at a jittered age or when the process drains.
//!
//! Invariant: a watch never ends without a word: the last thing due is [`Due::Moved`].

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};
use tokio_util::sync::CancellationToken;

use super::settings::Settings;

/// What a watch sends because of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing happened; the stream is alive.
    Heartbeat,
    /// The stream ends here, without an error; the client opens another.
    Moved,
}

/// The timer of one watch.
#[derive(Debug)]
pub struct Heartbeat {
    interval: Interval,
    ends: Instant,
    stop: CancellationToken,
}

impl Heartbeat {
    /// Starts now; `stop` is the process's drain.
    #[must_use]
    pub fn begin(settings: Settings, stop: CancellationToken) -> Self {
        let now = Instant::now();
        let mut interval = interval_at(now + settings.heartbeat, settings.heartbeat);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { interval, ends: now + settings.age.mul_f64(0.8 + 0.4 * fastrand::f64()), stop }
    }

    /// Something was sent, so the next heartbeat is a full interval away.
    pub fn sent(&mut self) {
        self.interval.reset();
    }

    /// Waits until something is due; may be dropped and called again.
    pub async fn next(&mut self) -> Due {
        tokio::select! {
            // The end comes first: a heartbeat that is due at the same time would put it off.
            biased;
            () = self.stop.cancelled() => Due::Moved,
            () = sleep_until(self.ends) => Due::Moved,
            _ = self.interval.tick() => Due::Heartbeat,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn heartbeats_are_due_while_nothing_is_sent_until_the_watch_ends_at_its_age() {
        let settings = Settings { heartbeat: Duration::from_secs(5), age: Duration::from_secs(600) };
        let (began, mut heartbeats) = (Instant::now(), 0);
        let mut heartbeat = Heartbeat::begin(settings, CancellationToken::new());
        tokio::time::advance(Duration::from_secs(4)).await;
        heartbeat.sent();
        while heartbeat.next().await == Due::Heartbeat {
            heartbeats += 1;
        }
        let age = began.elapsed().as_secs();
        assert!((480..=720).contains(&age), "{age} s");
        assert_eq!(heartbeats, (age - 4) / 5, "every 5 s, counted from what was sent last");
        assert_eq!(heartbeat.next().await, Due::Moved, "and nothing else is due after that");
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_ends_the_watch_at_once() {
        let stop = CancellationToken::new();
        let mut heartbeat = Heartbeat::begin(Settings::default(), stop.clone());
        stop.cancel();
        assert_eq!(heartbeat.next().await, Due::Moved);
    }
}
