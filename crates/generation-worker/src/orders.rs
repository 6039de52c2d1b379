//! The work of one lease, from its start to the lease's end: submit, poll or wait, store the output, deliver.
//!
//! Invariant: the reference is recorded before anything is waited for; an order that lives at its provider is waited for without
//! a lease; what is finished is delivered even when it was to be cancelled.

mod polling;
mod submission;
mod waiting;

use std::time::Duration;

use chassis::crash;
use chassis::telemetry::attributes;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, info_span};

use crate::clients::{Unreadable, WorkClient};
use crate::error::Error;
use crate::media::Media;
use crate::model::{
    Abilities, Charge, Class, Clock, Completion, Condition, Failure, Made, Outcome, Reason, Reference, Suspension,
    Trouble, Work,
};
use crate::order_keys::OrderKeys;
use crate::outcomes::{self, Context, Decision};
use crate::outputs::Outputs;
use crate::provider::Provider;
use crate::providers::Registry;
use crate::retry_budget::RetryBudgets;
use crate::{crash_points, events};

/// The longest pause between two polls, unless the provider's own is longer.
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(15);
/// The longest pause between two polls of an order that is in trouble: an outage of an hour is not polled thousands of times.
const MAX_TROUBLED_INTERVAL: Duration = Duration::from_secs(60);
/// How long a finished order waits for a download to end, where as many as may are under way.
const DOWNLOAD_PAUSE: Duration = Duration::from_secs(2);

/// What the worker says to the work of a lease while it runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Signals {
    /// The lease is another's: stop at once, say nothing.
    pub(crate) lost: CancellationToken,
    /// The generation is to be cancelled: ask the provider to stop.
    pub(crate) cancel: CancellationToken,
    /// The process ends: give the lease back at the next pause.
    pub(crate) leave: CancellationToken,
    /// Another may have the slot of this work: it ended, or waits for bytes only.
    pub(crate) slot_freed: CancellationToken,
}

/// What orders are carried out with; clones share everything.
#[derive(Clone)]
pub(crate) struct Orders {
    /// Who makes outputs.
    pub(crate) providers: Registry,
    /// Where work comes from, and where its outcome is reported.
    pub(crate) work: WorkClient,
    /// The files that go to providers.
    pub(crate) media: Media,
    /// Where outputs go.
    pub(crate) outputs: Outputs,
    /// How long a provider may take.
    pub(crate) timeout: Duration,
    /// How much of what goes to a provider may be repetition.
    pub(crate) retries: RetryBudgets,
}

/// The work of one lease at its provider.
#[derive(Clone, Copy)]
struct Attempt<'a> {
    work: &'a Work,
    /// With the key that the order was sent with, or that knew it when it was polled.
    provider: &'a dyn Provider,
    keys: &'a OrderKeys,
    signals: &'a Signals,
}

/// Why the work of a lease is not carried on.
enum Stop {
    LeaseLost(String),
    Leave,
    Suspended(Suspension),
    Failed(Failure),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        // generation-status gives a lease to another long before the retries of a call time out.
        Self::LeaseLost(error.to_string())
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Attempt<'_> {
    /// What decisions depend on.
    fn context(&self, cancel: bool) -> Context {
        Context { abilities: self.abilities(), cancel }
    }

    fn abilities(&self) -> Abilities {
        self.keys.abilities()
    }
}

impl Orders {
    /// Carries out the work of one lease and reports how it ended.
    pub(crate) async fn carry_out(&self, work: &Work, signals: &Signals) -> Outcome {
        let Some(keys) = OrderKeys::find(&self.providers, &work.order.provider, &work.key) else {
            // It was ordered by a worker that has the provider's key, or by nobody.
            let charge =
                if work.reference.is_some() || work.unconfirmed { Charge::Unknown } else { Charge::NotCharged };
            let detail = format!("there is no key here for the provider of {}, {:?}", work.model, work.order.provider);
            let mut failure = Failure::new(Class::Unavailable, Reason::ModelMisconfigured, charge, detail);
            failure.condition = Some(Condition::Misconfigured);
            return self.finish(work, "none", "", Err(failure.into())).await;
        };
        let provider = keys.own();
        if keys.is_lost() && !work.key.is_empty() {
            events::key_missing(work, provider.name());
        }
        let attempt = Attempt { work, provider, keys: &keys, signals };
        let mut reference = None;
        let result = tokio::select! {
            biased;
            () = signals.lost.cancelled() => Err(Stop::LeaseLost("a heartbeat said so".to_owned())),
            result = self.run(attempt, &mut reference) => result,
        };
        let outcome = self.finish(work, provider.name(), provider.key(), result).await;
        if let Some(reference) = reference.filter(|_| outcome != Outcome::Suspended) {
            provider.forget(&reference);
        }
        outcome
    }

    /// Reports work that cannot be read as failed.
    pub(crate) async fn refuse(&self, unreadable: &Unreadable) -> Outcome {
        let Unreadable { lease, failure } = unreadable;
        tracing::error!(job = %lease.job, detail = failure.detail, "work that cannot be read");
        match self.work.fail(*lease, "", failure).await {
            Ok(_) => Outcome::Failed,
            Err(_) => Outcome::Abandoned,
        }
    }

    /// Reports how the work of a lease ended.
    async fn finish(&self, work: &Work, provider: &str, key: &str, result: Result<(), Stop>) -> Outcome {
        let lease = work.lease;
        let reported = match result {
            Ok(()) => return Outcome::Completed,
            Err(Stop::LeaseLost(why)) => {
                events::lease_lost(work, provider, &why);
                return Outcome::Abandoned;
            }
            Err(Stop::Leave) => self.work.release(lease).await.map(|()| Outcome::Released),
            Err(Stop::Suspended(suspension)) => {
                let reported = self.work.suspend(lease, key, suspension).await.map(|()| Outcome::Suspended);
                crash::point(crash_points::SUSPENSION_ANSWERED);
                reported
            }
            Err(Stop::Failed(failure)) => {
                // Before the report: what the provider said is not to be lost with the lease.
                events::order_failed(work, provider, &failure);
                let reported = self.work.fail(lease, key, &failure).await.map(|_| Outcome::Failed);
                crash::point(crash_points::FAILURE_ANSWERED);
                reported
            }
        };
        reported.unwrap_or_else(|error| {
            events::outcome_unreported(work, provider, &error);
            Outcome::Abandoned
        })
    }

    /// Takes an order from its submission to its delivery, as far as this lease goes; leaves its reference in `known`.
    async fn run(&self, attempt: Attempt<'_>, known: &mut Option<Reference>) -> Result<(), Stop> {
        crash::point(crash_points::WORK_TAKEN);
        let Attempt { work, provider, signals, .. } = attempt;
        if work.cancel_requested {
            signals.cancel.cancel();
        }
        // Read once: what is requested from now on is for the next poll, or for the wait.
        let cancel = signals.cancel.is_cancelled();
        let reference = self.find_or_submit(attempt, cancel).await?;
        *known = Some(reference.clone());
        let (attempt, made) = if provider.abilities().in_process {
            let span = info_span!("wait", otel.name = format!("wait {}", provider.name()));
            (attempt, self.wait(attempt, &reference).instrument(span).await?)
        } else if work.poll || work.reference.is_some() {
            self.poll(attempt, &reference, cancel).await?
        } else {
            let poll_after = Some(poll_interval(provider, 0));
            return Err(Stop::Suspended(Suspension { poll_after, ..Suspension::default() }));
        };
        self.deliver(attempt, &reference, made).await
    }

    /// Stores the outputs of an order that is done, and delivers them.
    async fn deliver(&self, attempt: Attempt<'_>, reference: &Reference, made: Made) -> Result<(), Stop> {
        let Attempt { work, provider, signals, .. } = attempt;
        // What is made in this process is here already.
        let mut slot = None;
        if !provider.abilities().in_process {
            slot = self.outputs.try_begin();
            if slot.is_none() {
                return Err(Stop::Suspended(wait_for_download(work)));
            }
            // A slow file holds nothing but its own slot.
            signals.slot_freed.cancel();
        }
        // One that has been there does not begin anew: each time would be a version that says nothing.
        if work.clocks.output.is_none() && work.clocks.storage.is_none() {
            self.work.finalize(work.lease).await?;
        }
        crash::point(crash_points::FINALIZING_ANSWERED);
        let span = info_span!("store output", { attributes::PROVIDER } = provider.name());
        let stored = self.outputs.store(work, provider, reference, &made).instrument(span).await;
        let outputs = match stored {
            Ok(stored) => stored,
            Err((phase, trouble)) => {
                let decision = outcomes::decide(phase, trouble.outcome, &attempt.context(false)).at(&work.clocks);
                events::output_delayed(work, provider.name(), provider.key(), phase, &trouble);
                return Err(self.follow(attempt, decision, &trouble));
            }
        };
        drop(slot);
        crash::point(crash_points::BYTES_STORED);
        self.work.complete(work.lease, Completion { outputs, usage: made.usage }).await?;
        crash::point(crash_points::COMPLETION_ANSWERED);
        events::order_completed(work, provider.name(), reference);
        Ok(())
    }

    /// Why to stop here, by a decision that neither sends anything nor goes on.
    fn follow(&self, attempt: Attempt<'_>, decision: Decision, trouble: &Trouble) -> Stop {
        let Attempt { work, provider, .. } = attempt;
        if let Some(failure) = decision.failure(trouble) {
            return failure.into();
        }
        let mut suspension = Suspension { message: trouble.to_string(), ..Suspension::default() };
        if let Some(status) = trouble.evidence.status {
            suspension.message = format!("{trouble}; {status}: {}", trouble.evidence.excerpt);
        }
        match decision {
            Decision::Again { clock, .. } => {
                suspension.trouble = Some(clock);
                let grown = poll_interval(provider, work.polls).max(work.clocks.elapsed(clock) / 10);
                let after = grown.min(MAX_TROUBLED_INTERVAL).max(trouble.retry_after.unwrap_or_default());
                suspension.poll_after = Some(after);
            }
            // With neither a key that costs once nor a search, nobody can ask.
            _ => {
                let abilities = attempt.abilities();
                // One that is to be cancelled is not sent again.
                let resend = abilities.idempotent_submit && !attempt.signals.cancel.is_cancelled();
                let known = resend || abilities.find_by_key;
                suspension.unconfirmed = true;
                // A takeover that sends nothing heard nothing of the provider's health.
                let sent = !work.unconfirmed || resend;
                suspension.condition = outcomes::condition(trouble.outcome).filter(|_| sent);
                suspension.poll_after = known.then(|| poll_interval(provider, work.polls));
            }
        }
        Stop::Suspended(suspension)
    }
}

/// The pause of a finished order while as many downloads as may are under way. What was in trouble stays so.
fn wait_for_download(work: &Work) -> Suspension {
    let trouble = [Clock::Storage, Clock::Output].into_iter().find(|clock| !work.clocks.elapsed(*clock).is_zero());
    let message = "as many downloads as may are under way".to_owned();
    Suspension { poll_after: Some(DOWNLOAD_PAUSE), trouble, message, ..Suspension::default() }
}

/// How long until the next poll: from the provider's usual pause, growing by half with each poll, up to a quarter of a minute.
fn poll_interval(provider: &dyn Provider, polls: i32) -> Duration {
    let grown = provider.poll_interval().mul_f64(1.5_f64.powi(polls.clamp(0, 40)));
    grown.min(MAX_POLL_INTERVAL.max(provider.poll_interval()))
}
