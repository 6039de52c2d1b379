//! The metrics of this service: [`ALL`] has their names, units, labels and help, and only this file records one.
//!
//! Invariant: the values of every label are from a closed set of this crate, from the catalogue, or the public names of the keys in
//! the workers' settings; nothing that a client or a provider sends becomes one.

use std::time::Duration;

use chassis::telemetry::metric::Value;
use domain::money::Micros;
use jobs::{Breaker, Scope};

use crate::model::{ModelCost, Usage};

chassis::metrics! {
    /// Generations that were started, by model.
    STARTED = counter "rushes_generations_started_total" in "generations" by ["model"];
    /// Generations that reached a terminal state, by model and state.
    ENDED = counter "rushes_generations_ended_total" in "generations" by ["model", "state"];
    /// Attempts that failed and are followed by another one, by model and the failure's class.
    ATTEMPTS_RETRIED = counter "rushes_generation_attempts_retried_total" in "attempts" by ["model", "class"];
    /// Leases that ended without knowing whether the provider took the order.
    UNCONFIRMED = counter "rushes_submissions_unconfirmed_total" in "leases" by [];
    /// Webhooks of orders of which nothing was recorded, as after the database was restored to an earlier time; `outcome` is adopted
    /// (the job goes on with it) or unknown (there is no such job any more).
    FORGOTTEN_ORDERS = counter "rushes_provider_orders_forgotten_total" in "webhooks" by ["outcome"];
    /// Unconfirmed submissions that an operator settled; `resolution` is reference, failed or requeue.
    RESOLVED = counter "rushes_submissions_resolved_total" in "submissions" by ["resolution"];
    /// 1 while a provider, one of our keys there, or a model gets no orders but probes, since it refuses or fails them; 0 once it takes
    /// them again. A key's target is its public name, `{provider}/{hash}`.
    UNAVAILABLE = gauge "rushes_provider_unavailable" in "flag" by ["scope", "target"];
    /// 1 while the catalogue's file is wrong, and the catalogue that was read last is used; 0 otherwise.
    CATALOGUE_REFUSED = gauge "rushes_catalogue_refused" in "flag" by [];
    /// What completed generations were charged of which the provider told its own cost, by model.
    COSTED = counter "rushes_generations_costed_micros_total" in "micro-credits" by ["model"];
    /// What the provider says that they cost it, in millionths of its currency, by model. Beside the charge it shows the margin.
    PROVIDER_COST = counter "rushes_provider_cost_micros_total" in "millionths" by ["model"];
    /// By what part of what its entry says a model cost more at its provider over the last day: 0.1 is a tenth more, -0.1 a tenth less. A
    /// model whose entry has no `cost`, or whose provider tells none, has no series.
    COST_DRIFT = gauge "rushes_provider_cost_drift" in "ratio" by ["model"];
    /// Completions that were refused because their output is not registered or has another size.
    COMPLETIONS_REFUSED = counter "rushes_completions_refused_total" in "completions" by [];
    /// Micro-credits that moved; `movement` is held, captured, released, granted, added or removed (by adjustments).
    CREDITS = counter "rushes_credits_micros_total" in "micro-credits" by ["movement"];
    /// Jobs that were deleted since they ended longer ago than they are kept.
    JOBS_DELETED = counter "rushes_jobs_deleted_total" in "jobs" by [];
    /// Violations of an invariant that the reconciler found.
    FINDINGS = counter "rushes_reconciler_findings_total" in "rows" by ["invariant"];
    /// Attempts at deliveries and deliveries that ended; `outcome` is delivered, retried, failed or overtaken.
    DELIVERIES = counter "rushes_webhook_deliveries_total" in "deliveries" by ["outcome"];
    /// The time from sending a webhook to its answer or to giving up on one.
    DELIVERY_ATTEMPT = histogram "rushes_webhook_attempt_seconds" in "seconds" by [];
    /// Deliveries that are neither delivered nor failed.
    DELIVERIES_PENDING = gauge "rushes_webhook_pending" in "deliveries" by [];
    /// The age of the oldest delivery that is neither delivered nor failed.
    OLDEST_DELIVERY = gauge "rushes_webhook_oldest_pending_seconds" in "seconds" by [];
    /// Webhook endpoints that were disabled because of their answers; `reason` is GONE or FAILING.
    ENDPOINTS_DISABLED = counter "rushes_webhook_endpoints_disabled_total" in "endpoints" by ["reason"];
}

pub(crate) fn jobs_deleted(count: u64) {
    JOBS_DELETED.get().increment(count);
}

pub(crate) fn generation_started(model: &str) {
    STARTED.with([model.to_owned()]).increment(1);
}

pub(crate) fn generation_ended(model: &str, state: &'static str) {
    ENDED.with([Value::from(model.to_owned()), Value::from(state)]).increment(1);
}

pub(crate) fn attempt_retried(model: &str, class: &'static str) {
    ATTEMPTS_RETRIED.with([Value::from(model.to_owned()), Value::from(class)]).increment(1);
}

pub(crate) fn submission_unconfirmed() {
    UNCONFIRMED.get().increment(1);
}

pub(crate) fn forgotten_order(outcome: &'static str) {
    FORGOTTEN_ORDERS.with([outcome]).increment(1);
}

pub(crate) fn submission_resolved(resolution: &'static str) {
    RESOLVED.with([resolution]).increment(1);
}

/// What the target of a breaker is.
pub(crate) fn scope_name(scope: Scope) -> &'static str {
    match scope {
        Scope::Pool => "provider",
        Scope::Key => "key",
        Scope::Queue => "model",
    }
}

/// Shows which providers and models are unavailable; `before` is what was shown last.
pub(crate) fn providers_unavailable(before: &[Breaker], open: &[Breaker]) {
    let gauge = |breaker: &Breaker| {
        UNAVAILABLE.with([Value::from(scope_name(breaker.scope)), Value::from(breaker.target.clone())])
    };
    let same = |one: &Breaker, other: &Breaker| (one.scope, &one.target) == (other.scope, &other.target);
    for breaker in before.iter().filter(|before| !open.iter().any(|open| same(before, open))) {
        gauge(breaker).set(0.0);
    }
    open.iter().for_each(|breaker| gauge(breaker).set(1.0));
}

pub(crate) fn catalogue_refused(refused: bool) {
    CATALOGUE_REFUSED.get().set(if refused { 1.0 } else { 0.0 });
}

pub(crate) fn usage_reported(model: &str, charged: Micros, usage: &Usage) {
    if let Some(cost) = usage.provider_cost_micros {
        COSTED.with([model.to_owned()]).increment(charged.get().unsigned_abs());
        PROVIDER_COST.with([model.to_owned()]).increment(cost.unsigned_abs());
    }
}

/// Shows how far providers' costs are off; `before` is what was shown last.
pub(crate) fn provider_costs_compared(before: &[ModelCost], costs: &[ModelCost]) {
    for gone in before.iter().filter(|before| !costs.iter().any(|cost| cost.model == before.model)) {
        COST_DRIFT.with([gone.model.clone()]).set(0.0);
    }
    costs.iter().for_each(|cost| COST_DRIFT.with([cost.model.clone()]).set(cost.drift()));
}

pub(crate) fn completion_refused() {
    COMPLETIONS_REFUSED.get().increment(1);
}

/// Counts micro-credits, of which there is never a negative number in one movement.
pub(crate) fn credits_moved(movement: &'static str, micros: i64) {
    CREDITS.with([movement]).increment(micros.unsigned_abs());
}

/// Counts findings; none as well, so that the series exists before the first one and an alert on its increase works.
pub(crate) fn violations_found(invariant: &'static str, count: usize) {
    FINDINGS.with([invariant]).increment(count as u64);
}

pub(crate) fn delivery_attempted(outcome: &'static str, latency: Duration) {
    deliveries_ended(outcome, 1);
    DELIVERY_ATTEMPT.get().record(latency.as_secs_f64());
}

pub(crate) fn deliveries_ended(outcome: &'static str, count: usize) {
    DELIVERIES.with([outcome]).increment(count as u64);
}

pub(crate) fn deliveries_pending(count: i64, oldest_seconds: f64) {
    DELIVERIES_PENDING.get().set(count as f64);
    OLDEST_DELIVERY.get().set(oldest_seconds);
}

pub(crate) fn endpoint_disabled(reason: &'static str) {
    ENDPOINTS_DISABLED.with([reason]).increment(1);
}
