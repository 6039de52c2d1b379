//! Which of a worker's keys an attempt's order is to be sent with.
//!
//! Invariant: an order that a provider has, or may have, keeps the key that is recorded with its intent.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Error;
use crate::model::{ClaimedWork, GENERATION_JOBS, provider_of};

/// Gives each attempt that begins one of `keys`, public names of the form `{provider}/{hash}`, of its provider.
pub(super) async fn give_keys(
    tx: &mut PgConnection,
    claimed: &mut [ClaimedWork],
    keys: &[String],
) -> Result<(), Error> {
    let mut begun: Vec<&mut ClaimedWork> = claimed.iter_mut().filter(|work| begins(work)).collect();
    let mut providers: Vec<_> = begun.iter().map(|work| work.order.provider).collect();
    providers.sort_unstable();
    providers.dedup();
    for provider in providers {
        let own: Vec<String> = keys.iter().filter(|key| provider_of(key) == provider.as_str()).cloned().collect();
        if own.is_empty() {
            continue;
        }
        let mut attempts: Vec<_> = begun.iter_mut().filter(|work| work.order.provider == provider).collect();
        let ids: Vec<Uuid> = attempts.iter().map(|work| work.leased.lease.job).collect();
        let chosen = jobs::choose_keys(tx, GENERATION_JOBS, provider.as_str(), &own, &ids).await?;
        for (work, key) in attempts.iter_mut().zip(chosen) {
            work.key = key;
        }
    }
    Ok(())
}

/// Whether nothing was sent for it yet.
fn begins(work: &ClaimedWork) -> bool {
    !work.leased.poll && work.reference.is_none() && !work.in_doubt
}
