//! Webhooks to users: endpoints, deliveries, and the limits that rules and store both keep to.

use std::fmt;
use std::time::Duration;

use domain::generation::State;
use domain::id::{GenerationId, WebhookEndpointId};
use domain::name::DeliveryName;
use jobs::Lease;
use time::OffsetDateTime;
use uuid::Uuid;

use super::Generation;
use super::delivery_rules::{Answer, AnswerSpeed, DisableReason};

/// The kind of the jobs that deliver.
pub(crate) const DELIVERY_JOBS: &str = "webhook";
/// How many endpoints an account may have.
pub(crate) const MAX_ENDPOINTS: i64 = 20;
/// The reason of an attempt that nothing answered in time.
pub(crate) const TIMEOUT: &str = "TIMEOUT";
/// The event that a test sends.
pub(crate) const TEST_EVENT: &str = "webhook.test";
/// How long deliveries are kept after their end.
pub(crate) const DELIVERY_RETENTION: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The key that webhooks of one endpoint are signed with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Secret(pub(crate) [u8; 32]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// An endpoint as stored, without its secrets.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub(crate) id: WebhookEndpointId,
    pub(crate) url: String,
    pub(crate) description: String,
    pub(crate) event_types: Vec<String>,
    /// Reason and time; `None` while it is enabled.
    pub(crate) disabled: Option<(String, OffsetDateTime)>,
    pub(crate) failing_since: Option<OffsetDateTime>,
    pub(crate) previous_until: Option<OffsetDateTime>,
    pub(crate) version: i64,
    pub(crate) create_time: OffsetDateTime,
    pub(crate) update_time: OffsetDateTime,
}

/// An endpoint to be created.
#[derive(Clone, Debug)]
pub(crate) struct NewEndpoint {
    pub(crate) url: String,
    pub(crate) description: String,
    pub(crate) event_types: Vec<String>,
    /// The idempotency key: the client's id of the request, and the hash of its body.
    pub(crate) request: Option<(Uuid, [u8; 32])>,
}

/// The outcome of a creation.
#[derive(Debug)]
pub(crate) struct CreatedEndpoint {
    pub(crate) endpoint: Endpoint,
    /// It did not exist before.
    pub(crate) fresh: bool,
    /// The hash of the request that created it, where that had an id.
    pub(crate) request_sha256: Option<Vec<u8>>,
}

/// A change of an endpoint; `None` where a field stays as it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct EndpointChange {
    pub(crate) url: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) event_types: Option<Vec<String>>,
    pub(crate) disabled: Option<bool>,
    /// The version that the caller has read; `None`: any.
    pub(crate) expected_version: Option<i64>,
}

/// The state of a delivery; the numbers of `webhook_deliveries.state` and of `rushes.webhooks.v1.Delivery.State`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i16)]
pub(crate) enum DeliveryState {
    /// It is to be sent, or sent again.
    Pending = 1,
    /// The endpoint accepted it.
    Delivered = 2,
    /// It was given up.
    Failed = 3,
}

/// One event for one endpoint, as users see it.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) name: DeliveryName,
    pub(crate) event_type: String,
    /// The generation and its version in the event; `None` for a test.
    pub(crate) generation: Option<(GenerationId, i64)>,
    /// The number of a [`DeliveryState`].
    pub(crate) state: i16,
    pub(crate) attempt_count: i32,
    pub(crate) next_attempt_time: Option<OffsetDateTime>,
    /// Newest first.
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) create_time: OffsetDateTime,
    pub(crate) end_time: Option<OffsetDateTime>,
}

impl Delivery {
    /// About how many bytes it has in the API, and never fewer: names, times and numbers, and what its receiver answered.
    pub(crate) fn max_bytes(&self) -> usize {
        let attempts = self.attempts.iter().map(|attempt| 96 + attempt.reason.len() + attempt.excerpt.len());
        512 + self.event_type.len() + attempts.sum::<usize>()
    }
}

/// One line of a delivery's log.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) number: i32,
    pub(crate) time: OffsetDateTime,
    pub(crate) http_status: i32,
    pub(crate) latency: Duration,
    pub(crate) reason: String,
    pub(crate) excerpt: String,
}

/// A delivery whose job this process has a lease on, with all that one attempt needs.
#[derive(Clone, Debug)]
pub(crate) struct ClaimedDelivery {
    pub(crate) lease: Lease,
    pub(crate) name: DeliveryName,
    pub(crate) url: String,
    /// One, or two during a rotation.
    pub(crate) secrets: Vec<Secret>,
    pub(crate) event_type: String,
    /// When the event happened.
    pub(crate) create_time: OffsetDateTime,
    /// The database's time.
    pub(crate) now: OffsetDateTime,
    /// Which attempt it is, from 1.
    pub(crate) attempt: i32,
    /// How fast the endpoint answered last.
    pub(crate) speed: AnswerSpeed,
    /// The generation as it was at the event; `None` for a test.
    pub(crate) generation: Option<Box<Generation>>,
}

/// The result of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AttemptResult {
    /// 0 when there was no answer.
    pub(crate) http_status: u16,
    pub(crate) latency: Duration,
    /// Why there was no answer.
    pub(crate) reason: &'static str,
    pub(crate) excerpt: String,
    /// How long the endpoint asked to be left alone.
    pub(crate) retry_after: Duration,
}

impl AttemptResult {
    /// What the answer means.
    pub(crate) fn answer(&self) -> Answer {
        Answer::of(self.http_status)
    }

    /// The pause before the next attempt, where the rules ask for `min`: lengthened by a random tenth, so that failed deliveries
    /// spread out, or what the endpoint asked for.
    pub(crate) fn pause(&self, min: Duration) -> Duration {
        min.mul_f64(1.0 + fastrand::f64() / 10.0).max(self.retry_after)
    }

    /// What the attempt says of the endpoint's speed.
    pub(crate) fn speed(&self) -> AnswerSpeed {
        AnswerSpeed::of(self.latency, self.reason == TIMEOUT)
    }
}

/// How many more deliveries a process can have in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FreeSlots {
    /// Of endpoints that answer promptly, or were never called.
    pub(crate) prompt: u32,
    /// Of slow endpoints.
    pub(crate) slow: u32,
}

/// The effects of one round of enqueuing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unqueued {
    /// How many deliveries were enqueued or made to wait.
    pub(crate) handled: usize,
    /// How many were overtaken, and ended.
    pub(crate) overtaken: usize,
}

/// The state of a delivery after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeliveryOutcome {
    Delivered,
    Retried,
    /// After its last attempt, or because its endpoint was disabled.
    Failed,
    /// Refused for good, and a newer event of its generation is there.
    Overtaken,
}

impl DeliveryOutcome {
    /// The label of `rushes_webhook_deliveries_total`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Retried => "retried",
            Self::Failed => "failed",
            Self::Overtaken => "overtaken",
        }
    }

    /// Where the delivery stands after it.
    pub(crate) const fn state(self) -> DeliveryState {
        match self {
            Self::Retried => DeliveryState::Pending,
            Self::Delivered => DeliveryState::Delivered,
            Self::Failed | Self::Overtaken => DeliveryState::Failed,
        }
    }
}

/// The effects of an attempt's result, once committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settlement {
    pub(crate) outcome: DeliveryOutcome,
    /// Why this attempt disabled the endpoint.
    pub(crate) disabled: Option<DisableReason>,
}

/// The effects of one round of the reaper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReapedDeliveries {
    /// Something may be sent now.
    pub(crate) ready: bool,
    /// How many deliveries ended without an attempt.
    pub(crate) failed: usize,
}

/// The event of a state, as the trigger on `generations` names it.
pub(crate) fn event_type(state: State) -> String {
    format!("generation.{}", state.as_str().to_ascii_lowercase())
}

/// The event types to subscribe to, each once, in the order of the states; `None` when one is unknown. An empty list asks for
/// those that end a generation.
pub(crate) fn event_types(asked: &[String]) -> Option<Vec<String>> {
    let known = State::ALL.map(|state| (state, event_type(state)));
    if !asked.iter().all(|asked| known.iter().any(|(_, event)| event == asked)) {
        return None;
    }
    let wanted =
        |state: State, event: &String| if asked.is_empty() { state.is_terminal() } else { asked.contains(event) };
    Some(known.into_iter().filter(|(state, event)| wanted(*state, event)).map(|(_, event)| event).collect())
}
