//! The ways in which a request or a job fails, and the one map from each to a code and a reason.
//!
//! Invariant: a reply never tells apart an asset that does not exist and another account's.

use std::fmt::Display;
use std::time::Duration;

use chassis::fields::{Invalid, SCHEMA};
use chassis::status::Failure;
use chassis::{blobs, postgres};

use crate::model::OverQuota;

/// A thing that can be not found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noun {
    /// A stored file of the account.
    Asset,
}

impl Noun {
    const fn reason(self) -> &'static str {
        match self {
            Self::Asset => "ASSET_NOT_FOUND",
        }
    }

    const fn message(self) -> &'static str {
        match self {
            Self::Asset => "there is no such asset",
        }
    }
}

/// Why a request or a job fails.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Fields of the request are wrong; nothing was stored.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// It does not exist, or is another account's.
    #[error("no such {0:?}")]
    NotFound(Noun),
    /// The object that was to be registered is not in storage.
    #[error("the object is not in storage")]
    NotStored,
    /// Something that is not over uses the asset.
    #[error("the asset is in use")]
    InUse,
    /// The upload would be more than its account may have in storage; nothing was stored.
    #[error(transparent)]
    OverQuota(#[from] OverQuota),
    /// The process decodes or holds as much as it may.
    #[error("overloaded, try again in {retry_after:?}")]
    Overloaded {
        /// The time after which a retry may succeed.
        retry_after: Duration,
    },
    /// Decoding panicked: a fault of ours or of a decoder.
    #[error("decoding panicked: {0}")]
    Panicked(String),
    /// The job's lease is held by another worker, or the job has ended.
    #[error("the job's lease is lost")]
    LeaseLost,
    /// An upload could not be written to disk, or read from there.
    #[error("the scratch directory cannot be used")]
    Scratch(#[source] std::io::Error),
    /// PostgreSQL refused or could not be asked.
    #[error(transparent)]
    Database(#[from] postgres::Error),
    /// Object storage refused or could not be asked.
    #[error(transparent)]
    Storage(#[from] blobs::Error),
}

impl Error {
    /// A field that is wrong for a reason of its own.
    pub(crate) fn invalid(field: &'static str, reason: &'static str, should: impl Display) -> Self {
        Self::Invalid(Invalid::field(field, reason, should))
    }

    /// A field that is not as the API describes it.
    pub(crate) fn schema(field: &'static str, should: impl Display) -> Self {
        Self::invalid(field, SCHEMA, should)
    }
}

impl From<jobs::Error> for Error {
    fn from(error: jobs::Error) -> Self {
        match error {
            jobs::Error::StaleFence => Self::LeaseLost,
            jobs::Error::Postgres(error) => Self::Database(error),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Invalid(invalid) => invalid.into(),
            Error::NotFound(noun) => Self::not_found(noun.reason(), noun.message()),
            Error::NotStored => {
                Self::precondition("UPLOAD_INCOMPLETE", "the object is not in storage: put it there first")
            }
            Error::InUse => Self::precondition(
                "ASSET_IN_USE",
                "a generation uses the asset: as an input until it has ended, as an output until it is deleted",
            ),
            Error::OverQuota(over) => {
                let message =
                    format!("the account's storage is full ({over}): delete assets, or ask for a larger quota");
                Self::quota("STORAGE_QUOTA_EXCEEDED", message)
            }
            Error::Overloaded { retry_after } => {
                Self::exhausted("OVERLOADED", "too many files are being worked on", retry_after)
            }
            Error::Scratch(_) => {
                Self::unavailable("DEPENDENCY_DOWN", "the upload cannot be kept while it comes, try again shortly")
                    .because(error)
            }
            Error::Panicked(_) | Error::LeaseLost => Self::internal(error),
            Error::Database(error) => error.into(),
            Error::Storage(error) => error.into(),
        }
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        Failure::from(error).into()
    }
}
