//! How an attempt ends without a video: what the generation's user reads, what operators read, and what follows from it.
//!
//! Invariant: what users read follows from the reason alone; a provider's own words are for operators.

use std::time::Duration;

use super::evidence::{Charge, Evidence};
use super::trouble::Trouble;

/// What kind of failure it was; this decides whether there will be another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Nothing was made and nothing charged: there is another attempt while any is left.
    Internal,
    /// The provider asked for a pause; the attempt does not count.
    Throttled,
    /// The provider takes no orders now; the attempt does not count.
    Unavailable,
    /// The input was refused and always will be.
    InvalidInput,
    /// The provider's safety rules refused it.
    Safety,
    /// The order may have been made or charged: there is no other attempt.
    Final,
    /// It was cancelled, and the provider stopped.
    Cancelled,
}

/// Why a generation fails, as `Generation.error` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The generation was to be stopped.
    Cancelled,
    /// The input breaks the model's rules.
    InputSchemaViolation,
    /// The model's entry in the catalogue is wrong.
    ModelMisconfigured,
    /// The output cannot be had.
    OutputUnavailable,
    /// The output is no video that can be used.
    ProviderBadOutput,
    /// The provider failed.
    ProviderInternal,
    /// The provider has enough to do, or takes no orders.
    ProviderQuota,
    /// The provider took too long.
    ProviderTimeout,
    /// The provider's safety rules refused it.
    SafetyInput,
}

impl Reason {
    /// As the API names it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cancelled => "CANCELLED",
            Self::InputSchemaViolation => "INPUT_SCHEMA_VIOLATION",
            Self::ModelMisconfigured => "MODEL_MISCONFIGURED",
            Self::OutputUnavailable => "OUTPUT_UNAVAILABLE",
            Self::ProviderBadOutput => "PROVIDER_BAD_OUTPUT",
            Self::ProviderInternal => "PROVIDER_INTERNAL",
            Self::ProviderQuota => "PROVIDER_QUOTA",
            Self::ProviderTimeout => "PROVIDER_TIMEOUT",
            Self::SafetyInput => "SAFETY_INPUT",
        }
    }

    /// A sentence for the generation's user.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::Cancelled => "it was stopped on request",
            Self::InputSchemaViolation => "the provider refused the input",
            Self::ModelMisconfigured => "the model is not set up rightly here; its operator has been told",
            Self::OutputUnavailable => "the provider does not hand over what it made",
            Self::ProviderBadOutput => "what the provider made is no video that can be used",
            Self::ProviderInternal => "the provider failed to make the video",
            Self::ProviderQuota => "the provider takes no orders at present",
            Self::ProviderTimeout => "the provider took too long",
            Self::SafetyInput => "the provider's safety rules refused it",
        }
    }
}

/// Why a provider takes no orders, as far as one call can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It refuses our key or our account.
    AccountRefused,
    /// It does not answer, or answers with faults of its own.
    Outage,
    /// It refuses the model, or fields of its entry in the catalogue.
    Misconfigured,
}

/// How an attempt ends without a video.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure.
    pub class: Class,
    /// What the user is told.
    pub reason: Reason,
    /// Not to be tried again before this long.
    pub retry_after: Option<Duration>,
    /// Whether it costs something all the same.
    pub charge: Charge,
    /// What it says of the provider's health.
    pub condition: Option<Condition>,
    /// A sentence for operators.
    pub detail: String,
    /// What else operators see of it.
    pub evidence: Evidence,
}

impl Failure {
    /// A failure of this class and reason.
    #[must_use]
    pub fn new(class: Class, reason: Reason, charge: Charge, detail: impl Into<String>) -> Self {
        let (detail, evidence) = (detail.into(), Evidence::default());
        Self { class, reason, charge, retry_after: None, condition: None, detail, evidence }
    }

    /// The generation was to be cancelled.
    #[must_use]
    pub fn cancelled(detail: impl Into<String>, charge: Charge) -> Self {
        Self::new(Class::Cancelled, Reason::Cancelled, charge, detail)
    }

    /// The same failure, with what came of the call that it follows from.
    #[must_use]
    pub(crate) fn because(self, trouble: &Trouble) -> Self {
        Self {
            retry_after: trouble.retry_after,
            detail: trouble.detail.clone(),
            evidence: trouble.evidence.clone(),
            ..self
        }
    }
}
