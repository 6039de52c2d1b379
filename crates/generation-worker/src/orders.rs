//! One piece of work from its lease to its end: order, wait, bring home, deliver.
//!
//! Invariant: the reference is recorded before anything is waited for; work that was ordered once is never ordered anew unless the
//! provider promises that the same key costs once; a video that is finished is delivered even when it was to be cancelled.

use std::sync::Arc;
use std::time::Duration;

use domain::id::AccountId;
use proto::work::v1::{CompleteWorkRequest, Lease, Work};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, info_span};
use uuid::Uuid;

use crate::outputs::Outputs;
use crate::providers::{Class, Failure, Look, Made, NotSubmitted, Order, Provider, Reference, Registry};
use crate::status::{self, Client};

/// How often an order is repeated under its key when the provider's answer was lost.
const SUBMISSIONS: u32 = 5;
/// How many looks in a row may fail before the attempt is given up.
const BLIND: u32 = 20;
/// At least so long between two reports of progress.
const REPORT_EVERY: Duration = Duration::from_millis(200);

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
            Self::Abandoned => "abandoned",
        }
    }
}

/// Why a piece of work is not carried on.
enum Stop {
    Lost(String),
    Leave,
    Failed(Failure),
}

impl From<status::Error> for Stop {
    fn from(error: status::Error) -> Self {
        // Whoever cannot tell of its work for so long has lost it to another.
        Self::Lost(error.to_string())
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
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
            return self.end(&lease, Err(Stop::Failed(Failure::internal(message)))).await;
        };
        let mut taken = None;
        let result = tokio::select! {
            biased;
            () = signals.lost.cancelled() => Err(Stop::Lost("a heartbeat said so".to_owned())),
            result = self.steps(&work, &lease, &provider, signals, &mut taken) => result,
        };
        let outcome = self.end(&lease, result).await;
        if let Some(reference) = taken {
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
            Err(Stop::Failed(failure)) => {
                tracing::warn!(reason = failure.reason, message = failure.message, "the attempt failed");
                self.status.fail(lease, &failure).await.map(|_| Outcome::Failed)
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
        let (order, account) = read(work)?;
        if work.cancel_requested {
            signals.cancel.cancel();
        }
        let known = Some(work.provider_reference.clone()).filter(|text| !text.is_empty()).map(Reference);
        if known.is_none() && signals.cancel.is_cancelled() {
            return Err(cancelled("it was cancelled before it was ordered").into());
        }
        let reference = match known {
            Some(reference) => reference,
            None => {
                let reference = submit(&**provider, &order, work.attempt > 1).await?;
                *taken = Some(reference.clone());
                self.status.record_submission(lease, &reference).await?;
                reference
            }
        };
        *taken = Some(reference.clone());
        let span = info_span!("provider wait", otel.name = format!("wait for {}", provider.name()));
        let made = self.wait(lease, &**provider, &order, &reference, signals).instrument(span).await?;
        self.status.finalize(lease).await?;
        let span = info_span!("bring home", rushes.provider = provider.name());
        let output = self.outputs.bring(&**provider, &reference, &made, account).instrument(span).await?;
        let request = CompleteWorkRequest {
            lease: Some(lease.clone()),
            output: Some(output),
            extension: made.extension.to_owned(),
            cost_micros: made.cost_micros.unwrap_or(work.held_micros).clamp(0, work.held_micros),
        };
        Ok(self.status.complete(request).await?)
    }

    /// Waits for the provider, reporting how far it is.
    async fn wait(
        &self,
        lease: &Lease,
        provider: &dyn Provider,
        order: &Order,
        reference: &Reference,
        signals: &Signals,
    ) -> Result<Made, Stop> {
        let (tell, told) = watch::channel((0, ""));
        tokio::select! {
            made = self.look(provider, order, reference, signals, &tell) => made,
            lost = self.report(lease, told, signals) => Err(lost),
        }
    }

    async fn look(
        &self,
        provider: &dyn Provider,
        order: &Order,
        reference: &Reference,
        signals: &Signals,
        tell: &watch::Sender<(u8, &'static str)>,
    ) -> Result<Made, Stop> {
        let until = Instant::now() + self.limit;
        let (mut blind, mut asked) = (0, false);
        loop {
            if signals.cancel.is_cancelled() && !asked && provider.abilities().cancel {
                // A failed request is made again with the next look; only what the provider says of the order counts.
                asked = provider.cancel(reference).await.is_ok();
            }
            match provider.look(reference).await {
                Ok(Look::Done(made)) => return Ok(made),
                Ok(Look::Cancelled) => return Err(cancelled("it was stopped on request").into()),
                Ok(Look::Failed(failure)) => return Err(failure.into()),
                Ok(Look::Unknown) if signals.cancel.is_cancelled() => {
                    return Err(cancelled("it was cancelled, and the provider does not know it any more").into());
                }
                Ok(Look::Unknown) => self.again(provider, order, reference).await?,
                Ok(Look::Waiting) => blind = 0,
                Ok(Look::Working { percent, stage }) => {
                    blind = 0;
                    tell.send_if_modified(|last| std::mem::replace(last, (percent, stage)) != (percent, stage));
                }
                Err(failure) => {
                    blind += 1;
                    tracing::warn!(%failure, blind, "the provider does not say how the order stands");
                    if blind >= BLIND {
                        return Err(failure.into());
                    }
                }
            }
            if Instant::now() >= until {
                return Err(self.too_long(provider, reference).await.into());
            }
            tokio::select! {
                () = signals.leave.cancelled() => return Err(Stop::Leave),
                () = sleep(provider.look_every()) => {}
                () = signals.cancel.cancelled(), if !asked => {}
            }
        }
    }

    /// The provider forgot an order that it took: again, where that can cost nothing twice.
    async fn again(&self, provider: &dyn Provider, order: &Order, reference: &Reference) -> Result<(), Stop> {
        if !provider.abilities().idempotent_submit {
            return Err(
                Failure { reason: "OUTPUT_UNAVAILABLE", ..Failure::bad_output("the provider lost the order") }.into()
            );
        }
        let again = submit(provider, order, false).await?;
        if again == *reference {
            return Ok(());
        }
        Err(Failure::internal("the provider gave the same key another reference").into())
    }

    async fn too_long(&self, provider: &dyn Provider, reference: &Reference) -> Failure {
        if let Err(error) = provider.cancel(reference).await {
            tracing::warn!(%error, "an order that takes too long cannot be stopped");
        }
        let message = format!("the provider took longer than {:?}", self.limit);
        Failure { reason: "PROVIDER_TIMEOUT", ..Failure::internal(message) }
    }

    /// Reports the newest progress; what came in between is never sent. Ends only when the work is lost.
    async fn report(&self, lease: &Lease, mut told: watch::Receiver<(u8, &'static str)>, signals: &Signals) -> Stop {
        while told.changed().await.is_ok() {
            let (percent, stage) = *told.borrow_and_update();
            match self.status.report_progress(lease, percent, stage).await {
                Ok(true) => signals.cancel.cancel(),
                Ok(false) => {}
                Err(error @ status::Error::Lost(_)) => return error.into(),
                Err(error) => tracing::debug!(%error, "progress is not told"),
            }
            sleep(REPORT_EVERY).await;
        }
        std::future::pending().await
    }
}

/// Orders under the job's key until the provider's answer is known. `doubtful`: an earlier attempt may have ordered already.
async fn submit(provider: &dyn Provider, order: &Order, doubtful: bool) -> Result<Reference, Stop> {
    let name = provider.name();
    let span = info_span!(
        "provider submit",
        otel.name = format!("submit to {name}"),
        otel.kind = "client",
        peer.service = name
    );
    let abilities = provider.abilities();
    let work = async {
        if doubtful && !abilities.idempotent_submit {
            match provider.find(order.key).await? {
                Some(reference) => return Ok(reference),
                None if abilities.find_by_key => {}
                None => return Err(unknown("an earlier attempt did not tell")),
            }
        }
        let mut doubt = String::new();
        for tried in 0..SUBMISSIONS {
            if tried == 0 || abilities.idempotent_submit {
                match provider.submit(order).await {
                    Ok(reference) => return Ok(reference),
                    Err(NotSubmitted::Refused(failure)) => return Err(failure),
                    Err(NotSubmitted::Unconfirmed(why)) => doubt = why,
                }
            }
            sleep(Duration::from_millis(100) * 2_u32.pow(tried)).await;
            if let Ok(Some(reference)) = provider.find(order.key).await {
                return Ok(reference);
            }
        }
        Err(unknown(&doubt))
    };
    Ok(work.instrument(span).await?)
}

/// Never ordered again in silence: of the protocol's classes that are not tried again this comes nearest.
fn unknown(doubt: &str) -> Failure {
    let message = format!("it is not known whether the provider took the order: {doubt}");
    Failure { class: Class::InvalidInput, reason: "SUBMISSION_OUTCOME_UNKNOWN", ..Failure::internal(message) }
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

fn cancelled(message: &str) -> Failure {
    Failure { class: Class::Cancelled, reason: "CANCELLED", ..Failure::internal(message) }
}
