//! Records and values that rules, wire and store all point down at. Nothing here knows any of them.

mod bulk;
mod costs;
mod credits;
mod deletion;
mod delivery_rules;
mod failure;
mod filter;
mod generation;
mod input;
mod models;
mod operations;
mod usage;
mod webhooks;
mod work;

pub(crate) use bulk::{BulkFilter, BulkOutcome, Chosen, Stuck};
pub(crate) use costs::ModelCost;
pub(crate) use credits::{Balance, Entry, EntryKind, Issue, Issued};
pub(crate) use deletion::DeletedName;
pub(crate) use delivery_rules::{
    Answer, AnswerSpeed, DisableReason, Failures, Health, MAX_DELIVERY_ATTEMPTS, MAX_TESTS, PROMPT_QUEUE, SLOW_AFTER,
    SLOW_QUEUE, TEST_WINDOW,
};
pub(crate) use failure::{Code, Failure};
pub(crate) use filter::{Filter, Listed};
pub(crate) use generation::{
    Basis, Generation, MissingOutput, Moderation, NewGeneration, OrderPhase, Output, Picture, Pictures, ProviderCharge,
    Snapshot, StartRequest, Started, WaitReason,
};
pub(crate) use input::{InputDetails, NamedMedium};
pub(crate) use models::Pace;
pub(crate) use operations::{CheckedRange, JobEvent, QueueStats, Resolution, Violation};
pub(crate) use usage::{EndUser, GroupBy, Period, UsagePage, UsageQuery, UsageRow};
pub(crate) use webhooks::{
    Attempt, AttemptResult, ClaimedDelivery, CreatedEndpoint, DELIVERY_JOBS, DELIVERY_RETENTION, Delivery,
    DeliveryOutcome, DeliveryState, Endpoint, EndpointChange, FreeSlots, MAX_ENDPOINTS, NewEndpoint, ReapedDeliveries,
    Secret, Settlement, TEST_EVENT, TIMEOUT, Unqueued, event_types,
};
pub(crate) use work::{
    ClaimedWork, Condition, Confirmation, FailedAttempt, FailureClass, FailureReport, FrozenEntry, GENERATION_JOBS,
    Hint, Hinted, ProgressReport, ReapedWork, Suspension, Trouble, Usage, provider_of,
};
