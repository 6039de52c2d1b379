//! Work as workers know it: what a claim gives them, and what they report.

use std::time::Duration;

use catalogue::Order;
use jobs::{Lease, Leased};

use super::{Failure, Generation, ProviderCharge, WaitReason};

/// The kind of the jobs that carry generations out.
pub(crate) const GENERATION_JOBS: &str = "generation";

/// Whose key a public name, `{provider}/{hash}`, is of.
pub(crate) fn provider_of(key: &str) -> &str {
    key.split_once('/').map_or("", |(provider, _)| provider)
}

/// A generation with the lease that was given on its job.
#[derive(Debug)]
pub(crate) struct ClaimedWork {
    pub(crate) leased: Leased,
    pub(crate) generation: Generation,
    /// What the provider is sent, as it was frozen at the start.
    pub(crate) order: Order,
    /// The provider's reference of an order that is still good.
    pub(crate) reference: Option<String>,
    /// An intent was committed and no reference: the provider may have the order.
    pub(crate) in_doubt: bool,
    /// What of the order is in trouble, and for how long.
    pub(crate) troubles: Vec<(Trouble, Duration)>,
    /// The public name of the key that its order is to be sent with, or was; empty: not known.
    pub(crate) key: String,
    /// It is the probe of a provider that was out of order: that is asked something that orders nothing first.
    pub(crate) ask_first: bool,
}

/// What an order took at its provider, as far as the provider says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// On the provider's machine, in milliseconds.
    pub(crate) run_ms: Option<i64>,
    /// The provider's own price, in millionths of its currency.
    pub(crate) provider_cost_micros: Option<i64>,
    /// What the provider counted; empty where it does not say.
    pub(crate) provider_units: String,
}

/// What of an order is in trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The provider cannot be asked.
    Poll,
    /// The provider answers, and does not know the order or names no output.
    Order,
    /// The output cannot be fetched.
    Output,
    /// The output cannot be stored.
    Storage,
}

impl Trouble {
    /// Every trouble, in the order in which an order runs into them.
    pub(crate) const ALL: [Self; 4] = [Self::Poll, Self::Order, Self::Output, Self::Storage];
}

/// Why a provider takes no orders, as far as one call can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// It refuses our key or our account.
    AccountRefused,
    /// It does not answer, or answers with faults of its own.
    Outage,
    /// It refuses the model, or fields of its entry in the catalogue.
    Misconfigured,
}

impl Condition {
    /// Every condition.
    pub(crate) const ALL: [Self; 3] = [Self::AccountRefused, Self::Outage, Self::Misconfigured];

    /// As a breaker's cause.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::AccountRefused => "ACCOUNT_REFUSED",
            Self::Outage => "OUTAGE",
            Self::Misconfigured => "MISCONFIGURED",
        }
    }

    /// The condition that a breaker's cause names.
    pub(crate) fn from_cause(cause: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|condition| condition.as_str() == cause)
    }
}

/// How far a generation has come.
#[derive(Clone, Debug)]
pub(crate) struct ProgressReport {
    pub(crate) lease: Lease,
    pub(crate) percent: i16,
    pub(crate) stage: String,
}

/// The end of a lease while the attempt goes on at the provider.
#[derive(Clone, Debug)]
pub(crate) struct Suspension {
    pub(crate) lease: Lease,
    /// `None`: no poll is due until a webhook, an operator or a deadline makes one due.
    pub(crate) poll_after: Option<Duration>,
    /// It is not known whether there is an order.
    pub(crate) unconfirmed: bool,
    /// `None` where the provider does not say.
    pub(crate) percent: Option<i16>,
    pub(crate) stage: String,
    pub(crate) queue_position: i32,
    /// For operators.
    pub(crate) message: String,
    /// `None` where the order is well.
    pub(crate) trouble: Option<Trouble>,
    /// What the submission says of the provider's health.
    pub(crate) condition: Option<Condition>,
    /// The public name of the key that the provider was called with; empty: it has none.
    pub(crate) key: String,
}

/// The class of a failure, which decides what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureClass {
    /// Something broke that may work next time.
    Internal,
    /// The provider asked for a pause.
    Throttled,
    /// The input was refused and always will be.
    InvalidInput,
    /// The provider's safety rules refused it.
    Safety,
    /// The provider's result cannot be used.
    BadOutput,
    /// The generation was cancelled, and the provider stopped.
    Cancelled,
    /// Nothing was ordered, since the provider takes no orders.
    Unavailable,
    /// The order may have been made or charged.
    Final,
}

impl FailureClass {
    /// Its name in logs and metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::Throttled => "throttled",
            Self::InvalidInput => "invalid_input",
            Self::Safety => "safety",
            Self::BadOutput => "bad_output",
            Self::Cancelled => "cancelled",
            Self::Unavailable => "unavailable",
            Self::Final => "final",
        }
    }
}

/// A worker's account of a failed attempt.
#[derive(Clone, Debug)]
pub(crate) struct FailureReport {
    pub(crate) class: FailureClass,
    /// Upper snake case; empty when the worker gave none.
    pub(crate) reason: String,
    /// For the generation's user.
    pub(crate) message: String,
    pub(crate) retry_after: Option<Duration>,
    /// `None` when the worker does not know.
    pub(crate) provider_charge: Option<ProviderCharge>,
    /// For operators, with the provider's own words.
    pub(crate) detail: String,
    /// What it says of the provider's health.
    pub(crate) condition: Option<Condition>,
    /// The public name of the key that the provider was called with; empty: it has none.
    pub(crate) key: String,
}

/// The entry of the catalogue that an order was started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FrozenEntry {
    /// The id of the model.
    pub(crate) model: String,
    /// A hash of what decides what its provider is sent; `None` of orders that were started before it was kept.
    pub(crate) entry_sha256: Option<Vec<u8>>,
    /// What the provider called the model.
    pub(crate) remote_name: String,
}

/// A failed attempt, with its consequences for the job and for the generation's user.
#[derive(Clone, Debug)]
pub(crate) struct FailedAttempt {
    /// For the job: whether there is another attempt, and when.
    pub(crate) job: jobs::Failure,
    /// For the generation's user, should it have been the last attempt.
    pub(crate) failure: Failure,
    /// Why the generation waits, should there be another attempt.
    pub(crate) wait_reason: WaitReason,
    /// The provider's charge, as far as the worker knows it.
    pub(crate) provider_charge: Option<ProviderCharge>,
    /// What it says of the provider's health.
    pub(crate) condition: Option<Condition>,
    /// The public name of the key that the provider was called with; empty: it has none.
    pub(crate) key: String,
    /// It failed for an entry of the catalogue that is another by now, and so says nothing of the model as it is.
    pub(crate) outdated: bool,
}

/// What a round of the reaper did.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReapedWork {
    /// Generations that wait for another attempt, or ended.
    pub(crate) changed: Vec<Generation>,
    /// Generations whose worker is lost and whose attempt goes on at their provider: nothing of them changed.
    pub(crate) waiting: Vec<Generation>,
    /// Work is ready for workers.
    pub(crate) ready: bool,
}

/// What became of a provider's event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hinted {
    /// Whether the job was waiting for it.
    pub(crate) awaited: bool,
    /// Whether it was the news of an order that was not recorded here.
    pub(crate) forgotten: bool,
    /// The W3C trace context of the call that started the generation; empty for an event that was heard before or is of no job.
    pub(crate) traceparent: String,
    /// What the provider calls the model of the order that it is to be asked for first; nothing was recorded then.
    pub(crate) confirm_at_model: Option<String>,
    /// The public name of the key to ask with; empty: not known.
    pub(crate) key: String,
}

/// A verified webhook of a provider.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hint<'a> {
    /// Whose it is.
    pub(crate) provider: &'a str,
    /// The provider's id of the event.
    pub(crate) event: &'a str,
    /// The job that its address names.
    pub(crate) job: uuid::Uuid,
    /// The order that it names.
    pub(crate) reference: Option<&'a str>,
    /// Whether the provider was asked for that order.
    pub(crate) confirmation: Confirmation,
}

/// Whether the provider itself was asked for the order of a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Confirmation {
    /// It was not, and whoever passes the webhook on does not ask.
    Impossible,
    /// It was not yet.
    NotAsked,
    /// It was, by our own key, and knows the order.
    Confirmed,
}
