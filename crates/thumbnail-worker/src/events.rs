//! Business events: one function for each, with its one log line and its counter.
//!
//! Invariant: an event is logged after what it reports is committed, and once. INFO is for what is meant to happen, a file
//! that cannot be rendered included; WARN for what somebody should look at.

use domain::id::AccountId;
use domain::name::asset_name;
use tracing::{info, warn};
use uuid::Uuid;

use crate::error::Error;
use crate::metrics;
use crate::model::{Asset, Found, ThumbnailKey, ThumbnailStatus};

/// An account has an asset that it did not have before.
pub(crate) fn asset_stored(account: AccountId, asset: &Asset) {
    metrics::asset_stored(&asset.mime_type);
    let Asset { mime_type, bytes, width, height, .. } = asset;
    info!(%account, asset = asset_name(&asset.sha256), mime_type, bytes, width, height, "asset stored");
}

/// An account deleted an asset; so many of its objects in storage were nobody else's and are removed.
pub(crate) fn asset_deleted(account: AccountId, sha256: &[u8; 32], removed: usize) {
    metrics::asset_deleted();
    info!(%account, asset = asset_name(sha256), removed, "asset deleted");
}

/// Nothing is left in storage of an account that is erased.
pub(crate) fn storage_erased(account: AccountId) {
    info!(%account, "assets of the account erased");
}

/// A part of the storage was looked through, and something was found that no row names.
pub(crate) fn part_scanned(part: u8, found: &Found) {
    let Found { objects, orphans, removed, bytes } = *found;
    if orphans > 0 {
        info!(part, objects, orphans, removed, bytes, "objects that nothing names");
    }
}

/// A thumbnail has come to its end: it was rendered, or its file cannot be.
pub(crate) fn thumbnail_ended(key: &ThumbnailKey, status: &ThumbnailStatus) {
    let ThumbnailKey { account, asset, spec } = key;
    let (asset, width, height) = (asset_name(asset), spec.width, spec.height);
    match status {
        ThumbnailStatus::Processing => {}
        ThumbnailStatus::Ready(blob) => {
            metrics::thumbnail_ended("rendered");
            info!(%account, asset, width, height, thumbnail = %blob, "thumbnail rendered");
        }
        ThumbnailStatus::Failed(reason) => {
            metrics::thumbnail_ended("failed");
            info!(%account, asset, width, height, reason, "thumbnail failed");
        }
    }
}

/// An attempt of a thumbnail's job failed for another reason than its file, and another attempt follows.
pub(crate) fn thumbnail_retried(key: &ThumbnailKey, job: Uuid, attempt: i32, cause: &'static str, error: &Error) {
    metrics::thumbnail_attempt_failed(cause);
    let (account, asset) = (key.account, asset_name(&key.asset));
    info!(%account, asset, %job, attempt, cause, %error, "thumbnail retried");
}

/// The last attempt of a thumbnail's job failed for another reason than its file: the thumbnail is lost by a fault of ours.
pub(crate) fn thumbnail_given_up(key: &ThumbnailKey, job: Uuid, attempt: i32, cause: &'static str, error: &Error) {
    metrics::thumbnail_attempt_failed(cause);
    metrics::thumbnail_ended("failed");
    let (account, asset) = (key.account, asset_name(&key.asset));
    warn!(%account, asset, %job, attempt, cause, %error, "thumbnail given up");
}

/// The reaper ended a thumbnail's job: one worker after another died with it.
pub(crate) fn thumbnail_dead_lettered(key: &ThumbnailKey, job: Uuid, attempt: i32, cause: &str) {
    metrics::thumbnail_ended("failed");
    let (account, asset) = (key.account, asset_name(&key.asset));
    warn!(%account, asset, %job, attempt, cause, "thumbnail given up");
}

/// The reaper gave jobs back to the queue: their worker died, or lost PostgreSQL for longer than a lease.
pub(crate) fn jobs_requeued(count: usize) {
    if count > 0 {
        warn!(count, "expired leases requeued");
    }
}

/// The reconciler repaired rows that break `invariant`. There are none unless rows were changed by hand or restored in part.
pub(crate) fn invariant_repaired(invariant: &'static str, count: usize) {
    metrics::findings(invariant, count);
    if count > 0 {
        warn!(invariant, count, "invariant repaired");
    }
}
