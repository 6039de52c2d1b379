//! What can go wrong between the worker and its neighbours, and the one map to what a caller is told.

use chassis::status;

use crate::model::NotVerified;

/// Why something did not come about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// The lease is another's, or the work has ended: nothing more may be said about it.
    #[error("the lease is another's: {0}")]
    LeaseLost(String),
    /// Another service does not answer, or answers with a fault of its own.
    #[error("{service} does not answer: {code}: {message}")]
    Unavailable {
        /// Which service.
        service: &'static str,
        /// Its status, as gRPC spells it.
        code: String,
        /// What it says.
        message: String,
    },
    /// Another service will never accept this.
    #[error("refused: {0}")]
    Refused(String),
    /// Nobody can tell that the webhook comes from its provider.
    #[error("the webhook cannot be verified: {0}")]
    NotVerified(#[from] NotVerified),
}

impl From<Error> for status::Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::NotVerified(_) => Self::unauthenticated("HOOK_NOT_VERIFIED", "the webhook cannot be verified"),
            Error::Unavailable { service, .. } => {
                Self::unavailable("DEPENDENCY_DOWN", format!("{service} does not answer"))
            }
            // A webhook has no lease, and what it says is refused nowhere: the provider sends it again.
            Error::LeaseLost(_) | Error::Refused(_) => {
                Self::unavailable("DEPENDENCY_DOWN", "the webhook could not be passed on").because(error)
            }
        }
    }
}
