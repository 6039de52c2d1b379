//! The heartbeat of one watch's stream, and its end at a jittered age or when the process drains.
//!
//! Invariant: a watch never ends without a word: the last thing due is [`Due::Moved`].

use std::sync::LazyLock;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
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

/// Into how many parts the time between two heartbeats is cut. Those of all watches in a part are due together, at its beginning: one
/// connection carries them in one write, where each by itself would wake two processes.
const PARTS: u32 = 50;
/// From when the parts are counted.
static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The timer of one watch.
#[derive(Debug)]
pub struct Heartbeat {
    interval: Duration,
    due: Instant,
    ends: Instant,
    stop: CancellationToken,
}

impl Heartbeat {
    /// Starts now; `stop` is the process's drain.
    #[must_use]
    pub fn begin(settings: Settings, stop: CancellationToken) -> Self {
        let (now, interval) = (Instant::now(), settings.heartbeat);
        let ends = now + settings.age.mul_f64(0.8 + 0.4 * fastrand::f64());
        Self { interval, due: next_due(now, interval), ends, stop }
    }

    /// Something was sent, so the next heartbeat is an interval away.
    pub fn sent(&mut self) {
        self.due = next_due(Instant::now(), self.interval);
    }

    /// Waits until something is due; may be dropped and called again.
    pub async fn next(&mut self) -> Due {
        tokio::select! {
            // The end comes first: a heartbeat that is due at the same time would put it off.
            biased;
            () = self.stop.cancelled() => Due::Moved,
            () = sleep_until(self.ends) => Due::Moved,
            () = sleep_until(self.due) => {
                self.sent();
                Due::Heartbeat
            }
        }
    }
}

/// The beginning of the part in which the interval ends: no later than that.
fn next_due(now: Instant, interval: Duration) -> Instant {
    let due = now + interval;
    let into = due.saturating_duration_since(*ORIGIN).as_nanos() % (interval / PARTS).as_nanos().max(1);
    due - Duration::from_nanos(u64::try_from(into).unwrap_or_default())
}

#[cfg(test)]
mod tests {
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
        // The first may be due a tenth of a second early.
        let counts = (age - 4) / 5..=(age - 3) / 5;
        assert!(counts.contains(&heartbeats), "{heartbeats} in {age} s: every 5 s, counted from what was sent last");
        assert_eq!(heartbeat.next().await, Due::Moved, "and nothing else is due after that");
    }

    #[test]
    fn heartbeats_of_many_watches_are_due_together_and_none_is_late() {
        let (began, interval) = (Instant::now(), Duration::from_secs(5));
        let mut due: Vec<Instant> =
            (0..1_000).map(|number| next_due(began + Duration::from_millis(number), interval)).collect();
        for (number, due) in (0..).zip(&due) {
            let last = began + Duration::from_millis(number) + interval;
            assert!(*due <= last && last - *due < interval / PARTS, "{number}");
        }
        due.dedup();
        // A second has ten of the fifty parts, and a part of another at its end.
        assert!((10..=11).contains(&due.len()), "{}", due.len());
        assert!(next_due(began, Duration::from_nanos(3)) <= began + Duration::from_nanos(3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_ends_the_watch_at_once() {
        let stop = CancellationToken::new();
        let mut heartbeat = Heartbeat::begin(Settings::default(), stop.clone());
        stop.cancel();
        assert_eq!(heartbeat.next().await, Due::Moved);
    }
}
