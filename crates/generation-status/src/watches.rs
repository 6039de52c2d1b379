//! Watches: what one watcher is sent, and when.
//!
//! Invariants: a snapshot comes first; of one generation versions only rise; a terminal state always arrives; and a reader
//! that is slow skips to the latest instead of holding anything up. A watch rests on reads, not on messages: whenever
//! changes may have been missed, it looks for itself.

mod hub;
mod inbox;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use domain::id::{AccountId, GenerationId};
use domain::name::{GenerationParent, SceneName};
use domain::page::{self, Cursor};
use futures::Stream;
use time::OffsetDateTime;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::error::{Error, Noun};
use crate::record::Record;
use crate::store::Store;

pub(crate) use hub::Hub;
use hub::Watching;
use inbox::News;

/// How many generations a snapshot of a parent holds.
const SNAPSHOT: i64 = 100;
/// A change is committed at most this long after the time that it carries.
const COMMIT: time::Duration = time::Duration::seconds(30);

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

/// What is watched.
#[derive(Clone, Debug)]
pub(crate) enum Selection {
    /// These generations.
    Named(Arc<HashSet<GenerationId>>),
    /// All of these, also those to come.
    Of(GenerationParent),
}

impl Selection {
    fn includes(&self, record: &Record) -> bool {
        match self {
            Self::Named(ids) => ids.contains(&record.id),
            Self::Of(GenerationParent::Account) => true,
            Self::Of(GenerationParent::Project(project)) => record.project == *project,
            Self::Of(GenerationParent::Scene(SceneName { project, scene })) => {
                record.scene == *scene && record.project == *project
            }
        }
    }

    /// A text that tells this selection from any other, for resume tokens.
    fn listing(&self) -> String {
        match self {
            Self::Of(GenerationParent::Account) => "watch".to_owned(),
            Self::Of(GenerationParent::Project(project)) => format!("watch/{}", project.name()),
            Self::Of(GenerationParent::Scene(name)) => format!("watch/{name}"),
            Self::Named(ids) => {
                let mut ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
                ids.sort();
                format!("watch/generations/{}", ids.join(","))
            }
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
        let listing = wanted.selection.listing();
        let resumed = resumed(wanted.account, &listing, &wanted.resume_token)?;
        let beat = interval_at(Instant::now() + self.settings.heartbeat, self.settings.heartbeat);
        let age = self.settings.age.mul_f64(0.8 + 0.4 * fastrand::f64());
        // Listens before it looks, so that nothing falls between.
        let watching = self.hub.watch(wanted.account, wanted.selection.clone());
        let mut watch = Watch {
            store: self.store.clone(),
            watching,
            wanted,
            listing,
            asof: resumed.unwrap_or(OffsetDateTime::UNIX_EPOCH),
            next: Next::Live,
            beat,
            ends: Instant::now() + age,
            stop: self.stop.clone(),
        };
        watch.beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut first = watch.snapshot().await?;
        if let Some(resumed) = resumed {
            first.retain(|record| record.update_time >= resumed - COMMIT);
        }
        watch.next = Next::Snapshot(first);
        Ok(futures::stream::unfold(watch, async |mut watch| {
            let event = watch.event().await?;
            let token = watch.token();
            Some((event.map(|event| (event, token)), watch))
        }))
    }
}

/// One watcher's stream.
struct Watch {
    store: Store,
    watching: Watching,
    wanted: Wanted,
    listing: String,
    /// All changes that carry an earlier time, but for [`COMMIT`], were sent.
    asof: OffsetDateTime,
    next: Next,
    beat: Interval,
    ends: Instant,
    stop: CancellationToken,
}

/// What is sent next.
enum Next {
    /// This, whatever else there is.
    Snapshot(Vec<Arc<Record>>),
    /// A snapshot that is still to be read.
    Anew,
    /// Whatever happens.
    Live,
    /// Nothing more.
    Over,
}

impl Watch {
    async fn event(&mut self) -> Option<Result<Event, Error>> {
        match std::mem::replace(&mut self.next, Next::Live) {
            Next::Over => return None,
            Next::Snapshot(records) => return Some(Ok(self.sent(Event::Snapshot(records)))),
            Next::Anew => match self.snapshot().await {
                Ok(records) => return Some(Ok(self.sent(Event::Snapshot(records)))),
                Err(error) => {
                    self.next = Next::Over;
                    return Some(Err(error));
                }
            },
            Next::Live => {}
        }
        loop {
            match self.watching.inbox().take() {
                Some(News::Update(record)) => return Some(Ok(self.sent(Event::Update(record)))),
                Some(News::Missed) => match self.look().await {
                    Ok(true) => {}
                    Ok(false) => {
                        self.next = Next::Anew;
                        return Some(Ok(Event::Gap));
                    }
                    // It is told again that it missed something for as long as that may be so.
                    Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "a watch could not look"),
                },
                None if self.is_over() => return None,
                None => {
                    tokio::select! {
                        () = self.watching.inbox().news() => {}
                        _ = self.beat.tick() => return Some(Ok(Event::Heartbeat)),
                        () = sleep_until(self.ends) => return Some(Ok(self.moved())),
                        () = self.stop.cancelled() => return Some(Ok(self.moved())),
                    }
                }
            }
        }
    }

    fn moved(&mut self) -> Event {
        self.next = Next::Over;
        Event::Moved
    }

    /// Reads all that is watched, and forgets the news that it makes old.
    async fn snapshot(&self) -> Result<Vec<Arc<Record>>, Error> {
        let account = self.wanted.account;
        let records = match &self.wanted.selection {
            Selection::Named(ids) => {
                let ids: Vec<_> = ids.iter().copied().collect();
                let mut records = self.store.find(account, &ids).await?;
                if records.len() < ids.len() {
                    return Err(Error::Missing(Noun::Generation));
                }
                records.sort_by_key(|record| std::cmp::Reverse(record.id));
                records
            }
            Selection::Of(parent) => {
                let records = self.store.list(account, *parent, None, SNAPSHOT).await?;
                if records.is_empty() {
                    self.store.parent_exists(account, *parent).await?;
                }
                records
            }
        };
        let records: Vec<_> = records.into_iter().map(Arc::new).collect();
        self.watching.inbox().caught_up(&records);
        Ok(records)
    }

    /// Looks for what may have been missed. Returns false when there is so much of it that only a snapshot tells all.
    async fn look(&self) -> Result<bool, Error> {
        let inbox = self.watching.inbox();
        let mut all_new = false;
        if let Selection::Of(parent) = self.wanted.selection {
            let latest = self.store.list(self.wanted.account, parent, None, SNAPSHOT).await?;
            all_new = latest.len() >= SNAPSHOT as usize && latest.iter().all(|record| !inbox.knows(record.id));
            latest.into_iter().for_each(|record| inbox.offer(&Arc::new(record)));
        }
        let open = inbox.open();
        if !open.is_empty() {
            let records = self.store.find(self.wanted.account, &open).await?;
            records.into_iter().for_each(|record| inbox.offer(&Arc::new(record)));
        }
        Ok(!all_new)
    }

    /// Takes note of what is sent.
    fn sent(&mut self, event: Event) -> Event {
        let times = match &event {
            Event::Snapshot(records) => records.iter().map(|record| record.update_time).max(),
            Event::Update(record) => Some(record.update_time),
            Event::Gap | Event::Heartbeat | Event::Moved => None,
        };
        let waiting = self.watching.inbox().oldest();
        if let Some(time) = times {
            self.asof = self.asof.max(waiting.map_or(time, |waiting| waiting.min(time)));
        }
        event
    }

    fn is_over(&self) -> bool {
        self.wanted.until_terminal && self.watching.inbox().open().is_empty()
    }

    fn token(&self) -> String {
        let microseconds = self.asof.unix_timestamp_nanos().max(0) / 1_000;
        let id = Uuid::from_u128(microseconds.unsigned_abs());
        page::token(self.wanted.account, &self.listing, Cursor { position: 0, id })
    }
}

/// The time that a resume token speaks of.
fn resumed(account: AccountId, listing: &str, token: &str) -> Result<Option<OffsetDateTime>, Error> {
    let cursor = page::cursor(account, listing, token).map_err(|_| Error::ResumeToken)?;
    let read = |cursor: Cursor| {
        let nanoseconds = i128::try_from(cursor.id.as_u128()).ok()?.checked_mul(1_000)?;
        OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).ok()
    };
    cursor.map(|cursor| read(cursor).ok_or(Error::ResumeToken)).transpose()
}
