//! What can go wrong with PostgreSQL, sorted by what a caller can do about it.

use std::sync::Arc;

use super::liveness::Unresponsive;
use crate::status::Failure;

/// A failed statement; cheap to clone, so that callers who share one load share its error.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The URL of the database cannot be parsed.
    #[error("RUSHES_DATABASE_URL should be a URL such as postgres://user:password@host:5432/name")]
    Url,
    /// No connection became free in time.
    #[error("no free connection in pool {0}")]
    Busy(&'static str),
    /// The request's deadline passed first.
    #[error("the deadline passed during a statement")]
    Deadline,
    /// PostgreSQL stopped the statement because it ran for too long.
    #[error("the statement timed out")]
    Timeout(#[source] Arc<sqlx::Error>),
    /// PostgreSQL cannot be reached, or the connection broke.
    #[error("PostgreSQL cannot be reached")]
    Unreachable(#[source] Arc<sqlx::Error>),
    /// The server takes no writes now: a standby that is not promoted yet, or one that an operator made read-only.
    #[error("PostgreSQL is in read-only mode")]
    ReadOnly(#[source] Arc<sqlx::Error>),
    /// Two transactions got into each other's way (serialization failure or deadlock); run it again.
    #[error("conflict with another transaction")]
    Conflict(#[source] Arc<sqlx::Error>),
    /// A constraint refused the row, see [`Error::constraint`].
    #[error("a constraint refused the row")]
    Constraint(#[source] Arc<sqlx::Error>),
    /// A query that must give one row gave none.
    #[error("no row")]
    NoRow,
    /// Anything else: a fault of ours.
    #[error("statement failed")]
    Statement(#[source] Arc<sqlx::Error>),
}

impl Error {
    /// The name of the constraint that refused the row.
    #[must_use]
    pub fn constraint(&self) -> Option<&str> {
        match self {
            Self::Constraint(source) => source.as_database_error()?.constraint(),
            _ => None,
        }
    }

    /// The five characters of PostgreSQL's SQLSTATE, where it answered at all.
    #[must_use]
    pub fn sqlstate(&self) -> Option<String> {
        match self {
            Self::Timeout(source)
            | Self::Unreachable(source)
            | Self::ReadOnly(source)
            | Self::Conflict(source)
            | Self::Constraint(source)
            | Self::Statement(source) => source.as_database_error()?.code().map(Into::into),
            Self::Url | Self::Busy(_) | Self::Deadline | Self::NoRow => None,
        }
    }

    /// Whether the same work may succeed when it is run again.
    #[must_use]
    pub fn retryable(&self) -> bool {
        matches!(self, Self::Busy(_) | Self::Unreachable(_) | Self::ReadOnly(_) | Self::Conflict(_))
    }

    /// A short name for metrics and spans.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Url => "url",
            Self::Busy(_) => "busy",
            Self::Deadline => "deadline",
            Self::Timeout(_) => "timeout",
            Self::Unreachable(_) => "unreachable",
            Self::ReadOnly(_) => "read_only",
            Self::Conflict(_) => "conflict",
            Self::Constraint(_) => "constraint",
            Self::NoRow => "no_row",
            Self::Statement(_) => "statement",
        }
    }

    pub(super) fn url(_: sqlx::Error) -> Self {
        // The parser's error may repeat the URL, and with it the password.
        Self::Url
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let class: fn(Arc<sqlx::Error>) -> Self = match &error {
            sqlx::Error::RowNotFound => return Self::NoRow,
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
                Self::Unreachable
            }
            sqlx::Error::Database(database) => match database.code().as_deref() {
                Some("57014") => Self::Timeout,
                Some("40001" | "40P01" | "55P03") => Self::Conflict,
                // Shutting down, starting up, a session that was idle for too long, a database that was dropped.
                Some("57P01" | "57P02" | "57P03" | "57P04" | "57P05") => Self::Unreachable,
                // A connection that broke, also behind a pooler; too many connections, a full disk, no memory; a disk that fails.
                Some(code) if ["08", "53", "58"].iter().any(|class| code.starts_with(class)) => Self::Unreachable,
                Some("25006") => Self::ReadOnly,
                Some(code) if code.starts_with("23") => Self::Constraint,
                _ => Self::Statement,
            },
            _ => Self::Statement,
        };
        class(Arc::new(error))
    }
}

impl From<Unresponsive> for Error {
    fn from(why: Unresponsive) -> Self {
        Self::Unreachable(Arc::new(sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, why))))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Deadline => Self::deadline(),
            Error::Busy(_) => Self::exhausted(
                "OVERLOADED",
                "too much work at once, try again shortly",
                std::time::Duration::from_millis(500),
            ),
            Error::Timeout(_) | Error::Unreachable(_) => {
                Self::unavailable("DEPENDENCY_DOWN", "the database does not answer, try again shortly").because(error)
            }
            Error::ReadOnly(_) => {
                let message = "the database takes no writes at the moment, try again shortly";
                Self::unavailable("DEPENDENCY_DOWN", message).because(error)
            }
            Error::Conflict(_) => {
                Self::aborted("CONFLICT", "another request changed the same thing, try again").because(error)
            }
            error => Self::internal(error),
        }
    }
}
