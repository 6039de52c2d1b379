//! The errors of this crate.

/// Why a job was not changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller does not hold the lease, or holds it no longer. Let go of the job.
    #[error("the lease is held by another, or the job has ended")]
    StaleFence,
    /// The database failed or could not be reached.
    #[error(transparent)]
    Postgres(#[from] chassis::postgres::Error),
}
