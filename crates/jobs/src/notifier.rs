//! Notifications: whoever makes a job claimable notifies, whoever waits for one listens.
//!
//! A notification only saves waiting. NATS may lose one at any time, so that a listener also asks by itself every second.

use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State;
use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::metrics;

/// A listener asks for itself after this long if nobody notified it.
pub const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// For how long a listener hears nothing after a claim that found nothing; doubled by each further one in a row, up to
/// [`MAX_BACKOFF`].
const MIN_BACKOFF: Duration = Duration::from_millis(10);
/// What is queued while claims find nothing is of accounts and pools that are full. Each start of theirs notifies, and would have
/// everything searched again.
const MAX_BACKOFF: Duration = Duration::from_millis(100);

/// How long a notification may take. Short, since the caller's request waits for it and it only saves time.
const NOTIFY_TIMEOUT: Duration = Duration::from_millis(20);

/// The notifier of one kind in one process; cheap to clone. It reaches this process directly, and others over NATS.
#[derive(Clone)]
pub struct Notifier {
    kind: &'static str,
    nats: Option<Client>,
    count: watch::Sender<u64>,
}

impl Notifier {
    /// A notifier; without NATS it reaches this process only. Spawn [`Notifier::relay`] to be notified by other processes.
    #[must_use]
    pub fn new(kind: &'static str, nats: Option<Client>) -> Self {
        Self { kind, nats, count: watch::Sender::new(0) }
    }

    /// Wakes the listeners: a job is claimable. To be called after the commit; never fails and never waits for long.
    pub async fn notify(&self) {
        self.notify_local();
        let Some(nats) = &self.nats else { return };
        // A client without a connection would keep the message for later, when it is of no use.
        if nats.connection_state() != State::Connected {
            return;
        }
        let publish = chassis::nats::publish(nats, self.subject(), Bytes::new());
        if !matches!(timeout(NOTIFY_TIMEOUT, publish).await, Ok(Ok(()))) {
            metrics::notification_lost(self.kind);
        }
    }

    /// A listener, which misses no notification from now on, those before its first wait included.
    #[must_use]
    pub fn listen(&self) -> Listener {
        Listener { count: self.count.subscribe(), backoff: Duration::ZERO, backoff_until: Instant::now() }
    }

    /// Passes the notifications of other processes on to this one's listeners; ends only when dropped. Once for each notifier.
    pub async fn relay(self) {
        let Some(nats) = self.nats.clone() else { return };
        loop {
            match nats.subscribe(self.subject()).await {
                Ok(mut messages) => {
                    while let Some(message) = messages.next().await {
                        chassis::nats::process_span(&message).in_scope(|| self.notify_local());
                    }
                }
                Err(error) => tracing::warn!(kind = self.kind, %error, "no notifications over NATS"),
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    fn notify_local(&self) {
        self.count.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn subject(&self) -> String {
        format!("jobs.ready.{}", self.kind)
    }
}

/// Waits for notifications.
pub struct Listener {
    count: watch::Receiver<u64>,
    /// As long as the claims in a row that found nothing make it.
    backoff: Duration,
    backoff_until: Instant,
}

impl Listener {
    /// Says whether a claim found something. After one that did not, [`Listener::until_due`] waits for 10 ms, doubled up to
    /// 100 ms by further ones in a row, before it hears what was notified meanwhile.
    pub fn claimed(&mut self, found: bool) {
        self.backoff = if found { Duration::ZERO } else { (self.backoff * 2).clamp(MIN_BACKOFF, MAX_BACKOFF) };
        self.backoff_until = Instant::now() + self.backoff;
    }

    /// Returns when a claim may find something: at the first notification since it last returned, or when `any_due`, asked after each
    /// [`POLL_INTERVAL`], says so. Where that fails the claim fails as well, and tells it. May be dropped and called again.
    pub async fn until_due<F, E>(&mut self, mut any_due: impl FnMut() -> F)
    where
        F: Future<Output = Result<bool, E>>,
    {
        sleep_until(self.backoff_until).await;
        while !self.notified().await && !any_due().await.unwrap_or(true) {}
    }

    /// Returns at the first notification since it last returned, and after [`POLL_INTERVAL`] at the latest. Says whether somebody notified.
    async fn notified(&mut self) -> bool {
        match timeout(POLL_INTERVAL, self.count.changed()).await {
            Ok(Ok(())) => true,
            // The sender is gone once the notifier was dropped: what remains is the interval, and no busy loop.
            Ok(Err(_)) => {
                sleep(POLL_INTERVAL).await;
                false
            }
            Err(_) => false,
        }
    }
}
