//! Watches of a dashboard: the whole of it, again each time that it has changed.
//!
//! Invariants: of what a watcher is sent, versions only rise; what was committed is sent within the cache's bound, unless
//! something later is sent instead; and however many watch one account, a change costs one load, through the cache. As each
//! dashboard is whole there is nothing that a slow reader, or one that comes back, could have missed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::cache::watch::{Beat, Meters, Open, Pulse, Resumed, Settings};
use ::cache::{Changes, Signal};
use bytes::Bytes;
use domain::id::AccountId;
use domain::token::Seal;
use futures::Stream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::cache::{CachedDashboards, CachedPage, DASHBOARD_KIND};
use crate::error::Error;

/// Between two dashboards to one watcher: changes that come together are shown together.
const GATHER: Duration = Duration::from_millis(100);
/// After a read that failed, or did not give the whole.
const PAUSE: Duration = Duration::from_secs(1);
/// What the meters call these watches.
const METERS: Meters = Meters("dashboard");

/// What a watcher is sent.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// Encoded.
    Dashboard(Bytes),
    Heartbeat,
    Moved,
}

impl Event {
    const fn label(&self) -> &'static str {
        match self {
            Self::Dashboard(_) => "update",
            Self::Heartbeat => "heartbeat",
            Self::Moved => "moved",
        }
    }
}

/// Everyone who watches in this process; cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Hub(Arc<Mutex<HashMap<AccountId, Vec<Arc<Watcher>>>>>);

/// One watcher's notifier, which rings when there may be a later version.
#[derive(Default)]
struct Watcher(Notify);

/// A place in the hub, given up when dropped.
struct Watching {
    hub: Hub,
    account: AccountId,
    watcher: Arc<Watcher>,
    _open: Open,
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut watchers = self.hub.lock();
        if let Some(of_account) = watchers.get_mut(&self.account) {
            of_account.retain(|watcher| !Arc::ptr_eq(watcher, &self.watcher));
            if of_account.is_empty() {
                watchers.remove(&self.account);
            }
        }
    }
}

impl Hub {
    fn lock(&self) -> MutexGuard<'_, HashMap<AccountId, Vec<Arc<Watcher>>>> {
        // Every change of the map is whole at each step, so a panic elsewhere leaves it usable.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self, account: AccountId) -> Watching {
        let watcher = Arc::<Watcher>::default();
        self.lock().entry(account).or_default().push(Arc::clone(&watcher));
        Watching { hub: self.clone(), account, watcher, _open: METERS.open() }
    }

    /// Rings for as long as there is news. One for the process.
    pub(crate) async fn feed(self, mut changes: Changes) {
        let ring = |watchers: &Vec<Arc<Watcher>>| watchers.iter().for_each(|watcher| watcher.0.notify_one());
        while let Some(signal) = changes.next().await {
            match signal {
                Signal::Changed(change) if change.kind() == DASHBOARD_KIND => {
                    let account = change.account().map(AccountId);
                    account.and_then(|account| self.lock().get(&account).map(ring));
                }
                Signal::Changed(_) => {}
                // Who may have missed something looks for itself.
                Signal::Gap(_) | Signal::Lagged(_) => self.lock().values().for_each(ring),
            }
        }
    }
}

/// What can be watched; cheap to clone.
#[derive(Clone)]
pub(crate) struct Watches {
    dashboards: CachedDashboards,
    hub: Hub,
    settings: Settings,
    stop: CancellationToken,
}

impl Watches {
    pub(crate) fn new(dashboards: CachedDashboards, hub: Hub, settings: Settings, stop: CancellationToken) -> Self {
        Self { dashboards, hub, settings, stop }
    }

    /// Events with their resume tokens. What cannot be watched is refused at once.
    pub(crate) async fn watch(
        &self,
        account: AccountId,
        resume_token: &str,
    ) -> Result<impl Stream<Item = (Event, String)> + Send + use<>, Error> {
        let seal = Seal::new(account, b"watch/dashboard");
        let resumed = match resume_token {
            "" => None,
            token => Some(seal.open(token).and_then(|body| Some(i64::from_be_bytes(body.try_into().ok()?)))),
        };
        // Listens before it looks, so that nothing falls between.
        let watching = self.hub.watch(account);
        let pulse = Pulse::begin(self.settings, self.stop.clone());
        let known = resumed.flatten().unwrap_or_default();
        // The token's version was seen, so an older one, from a cache, is no answer.
        let first = self.dashboards.first_page(account, resumed.flatten()).await?;
        if resumed.is_some_and(|version| version.is_none_or(|version| first.whole && version > first.version)) {
            METERS.resumed(Resumed::Refused);
            return Err(Error::ResumeToken);
        }
        let mut watch = Watch {
            dashboards: self.dashboards.clone(),
            watching,
            seal,
            known,
            next: Next::Live,
            quiet: Instant::now(),
            pulse,
        };
        watch.next = match resumed {
            None => Next::Show(first),
            Some(_) => {
                METERS.resumed(Resumed::Exact);
                // What is there to see is seen in a moment.
                watch.watching.watcher.0.notify_one();
                Next::Alive
            }
        };
        Ok(futures::stream::unfold(watch, async |mut watch| {
            let event = watch.event().await?;
            METERS.sent(event.label());
            watch.pulse.sent();
            let token = watch.seal.token(&watch.known.to_be_bytes());
            Some(((event, token), watch))
        }))
    }
}

/// One watcher's stream.
struct Watch {
    dashboards: CachedDashboards,
    watching: Watching,
    seal: Seal,
    /// The version that was sent last.
    known: i64,
    next: Next,
    /// Nothing is read before this.
    quiet: Instant,
    pulse: Pulse,
}

/// What is sent next.
enum Next {
    /// This, whatever else there is.
    Show(CachedPage),
    /// That the stream stands.
    Alive,
    /// Whatever happens.
    Live,
    /// Nothing more.
    Over,
}

impl Watch {
    async fn event(&mut self) -> Option<Event> {
        match std::mem::replace(&mut self.next, Next::Live) {
            Next::Over => return None,
            Next::Show(shown) => return Some(self.sent(shown)),
            Next::Alive => return Some(Event::Heartbeat),
            Next::Live => {}
        }
        loop {
            let beat = tokio::select! {
                // Not heard while it is quiet, and kept: one ring stands for all that came meanwhile.
                () = async {
                    sleep_until(self.quiet).await;
                    self.watching.watcher.0.notified().await;
                } => None,
                beat = self.pulse.next() => Some(beat),
            };
            match beat {
                Some(Beat::Heartbeat) => return Some(Event::Heartbeat),
                Some(Beat::Moved) => {
                    self.next = Next::Over;
                    return Some(Event::Moved);
                }
                None => {}
            }
            match self.dashboards.first_page(self.watching.account, Some(self.known)).await {
                Ok(shown) if !shown.whole => self.again(),
                Ok(shown) if shown.version > self.known => return Some(self.sent(shown)),
                Ok(_) => self.quiet = Instant::now() + GATHER,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "a watched dashboard could not be read");
                    self.again();
                }
            }
        }
    }

    /// Has it read once more in a while, whether or not anything changes.
    fn again(&mut self) {
        self.quiet = Instant::now() + PAUSE;
        self.watching.watcher.0.notify_one();
    }

    /// Takes note of what is sent. One with parts missing is only shown first; the whole follows when it can be read.
    fn sent(&mut self, shown: CachedPage) -> Event {
        if shown.whole {
            self.known = shown.version;
            self.quiet = Instant::now() + GATHER;
        } else {
            self.again();
        }
        Event::Dashboard(shown.body)
    }
}
