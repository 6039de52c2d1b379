//! Retention: jobs that ended long ago, and assets that nothing uses, deleted a bounded batch at a time.

use std::time::Duration;

use chassis::drain::Drain;
use time::OffsetDateTime;
use tokio::time::{MissedTickBehavior, interval};
use tracing::instrument::WithSubscriber as _;
use tracing::subscriber::NoSubscriber;
use uuid::Uuid;

use crate::assets::Assets;
use crate::error::Error;

/// How many rows one batch reads.
const BATCH: u32 = 500;

/// How long what is over is kept.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Jobs of thumbnails that have ended; `None`: for ever.
    pub jobs: Option<Duration>,
    /// Assets that no generation uses, counted from when the account first had them; `None`: for ever.
    pub unused_assets: Option<Duration>,
    /// The pause between two batches.
    pub interval: Duration,
}

/// Where the next batch begins.
#[derive(Clone, Copy, Debug)]
struct Cursors {
    job: Uuid,
    asset: (OffsetDateTime, Uuid),
}

const FIRST: (OffsetDateTime, Uuid) = (OffsetDateTime::UNIX_EPOCH, Uuid::nil());

/// Deletes one batch after the other until `drain` begins. Every process does: what one deletes the others do not find.
pub(crate) async fn run(assets: Assets, settings: Settings, drain: Drain) {
    let stop = drain.token();
    let mut tick = interval(settings.interval);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut cursors = Cursors { job: Uuid::nil(), asset: FIRST };
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        let batch = delete_batch(&assets, &settings, &mut cursors).with_subscriber(NoSubscriber::new());
        if let Some(Err(error)) = stop.run_until_cancelled(batch).await {
            tracing::warn!(%error, "what is over cannot be deleted and will be tried again");
        }
    }
}

async fn delete_batch(assets: &Assets, settings: &Settings, cursors: &mut Cursors) -> Result<(), Error> {
    let store = &assets.thumbnails.store;
    if let Some(age) = settings.jobs {
        cursors.job = store.delete_ended_jobs(age, cursors.job, BATCH).await?;
    }
    if let Some(age) = settings.unused_assets {
        let found = store.unused_assets(age, cursors.asset, BATCH).await?;
        cursors.asset = found.next.unwrap_or(FIRST);
        for (account, sha256) in found.unused {
            match assets.delete(account, sha256).await {
                // It was used or deleted since.
                Ok(()) | Err(Error::InUse | Error::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}
