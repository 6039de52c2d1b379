//! Erasures: what this service has of an account that an operator erases is deleted a bounded batch at a time.
//!
//! Invariant: each batch is a transaction of its own, and what it finds is what is left, so that a process may die anywhere and any other
//! goes on. It begins once generation-status has no generation left, which name scenes.

use domain::id::AccountId;
use tokio_util::sync::CancellationToken;

use crate::config::Erasures;
use crate::error::Error;
use crate::events;
use crate::store::Store;

/// Carries erasures out, at an interval until `stop`. Every process does: of two at the same account one has the batch.
pub(crate) async fn run(store: Store, settings: Erasures, stop: CancellationToken) {
    let interval = settings.interval;
    let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + interval, interval);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        let accounts = match store.unfinished_erasures().await {
            Ok(accounts) => accounts,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "accounts to be erased cannot be found and will be looked for again");
                continue;
            }
        };
        for account in accounts {
            // One that fails must not keep the others from being erased.
            if let Err(error) = carry_out(&store, account, settings.batch, &stop).await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(account = account.name(), error, "an erasure failed and will go on");
            }
        }
    }
}

async fn carry_out(store: &Store, account: AccountId, batch: u32, stop: &CancellationToken) -> Result<(), Error> {
    while store.erase_batch(account, batch).await? {
        if stop.is_cancelled() {
            return Ok(());
        }
    }
    if store.finish_erasure(account).await? {
        events::projects_erased(account);
    }
    Ok(())
}
