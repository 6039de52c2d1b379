//! Erasures: what an account that an operator erases has in storage is deleted, asset by asset, as its user would delete it.
//!
//! Invariant: an asset is deleted by the one path that knows whose bytes it shares, once generation-status has none that uses it; a process
//! may die anywhere and any other goes on. Bytes whose row is gone and that a dying process left are found as any that nothing names.

use std::time::Duration;

use chassis::drain::Drain;
use domain::id::AccountId;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tracing::instrument::WithSubscriber as _;
use tracing::subscriber::NoSubscriber;

use crate::assets::Assets;
use crate::error::Error;
use crate::events;

/// How accounts are erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The pause between two searches for accounts to erase.
    pub interval: Duration,
    /// How many rows one batch reads or deletes.
    pub batch: u32,
}

/// Carries erasures out, at an interval until `drain` begins. Every process does: what one deletes the others do not find.
pub(crate) async fn run(assets: Assets, settings: Settings, drain: Drain) {
    let stop = drain.token();
    let mut tick = interval_at(Instant::now() + settings.interval, settings.interval);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        let accounts = match assets.thumbnails.store.unfinished_erasures().with_subscriber(NoSubscriber::new()).await {
            Ok(accounts) => accounts,
            Err(error) => {
                tracing::warn!(%error, "accounts to be erased cannot be found and will be looked for again");
                continue;
            }
        };
        for account in accounts {
            // One that fails must not keep the others from being erased.
            let batches = carry_out(&assets, account, settings.batch, &drain).with_subscriber(NoSubscriber::new());
            match batches.await {
                Ok(true) => events::storage_erased(account),
                Ok(false) => {}
                Err(error) => tracing::warn!(%account, %error, "an erasure failed and will go on"),
            }
        }
    }
}

/// Says whether this ended the erasure here.
async fn carry_out(assets: &Assets, account: AccountId, batch: u32, drain: &Drain) -> Result<bool, Error> {
    let store = &assets.thumbnails.store;
    while store.erase_jobs(account, batch).await? {
        if drain.token().is_cancelled() {
            return Ok(false);
        }
    }
    loop {
        let left = store.assets_of_erased(account, batch).await?;
        if left.is_empty() {
            return store.finish_erasure(account).await;
        }
        for sha256 in left {
            if drain.token().is_cancelled() {
                return Ok(false);
            }
            match assets.delete(account, sha256).await {
                // Another process has deleted it.
                Ok(()) | Err(Error::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }
}
