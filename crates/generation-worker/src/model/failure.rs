//! Why a provider did not deliver: what the generation's user reads, what operators read, and what follows from it.
//!
//! Invariant: what users read and what operators read are two fields, and a provider's own words are in the second only.

use std::time::Duration;

/// What kind of failure it was; this decides whether there will be another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Something broke that may work next time.
    Internal,
    /// The provider asked for a pause; the attempt does not count.
    Throttled,
    /// The input was refused and always will be.
    InvalidInput,
    /// The provider's safety rules refused it.
    Safety,
    /// The result cannot be used.
    BadOutput,
    /// It was cancelled, and the provider stopped.
    Cancelled,
}

/// Whether the provider takes money for an order that it did not deliver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Charge {
    /// It says, or its documentation does, that it takes none.
    NotCharged,
    /// It says, or its documentation does, that it takes some.
    Charged,
    /// It says nothing that can be relied on.
    #[default]
    Unknown,
}

/// What operators see of a failure and users do not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// The HTTP status, where there was an answer.
    pub status: Option<u16>,
    /// The first 200 characters of the answer's body, or what broke on the way; no secrets.
    pub excerpt: String,
}

impl Evidence {
    /// What broke on the way, where there was no answer.
    #[must_use]
    pub fn cause(cause: impl Into<String>) -> Self {
        Self { status: None, excerpt: cause.into() }
    }
}

/// Why a provider did not deliver.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct Failure {
    /// What kind of failure.
    pub class: Class,
    /// One of the reasons of `Generation.error`.
    pub reason: &'static str,
    /// A sentence for the generation's user.
    pub message: String,
    /// Not to be tried again before this long.
    pub retry_after: Option<Duration>,
    /// Whether it costs something all the same.
    pub charge: Charge,
    /// What operators see of it.
    pub evidence: Evidence,
}

impl Failure {
    /// A failure inside the provider, which may not come again.
    #[must_use]
    pub fn internal(message: impl Into<String>) -> Self {
        Self {
            class: Class::Internal,
            reason: "PROVIDER_INTERNAL",
            message: message.into(),
            retry_after: None,
            charge: Charge::Unknown,
            evidence: Evidence::default(),
        }
    }

    /// A result that cannot be used.
    #[must_use]
    pub fn bad_output(message: impl Into<String>) -> Self {
        Self { class: Class::BadOutput, reason: "PROVIDER_BAD_OUTPUT", ..Self::internal(message) }
    }

    /// The provider does not know an order any more that it took.
    #[must_use]
    pub fn order_lost() -> Self {
        Self { reason: "OUTPUT_UNAVAILABLE", ..Self::bad_output("the provider lost the order") }
    }

    /// The provider says that the order is done, and names no output.
    #[must_use]
    pub fn output_missing() -> Self {
        Self { reason: "OUTPUT_UNAVAILABLE", charge: Charge::Charged, ..Self::bad_output("the provider has no output") }
    }

    /// The order has reference pictures, and the model cannot see our assets.
    #[must_use]
    pub fn reference_pictures() -> Self {
        Self {
            class: Class::InvalidInput,
            reason: "INPUT_SCHEMA_VIOLATION",
            charge: Charge::NotCharged,
            ..Self::internal("this model takes no reference pictures")
        }
    }

    /// The generation was cancelled.
    #[must_use]
    pub fn cancelled(message: impl Into<String>, charge: Charge) -> Self {
        Self { class: Class::Cancelled, reason: "CANCELLED", charge, ..Self::internal(message) }
    }

    /// The same failure with what operators see of it.
    #[must_use]
    pub fn with_evidence(self, evidence: Evidence) -> Self {
        Self { evidence, ..self }
    }
}

/// Why an order was not submitted, or is not known to have been.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSubmitted {
    /// Nothing was ordered: it was refused, or no byte left.
    #[error("nothing was ordered: {0}")]
    Refused(Failure),
    /// The order may have been taken: the connection broke after it went out.
    #[error("it is not known whether the order was taken: {message}")]
    Unconfirmed {
        /// A sentence for operators.
        message: String,
        /// What else operators see of it.
        evidence: Evidence,
    },
}

impl NotSubmitted {
    /// It is not known whether the order was taken, for the reason that `message` gives.
    #[must_use]
    pub fn unconfirmed(message: impl Into<String>, evidence: Evidence) -> Self {
        Self::Unconfirmed { message: message.into(), evidence }
    }
}
