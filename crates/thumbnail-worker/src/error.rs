//! What can go wrong here, and its one translation to what a client is told.

use std::time::Duration;

use chassis::status::Failure;
use chassis::{blobs, postgres};

use crate::{decode_pool, pictures};

/// Why a request or a job was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field of the request is wrong.
    #[error("{field}: {message}")]
    Invalid {
        /// The field's path.
        field: &'static str,
        /// The reason in upper snake case.
        reason: &'static str,
        /// What to do about it.
        message: String,
    },
    /// The account has no such asset.
    #[error("no such asset")]
    NotFound,
    /// The object that was to be registered is not in storage.
    #[error("the object is not in storage")]
    NotStored,
    /// The uploaded picture is not taken.
    #[error(transparent)]
    Refused(#[from] pictures::Refused),
    /// There is too much to do.
    #[error("overloaded, try again in {retry_after:?}")]
    Overloaded {
        /// When to try again.
        retry_after: Duration,
    },
    /// Decoding panicked: a fault of ours or of a decoder.
    #[error("decoding panicked: {0}")]
    Panicked(String),
    /// PostgreSQL.
    #[error(transparent)]
    Postgres(#[from] postgres::Error),
    /// Object storage.
    #[error(transparent)]
    Blobs(#[from] blobs::Error),
    /// The queue.
    #[error(transparent)]
    Jobs(#[from] jobs::Error),
}

impl Error {
    /// A wrong field that breaks the request's schema.
    pub(crate) fn schema(field: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid { field, reason: "INPUT_SCHEMA_VIOLATION", message: message.into() }
    }
}

impl From<decode_pool::Refused> for Error {
    fn from(refused: decode_pool::Refused) -> Self {
        match refused {
            // By its limits a picture is allowed, but this process was given less memory than that.
            decode_pool::Refused::TooHeavy { .. } => {
                Self::Invalid { field: "chunk", reason: "IMAGE_LIMIT_EXCEEDED", message: refused.to_string() }
            }
            decode_pool::Refused::Overloaded { retry_after } => Self::Overloaded { retry_after },
            decode_pool::Refused::Panicked(message) => Self::Panicked(message),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Invalid { field, reason, message } => Self::invalid(field, reason, message),
            Error::NotFound => Self::not_found("ASSET_NOT_FOUND", "there is no such asset"),
            Error::NotStored => {
                Self::precondition("UPLOAD_INCOMPLETE", "the object is not in storage: put it there first")
            }
            Error::Refused(refused) => Self::invalid("chunk", refused.reason(), refused.to_string()),
            Error::Overloaded { retry_after } => {
                Self::exhausted("OVERLOADED", "too many pictures are being worked on", retry_after)
            }
            Error::Panicked(_) => Self::internal(error),
            Error::Postgres(error) | Error::Jobs(jobs::Error::Postgres(error)) => error.into(),
            Error::Blobs(error) => error.into(),
            Error::Jobs(error @ jobs::Error::StaleFence) => Self::internal(error),
        }
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        Failure::from(error).into()
    }
}
