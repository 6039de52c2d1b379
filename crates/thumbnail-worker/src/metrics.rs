//! The metrics of this service: their names, units, labels and help stand in [`ALL`], and only this file records one.
//!
//! Invariant: every label's values come from this crate's own closed sets; nothing that a client sends becomes one.

use std::time::Duration;

use crate::model::Found;

chassis::metrics! {
    /// Assets that an account did not have before, by the media type of their bytes.
    ASSETS_STORED = counter "rushes_assets_stored_total" in "assets" by ["mime_type"];
    /// Assets that accounts deleted.
    ASSETS_DELETED = counter "rushes_assets_deleted_total" in "assets" by [];
    /// Uploads refused because their account's storage is full.
    QUOTA_REFUSED = counter "rushes_storage_quota_refused_total" in "uploads" by [];
    /// Objects that were looked at for whether anything names them.
    OBJECTS_SCANNED = counter "rushes_storage_scanned_total" in "objects" by [];
    /// Objects that nothing names, old enough to be removed: each scan counts those again that it leaves.
    ORPHANS_FOUND = counter "rushes_storage_orphans_total" in "objects" by [];
    /// Objects whose bytes were removed, since their asset was `deleted` or nothing named them (`orphan`).
    OBJECTS_REMOVED = counter "rushes_storage_removed_total" in "objects" by ["cause"];
    /// The bytes of objects that nothing named and that were removed.
    BYTES_REMOVED = counter "rushes_storage_removed_bytes_total" in "bytes" by [];
    /// Thumbnails that came to an end; `outcome` is rendered or failed.
    THUMBNAILS_ENDED = counter "rushes_thumbnails_ended_total" in "thumbnails" by ["outcome"];
    /// Attempts of thumbnail jobs that failed for another reason than their file, by cause.
    THUMBNAIL_FAILURES = counter "rushes_thumbnail_failures_total" in "attempts" by ["cause"];
    /// Rows that break an invariant, which the reconciler found and repaired.
    FINDINGS = counter "rushes_reconciler_findings_total" in "rows" by ["invariant"];
    /// Pictures and videos that wait to be decoded.
    POOL_WAITING = gauge "rushes_decode_pool_waiting" in "decodings" by [];
    /// How long one decoding ran, its wait in the queue left out.
    POOL_RUN = histogram "rushes_decode_pool_run_seconds" in "seconds" by [];
    /// Decodings refused because as many waited as may wait.
    POOL_REFUSED = counter "rushes_decode_pool_refused_total" in "decodings" by [];
    /// Decodings that panicked: a fault of ours or of a decoder.
    POOL_PANICS = counter "rushes_decode_pool_panics_total" in "decodings" by [];
    /// Processes that were started to decode.
    DECODERS_STARTED = counter "rushes_decoders_started_total" in "processes" by [];
    /// Decoders that ended with their work undone: killed at the limit of `time`, out of `memory`, or by a `crash`.
    DECODERS_ENDED = counter "rushes_decoders_ended_total" in "processes" by ["cause"];
    /// Files refused because the room on disk for those of their kind (`use`: upload, output or thumbnail), or their account's, was taken.
    SCRATCH_REFUSED = counter "rushes_scratch_budget_refused_total" in "files" by ["use"];
}

pub(crate) fn asset_stored(mime_type: &str) {
    ASSETS_STORED.with([mime_type.to_owned()]).increment(1);
}

pub(crate) fn asset_deleted() {
    ASSETS_DELETED.get().increment(1);
}

pub(crate) fn quota_refused() {
    QUOTA_REFUSED.get().increment(1);
}

pub(crate) fn object_removed(cause: &'static str, bytes: u64) {
    OBJECTS_REMOVED.with([cause]).increment(1);
    BYTES_REMOVED.get().increment(bytes);
}

pub(crate) fn part_scanned(found: &Found) {
    OBJECTS_SCANNED.get().increment(found.objects);
    ORPHANS_FOUND.get().increment(found.orphans);
}

pub(crate) fn thumbnail_ended(outcome: &'static str) {
    THUMBNAILS_ENDED.with([outcome]).increment(1);
}

pub(crate) fn thumbnail_attempt_failed(cause: &'static str) {
    THUMBNAIL_FAILURES.with([cause]).increment(1);
}

/// Counts findings; also none, so that the series is there before the first one.
pub(crate) fn findings(invariant: &'static str, count: usize) {
    FINDINGS.with([invariant]).increment(count as u64);
}

pub(crate) fn decode_waiting(count: usize) {
    POOL_WAITING.get().set(count as f64);
}

pub(crate) fn decode_ran(elapsed: Duration) {
    POOL_RUN.get().record(elapsed.as_secs_f64());
}

pub(crate) fn decode_refused() {
    POOL_REFUSED.get().increment(1);
}

pub(crate) fn decode_panicked() {
    POOL_PANICS.get().increment(1);
}

pub(crate) fn decoder_started() {
    DECODERS_STARTED.get().increment(1);
}

pub(crate) fn decoder_ended(cause: &'static str) {
    DECODERS_ENDED.with([cause]).increment(1);
}

pub(crate) fn upload_refused() {
    SCRATCH_REFUSED.with(["upload"]).increment(1);
}

pub(crate) fn output_refused() {
    SCRATCH_REFUSED.with(["output"]).increment(1);
}

pub(crate) fn source_refused() {
    SCRATCH_REFUSED.with(["thumbnail"]).increment(1);
}
