//! Seals secrets anew: those that were stored in the clear, and those of a key that another has taken the place of.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::error::Error;
use crate::events;
use crate::store::{Resealed, Store};

/// How often it is looked for some: a process of the version before, or with other keys, may have stored them meanwhile.
const INTERVAL: Duration = Duration::from_secs(600);
/// How long after a failure.
const RETRY: Duration = Duration::from_secs(30);

/// Seals at the start and at an interval, until `stop`.
pub(crate) async fn reseal(store: Store, stop: CancellationToken) {
    loop {
        let wait = match pass(&store).await {
            Ok(()) => INTERVAL,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "sealing secrets of webhooks failed and will be repeated");
                RETRY
            }
        };
        if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
            return;
        }
    }
}

/// Goes once through all endpoints, a batch at a time.
async fn pass(store: &Store) -> Result<(), Error> {
    let (mut after, mut sealed, mut unreadable) = (Some(Uuid::nil()), 0, 0);
    while let Some(from) = after {
        let batch: Resealed = store.reseal_secrets(from).await?;
        (after, sealed, unreadable) = (batch.next, sealed + batch.sealed, unreadable + batch.unreadable);
    }
    if sealed > 0 {
        events::secrets_sealed(sealed);
    }
    if unreadable > 0 {
        events::secrets_unreadable(unreadable);
    }
    Ok(())
}
