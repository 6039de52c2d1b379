//! Watches: what one watcher is sent, and when.
//!
//! Invariants: a snapshot comes first, unless a resume token says what is known; of one generation versions only rise; a
//! terminal state always arrives; and a reader that is slow skips to the latest instead of holding anything up. A watch
//! rests on reads, not on messages: whenever changes may have been missed, it polls for itself.

mod hub;
mod inbox;
mod seen;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use ::cache::watch::{Beat, Meters, Pulse, Resumed, Settings};
use domain::id::{AccountId, GenerationId};
use domain::name::{GenerationParent, SceneName};
use futures::Stream;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::error::{Error, Noun};
use crate::record::Record;
use crate::store::Store;

pub(crate) use hub::Hub;
use hub::Watching;
use inbox::News;
use seen::{Opened, Seen};

/// How many generations a snapshot of a parent holds, besides those that are under way.
const LATEST: i64 = 100;
/// How many generations under way a snapshot of a parent holds.
const OPEN: i64 = 500;
/// The most new generations that are told one by one; after more, a snapshot says it better.
const NEW: i64 = 1_000;
/// After a poll that failed.
const AGAIN: Duration = Duration::from_secs(1);
/// What the meters call these watches.
const METERS: Meters = Meters("generations");

/// What is watched.
#[derive(Clone, Debug)]
pub(crate) enum Selection {
    /// These generations, in order and each once.
    Named(Arc<[GenerationId]>),
    /// All of these, also those to come.
    Of(GenerationParent),
}

impl Selection {
    fn includes(&self, record: &Record) -> bool {
        match self {
            Self::Named(_) => self.may_include(record.id),
            Self::Of(GenerationParent::Account) => true,
            Self::Of(GenerationParent::Project(project)) => record.project == *project,
            Self::Of(GenerationParent::Scene(SceneName { project, scene })) => {
                record.scene == *scene && record.project == *project
            }
        }
    }

    /// Whether a generation of which only the id is known can be one of these.
    fn may_include(&self, id: GenerationId) -> bool {
        match self {
            Self::Named(ids) => ids.binary_search(&id).is_ok(),
            Self::Of(_) => true,
        }
    }
}

/// What a watcher asked for.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) account: AccountId,
    pub(crate) selection: Selection,
    pub(crate) until_terminal: bool,
    pub(crate) resume_token: String,
}

/// What a watcher is sent.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Snapshot(Vec<Arc<Record>>),
    Update(Arc<Record>),
    Gap,
    Heartbeat,
    Moved,
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

/// What can be watched; cheap to clone.
#[derive(Clone)]
pub(crate) struct Watches {
    store: Store,
    hub: Hub,
    settings: Settings,
    stop: CancellationToken,
}

impl Watches {
    pub(crate) fn new(store: Store, hub: Hub, settings: Settings, stop: CancellationToken) -> Self {
        Self { store, hub, settings, stop }
    }

    /// Events with their resume tokens. What cannot be watched is refused at once.
    pub(crate) async fn watch(
        &self,
        wanted: Wanted,
    ) -> Result<impl Stream<Item = Result<(Event, String), Error>> + Send + use<>, Error> {
        let unseen = Seen::new(wanted.account, &wanted.selection);
        let opened = match wanted.resume_token.as_str() {
            "" => None,
            token => Some(unseen.clone().opened(token).ok_or_else(|| {
                METERS.resumed(Resumed::Refused);
                Error::ResumeToken
            })?),
        };
        // Listens before it polls, so that nothing falls between.
        let watching = self.hub.watch(wanted.account, wanted.selection.clone());
        let pulse = Pulse::begin(self.settings, self.stop.clone());
        let mut watch = Watch { store: self.store.clone(), watching, wanted, seen: unseen, next: Next::Live, pulse };
        watch.next = match opened {
            None => Next::Snapshot(watch.snapshot().await?),
            Some(opened) => watch.resume(opened).await?,
        };
        Ok(futures::stream::unfold(watch, async |mut watch| {
            let event = watch.event().await?;
            if let Ok(event) = &event {
                METERS.sent(event.label());
                watch.pulse.sent();
            }
            let token = watch.seen.token();
            Some((event.map(|event| (event, token)), watch))
        }))
    }
}

/// One watcher's stream.
struct Watch {
    store: Store,
    watching: Watching,
    wanted: Wanted,
    seen: Seen,
    next: Next,
    pulse: Pulse,
}

/// Generations to be sent together.
struct Snapshot {
    records: Vec<Arc<Record>>,
    /// Whether none that is under way was left out.
    whole: bool,
    /// Whether none that is newer was left out.
    line: GenerationId,
}

/// What is sent next.
enum Next {
    /// This, whatever else there is.
    Snapshot(Snapshot),
    /// That changes were missed, and then a snapshot that is still to be read.
    Gap,
    /// A snapshot that is still to be read.
    Anew,
    /// That the stream stands.
    Alive,
    /// Whatever happens.
    Live,
    /// Nothing more.
    Over,
}

impl Watch {
    /// Goes on from what the holder of a token knows.
    async fn resume(&mut self, opened: Opened) -> Result<Next, Error> {
        let told = match opened {
            Opened::Seen(seen) => {
                self.watching.inbox().learn(seen.known());
                self.seen = seen;
                self.poll().await?
            }
            Opened::Untold => false,
        };
        METERS.resumed(if told { Resumed::Exact } else { Resumed::Gap });
        Ok(if told { Next::Alive } else { Next::Gap })
    }

    async fn event(&mut self) -> Option<Result<Event, Error>> {
        match std::mem::replace(&mut self.next, Next::Live) {
            Next::Over => return None,
            Next::Snapshot(snapshot) => return Some(Ok(self.show(snapshot))),
            Next::Gap => return Some(Ok(self.gap())),
            Next::Alive => return Some(Ok(Event::Heartbeat)),
            Next::Anew => match self.snapshot().await {
                Ok(snapshot) => return Some(Ok(self.show(snapshot))),
                Err(error) => {
                    self.next = Next::Over;
                    return Some(Err(error));
                }
            },
            Next::Live => {}
        }
        loop {
            match self.watching.inbox().take() {
                Some(News::Update(record)) if self.seen.is_past(&record) => {}
                Some(News::Update(record)) => {
                    self.seen.update(&record);
                    return Some(Ok(Event::Update(record)));
                }
                Some(News::Missed) => match self.poll().await {
                    Ok(true) => {}
                    Ok(false) => return Some(Ok(self.gap())),
                    // Nothing else may ever tell of what it missed: it polls until it could.
                    Err(error) => {
                        tracing::warn!(error = &error as &dyn std::error::Error, "a watch could not poll");
                        self.watching.inbox().missed();
                        tokio::select! {
                            () = sleep(AGAIN) => {}
                            beat = self.pulse.next() => return Some(Ok(self.beat(beat))),
                        }
                    }
                },
                None if self.is_over() => return None,
                None => {
                    tokio::select! {
                        () = self.watching.inbox().news() => {}
                        beat = self.pulse.next() => return Some(Ok(self.beat(beat))),
                    }
                }
            }
        }
    }

    fn beat(&mut self, beat: Beat) -> Event {
        match beat {
            Beat::Heartbeat => Event::Heartbeat,
            Beat::Moved => {
                self.next = Next::Over;
                Event::Moved
            }
        }
    }

    fn gap(&mut self) -> Event {
        self.next = Next::Anew;
        Event::Gap
    }

    fn show(&mut self, snapshot: Snapshot) -> Event {
        self.seen.snapshot(&snapshot.records, snapshot.whole, snapshot.line);
        Event::Snapshot(snapshot.records)
    }

    /// Reads all that is watched, and forgets the news that it makes old.
    async fn snapshot(&self) -> Result<Snapshot, Error> {
        let account = self.wanted.account;
        let (mut whole, mut line) = (true, GenerationId(Uuid::nil()));
        let mut records = match &self.wanted.selection {
            Selection::Named(ids) => {
                let records = self.store.find(account, ids).await?;
                if records.len() < ids.len() {
                    return Err(Error::Missing(Noun::Generation));
                }
                records
            }
            Selection::Of(parent) => {
                let mut records = self.store.list(account, *parent, None, None, LATEST).await?;
                if records.is_empty() {
                    self.store.parent_exists(account, *parent).await?;
                }
                if records.len() >= LATEST as usize {
                    line = records.last().map_or(line, |oldest| oldest.id);
                }
                let latest: HashSet<_> = records.iter().map(|record| record.id).collect();
                let open = self.store.open(account, *parent, OPEN + 1).await?;
                whole = open.len() <= OPEN as usize;
                records.extend(open.into_iter().filter(|record| !latest.contains(&record.id)));
                records
            }
        };
        records.sort_by_key(|record| std::cmp::Reverse(record.id));
        let records: Vec<_> = records.into_iter().map(Arc::new).collect();
        self.watching.inbox().caught_up(&records);
        Ok(Snapshot { records, whole, line })
    }

    /// Looks for what may have been missed. Returns false when only a snapshot can tell it.
    async fn poll(&mut self) -> Result<bool, Error> {
        let account = self.wanted.account;
        let inbox = self.watching.inbox();
        let mut found = Vec::new();
        if let Selection::Of(parent) = self.wanted.selection {
            if !self.seen.is_whole() {
                return Ok(false);
            }
            let new = self.store.list(account, parent, None, Some(self.seen.line()), NEW + 1).await?;
            let open = self.store.open(account, parent, OPEN + 1).await?;
            if new.len() > NEW as usize || open.len() > OPEN as usize {
                return Ok(false);
            }
            found.extend(new.into_iter().chain(open));
        }
        let read: HashSet<_> = found.iter().map(|record| record.id).collect();
        let left: Vec<_> = inbox.open().into_iter().filter(|id| !read.contains(id)).collect();
        if !left.is_empty() {
            found.extend(self.store.find(account, &left).await?);
        }
        // The oldest first, as they were started.
        found.sort_by_key(|record| record.id);
        for record in found {
            self.seen.looked(&record);
            inbox.offer(&Arc::new(record));
        }
        Ok(true)
    }

    fn is_over(&self) -> bool {
        self.wanted.until_terminal && self.watching.inbox().open().is_empty()
    }
}
