//! Wake-ups: who makes a job ready rings, who waits for one listens.
//!
//! A ring may be lost, at home by nobody and over NATS at any time; a listener therefore polls by itself every second.

use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State;
use futures::StreamExt;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// A listener polls after this long even if nobody rang.
pub const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// A ring may take no longer than this: it only saves time.
const RING: Duration = Duration::from_millis(20);

/// One kind's notifier in one process; cheap to clone. Rings reach every process over NATS, and this one without it.
#[derive(Clone)]
pub struct Notifier {
    kind: &'static str,
    nats: Option<Client>,
    rung: watch::Sender<u64>,
}

impl Notifier {
    /// A notifier; without NATS it is heard in this process only. Spawn [`Notifier::relay`] to hear the others.
    #[must_use]
    pub fn new(kind: &'static str, nats: Option<Client>) -> Self {
        Self { kind, nats, rung: watch::Sender::new(0) }
    }

    /// Says that a job is ready. To be called after the commit; never fails and never waits for long.
    pub async fn notify(&self) {
        self.here();
        let Some(nats) = &self.nats else { return };
        // A client without a connection would keep the message for later, when it is of no use.
        if nats.connection_state() != State::Connected {
            return;
        }
        let publish = nats.publish(self.subject(), Vec::new().into());
        if !matches!(timeout(RING, publish).await, Ok(Ok(()))) {
            metrics::counter!("rushes_job_notifications_lost_total", "kind" => self.kind).increment(1);
        }
    }

    /// Someone who waits for jobs of the kind. What rings from now on is heard, before the first wait too.
    #[must_use]
    pub fn listen(&self) -> Listener {
        Listener { rung: self.rung.subscribe() }
    }

    /// Passes rings of other processes on to this one's listeners; ends only when dropped. One for each notifier.
    pub async fn relay(self) {
        let Some(nats) = self.nats.clone() else { return };
        loop {
            match nats.subscribe(self.subject()).await {
                Ok(mut rings) => {
                    while rings.next().await.is_some() {
                        self.here();
                    }
                }
                Err(error) => tracing::warn!(kind = self.kind, %error, "no wake-ups over NATS"),
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    fn here(&self) {
        self.rung.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn subject(&self) -> String {
        format!("jobs.ready.{}", self.kind)
    }
}

/// Waits for rings.
pub struct Listener {
    rung: watch::Receiver<u64>,
}

impl Listener {
    /// Returns after the next ring since the last return, and after [`POLL_INTERVAL`] at the latest.
    pub async fn notified(&mut self) {
        // Without a notifier there is nothing but the poll.
        if let Ok(Err(_)) = timeout(POLL_INTERVAL, self.rung.changed()).await {
            sleep(POLL_INTERVAL).await;
        }
    }
}
