//! How a process ends. The first signal begins the drain: health turns, nothing new is accepted, what runs may finish
//! within the grace period. A second signal cuts it short.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// The process's one decision to stop, seen by everything that must end; clones are the same drain.
#[derive(Clone, Debug)]
pub struct Drain {
    token: CancellationToken,
    cut_short: CancellationToken,
    grace: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self { token: CancellationToken::new(), cut_short: CancellationToken::new(), grace: Duration::from_secs(10) }
    }
}

impl Drain {
    /// A drain that begins with SIGINT or SIGTERM and is cut short by the next.
    ///
    /// # Panics
    /// Outside a tokio runtime, or when the operating system refuses signal handlers.
    #[must_use]
    pub fn on_signals() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        let drain = Self::default();
        let mut interrupt = signal(SignalKind::interrupt()).expect("a handler for SIGINT");
        let mut terminate = signal(SignalKind::terminate()).expect("a handler for SIGTERM");
        let begun = drain.clone();
        tokio::spawn(async move {
            let mut either = async || {
                tokio::select! {
                    _ = interrupt.recv() => "SIGINT",
                    _ = terminate.recv() => "SIGTERM",
                }
            };
            let name = either().await;
            tracing::info!(signal = name, "draining");
            begun.begin();
            let name = either().await;
            tracing::warn!(signal = name, "second signal, leaving at once");
            begun.cut_short.cancel();
        });
        drain
    }

    /// The same drain with another grace period (10 s unless set).
    #[must_use]
    pub fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Begins the drain; calling it again changes nothing.
    pub fn begin(&self) {
        self.token.cancel();
    }

    /// Whether the drain has begun.
    #[must_use]
    pub fn begun(&self) -> bool {
        self.token.is_cancelled()
    }

    /// A token that is cancelled when the drain begins; long streams end when it is.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// How long what runs may go on after the drain has begun.
    #[must_use]
    pub fn grace(&self) -> Duration {
        self.grace
    }

    /// Waits until the drain is cut short: the process must end now.
    pub async fn cut_short(&self) {
        self.cut_short.cancelled().await;
    }

    /// Waits until the drain has begun and its grace period has passed.
    pub async fn expired(&self) {
        self.token.cancelled().await;
        tokio::time::sleep(self.grace).await;
    }
}
