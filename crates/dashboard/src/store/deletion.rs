//! What a deletion leaves to be done: its generations are ended by generation-status, from a job that commits with the deletion.
//!
//! Invariant: once a deletion has committed, no start of a generation below it succeeds, and the job finds every generation that was
//! started before.

use domain::generation::DELETION_JOBS;
use domain::id::AccountId;
use jobs::NewJob;
use sqlx::PgConnection;

use crate::error::Error;

/// How many attempts of the job may fail. It must not be given up while somebody's hold depends on it, and a database that is away
/// for a day is no reason to.
const MAX_ATTEMPTS: i32 = 1_000;

/// Enqueues the end of the generations below `name`, whose row got `version` by being deleted.
pub(super) async fn end_generations(
    tx: &mut PgConnection,
    account: AccountId,
    name: &str,
    version: i64,
) -> Result<(), Error> {
    // With the version, so that a row that somebody restored by hand can be deleted again.
    let mut job = NewJob::new(account.0, DELETION_JOBS, format!("{name}@{version}"));
    job.payload = name.as_bytes().to_vec();
    job.max_attempts = MAX_ATTEMPTS;
    jobs::enqueue(tx, &job).await?;
    Ok(())
}
