//! Waiting for an order that lives in this process: the lease is kept, and progress reported while it is made.
//!
//! Invariant: an order that is waited for here is never suspended; when the process ends it is given back, and made again.

use std::time::Duration;

use proto::work::v1::Lease;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::{Orders, Signals, Stop, cancelled, stopped};
use crate::providers::{Failure, Made, Order, OrderStatus, Provider, Reference};
use crate::status;

/// How many polls in a row may fail before the attempt is given up.
const BLIND: u32 = 20;
/// At least so long between two reports of progress.
const REPORT_EVERY: Duration = Duration::from_millis(200);

impl Orders {
    /// Waits for the provider, reporting how far it is.
    pub(super) async fn wait(
        &self,
        lease: &Lease,
        provider: &dyn Provider,
        order: &Order,
        reference: &Reference,
        signals: &Signals,
    ) -> Result<Made, Stop> {
        let (tell, told) = watch::channel((0, ""));
        tokio::select! {
            made = self.poll_until_done(provider, order, reference, signals, &tell) => made,
            lost = self.report(lease, told, signals) => Err(lost),
        }
    }

    async fn poll_until_done(
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
                // A failed request is made again with the next poll; only what the provider says of the order counts.
                asked = provider.cancel(reference).await.is_ok();
            }
            match provider.poll(reference).await {
                Ok(OrderStatus::Done(made)) => return Ok(made),
                Ok(OrderStatus::Cancelled(charge)) => return Err(stopped(charge).into()),
                Ok(OrderStatus::Failed(failure)) => return Err(failure.into()),
                Ok(OrderStatus::Unknown) if signals.cancel.is_cancelled() => {
                    return Err(cancelled("it was cancelled, and the provider does not know it any more").into());
                }
                Ok(OrderStatus::Unknown) => self.again(provider, order, reference).await?,
                Ok(OrderStatus::Waiting { .. }) => blind = 0,
                Ok(OrderStatus::Working { percent, stage }) => {
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
                () = sleep(provider.poll_interval()) => {}
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
        self.reorder(provider, order, reference).await
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
