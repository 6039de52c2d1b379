//! The business events of this service: for each its one log line, with the ids that lead to it, and its counter.
//!
//! Invariants: an event is reported once, after its transaction has committed, by the process that committed it. What users and
//! providers cause is INFO; WARN is for what somebody should look into. Nothing secret is logged: no prompt, no webhook's URL or
//! secret.

use catalogue::{Catalogue, Decimal};
use domain::generation::State;
use domain::id::{AccountId, GenerationId, WebhookEndpointId};
use domain::money::Micros;
use domain::name::SceneName;
use jobs::{Breaker, Scope};
use uuid::Uuid;

use crate::metrics;
use crate::model::{
    Balance, DeletedName, DeliveryOutcome, FailureReport, Generation, Issue, MissingOutput, ModelCost, Resolution,
    Suspension, Usage,
};

/// Logs about a generation, with the fields that every such line has. The trace is added by the log's format.
macro_rules! log {
    ($level:ident, $generation:expr, $message:literal $(, $field:ident = $value:expr)* $(,)?) => {{
        let generation: &Generation = $generation;
        tracing::$level!(
            generation = generation.id.name(),
            account = generation.account.name(),
            scene = %SceneName { project: generation.project, scene: generation.scene },
            model = generation.model,
            // Job and generation share one id.
            job = %generation.id,
            attempt = generation.attempt_count,
            $($field = $value,)*
            $message
        )
    }};
}

/// The secrets of so many endpoints were stored in the clear or under another key, and are under the first one now.
pub(crate) fn secrets_sealed(endpoints: usize) {
    tracing::info!(endpoints, "secrets of webhooks sealed");
}

/// So many endpoints have a secret that no key opens: nothing is sent to them.
pub(crate) fn secrets_unreadable(endpoints: usize) {
    tracing::warn!(
        endpoints,
        "secrets of webhooks are of a key that RUSHES_SECRETS_KEYS does not have; put it back, behind the first"
    );
}

/// Secrets of webhooks are stored as they are.
pub(crate) fn secrets_in_the_clear() {
    tracing::warn!("RUSHES_SECRETS_KEYS is not set: secrets of webhooks are stored in the clear");
}

/// A generation was started, and its price is held.
pub(crate) fn generation_started(generation: &Generation) {
    metrics::generation_started(&generation.model);
    metrics::credits_moved("held", generation.held.get());
    let retried_from = generation.retried_from.map(GenerationId::name);
    log!(info, generation, "generation started", held_micros = generation.held.get(), retried_from = retried_from);
}

/// An account deleted a generation.
pub(crate) fn generation_deleted(account: AccountId, id: GenerationId) {
    tracing::info!(generation = id.name(), account = account.name(), "generation deleted");
}

/// Jobs that had ended were deleted, as their retention says.
pub(crate) fn jobs_deleted(count: u64) {
    if count > 0 {
        tracing::info!(count, "ended jobs deleted");
    }
}

/// A generation reached a terminal state, and its hold is settled.
pub(crate) fn generation_ended(generation: &Generation) {
    metrics::generation_ended(&generation.model, generation.state.as_str());
    metrics::credits_moved("captured", generation.captured.get());
    metrics::credits_moved("released", generation.released.get());
    let failure = generation.error.as_ref();
    let (reason, error) = (failure.map(|it| it.reason.as_str()), failure.map(|it| it.message.as_str()));
    match generation.state {
        State::Completed => {
            log!(info, generation, "generation completed", captured_micros = generation.captured.get());
        }
        State::Failed => log!(info, generation, "generation failed", reason = reason, error = error),
        State::Cancelled => log!(info, generation, "generation cancelled"),
        State::Expired => log!(info, generation, "generation expired", reason = reason),
        State::Queued | State::Submitting | State::Processing | State::Finalizing | State::Cancelling => {}
    }
}

/// Somebody asked for a running generation to be stopped; `by` is `user` or `deadline`.
pub(crate) fn generation_cancelling(generation: &Generation, by: &'static str) {
    log!(info, generation, "generation cancelling", by = by);
}

/// An attempt failed, and the generation waits for the next one.
pub(crate) fn attempt_retried(generation: &Generation, report: &FailureReport, reason: &str) {
    metrics::attempt_retried(&generation.model, report.class.as_str());
    log!(
        info,
        generation,
        "generation retried",
        class = report.class.as_str(),
        reason = reason,
        error = report.message
    );
}

/// Providers, keys or models take no orders from now on: none is given out but a probe now and then. Their own words say why.
pub(crate) fn providers_unavailable(opened: &[Breaker]) {
    for (breaker, provider_key) in without_last_keys(opened) {
        tracing::error!(
            scope = metrics::scope_name(breaker.scope),
            target_name = breaker.target,
            provider_key,
            cause = breaker.cause,
            detail = breaker.detail,
            "provider unavailable"
        );
    }
}

/// Providers, keys or models take orders again.
pub(crate) fn providers_available(closed: &[Breaker]) {
    for (breaker, provider_key) in without_last_keys(closed) {
        let scope = metrics::scope_name(breaker.scope);
        tracing::info!(scope, target_name = breaker.target, provider_key, cause = breaker.cause, "provider available");
    }
}

/// What changed at one moment, each with the key that goes with it: a provider that stops with the last of its keys is one event, and
/// one line, which names the key.
fn without_last_keys(changed: &[Breaker]) -> impl Iterator<Item = (&Breaker, Option<&str>)> {
    let is_whole = changed.iter().any(|breaker| breaker.scope == Scope::Pool);
    let key = changed.iter().find(|breaker| is_whole && breaker.scope == Scope::Key).map(|key| key.target.as_str());
    let has_own_line = move |breaker: &&Breaker| !is_whole || breaker.scope != Scope::Key;
    changed.iter().filter(has_own_line).map(move |breaker| (breaker, key.filter(|_| breaker.scope == Scope::Pool)))
}

/// The catalogue's file was read again, and is another.
pub(crate) fn catalogue_changed(catalogue: &Catalogue) {
    tracing::info!(models = catalogue.all().len(), "catalogue changed");
}

/// The catalogue's file is wrong; the one that was read last stays.
pub(crate) fn catalogue_refused(faults: &str) {
    tracing::warn!(faults, "catalogue refused; the one that was read last stays");
}

/// The catalogue has a model at another provider than it was at before: what was ordered there is given to the wrong workers.
pub(crate) fn model_moved(model: &str) {
    tracing::warn!(model, "model moved to another provider; give the new entry an id of its own");
}

/// A model's provider charges another cost than the model's entry says: its price may have changed.
pub(crate) fn provider_cost_drifted(cost: &ModelCost) {
    let percent = (cost.drift() * 1000.0).round() / 10.0;
    let ModelCost { model, expected_micros, cost_micros, outputs } = cost;
    tracing::warn!(model, expected_micros, cost_micros, outputs, percent, "provider cost drifted");
}

/// A model's provider charges again what the model's entry says.
pub(crate) fn provider_cost_as_expected(model: &str) {
    tracing::info!(model, "provider cost as expected");
}

/// What a completed order took at its provider.
pub(crate) fn usage_reported(generation: &Generation, usage: &Usage) {
    metrics::usage_reported(&generation.model, generation.captured, usage);
    tracing::debug!(
        generation = generation.id.name(),
        model = generation.model,
        provider_cost_micros = usage.provider_cost_micros,
        provider_units = usage.provider_units,
        run_ms = usage.run_ms,
        "usage reported"
    );
}

/// A provider's webhook named an order of which nothing was recorded, as after the database was restored to an earlier time. The
/// job goes on with it.
pub(crate) fn forgotten_order_found(provider: &str, job: Uuid, reference: Option<&str>) {
    metrics::forgotten_order("adopted");
    tracing::warn!(%job, provider, reference, "forgotten order found");
}

/// A provider's webhook named a job that does not exist, as after the database was restored to an earlier time: nobody gets its video.
pub(crate) fn unknown_order(provider: &str, job: Uuid, reference: Option<&str>) {
    metrics::forgotten_order("unknown");
    tracing::warn!(%job, provider, reference, "webhook of an order that is not known");
}

/// A worker's lease expired, and the generation waits for another worker: one died, or was cut off for longer than a lease.
pub(crate) fn lease_expired(generation: &Generation) {
    log!(warn, generation, "lease expired");
}

/// The reaper dead-lettered the job of a generation, which ends with it.
pub(crate) fn job_dead_lettered(generation: &Generation) {
    let reason = generation.error.as_ref().map(|failure| failure.reason.as_str());
    log!(warn, generation, "job dead-lettered", reason = reason);
}

/// It is not known whether the provider took the order of a job. `generation` is `None` where that was so before this lease.
pub(crate) fn submission_unconfirmed(suspension: &Suspension, generation: Option<&Generation>) {
    metrics::submission_unconfirmed();
    let why = suspension.message.as_str();
    match generation {
        Some(generation) => log!(info, generation, "submission unconfirmed", why = why),
        None => {
            let job = suspension.lease.job;
            tracing::info!(generation = GenerationId(job).name(), %job, why, "submission still unconfirmed");
        }
    }
}

/// A submission stayed unconfirmed to its total deadline: the provider may have charged for it.
pub(crate) fn submission_unsettled(generation: &Generation) {
    log!(warn, generation, "submission unsettled at its deadline");
}

/// An operator settled an unconfirmed submission.
pub(crate) fn generation_resolved(generation: &Generation, resolution: &Resolution, note: &str) {
    let (resolution, reference) = match resolution {
        Resolution::Reference(reference) => ("reference", Some(reference.as_str())),
        Resolution::Failed(_) => ("failed", None),
        Resolution::Requeue => ("requeue", None),
    };
    metrics::submission_resolved(resolution);
    log!(info, generation, "generation resolved", resolution = resolution, reference = reference, note = note);
}

/// An operator closed a dead letter and started a generation in its place.
pub(crate) fn dead_letter_requeued(generation: &Generation, note: &str) {
    let dead_letter = generation.retried_from.map(GenerationId::name);
    log!(info, generation, "dead letter requeued", dead_letter = dead_letter, note = note);
}

/// The open generations of a deleted project or scene are cancelled or asked to stop, `cancelled` of them by this attempt.
pub(crate) fn deletion_carried_out(account: AccountId, name: &DeletedName, cancelled: usize) {
    tracing::info!(account = account.name(), %name, cancelled, "deletion carried out");
}

/// Nothing is left here of an account that is erased, but for its books.
pub(crate) fn generations_erased(account: AccountId) {
    tracing::info!(account = account.name(), "generations of the account erased");
}

/// Generations below what was deleted could not be cancelled, and the deletion's job waits for its next attempt.
pub(crate) fn deletion_retried(account: AccountId, job: Uuid, attempt: i32, cause: &'static str, error: &str) {
    tracing::info!(account = account.name(), %job, attempt, cause, error, "deletion retried");
}

/// The job of a deletion is a dead letter, whose generations the reconciler cancels; or it cannot be read, and they go on.
pub(crate) fn deletion_given_up(account: AccountId, job: Uuid, cause: &str) {
    tracing::warn!(account = account.name(), %job, cause, "deletion given up");
}

/// A worker reported an output that is not registered, or not as reported. Nothing was charged.
pub(crate) fn completion_refused(job: Uuid, missing: &MissingOutput) {
    metrics::completion_refused();
    let generation = GenerationId(job).name();
    tracing::warn!(generation, %job, asset = missing.asset, why = missing.why, "completion refused");
}

/// Credits were granted, or adjusted for a reason.
pub(crate) fn credits_issued(account: AccountId, issue: &Issue, balance: &Balance) {
    let (account, amount_micros, available_micros) = (account.name(), issue.amount.get(), balance.available.get());
    match &issue.reason {
        None => {
            metrics::credits_moved("granted", amount_micros);
            tracing::info!(account, amount_micros, available_micros, "credits granted");
        }
        Some(reason) => {
            metrics::credits_moved(if issue.amount < Micros::ZERO { "removed" } else { "added" }, amount_micros);
            tracing::info!(account, amount_micros, available_micros, reason, "credits adjusted");
        }
    }
}

/// An operator set what prices are multiplied by for an account.
pub(crate) fn margin_set(account: AccountId, margin: Decimal) {
    tracing::info!(account = account.name(), %margin, "margin set");
}

/// A webhook endpoint was disabled because of its answers; `reason` is GONE or FAILING.
pub(crate) fn endpoint_disabled(account: AccountId, endpoint: WebhookEndpointId, reason: &'static str) {
    metrics::endpoint_disabled(reason);
    tracing::info!(account = account.name(), endpoint = endpoint.name(), reason, "webhook endpoint disabled");
}

/// A delivery has had its last attempt.
pub(crate) fn delivery_failed(account: AccountId, delivery: impl std::fmt::Display, http_status: u16, reason: &str) {
    let account = account.name();
    tracing::info!(account, %delivery, http_status, reason, "webhook delivery failed");
}

/// A delivery was refused for good, and a newer event of its generation is there to be sent.
pub(crate) fn delivery_overtaken(account: AccountId, delivery: impl std::fmt::Display, http_status: u16, reason: &str) {
    let account = account.name();
    tracing::info!(account, %delivery, http_status, reason, "webhook delivery overtaken");
}

/// Deliveries that had been refused for good ended when a newer event of their generation came.
pub(crate) fn deliveries_overtaken(count: usize) {
    metrics::deliveries_ended(DeliveryOutcome::Overtaken.as_str(), count);
    tracing::info!(count, "webhook deliveries overtaken");
}

/// Deliveries ended without an attempt: their endpoint is disabled, or one worker after another died with them.
pub(crate) fn deliveries_abandoned(count: usize) {
    metrics::deliveries_ended(DeliveryOutcome::Failed.as_str(), count);
    tracing::info!(count, "webhook deliveries failed without an attempt");
}

/// An operator paused a model, or with an empty name all work.
pub(crate) fn queue_paused(model: &str, note: &str) {
    tracing::warn!(model, note, "queue paused");
}

/// An operator ended a pause.
pub(crate) fn queue_resumed(model: &str) {
    tracing::info!(model, "queue resumed");
}

/// An operator set an account's share of the queue.
pub(crate) fn account_weight_set(account: AccountId, weight: f64) {
    tracing::info!(account = account.name(), weight, "account weight set");
}

/// An operator set how many generations of an account run at once.
pub(crate) fn account_running_limit_set(account: AccountId, limit: Option<i32>) {
    tracing::info!(account = account.name(), limit, "account running limit set");
}

/// The reconciler found a violation of an invariant.
pub(crate) fn invariant_violated(invariant: &'static str, account: AccountId, id: Uuid) {
    tracing::error!(invariant, account = account.name(), %id, "invariant violated");
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;

    fn breaker(scope: Scope, target: &str) -> Breaker {
        let (cause, detail) = ("ACCOUNT_REFUSED".to_owned(), "401: no such key".to_owned());
        Breaker { scope, target: target.to_owned(), cause, detail, open_time: OffsetDateTime::UNIX_EPOCH }
    }

    /// The scope, the target and the key of each line.
    fn lines(report: fn(&[Breaker]), breakers: &[Breaker]) -> Vec<[String; 3]> {
        let lines = testkit::logged(|| report(breakers));
        let field = |line: &serde_json::Value, name: &str| line["fields"][name].as_str().unwrap_or_default().to_owned();
        lines.iter().map(|line| ["scope", "target_name", "provider_key"].map(|name| field(line, name))).collect()
    }

    /// A provider with one key used to be two alarms whenever that was refused.
    #[test]
    fn a_provider_that_stops_with_its_last_key_is_one_line() {
        let (pool, key) = (breaker(Scope::Pool, "fal"), breaker(Scope::Key, "fal/0a"));
        let expected = [["provider", "fal", "fal/0a"].map(str::to_owned)];
        assert_eq!(lines(providers_unavailable, &[pool.clone(), key.clone()]), expected);
        assert_eq!(lines(providers_available, &[pool.clone(), key.clone()]), expected);
        let alone = lines(providers_unavailable, std::slice::from_ref(&key));
        assert_eq!(alone, [["key", "fal/0a", ""].map(str::to_owned)]);
        assert_eq!(
            lines(providers_unavailable, std::slice::from_ref(&pool)),
            [["provider", "fal", ""].map(str::to_owned)]
        );
        let model = breaker(Scope::Queue, "video");
        assert_eq!(lines(providers_available, &[pool, model, key]).len(), 2, "a model is another matter");
        let line = &testkit::logged(|| providers_unavailable(&[breaker(Scope::Key, "fal/0a")]))[0];
        assert_eq!((&line["level"], &line["fields"]["detail"]), (&"ERROR".into(), &"401: no such key".into()));
    }
}
