//! What every watch does alike, whatever it watches: its heartbeat, its end after a jittered age or at a drain, and its
//! meters.
//!
//! Invariant: a watch never ends without a word: the last that its [`Pulse`] says is [`Beat::Moved`].

use std::time::Duration;

use chassis::settings::{Error, Source};
use metrics::{counter, gauge};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};
use tokio_util::sync::CancellationToken;

/// How watches behave.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// A watcher that heard nothing for this long is told that the stream is alive.
    pub heartbeat: Duration,
    /// A watch ends with `moved` at about this age, a fifth more or less, so that watchers spread over processes.
    pub age: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { heartbeat: Duration::from_secs(5), age: Duration::from_secs(600) }
    }
}

impl Settings {
    /// Reads `RUSHES_WATCH_HEARTBEAT` and `RUSHES_WATCH_MAX_AGE`.
    ///
    /// # Errors
    /// When one cannot be read, or watches would beat without a pause.
    pub fn read(source: &Source) -> Result<Self, Error> {
        let default = Self::default();
        let heartbeat = source.duration("RUSHES_WATCH_HEARTBEAT", default.heartbeat, "a time")?;
        if heartbeat.is_zero() {
            return Err(Error::wrong("RUSHES_WATCH_HEARTBEAT", "more than 0"));
        }
        Ok(Self { heartbeat, age: source.duration("RUSHES_WATCH_MAX_AGE", default.age, "a time")? })
    }
}

/// What a watch says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// Nothing happened; the stream is alive.
    Heartbeat,
    /// The stream ends here, without an error; the client goes on elsewhere.
    Moved,
}

/// One watch's sense of time.
#[derive(Debug)]
pub struct Pulse {
    beat: Interval,
    ends: Instant,
    stop: CancellationToken,
}

impl Pulse {
    /// Begins now; `stop` is the process's drain.
    #[must_use]
    pub fn begin(settings: Settings, stop: CancellationToken) -> Self {
        let now = Instant::now();
        let mut beat = interval_at(now + settings.heartbeat, settings.heartbeat);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { beat, ends: now + settings.age.mul_f64(0.8 + 0.4 * fastrand::f64()), stop }
    }

    /// Something was sent, so the next heartbeat is a full pause away.
    pub fn sent(&mut self) {
        self.beat.reset();
    }

    /// Waits for the next beat; may be dropped and asked again.
    pub async fn next(&mut self) -> Beat {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Beat::Moved,
            () = sleep_until(self.ends) => Beat::Moved,
            _ = self.beat.tick() => Beat::Heartbeat,
        }
    }
}

/// What became of a resume token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumed {
    /// The watch went on with what the client had not seen.
    Exact,
    /// The client was told that it missed something, and sent a snapshot.
    Gap,
    /// The token was refused.
    Refused,
}

/// Counts watches of one kind.
#[derive(Clone, Copy, Debug)]
pub struct Meters(pub &'static str);

impl Meters {
    /// A watch was opened; it counts as open until what is returned is dropped.
    #[must_use]
    pub fn open(self) -> Open {
        gauge!("rushes_watches", "kind" => self.0).increment(1.0);
        Open(self)
    }

    /// An event was sent.
    pub fn sent(self, event: &'static str) {
        counter!("rushes_watch_events_total", "kind" => self.0, "event" => event).increment(1);
    }

    /// A client came with a resume token.
    pub fn resumed(self, outcome: Resumed) {
        let outcome = match outcome {
            Resumed::Exact => "exact",
            Resumed::Gap => "gap",
            Resumed::Refused => "refused",
        };
        counter!("rushes_watch_resumes_total", "kind" => self.0, "outcome" => outcome).increment(1);
    }
}

/// An open watch.
#[derive(Debug)]
pub struct Open(Meters);

impl Drop for Open {
    fn drop(&mut self) {
        gauge!("rushes_watches", "kind" => self.0.0).decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_beats_while_nothing_is_sent_and_ends_at_its_age() {
        let settings = Settings { heartbeat: Duration::from_secs(5), age: Duration::from_secs(600) };
        let (began, mut beats) = (Instant::now(), 0);
        let mut pulse = Pulse::begin(settings, CancellationToken::new());
        tokio::time::advance(Duration::from_secs(4)).await;
        pulse.sent();
        while pulse.next().await == Beat::Heartbeat {
            beats += 1;
        }
        let age = began.elapsed().as_secs();
        assert!((480..=720).contains(&age), "{age} s");
        assert_eq!(beats, (age - 4) / 5, "every 5 s, counted from what was sent last");
        assert_eq!(pulse.next().await, Beat::Moved, "and that is its last word");
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_ends_it_at_once() {
        let stop = CancellationToken::new();
        let mut pulse = Pulse::begin(Settings::default(), stop.clone());
        stop.cancel();
        assert_eq!(pulse.next().await, Beat::Moved);
    }
}
