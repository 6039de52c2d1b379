//! One piece of work from its lease to the lease's end: order, poll or wait, bring home, deliver.
//!
//! Invariant: the reference is recorded before anything is waited for; an order that lives at its provider is waited for without
//! a lease; a video that is finished is delivered even when it was to be cancelled.

mod poll;
mod rendering;
mod submission;

use std::sync::Arc;
use std::time::Duration;

use chassis::crash;
use domain::id::AccountId;
use proto::generations::v1::charge::ProviderCharge;
use proto::work::v1::{CompleteWorkRequest, Lease, Work};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, info_span};
use uuid::Uuid;

use crate::crash_points;
use crate::outputs::Outputs;
use crate::providers::{Charge, Class, Failure, Order, Provider, Reference, Registry};
use crate::status::{self, Client, Suspension};

/// The longest pause between two polls.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// What others tell a piece of work while it runs.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    /// Its lease is another's: stop at once, say nothing.
    pub lost: CancellationToken,
    /// It is to be cancelled: tell the provider.
    pub cancel: CancellationToken,
    /// The process ends: give it back at the next pause.
    pub leave: CancellationToken,
}

/// How a piece of work ended in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Delivered.
    Completed,
    /// Told as failed.
    Failed,
    /// Given back.
    Released,
    /// Left to the provider, to be looked at again.
    Suspended,
    /// Let go of without a word: it is another's.
    Abandoned,
}

impl Outcome {
    /// For spans and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Released => "released",
            Self::Suspended => "suspended",
            Self::Abandoned => "abandoned",
        }
    }
}

/// Why a piece of work is not carried on.
enum Stop {
    Lost(String),
    Leave,
    Suspended(Suspension),
    /// With what is known of the provider's charge.
    Failed(Failure, ProviderCharge),
}

impl From<status::Error> for Stop {
    fn from(error: status::Error) -> Self {
        // Whoever cannot tell of its work for so long has lost it to another.
        Self::Lost(error.to_string())
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        let provider_charge = match failure.charge {
            Charge::NotCharged => ProviderCharge::NotCharged,
            Charge::Charged => ProviderCharge::Charged,
            Charge::Unknown => ProviderCharge::Unspecified,
        };
        Self::Failed(failure, provider_charge)
    }
}

/// What orders are carried out with; clones share everything.
#[derive(Clone)]
pub struct Orders {
    /// Who makes videos.
    pub providers: Registry,
    /// Whom to tell.
    pub status: Client,
    /// Where videos go.
    pub outputs: Outputs,
    /// How long a provider may take.
    pub limit: Duration,
}

impl Orders {
    /// Carries out one piece of work and tells how it came out.
    pub async fn carry_out(&self, work: Work, signals: &Signals) -> Outcome {
        let lease = work.lease.clone().unwrap_or_default();
        let Some(provider) = self.providers.of(&work.model) else {
            let message = format!("no provider here serves {}", work.model);
            return self.end(&lease, Err(Failure::internal(message).into())).await;
        };
        let mut taken = None;
        let result = tokio::select! {
            biased;
            () = signals.lost.cancelled() => Err(Stop::Lost("a heartbeat said so".to_owned())),
            result = self.steps(&work, &lease, &provider, signals, &mut taken) => result,
        };
        let outcome = self.end(&lease, result).await;
        if let Some(reference) = taken.filter(|_| outcome != Outcome::Suspended) {
            provider.forget(&reference);
        }
        outcome
    }

    async fn end(&self, lease: &Lease, result: Result<(), Stop>) -> Outcome {
        let told = match result {
            Ok(()) => return Outcome::Completed,
            Err(Stop::Lost(why)) => {
                tracing::info!(why, "let go of");
                return Outcome::Abandoned;
            }
            Err(Stop::Leave) => self.status.release(lease).await.map(|()| Outcome::Released),
            Err(Stop::Suspended(pause)) => {
                let told = self.status.suspend(lease, &pause).await.map(|()| Outcome::Suspended);
                crash::point(crash_points::SUSPENSION_ANSWERED);
                told
            }
            Err(Stop::Failed(failure, provider_charge)) => {
                tracing::warn!(reason = failure.reason, message = failure.message, "the attempt failed");
                let told = self.status.fail(lease, &failure, provider_charge).await.map(|_| Outcome::Failed);
                crash::point(crash_points::FAILURE_ANSWERED);
                told
            }
        };
        told.unwrap_or_else(|error| {
            tracing::warn!(%error, "how the work ended could not be told");
            Outcome::Abandoned
        })
    }

    /// The way of an order; leaves in `taken` what the provider was asked for.
    async fn steps(
        &self,
        work: &Work,
        lease: &Lease,
        provider: &Arc<dyn Provider>,
        signals: &Signals,
        taken: &mut Option<Reference>,
    ) -> Result<(), Stop> {
        crash::point(crash_points::WORK_TAKEN);
        let (order, account) = read(work)?;
        if work.cancel_requested {
            signals.cancel.cancel();
        }
        let cancel = signals.cancel.is_cancelled();
        let reference = self.ordered(work, lease, &**provider, &order, cancel).await?;
        *taken = Some(reference.clone());
        let made = if provider.abilities().in_process {
            let span = info_span!("provider wait", otel.name = format!("wait for {}", provider.name()));
            self.wait(lease, &**provider, &order, &reference, signals).instrument(span).await?
        } else if work.poll || !work.provider_reference.is_empty() {
            let span = info_span!("provider poll", otel.name = format!("poll at {}", provider.name()));
            self.poll_once(work, &**provider, &order, &reference, cancel).instrument(span).await?
        } else {
            let poll_after = Some(pause(&**provider, 0));
            return Err(Stop::Suspended(Suspension { poll_after, ..Suspension::default() }));
        };
        self.status.finalize(lease).await?;
        crash::point(crash_points::FINALIZING_ANSWERED);
        let span = info_span!("bring home", rushes.provider = provider.name());
        let output = match self.outputs.bring(&**provider, &reference, &made, account).instrument(span).await {
            Ok(output) => output,
            // It is made and lies at its provider: to order it anew would be to pay for it twice.
            Err(failure) if failure.class == Class::Internal && !provider.abilities().in_process => {
                tracing::warn!(%failure, "the video cannot be brought home yet");
                let (poll_after, message) = (Some(pause(&**provider, work.polls)), failure.message);
                return Err(Stop::Suspended(Suspension { poll_after, message, ..Suspension::default() }));
            }
            Err(failure) => return Err(failure.into()),
        };
        crash::point(crash_points::BYTES_STORED);
        let request = CompleteWorkRequest {
            lease: Some(lease.clone()),
            output: Some(output),
            extension: made.extension.to_owned(),
            cost_micros: made.cost_micros.unwrap_or(work.held_micros).clamp(0, work.held_micros),
        };
        self.status.complete(request).await?;
        crash::point(crash_points::COMPLETION_ANSWERED);
        Ok(())
    }
}

/// How long until the next poll: from the provider's usual pause, growing by half with each poll, up to a quarter of a minute.
fn pause(provider: &dyn Provider, polls: i32) -> Duration {
    let grown = provider.poll_interval().mul_f64(1.5_f64.powi(polls.clamp(0, 40)));
    grown.min(LONGEST_PAUSE.max(provider.poll_interval()))
}

/// What is ordered, and for whom.
fn read(work: &Work) -> Result<(Order, AccountId), Failure> {
    let unreadable = |what: &str| Failure::internal(format!("the work's {what} cannot be read"));
    let lease = work.lease.as_ref().ok_or_else(|| unreadable("lease"))?;
    let key = Uuid::try_parse(&lease.job).map_err(|_| unreadable("job"))?;
    let account = AccountId::from_name(&work.account).map_err(|_| unreadable("account"))?;
    let input = work.input.clone().ok_or_else(|| unreadable("input"))?;
    let order = Order {
        key,
        prompt: input.prompt,
        seed: input.seed.unwrap_or_default(),
        reference_assets: input.reference_assets,
    };
    Ok((order, account))
}

/// The provider stopped an order, and says whether it costs something.
fn stopped(charge: Charge) -> Failure {
    Failure { charge, ..cancelled("it was stopped on request") }
}

fn cancelled(message: &str) -> Failure {
    Failure { class: Class::Cancelled, reason: "CANCELLED", ..Failure::internal(message) }
}
