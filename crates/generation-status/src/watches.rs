//! The rules of watches: what one watcher is sent, and when.
//!
//! Invariants: a snapshot comes first, unless a resume token says what is known; of one generation versions only rise; a
//! terminal state always arrives; and a slow reader skips to the latest version instead of holding anything up. A watch
//! relies on reads, not on messages: whenever changes may have been missed, it reads the tables itself.

mod hub;
mod reads;
mod resume;
mod selection;
mod shown;

use std::cmp::Reverse;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use ::cache::watch::{Due, Heartbeat, Metrics, ResumeOutcome, Settings, Subscription, Update};
use chassis::keyring::tokens::Tokens;
use domain::id::{AccountId, GenerationId};
use futures::Stream;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::apart::apart;
use crate::error::{Error, Noun};
use crate::model::Generation;
use crate::pages::fitting;
use crate::presenter::Presenter;
use crate::store::Store;

pub(crate) use hub::{GenerationHub, feed};
use reads::Reads;
pub use resume::reread as reread_resume_token;
use resume::{Opened, Sent};
pub(crate) use selection::Selection;
pub(crate) use shown::Shown;
use shown::Snapshot;

/// How many generations a snapshot of a parent holds, besides open ones.
const SNAPSHOT_LATEST: i64 = 100;
/// How many open generations a snapshot of a parent holds.
const SNAPSHOT_OPEN: i64 = 500;
/// About how many bytes of generations one part of a snapshot has, and no more, but for a generation that has more by itself: a reader who
/// takes nothing holds them in memory.
const MAX_PART_BYTES: usize = 64 << 10;
/// How many new generations are sent one by one; where there are more, a snapshot is shorter.
const MAX_NEW: i64 = 1_000;
/// The pause after a failed read.
const READ_RETRY: Duration = Duration::from_secs(1);
/// The label `kind` of the metrics of these watches.
pub(crate) const METRICS: Metrics = Metrics("generations");

/// A watcher's request.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) account: AccountId,
    pub(crate) selection: Selection,
    pub(crate) until_terminal: bool,
    pub(crate) resume_token: String,
}

/// One event of a watch.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Snapshot(SnapshotPart),
    Update(Arc<Shown>),
    Gap,
    Heartbeat,
    Moved,
}

/// A part of all that is watched.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotPart {
    pub(crate) generations: Vec<Arc<Shown>>,
    /// From 0.
    pub(crate) number: i32,
    /// Whether another part follows.
    pub(crate) more: bool,
}

impl Event {
    const fn label(&self) -> &'static str {
        match self {
            Self::Snapshot(_) => "snapshot",
            Self::Update(_) => "update",
            Self::Gap => "gap",
            Self::Heartbeat => "heartbeat",
            Self::Moved => "moved",
        }
    }
}

/// Opens watches; cheap to clone.
#[derive(Clone)]
pub(crate) struct Watches {
    store: Store,
    presenter: Presenter,
    hub: GenerationHub,
    settings: Settings,
    tokens: Tokens,
    reads: Reads,
    stop: CancellationToken,
}

impl Watches {
    /// Watches, whose resume tokens are `tokens`', and which end when `stop` is cancelled.
    pub(crate) fn new(
        store: Store,
        presenter: Presenter,
        hub: GenerationHub,
        settings: Settings,
        tokens: Tokens,
        stop: CancellationToken,
    ) -> Self {
        Self { store, presenter, hub, settings, tokens, reads: Reads::default(), stop }
    }

    /// A stream of events, each with its resume token. A selection that cannot be watched is refused at once.
    pub(crate) async fn watch(
        &self,
        wanted: Wanted,
    ) -> Result<impl Stream<Item = Result<(Event, String), Error>> + Send + use<>, Error> {
        let nothing_sent = Sent::new(&self.tokens, wanted.account, &wanted.selection);
        let opened = match wanted.resume_token.as_str() {
            "" => None,
            token => Some(nothing_sent.clone().open(token).ok_or_else(|| {
                METRICS.resumed(ResumeOutcome::Refused);
                Error::ResumeToken
            })?),
        };
        // Subscribes before it reads, so that no change falls between.
        let subscription = self.hub.subscribe(wanted.account, wanted.selection.clone());
        let heartbeat = Heartbeat::begin(self.settings, self.stop.clone());
        let (store, presenter, reads) = (self.store.clone(), self.presenter.clone(), self.reads.clone());
        let mut watch =
            Watch { store, presenter, reads, subscription, wanted, sent: nothing_sent, next: Next::Live, heartbeat };
        watch.next = match opened {
            None => Next::Snapshot(watch.snapshot().await?),
            Some(opened) => watch.resume(opened).await?,
        };
        Ok(futures::stream::unfold(watch, async |mut watch| {
            let event = watch.next_event().await?;
            if let Ok(event) = &event {
                METRICS.sent(event.label());
                watch.heartbeat.sent();
            }
            let token = watch.sent.token();
            Some((event.map(|event| (event, token)), watch))
        }))
    }
}

/// One watcher's stream.
struct Watch {
    store: Store,
    presenter: Presenter,
    reads: Reads,
    subscription: Subscription<Shown, Selection>,
    wanted: Wanted,
    sent: Sent,
    next: Next,
    heartbeat: Heartbeat,
}

/// What is left to send of a snapshot. It is read anew, part by part, so that a reader who takes nothing holds one part in memory.
struct Rest {
    /// Newest first.
    ids: Vec<GenerationId>,
    /// How many parts were sent, and how many generations the last of them had.
    sent: i32,
    last: usize,
    complete: bool,
    horizon: GenerationId,
}

/// The next event to send.
enum Next {
    /// This snapshot.
    Snapshot(Snapshot),
    /// A gap, and then a snapshot.
    Gap,
    /// A snapshot that is still to be read.
    ReadSnapshot,
    /// The next part of a snapshot.
    Rest(Rest),
    /// A heartbeat, which says that the resumed stream is alive.
    Alive,
    /// Changes as they come.
    Live,
    /// Nothing more.
    Ended,
}

impl Watch {
    /// Goes on from what the holder of a token was sent.
    async fn resume(&mut self, opened: Opened) -> Result<Next, Error> {
        let exact = match opened {
            Opened::Sent(sent) => {
                self.subscription.inbox().learn(sent.known());
                self.sent = sent;
                self.read_missed().await?
            }
            Opened::TooMuch => false,
        };
        METRICS.resumed(if exact { ResumeOutcome::Exact } else { ResumeOutcome::Gap });
        Ok(if exact { Next::Alive } else { Next::Gap })
    }

    async fn next_event(&mut self) -> Option<Result<Event, Error>> {
        match std::mem::replace(&mut self.next, Next::Live) {
            Next::Ended => return None,
            Next::Snapshot(snapshot) => return Some(Ok(self.send_snapshot(snapshot))),
            Next::Gap => return Some(Ok(self.gap())),
            Next::Alive => return Some(Ok(Event::Heartbeat)),
            Next::ReadSnapshot => {
                let snapshot = self.snapshot().await;
                return Some(self.or_end(snapshot).map(|snapshot| self.send_snapshot(snapshot)));
            }
            Next::Rest(rest) => {
                let found = self.read_part(&rest).await;
                return Some(self.or_end(found).map(|found| self.send_part(rest, &found)));
            }
            Next::Live => {}
        }
        loop {
            match self.subscription.inbox().take() {
                Some(Update::Changed(shown)) if self.sent.is_outdated(&shown.generation) => {}
                Some(Update::Changed(shown)) => {
                    self.sent.update(&shown.generation);
                    return Some(Ok(Event::Update(shown)));
                }
                Some(Update::Resync) => match self.read_missed().await {
                    Ok(true) => {}
                    Ok(false) => return Some(Ok(self.gap())),
                    // No message will ever bring what was missed, so it reads again until it could.
                    Err(error) => {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "a watch could not read what it missed"
                        );
                        self.subscription.inbox().resync();
                        tokio::select! {
                            () = sleep(READ_RETRY) => {}
                            due = self.heartbeat.next() => return Some(Ok(self.due(due))),
                        }
                    }
                },
                None if self.is_done() => return None,
                None => {
                    tokio::select! {
                        () = self.subscription.inbox().arrived() => {}
                        due = self.heartbeat.next() => return Some(Ok(self.due(due))),
                    }
                }
            }
        }
    }

    fn due(&mut self, due: Due) -> Event {
        match due {
            Due::Heartbeat => Event::Heartbeat,
            Due::Moved => {
                self.next = Next::Ended;
                Event::Moved
            }
        }
    }

    fn gap(&mut self) -> Event {
        self.next = Next::ReadSnapshot;
        Event::Gap
    }

    /// Ends the watch with an error, if it is one.
    fn or_end<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        if result.is_err() {
            self.next = Next::Ended;
        }
        result
    }

    /// Sends the first part of a snapshot.
    fn send_snapshot(&mut self, snapshot: Snapshot) -> Event {
        let Snapshot { generations, complete, horizon } = snapshot;
        self.sent.begin_snapshot();
        let ids = generations.iter().map(|shown| shown.generation.id).collect();
        let rest = Rest { ids, sent: 0, last: generations.len(), complete, horizon };
        self.send_part(rest, &generations)
    }

    /// Sends as many of these as one part takes, which are the first of the rest that are left of it, and keeps what follows them.
    fn send_part(&mut self, mut rest: Rest, found: &[Arc<Shown>]) -> Event {
        let generations = found[..fit_in_part(found, &self.presenter)].to_vec();
        self.sent.part_of_snapshot(generations.iter().map(|shown| &shown.generation));
        // Where fewer were found than asked for, the others are deleted.
        let asked = rest.ids.len().min(rest.last);
        let done = match found.get(generations.len()) {
            Some(next) => rest.ids.iter().position(|id| *id == next.generation.id).unwrap_or(asked),
            None => asked,
        };
        rest.ids.drain(..done);
        let (number, more) = (rest.sent, !rest.ids.is_empty());
        if more {
            self.next = Next::Rest(Rest { sent: number + 1, last: generations.len().max(1), ..rest });
        } else {
            self.sent.end_snapshot(rest.complete, rest.horizon);
        }
        Event::Snapshot(SnapshotPart { generations, number, more })
    }

    /// Reads about as many for the next part of a snapshot as the last one had, and drops the pending changes that they cover.
    async fn read_part(&self, rest: &Rest) -> Result<Vec<Arc<Shown>>, Error> {
        let _place = self.reads.place(self.wanted.account).await;
        let ids = &rest.ids[..rest.ids.len().min(rest.last)];
        let mut generations = self.store.find(self.wanted.account, ids).await?;
        generations.sort_by_key(|generation| Reverse(generation.id));
        let found = self.prepare(generations).await?;
        self.subscription.inbox().caught_up(&found);
        Ok(found)
    }

    /// All that is watched; drops the pending changes that it covers.
    async fn snapshot(&self) -> Result<Snapshot, Error> {
        let Wanted { account, selection, .. } = &self.wanted;
        let snapshot = self.reads.shared(*account, selection, async || self.read_snapshot().await).await?;
        self.subscription.inbox().caught_up(&snapshot.generations);
        Ok(snapshot)
    }

    /// Reads all that is watched, for all who watch the same.
    async fn read_snapshot(&self) -> Result<Snapshot, Error> {
        let account = self.wanted.account;
        let (mut complete, mut horizon) = (true, GenerationId(Uuid::nil()));
        let mut generations = match &self.wanted.selection {
            Selection::Named(ids) => {
                let generations = self.store.find(account, ids).await?;
                if generations.len() < ids.len() {
                    return Err(Error::NotFound(Noun::Generation));
                }
                generations
            }
            Selection::Of(parent) => {
                let mut generations = self.store.list(account, *parent, None, None, SNAPSHOT_LATEST).await?;
                if generations.is_empty() {
                    self.store.parent_exists(account, *parent).await?;
                }
                if generations.len() >= SNAPSHOT_LATEST as usize {
                    horizon = generations.last().map_or(horizon, |oldest| oldest.id);
                }
                let latest: HashSet<_> = generations.iter().map(|generation| generation.id).collect();
                let open = self.store.open(account, *parent, SNAPSHOT_OPEN + 1).await?;
                complete = open.len() <= SNAPSHOT_OPEN as usize;
                generations.extend(open.into_iter().filter(|generation| !latest.contains(&generation.id)));
                generations
            }
        };
        generations.sort_by_key(|generation| Reverse(generation.id));
        let generations = self.prepare(generations).await?.into();
        Ok(Snapshot { generations, complete, horizon })
    }

    /// Encodes as many of these as the next part takes.
    async fn prepare(&self, generations: Vec<Generation>) -> Result<Vec<Arc<Shown>>, Error> {
        let (count, presenter) = (generations.len(), self.presenter.clone());
        let prepare = move || {
            let shown: Vec<_> = generations.into_iter().map(|generation| Arc::new(Shown::from(generation))).collect();
            fit_in_part(&shown, &presenter);
            shown
        };
        apart(count, prepare).await
    }

    /// Reads what may have been missed. Returns false when only a snapshot can show it.
    async fn read_missed(&mut self) -> Result<bool, Error> {
        let account = self.wanted.account;
        let _place = self.reads.place(account).await;
        let inbox = self.subscription.inbox();
        let mut found = Vec::new();
        if let Selection::Of(parent) = self.wanted.selection {
            if !self.sent.is_complete() {
                return Ok(false);
            }
            let new = self.store.list(account, parent, None, Some(self.sent.horizon()), MAX_NEW + 1).await?;
            let open = self.store.open(account, parent, SNAPSHOT_OPEN + 1).await?;
            if new.len() > MAX_NEW as usize || open.len() > SNAPSHOT_OPEN as usize {
                return Ok(false);
            }
            found.extend(new.into_iter().chain(open));
        }
        let read: HashSet<_> = found.iter().map(|generation| generation.id).collect();
        let left: Vec<_> = inbox.unfinished().into_iter().filter(|id| !read.contains(id)).collect();
        if !left.is_empty() {
            found.extend(self.store.find(account, &left).await?);
        }
        // Oldest first, in the order of their starts.
        found.sort_by_key(|generation| generation.id);
        for generation in found {
            self.sent.reread(&generation);
            inbox.offer(&Arc::new(Shown::from(generation)));
        }
        Ok(true)
    }

    fn is_done(&self) -> bool {
        self.wanted.until_terminal && self.subscription.inbox().unfinished().is_empty()
    }
}

/// How many of these, from the first, one part of a snapshot takes.
fn fit_in_part(generations: &[Arc<Shown>], presenter: &Presenter) -> usize {
    fitting(generations.iter().map(|shown| shown.encoded(presenter).len()), MAX_PART_BYTES)
}
