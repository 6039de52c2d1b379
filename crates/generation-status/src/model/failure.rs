//! Why a generation failed, as its user is told.

/// The codes of `google.rpc.Code` that a generation's error may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Code {
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Internal = 13,
    Unavailable = 14,
}

/// Why a generation failed, for its user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// A number of `google.rpc.Code`; rows keep the number, so one that this build does not know survives.
    pub(crate) code: i32,
    /// In upper snake case.
    pub(crate) reason: String,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(code: Code, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code as i32, reason: reason.into(), message: message.into() }
    }

    /// No worker took the generation up by its start deadline.
    pub(crate) fn start_deadline() -> Self {
        Self::new(Code::DeadlineExceeded, "START_DEADLINE", "no worker was free in time; nothing was charged")
    }

    /// The generation did not end by its total deadline.
    pub(crate) fn total_deadline() -> Self {
        Self::new(Code::DeadlineExceeded, "TOTAL_DEADLINE", "it did not end by its deadline; nothing was charged")
    }

    /// The submission stayed unconfirmed to the end.
    pub(crate) fn outcome_unknown() -> Self {
        Self::new(
            Code::Unknown,
            "SUBMISSION_OUTCOME_UNKNOWN",
            "it could not be found out whether the provider took the order; nothing was charged",
        )
    }

    /// An operator found that its order comes to nothing.
    pub(crate) fn given_up() -> Self {
        let message = "the provider does not hand over what it made; nothing was charged";
        Self::new(Code::Unavailable, "OUTPUT_UNAVAILABLE", message)
    }

    /// Several workers in a row lost their lease on it.
    pub(crate) fn workers_lost(attempts: i32) -> Self {
        let message = format!("{attempts} workers in a row did not come back; nothing was charged");
        Self::new(Code::Unavailable, "ATTEMPTS_EXHAUSTED", message)
    }

    /// Its job is gone, so nobody would ever carry it out.
    pub(crate) fn job_lost() -> Self {
        Self::new(Code::Internal, "ATTEMPTS_EXHAUSTED", "its work was lost on our side; nothing was charged")
    }
}

#[cfg(test)]
mod tests {
    use super::Code;

    #[test]
    fn codes_have_the_numbers_of_grpc() {
        for (code, grpc) in [
            (Code::Unknown, tonic::Code::Unknown),
            (Code::InvalidArgument, tonic::Code::InvalidArgument),
            (Code::DeadlineExceeded, tonic::Code::DeadlineExceeded),
            (Code::ResourceExhausted, tonic::Code::ResourceExhausted),
            (Code::FailedPrecondition, tonic::Code::FailedPrecondition),
            (Code::Internal, tonic::Code::Internal),
            (Code::Unavailable, tonic::Code::Unavailable),
        ] {
            assert_eq!(code as i32, grpc as i32);
        }
    }
}
