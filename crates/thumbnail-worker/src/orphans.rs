//! Objects in storage that no row names: found by looking through the storage part by part, and removed where that is asked for.
//!
//! They come from uploads that were refused by a quota at their very end, processes that died between bytes and row, outputs that were
//! stored under another ending first, and removals that failed. Invariant: nothing is removed that is young, or that a row names.

use std::time::{Duration, SystemTime};

use chassis::blobs::{self, Name, Object};
use chassis::drain::Drain;
use futures::StreamExt as _;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::instrument::WithSubscriber as _;
use tracing::subscriber::NoSubscriber;

use crate::error::Error;
use crate::model::Found;
use crate::store::{Part, Store};
use crate::{events, metrics};

/// How many parts the storage has: one for each first byte of a name.
const PARTS: u32 = 256;
/// How many names are looked for in the database at one time, and lie in memory.
const BATCH: usize = 1_000;
/// The pause after each object that is removed, so that a scan takes little of the storage and of the database.
const PAUSE: Duration = Duration::from_millis(10);

/// What becomes of objects that no row names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nobody looks for them.
    Off,
    /// They are counted and logged.
    Report,
    /// They are removed.
    Remove,
}

/// How the storage is looked through.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// What becomes of what is found.
    pub mode: Mode,
    /// How old an object must be.
    pub min_age: Duration,
    /// The time in which all processes together look through all of it once.
    pub period: Duration,
}

/// Looks for them; cheap to clone.
#[derive(Clone)]
pub(crate) struct Orphans {
    pub(crate) store: Store,
    pub(crate) blobs: blobs::Store,
    pub(crate) settings: Settings,
}

impl Orphans {
    /// Looks through one part after the other until `drain` begins.
    pub(crate) async fn run(self, drain: Drain) {
        if self.settings.mode == Mode::Off {
            return;
        }
        let stop = drain.token();
        let pause = self.settings.period / PARTS;
        let mut tick = interval(pause.max(Duration::from_millis(1)));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            let scan = self.scan_next(pause).with_subscriber(NoSubscriber::new());
            match stop.run_until_cancelled(scan).await {
                Some(Ok(Some((part, found)))) => events::part_scanned(part.first, &found),
                Some(Err(error)) => tracing::warn!(%error, "the storage cannot be looked through; it is tried again"),
                Some(Ok(None)) | None => {}
            }
        }
    }

    async fn scan_next(&self, pause: Duration) -> Result<Option<(Part, Found)>, Error> {
        // A process that comes a little before its time is not made to wait a whole turn.
        let Some(part) = self.store.claim_part(pause.mul_f64(0.9), self.settings.min_age).await? else {
            return Ok(None);
        };
        Ok(Some((part, self.scan(part).await?)))
    }

    /// Looks through a part.
    pub(crate) async fn scan(&self, part: Part) -> Result<Found, Error> {
        let before = SystemTime::from(part.before);
        let mut found = Found::default();
        let mut batches = self.blobs.list(part.first).chunks(BATCH);
        while let Some(batch) = batches.next().await {
            let batch = batch.into_iter().collect::<Result<Vec<Object>, _>>()?;
            found.objects += batch.len() as u64;
            let old: Vec<Object> = batch.into_iter().filter(|object| object.stored < before).collect();
            let names: Vec<Name> = old.iter().map(|object| object.name.clone()).collect();
            if names.is_empty() {
                continue;
            }
            for name in self.store.unnamed(&names).await? {
                let bytes = old.iter().find(|object| object.name == name).map_or(0, |object| object.bytes);
                found.orphans += 1;
                found.bytes += bytes;
                if self.settings.mode == Mode::Remove && self.remove(&name, before).await? {
                    found.removed += 1;
                    metrics::object_removed("orphan", bytes);
                    sleep(PAUSE).await;
                }
            }
        }
        metrics::part_scanned(&found);
        Ok(found)
    }

    /// Removes an object that no row names and that is still as old as it was: since it was listed it may have been stored anew.
    async fn remove(&self, name: &Name, before: SystemTime) -> Result<bool, Error> {
        let remove = async || match self.blobs.head(name).await? {
            Some(meta) if meta.stored < before => {
                self.blobs.remove(name).await?;
                Ok::<_, Error>(true)
            }
            _ => Ok(false),
        };
        self.store.remove_unnamed(name, remove).await
    }
}
