//! The ways in which the gateway refuses a call, and the one map from each to a code and a reason.

use std::time::Duration;

use chassis::{frames::TooLarge, status::Failure};
use proto::Scope;

use crate::model::{Exceeded, Report};

/// The RetryInfo of a call whose key could not be looked up at once.
const RETRY_AFTER: Duration = Duration::from_millis(250);

/// The RetryInfo of a watch that was refused.
const WATCH_RETRY_AFTER: Duration = Duration::from_secs(5);

/// Why a call is refused.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No public method has this path.
    #[error("there is no method {0}")]
    MethodNotFound(String),
    /// The call shows no key that it may use.
    #[error("the key is refused: {0:?}")]
    KeyRefused(Refusal),
    /// The key is good but lacks the scope of the method.
    #[error("the key lacks the scope {}", .0.as_str())]
    ScopeMissing(Scope),
    /// As many keys are being looked up as may be at once.
    #[error("too many keys are being looked up")]
    LookupsExhausted,
    /// The account, or the key, has used up a limit.
    #[error(transparent)]
    LimitExceeded(#[from] Exceeded),
    /// As many watches are open as may be.
    #[error("too many watches of one {}", .0.as_str())]
    TooManyWatches(WatchLimit),
    /// Dashboard's answer about a key makes no sense.
    #[error("{0} of an API key cannot be read")]
    UnreadableKey(&'static str),
    /// The name of the call's session is empty or too long.
    #[error("a session's name has 1 to {max} characters")]
    SessionInvalid {
        /// The header that has the name.
        header: &'static str,
        /// The longest name.
        max: usize,
    },
    /// The metadata that would go on is larger than a call's may be.
    #[error("the metadata has more than {max} bytes")]
    MetadataTooLarge {
        /// The largest, names and values together.
        max: usize,
    },
    /// A message, or all of a stream, is larger than its method allows.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// The account has no generation of this name, as an answer that is kept here says.
    #[error("there is no such generation")]
    GenerationNotFound,
    /// A failure that is ready to be answered, as a service behind the gateway returned it.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// What has only so many watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WatchLimit {
    /// A connection: others of its streams are left for calls.
    Connection,
    /// An account.
    Account,
}

impl WatchLimit {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Account => "account",
        }
    }
}

/// Why a call may not use the key that it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It shows no key.
    Missing,
    /// What it shows cannot be a key.
    Malformed,
    /// Nobody has this key.
    Unknown,
    /// The key was revoked.
    Revoked,
    /// The key's expiry has passed.
    Expired,
    /// The key is bound to networks, and the call comes from none of them.
    Address,
    /// The key's account is suspended.
    Suspended,
}

impl Refusal {
    /// All of them, in the order of their declaration.
    pub(crate) const ALL: [Self; 7] =
        [Self::Missing, Self::Malformed, Self::Unknown, Self::Revoked, Self::Expired, Self::Address, Self::Suspended];

    /// Its name in logs and metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Unknown => "unknown",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::Address => "address",
            Self::Suspended => "suspended",
        }
    }

    const fn reason(self) -> &'static str {
        match self {
            Self::Missing => "KEY_MISSING",
            // For the client both are one: no such key exists. The message says more.
            Self::Malformed | Self::Unknown => "KEY_UNKNOWN",
            Self::Revoked => "KEY_REVOKED",
            Self::Expired => "KEY_EXPIRED",
            Self::Address => "KEY_ADDRESS_REFUSED",
            Self::Suspended => "ACCOUNT_SUSPENDED",
        }
    }

    const fn message(self) -> &'static str {
        match self {
            Self::Missing => "send an API key as `authorization: Bearer rsk_…`",
            Self::Malformed => "this is not an API key; check that all of it was sent",
            Self::Unknown => "there is no such API key; create one, or check that all of it was sent",
            Self::Revoked => "this API key was revoked; use another one",
            Self::Expired => "this API key has expired; use another one",
            Self::Address => "this API key may not be used from this address; call from one of its networks",
            Self::Suspended => {
                "this account is suspended; what was started goes on; ask whoever runs this installation"
            }
        }
    }

    fn failure(self) -> Failure {
        match self {
            // Who it is, is known: another key of the account, or another try, does not help.
            Self::Address | Self::Suspended => Failure::denied(self.reason(), self.message()),
            _ => Failure::unauthenticated(self.reason(), self.message()),
        }
    }
}

impl Error {
    /// What the caller is told of its limits beside the refusal.
    pub(crate) fn report(&self) -> Option<&Report> {
        match self {
            Self::LimitExceeded(exceeded) => Some(&exceeded.report),
            _ => None,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::MethodNotFound(_) => Self::unimplemented(error.to_string()),
            Error::KeyRefused(refusal) => refusal.failure(),
            Error::ScopeMissing(scope) => {
                let scope = scope.as_str();
                Self::denied("SCOPE_MISSING", format!("this API key lacks the scope `{scope}`"))
                    .and_metadata("scope", scope)
            }
            Error::LookupsExhausted => Self::exhausted("OVERLOADED", error.to_string(), RETRY_AFTER),
            Error::LimitExceeded(exceeded) => exceeded.into(),
            Error::TooManyWatches(limit) => {
                let what = match limit {
                    WatchLimit::Connection => "open another connection, or close a watch",
                    WatchLimit::Account => "close a watch, or watch more with one",
                };
                let message = format!("this {} has as many watches as it may; {what}", limit.as_str());
                Self::exhausted("TOO_MANY_WATCHES", message, WATCH_RETRY_AFTER).and_metadata("limit", limit.as_str())
            }
            Error::UnreadableKey(_) => Self::internal(error),
            Error::SessionInvalid { header, max } => {
                let should = format!("must be a name of 1 to {max} characters that the client made up");
                Self::invalid(header, "SESSION_INVALID", should)
            }
            Error::MetadataTooLarge { max } => {
                let should = format!("must have at most {max} bytes, names and values together");
                Self::invalid("metadata", "METADATA_TOO_LARGE", should)
            }
            Error::TooLarge(error) => error.into(),
            Error::GenerationNotFound => Self::not_found("GENERATION_NOT_FOUND", error.to_string()),
            Error::Failed(failure) => failure,
        }
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        Failure::from(error).into()
    }
}
