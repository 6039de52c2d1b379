//! The client's side of WorkService: every call about a lease, with its retries.
//!
//! Invariant: a call that may have been carried out is repeated with the same fence, so that repeating it is safe; an answer that
//! says that the lease is another's is [`Error::Lost`], after which nothing more is said about the work.

use std::time::Duration;

use chassis::client::Channel;
use chassis::deadline;
use proto::generations::v1::charge::ProviderCharge;
use proto::work::v1::work_service_client::WorkServiceClient;
use proto::work::v1::{
    CompleteWorkRequest, FailWorkRequest, HeartbeatRequest, HeartbeatResponse, HintWorkRequest, Lease,
    RecordIntentRequest, RecordSubmissionRequest, ReleaseWorkRequest, ReportProgressRequest, SuspendWorkRequest,
};
use tokio::time::{Instant, sleep};
use tonic::{Code, Response, Status};
use uuid::Uuid;

use crate::hooks::Heard;
use crate::providers::{Class, Failure, Reference};

/// How long one try of a call may take.
const TRY: Duration = Duration::from_secs(5);
/// How long a call is repeated while generation-status does not answer. By then the lease is another's.
const PATIENCE: Duration = Duration::from_secs(120);

/// Why a call did not go through.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The lease is another's, or the work has ended: let go.
    #[error("the lease is another's: {0}")]
    Lost(String),
    /// It does not answer, or answers with a fault of its own.
    #[error("generation-status: {0}")]
    Unreachable(#[source] Box<Status>),
}

/// What is told of an order that goes on without a lease.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Suspension {
    /// When somebody should poll again; nothing: only when something is heard.
    pub poll_after: Option<Duration>,
    /// It is not known whether the provider took the order.
    pub unconfirmed: bool,
    /// 0 to 100; nothing where the provider does not say.
    pub percent: Option<u8>,
    /// What is being done, in a word or two.
    pub stage: String,
    /// The place in the provider's own queue, from 1; 0: none.
    pub queue_position: i32,
    /// Why it is unconfirmed, for operators.
    pub message: String,
}

/// Talks to generation-status; clones share the channel.
#[derive(Clone)]
pub struct Client {
    inner: WorkServiceClient<Channel>,
}

impl Client {
    /// A client on `channel`.
    #[must_use]
    pub fn new(channel: Channel) -> Self {
        Self { inner: WorkServiceClient::new(channel) }
    }

    /// The generated client, for the claim stream.
    #[must_use]
    pub fn generated(&self) -> WorkServiceClient<Channel> {
        self.inner.clone()
    }

    /// Prolongs leases; tried once, since the next beat comes soon.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn heartbeat(&self, worker: &str, leases: Vec<Lease>) -> Result<HeartbeatResponse, Error> {
        let request = HeartbeatRequest { worker: worker.to_owned(), leases };
        once(self.inner.clone().heartbeat(request)).await.map_err(sort)
    }

    /// Tells that `provider` is about to be called; once this returns, the call may be made.
    ///
    /// # Errors
    /// [`Error::Lost`], or [`Error::Unreachable`] once patience is at an end.
    pub async fn record_intent(&self, lease: &Lease, provider: &str) -> Result<(), Error> {
        let request = RecordIntentRequest { lease: Some(lease.clone()), provider: provider.to_owned() };
        repeated(|| {
            let (mut client, request) = (self.inner.clone(), request.clone());
            async move { once(client.record_intent(request)).await }
        })
        .await?;
        Ok(())
    }

    /// Ends a lease while the attempt goes on at the provider.
    ///
    /// # Errors
    /// [`Error::Lost`], or [`Error::Unreachable`] once patience is at an end.
    pub async fn suspend(&self, lease: &Lease, pause: &Suspension) -> Result<(), Error> {
        let request = SuspendWorkRequest {
            lease: Some(lease.clone()),
            poll_after: pause.poll_after.and_then(|after| after.try_into().ok()),
            unconfirmed: pause.unconfirmed,
            percent: pause.percent.map(i32::from),
            stage: pause.stage.clone(),
            queue_position: pause.queue_position,
            message: pause.message.clone(),
        };
        repeated(|| {
            let (mut client, request) = (self.inner.clone(), request.clone());
            async move { once(client.suspend_work(request)).await }
        })
        .await?;
        Ok(())
    }

    /// Passes a verified webhook of `provider` on; tried once, since providers send it again. Returns whether its job was
    /// waiting.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn hint(&self, provider: &str, heard: &Heard, job: Uuid) -> Result<bool, Error> {
        let request = HintWorkRequest {
            provider: provider.to_owned(),
            event: heard.event.clone(),
            job: job.to_string(),
            provider_reference: heard.reference.clone().unwrap_or_default(),
        };
        Ok(once(self.inner.clone().hint_work(request)).await.map_err(sort)?.awaited)
    }

    /// Tells that the provider took the order.
    ///
    /// # Errors
    /// [`Error::Lost`], or [`Error::Unreachable`] once patience is at an end.
    pub async fn record_submission(&self, lease: &Lease, reference: &Reference) -> Result<(), Error> {
        let request = RecordSubmissionRequest { lease: Some(lease.clone()), provider_reference: reference.0.clone() };
        repeated(|| {
            let (mut client, request) = (self.inner.clone(), request.clone());
            async move { once(client.record_submission(request)).await }
        })
        .await?;
        Ok(())
    }

    /// Tells how far the work is; tried once, since the next report says more. Returns whether it is to be cancelled.
    ///
    /// # Errors
    /// [`Error::Lost`], or [`Error::Unreachable`].
    pub async fn report_progress(&self, lease: &Lease, percent: u8, stage: &str) -> Result<bool, Error> {
        let request = ReportProgressRequest {
            lease: Some(lease.clone()),
            percent: percent.into(),
            stage: stage.to_owned(),
            finalizing: false,
        };
        Ok(once(self.inner.clone().report_progress(request)).await.map_err(sort)?.cancel_requested)
    }

    /// Tells that the provider is done and the bytes are being brought home.
    ///
    /// # Errors
    /// [`Error::Lost`], or [`Error::Unreachable`] once patience is at an end.
    pub async fn finalize(&self, lease: &Lease) -> Result<(), Error> {
        let request = ReportProgressRequest {
            lease: Some(lease.clone()),
            percent: 95,
            stage: "finalizing".to_owned(),
            finalizing: true,
        };
        repeated(|| {
            let (mut client, request) = (self.inner.clone(), request.clone());
            async move { once(client.report_progress(request)).await }
        })
        .await?;
        Ok(())
    }

    /// Delivers the result.
    ///
    /// # Errors
    /// [`Error::Lost`], or [`Error::Unreachable`] once patience is at an end.
    pub async fn complete(&self, request: CompleteWorkRequest) -> Result<(), Error> {
        repeated(|| {
            let (mut client, request) = (self.inner.clone(), request.clone());
            async move { once(client.complete_work(request)).await }
        })
        .await?;
        Ok(())
    }

    /// Tells that the attempt failed. Returns whether there will be another.
    ///
    /// # Errors
    /// [`Error::Lost`], or [`Error::Unreachable`] once patience is at an end.
    pub async fn fail(&self, lease: &Lease, failure: &Failure, provider_charge: ProviderCharge) -> Result<bool, Error> {
        let mut request = FailWorkRequest {
            lease: Some(lease.clone()),
            reason: failure.reason.to_owned(),
            message: failure.message.clone(),
            retry_after: failure.retry_after.and_then(|after| after.try_into().ok()),
            ..FailWorkRequest::default()
        };
        request.set_failure_class(class(failure.class));
        request.set_provider_charge(provider_charge);
        let response = repeated(|| {
            let (mut client, request) = (self.inner.clone(), request.clone());
            async move { once(client.fail_work(request)).await }
        })
        .await?;
        Ok(response.will_retry)
    }

    /// Gives a lease back unused.
    ///
    /// # Errors
    /// [`Error::Lost`], or [`Error::Unreachable`]; tried once, since the process is about to end.
    pub async fn release(&self, lease: &Lease) -> Result<(), Error> {
        let request = ReleaseWorkRequest { lease: Some(lease.clone()) };
        once(self.inner.clone().release_work(request)).await.map_err(sort)?;
        Ok(())
    }
}

/// One try with its deadline.
async fn once<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Status> {
    deadline::scope(Instant::now() + TRY, call).await.map(Response::into_inner)
}

/// Tries until there is an answer that means something, with growing pauses.
async fn repeated<T, F: Future<Output = Result<T, Status>>>(call: impl Fn() -> F) -> Result<T, Error> {
    let until = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(50);
    loop {
        match call().await.map_err(sort) {
            Err(Error::Unreachable(status)) if Instant::now() < until => {
                tracing::warn!(code = ?status.code(), message = status.message(), "generation-status does not answer, trying again");
                sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
                pause = (pause * 2).min(Duration::from_secs(2));
            }
            result => return result,
        }
    }
}

/// What an answer means. The first group says that this work is no longer ours to speak of.
fn sort(status: Status) -> Error {
    match status.code() {
        Code::Aborted | Code::NotFound | Code::FailedPrecondition | Code::InvalidArgument => {
            Error::Lost(status.message().to_owned())
        }
        _ => Error::Unreachable(Box::new(status)),
    }
}

fn class(class: Class) -> proto::work::v1::FailureClass {
    use proto::work::v1::FailureClass as Wire;
    match class {
        Class::Internal => Wire::Internal,
        Class::Throttled => Wire::Throttled,
        Class::InvalidInput => Wire::InvalidInput,
        Class::Safety => Wire::Safety,
        Class::BadOutput => Wire::BadOutput,
        Class::Cancelled => Wire::Cancelled,
    }
}
