//! The ways in which a request to this service fails, and the one map from each to a code and a reason.
//!
//! Invariant: a reply never tells apart what does not exist, what was deleted and what is another account's.

use chassis::fields::Invalid;
use chassis::postgres;
use chassis::status::Failure;

use crate::model::MAX_SCENES;

/// What can be not found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Noun {
    Account,
    ApiKey,
    Project,
    Scene,
    Notice,
}

impl Noun {
    const fn reason(self) -> &'static str {
        match self {
            Self::Account => "ACCOUNT_NOT_FOUND",
            Self::ApiKey => "API_KEY_NOT_FOUND",
            Self::Project => "PROJECT_NOT_FOUND",
            Self::Scene => "SCENE_NOT_FOUND",
            Self::Notice => "NOTICE_NOT_FOUND",
        }
    }

    const fn message(self) -> &'static str {
        match self {
            Self::Account => "there is no such account",
            Self::ApiKey => "there is no such API key",
            Self::Project => "there is no such project; it may have been deleted",
            Self::Scene => "there is no such scene; it or its project may have been deleted",
            Self::Notice => "one of these notices does not exist",
        }
    }
}

/// Why a request fails.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Fields of the request are wrong; nothing was stored.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// It does not exist, was deleted, or is another account's.
    #[error("no such {0:?}")]
    NotFound(Noun),
    /// The same request id came with another body before.
    #[error("the request id was used for another request")]
    RequestIdReused,
    /// It is no longer in the version that the caller has seen.
    #[error("the etag is of another version")]
    EtagMismatch,
    /// The project has as many scenes as one may have.
    #[error("the project is full")]
    ProjectFull,
    /// An operator would suspend the account that they call from.
    #[error("an account cannot suspend itself")]
    OwnAccount,
    /// An account is erased only while it is suspended.
    #[error("the account is not suspended")]
    NotSuspended,
    /// The account is erased, or is being erased.
    #[error("the account is erased")]
    AccountErased,
    /// No part of the answer could be read.
    #[error("nothing could be read")]
    Unreachable(#[source] postgres::Error),
    /// A watch cannot go on from there.
    #[error("the resume token cannot be used")]
    ResumeToken,
    /// The operating system gave no randomness for a key.
    #[error("no randomness for a key")]
    Random(#[from] getrandom::Error),
    /// The database refused or could not be asked.
    #[error(transparent)]
    Database(#[from] postgres::Error),
    /// A failure that is ready to be answered.
    #[error(transparent)]
    Failed(#[from] Failure),
}

impl Error {
    /// Whether the database could not be read, so that an older answer from the cache may be served.
    pub(crate) fn is_outage(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Database(_))
    }
}

impl From<jobs::Error> for Error {
    fn from(error: jobs::Error) -> Self {
        match error {
            jobs::Error::Postgres(error) => Self::Database(error),
            // Of a lease, and this service only enqueues.
            error @ jobs::Error::StaleFence => Self::Failed(Failure::internal(error)),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Invalid(invalid) => invalid.into(),
            Error::NotFound(noun) => Self::not_found(noun.reason(), noun.message()),
            Error::RequestIdReused => Self::already_exists(
                "REQUEST_ID_REUSED",
                "this request_id was used with another body; choose a new one for a new request",
            ),
            Error::EtagMismatch => {
                Self::aborted("ETAG_MISMATCH", "it was changed since it was read; read it again and repeat the change")
            }
            Error::ProjectFull => Self::precondition(
                "PROJECT_FULL",
                format!("a project has at most {MAX_SCENES} scenes; delete one or use another project"),
            ),
            Error::OwnAccount => Self::precondition(
                "OWN_ACCOUNT",
                "this is the account of the key that asks, which could not reactivate it; use a key of another account",
            ),
            Error::NotSuspended => Self::precondition(
                "ACCOUNT_NOT_SUSPENDED",
                "an account is erased only while it is suspended: suspend it first, and look whether it is the right one",
            ),
            Error::AccountErased => {
                Self::precondition("ACCOUNT_ERASED", "this account is erased, which nothing takes back")
            }
            Error::Unreachable(source) => {
                Self::unavailable("DEPENDENCY_DOWN", "no part of the dashboard could be read; try again")
                    .because(source)
            }
            Error::ResumeToken => {
                Self::out_of_range("RESUME_TOKEN_EXPIRED", "the resume token cannot be used; watch again without one")
            }
            Error::Random(_) => Self::internal(error),
            Error::Database(error) => error.into(),
            Error::Failed(failure) => failure,
        }
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        Failure::from(error).into()
    }
}
