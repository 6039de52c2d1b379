//! Waiting for an order that lives in this process: the lease is kept, and progress reported while the order is made.
//!
//! Invariant: an order that is waited for here is never suspended; when the process ends its lease is given back, and the order
//! made again.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::{Attempt, Orders, Stop};
use crate::error::Error;
use crate::events;
use crate::model::{Charge, Class, Failure, Lease, Made, OrderStatus, Phase, Reason, Reference};
use crate::outcomes::{Decision, decide};

/// How many polls in a row may fail before the attempt is given up.
const MAX_FAILED_POLLS: u32 = 20;
/// The shortest time between two reports of progress.
const REPORT_INTERVAL: Duration = Duration::from_millis(200);

/// Percent and stage.
type Progress = (u8, &'static str);

impl Orders {
    /// Waits for the provider, reporting how far it is.
    pub(super) async fn wait(&self, attempt: Attempt<'_>, reference: &Reference) -> Result<Made, Stop> {
        let (progress, changes) = watch::channel((0, ""));
        tokio::select! {
            made = self.poll_until_done(attempt, reference, &progress) => made,
            lost = self.report(attempt, changes) => Err(lost),
        }
    }

    async fn poll_until_done(
        &self,
        attempt: Attempt<'_>,
        reference: &Reference,
        progress: &watch::Sender<Progress>,
    ) -> Result<Made, Stop> {
        let Attempt { work, provider, signals, .. } = attempt;
        let until = Instant::now() + self.timeout;
        let (mut failed_polls, mut asked_to_stop) = (0, false);
        loop {
            if signals.cancel.is_cancelled() && !asked_to_stop && provider.abilities().cancel {
                // A failed request is made again with the next poll; only what the provider says of the order counts.
                asked_to_stop = provider.cancel(&work.order, reference).await.is_ok();
            }
            match provider.poll(&work.order, reference).await {
                Ok(OrderStatus::Done(made)) => return Ok(made),
                Ok(OrderStatus::Waiting { .. }) => failed_polls = 0,
                Ok(OrderStatus::Working { percent, stage }) => {
                    failed_polls = 0;
                    progress.send_if_modified(|last| std::mem::replace(last, (percent, stage)) != (percent, stage));
                }
                Err(trouble) => {
                    let cancel = signals.cancel.is_cancelled();
                    match decide(Phase::Poll, trouble.outcome, &attempt.context(cancel)) {
                        Decision::Confirm => self.resubmit(attempt, reference).await?,
                        decision @ Decision::Again { .. } => {
                            failed_polls += 1;
                            if failed_polls >= MAX_FAILED_POLLS {
                                return Err(self.follow(attempt, in_process_end(decision), &trouble));
                            }
                            events::call_failed(work, provider.name(), provider.key(), Phase::Poll, &trouble);
                        }
                        decision => return Err(self.follow(attempt, decision, &trouble)),
                    }
                }
            }
            if Instant::now() >= until {
                return Err(self.time_out(attempt, reference).await.into());
            }
            tokio::select! {
                () = signals.leave.cancelled() => return Err(Stop::Leave),
                () = sleep(provider.poll_interval()) => {}
                () = signals.cancel.cancelled(), if !asked_to_stop => {}
            }
        }
    }

    /// Stops an order that takes too long.
    async fn time_out(&self, attempt: Attempt<'_>, reference: &Reference) -> Failure {
        let Attempt { work, provider, .. } = attempt;
        if let Err(trouble) = provider.cancel(&work.order, reference).await {
            events::call_failed(work, provider.name(), provider.key(), Phase::Cancel, &trouble);
        }
        let detail = format!("the provider took longer than {:?}", self.timeout);
        Failure::new(Class::Internal, Reason::ProviderTimeout, Charge::NotCharged, detail)
    }

    /// Reports the newest progress; what came in between is never sent. Ends only when the lease is lost.
    async fn report(&self, attempt: Attempt<'_>, mut changes: watch::Receiver<Progress>) -> Stop {
        let lease: Lease = attempt.work.lease;
        while changes.changed().await.is_ok() {
            let (percent, stage) = *changes.borrow_and_update();
            match self.work.report_progress(lease, percent, stage).await {
                Ok(true) => attempt.signals.cancel.cancel(),
                Ok(false) => {}
                Err(error @ Error::LeaseLost(_)) => return error.into(),
                Err(error) => tracing::debug!(%error, job = %lease.job, "progress is not reported"),
            }
            sleep(REPORT_INTERVAL).await;
        }
        std::future::pending().await
    }
}

/// What follows for an order of this process that cannot be asked about: it costs nothing, so that it is made again.
fn in_process_end(decision: Decision) -> Decision {
    match decision {
        Decision::Again { reason: Reason::Cancelled, charge, .. } => Decision::End(Reason::Cancelled, charge),
        _ => Decision::Retry(Reason::ProviderInternal),
    }
}
