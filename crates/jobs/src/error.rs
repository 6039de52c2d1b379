//! What can go wrong with a job.

/// Why a job was not changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The lease is not, or no longer, the caller's. Let go of the job.
    #[error("the lease is held by another, or the job has ended")]
    StaleFence,
    /// The database failed or could not be reached.
    #[error(transparent)]
    Postgres(#[from] chassis::postgres::Error),
}
