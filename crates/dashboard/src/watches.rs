//! Watches of a dashboard: the whole of it, again each time that it has changed.
//!
//! Invariants: of what a watcher is sent, versions only rise; a committed change is sent within the cache's bound, unless a later
//! one is sent instead; and however many watch one account, a change costs one load, through the cache. As each dashboard is
//! whole, a slow reader or one that comes back has missed nothing.

use std::time::Duration;

use ::cache::watch::{Due, Heartbeat, Metrics, ResumeOutcome, Settings, Subscription, Update, Watchable};
use ::cache::{Change, Changes};
use bytes::Bytes;
use chassis::keyring::tokens::{Seal, Tokens};
use domain::id::AccountId;
use futures::Stream;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::cache::{CachedDashboards, CachedPage, DASHBOARD_KIND};
use crate::error::Error;

/// The least time between two dashboards to one watcher: changes in between are sent together.
const MIN_INTERVAL: Duration = Duration::from_millis(100);
/// The pause after a read that failed, or did not give the whole.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The label `kind` of the metrics of these watches.
const METRICS: Metrics = Metrics("dashboard");

/// An event of a watch.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// The dashboard, encoded.
    Dashboard {
        body: Bytes,
        /// Whether it is of one snapshot: what all who watch the account are sent of this version.
        whole: bool,
    },
    Heartbeat,
    Moved,
}

impl Event {
    const fn label(&self) -> &'static str {
        match self {
            Self::Dashboard { .. } => "update",
            Self::Heartbeat => "heartbeat",
            Self::Moved => "moved",
        }
    }
}

/// A change of an account's dashboard.
pub(crate) struct DashboardChange {
    account: AccountId,
    version: i64,
}

impl DashboardChange {
    fn parse(change: &Change) -> Option<Self> {
        let account = change.account().filter(|_| change.kind() == DASHBOARD_KIND)?;
        Some(Self { account: AccountId(account), version: change.version })
    }
}

impl Watchable for DashboardChange {
    type Group = AccountId;
    /// An account has one dashboard.
    type Key = ();

    fn group(&self) -> AccountId {
        self.account
    }

    fn key(&self) {}

    fn version(&self) -> i64 {
        self.version
    }

    fn is_final(&self) -> bool {
        false
    }
}

type Hub = ::cache::watch::Hub<DashboardChange>;

/// Opens watches; cheap to clone.
#[derive(Clone)]
pub(crate) struct Watches {
    dashboards: CachedDashboards,
    hub: Hub,
    settings: Settings,
    tokens: Tokens,
    stop: CancellationToken,
}

impl Watches {
    /// Watches of `dashboards`, whose resume tokens are `tokens`', and which end when `stop` is cancelled. One task feeds them all from `changes`. Needs a tokio runtime.
    pub(crate) fn start(
        dashboards: CachedDashboards,
        changes: Changes,
        settings: Settings,
        tokens: Tokens,
        stop: CancellationToken,
    ) -> Self {
        let hub = Hub::new(METRICS);
        let feed = hub.clone().forward(changes, DashboardChange::parse);
        tokio::spawn(stop.clone().run_until_cancelled_owned(feed));
        Self { dashboards, hub, settings, tokens, stop }
    }

    /// A stream of events, each with its resume token. A dashboard that cannot be watched is refused at once.
    pub(crate) async fn watch(
        &self,
        account: AccountId,
        resume_token: &str,
    ) -> Result<impl Stream<Item = (Event, String)> + Send + use<>, Error> {
        let seal = self.tokens.seal(account.0, b"watch/dashboard");
        let resumed = match resume_token {
            "" => None,
            token => Some(seal.open(token).and_then(|body| Some(i64::from_be_bytes(body.try_into().ok()?)))),
        };
        // Subscribes before it reads, so that no change falls between.
        let subscription = self.hub.subscribe(account, ());
        let heartbeat = Heartbeat::begin(self.settings, self.stop.clone());
        // The client has seen the token's version, so the cache must not answer with an earlier one.
        let first = self.dashboards.first_page(account, resumed.flatten()).await?;
        let is_ahead = |version: i64| first.whole && version > first.version;
        if resumed.is_some_and(|version| version.is_none_or(is_ahead)) {
            METRICS.resumed(ResumeOutcome::Refused);
            return Err(Error::ResumeToken);
        }
        let next = match resumed {
            None => Next::Dashboard(first),
            Some(_) => {
                METRICS.resumed(ResumeOutcome::Exact);
                // The first page that was just read may be new to the client: it is read again, from the cache.
                subscription.inbox().resync();
                Next::Heartbeat
            }
        };
        let known = resumed.flatten().unwrap_or_default();
        let dashboards = self.dashboards.clone();
        let watch = Watch { dashboards, subscription, seal, known, next, quiet_until: Instant::now(), heartbeat };
        Ok(futures::stream::unfold(watch, async |mut watch| {
            let event = watch.next_event().await?;
            METRICS.sent(event.label());
            watch.heartbeat.sent();
            let token = watch.seal.token(&watch.known.to_be_bytes());
            Some(((event, token), watch))
        }))
    }
}

/// One watcher's stream.
struct Watch {
    dashboards: CachedDashboards,
    subscription: Subscription<DashboardChange>,
    seal: Seal,
    /// The version that was sent last.
    known: i64,
    next: Next,
    /// Nothing is read before this.
    quiet_until: Instant,
    heartbeat: Heartbeat,
}

/// What is sent next.
enum Next {
    /// This dashboard.
    Dashboard(CachedPage),
    /// A heartbeat, which says that the resumed stream is alive.
    Heartbeat,
    /// Changes as they come.
    Live,
    /// Nothing more.
    Ended,
}

impl Watch {
    async fn next_event(&mut self) -> Option<Event> {
        match std::mem::replace(&mut self.next, Next::Live) {
            Next::Ended => return None,
            Next::Dashboard(page) => return Some(self.send(page)),
            Next::Heartbeat => return Some(Event::Heartbeat),
            Next::Live => {}
        }
        loop {
            let due = tokio::select! {
                // Changes that arrive in the quiet time stay in the inbox, where the latest replaces the others.
                () = async {
                    sleep_until(self.quiet_until).await;
                    self.subscription.inbox().arrived().await;
                } => None,
                due = self.heartbeat.next() => Some(due),
            };
            match due {
                Some(Due::Heartbeat) => return Some(Event::Heartbeat),
                Some(Due::Moved) => {
                    self.next = Next::Ended;
                    return Some(Event::Moved);
                }
                None => {}
            }
            if !self.take_updates() {
                continue;
            }
            match self.dashboards.first_page(self.subscription.group(), Some(self.known)).await {
                Ok(page) if !page.whole => self.read_again(),
                Ok(page) if page.version > self.known => return Some(self.send(page)),
                Ok(_) => self.quiet_until = Instant::now() + MIN_INTERVAL,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "a watched dashboard could not be read");
                    self.read_again();
                }
            }
        }
    }

    /// Takes everything out of the inbox; returns whether the dashboard may be a later one than was sent.
    fn take_updates(&self) -> bool {
        let updates = std::iter::from_fn(|| self.subscription.inbox().take());
        // Counted and not searched: `any` would leave behind what comes after the first.
        let news = updates.filter(|update| match update {
            Update::Changed(change) => change.version > self.known,
            Update::Resync => true,
        });
        news.count() > 0
    }

    /// Has it read once more after a pause, whether or not anything changes.
    fn read_again(&mut self) {
        self.quiet_until = Instant::now() + RETRY_AFTER;
        self.subscription.inbox().resync();
    }

    /// Records that a dashboard is sent. One with sections missing is sent only first, without raising the version, and the
    /// whole follows when it can be read.
    fn send(&mut self, page: CachedPage) -> Event {
        if page.whole {
            self.known = page.version;
            self.quiet_until = Instant::now() + MIN_INTERVAL;
        } else {
            self.read_again();
        }
        Event::Dashboard { body: page.body, whole: page.whole }
    }
}
