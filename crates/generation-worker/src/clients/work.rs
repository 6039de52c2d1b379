//! The client of WorkService: the claim stream, and every call about a lease, with its retries.
//!
//! Invariant: a call that may have been carried out is repeated with the same fence, so that repeating it is safe; an answer that
//! says that the lease is another's is [`Error::LeaseLost`], after which nothing more is said about the work.

mod messages;

use std::sync::Arc;
use std::time::Duration;

use chassis::client::Channel;
use chassis::request::deadline;
use proto::work::v1 as wire;
use proto::work::v1::work_service_client::WorkServiceClient;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Response, Status, Streaming};
use tracing::instrument::WithSubscriber as _;
use tracing::subscriber::NoSubscriber;
use uuid::Uuid;

pub(crate) use self::messages::Unreadable;
use self::messages::{
    charge_to_proto, class_to_proto, condition_to_proto, failure_detail, output_to_proto, parse_work, to_proto,
    trouble_to_proto, usage_to_proto,
};
use crate::error::Error;
use crate::model::{
    Completion, Confirmation, Failure, Hinted, Lease, ModelCost, Reference, RemoteModel, Suspension, Work,
};
use crate::retry_budget::RetryBudget;

/// Its name in errors.
const SERVICE: &str = "generation-status";
/// How long one try of a call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long opening the claim stream may take: leases wait to be prolonged meanwhile.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a call is repeated while generation-status does not answer. By then the lease is another's.
const RETRY_TIMEOUT: Duration = Duration::from_secs(120);

/// The longest pause between two tries of a call.
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// Talks to generation-status; clones share the channel and the retry budget.
#[derive(Clone)]
pub(crate) struct WorkClient {
    inner: WorkServiceClient<Channel>,
    retries: Arc<RetryBudget>,
}

/// An open claim stream.
pub(crate) struct Claims {
    slots: mpsc::Sender<wire::ClaimWorkRequest>,
    work: Streaming<wire::ClaimWorkResponse>,
}

/// What a heartbeat says of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeaseStatus {
    /// It still is ours. If not: let go at once.
    pub(crate) held: bool,
    /// The generation is to be cancelled.
    pub(crate) cancel_requested: bool,
}

impl Claims {
    /// The next work; nothing when the stream has ended.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the stream breaks.
    pub(crate) async fn next(&mut self) -> Result<Option<Result<Work, Unreadable>>, Error> {
        while let Some(message) = self.work.message().await.map_err(unavailable)? {
            if let Some(parsed) = message.work.and_then(parse_work) {
                return Ok(Some(parsed));
            }
        }
        Ok(None)
    }

    /// Asks for one more. Returns whether the stream took the request; one that did not is full or closed.
    #[must_use]
    pub(crate) fn free_slot(&self) -> bool {
        self.slots.try_send(wire::ClaimWorkRequest { slots: 1, ..wire::ClaimWorkRequest::default() }).is_ok()
    }
}

impl WorkClient {
    /// A client on `channel`.
    #[must_use]
    pub(crate) fn new(channel: Channel) -> Self {
        Self { inner: WorkServiceClient::new(channel), retries: Arc::new(RetryBudget::new(SERVICE)) }
    }

    /// Opens a claim stream for `slots` free slots and work for `providers`, whose keys have these public names. It lasts as long as the process, so it is outside of every span.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub(crate) async fn claim(
        &self,
        worker: &str,
        providers: Vec<String>,
        provider_keys: Vec<String>,
        slots: u32,
    ) -> Result<Claims, Error> {
        let (send, requests) = mpsc::channel(256);
        let slots = i32::try_from(slots).unwrap_or(i32::MAX);
        let first = wire::ClaimWorkRequest { worker: worker.to_owned(), providers, slots, provider_keys };
        // A new channel has room for it.
        let _ = send.try_send(first);
        let mut client = self.inner.clone();
        let call = async move { client.claim_work(ReceiverStream::new(requests)).await };
        let opened = timeout(CLAIM_TIMEOUT, call.with_subscriber(NoSubscriber::new())).await;
        let opened = opened.unwrap_or_else(|_| Err(Status::deadline_exceeded("the claim stream does not open")));
        Ok(Claims { slots: send, work: opened.map_err(unavailable)?.into_inner() })
    }

    /// Prolongs leases, and says what became of each, in their order; tried once, since the next heartbeat comes soon.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub(crate) async fn heartbeat(&self, worker: &str, leases: &[Lease]) -> Result<Vec<LeaseStatus>, Error> {
        let leases = leases.iter().map(|lease| to_proto(*lease)).collect();
        let request = wire::HeartbeatRequest { worker: worker.to_owned(), leases };
        let mut client = self.inner.clone();
        let call = call_once(client.heartbeat(request)).with_subscriber(NoSubscriber::new());
        let statuses = call.await.map_err(parse_status)?.statuses;
        let status = |status: wire::heartbeat_response::LeaseStatus| LeaseStatus {
            held: status.held,
            cancel_requested: status.cancel_requested,
        };
        Ok(statuses.into_iter().map(status).collect())
    }

    /// Records that `provider` is about to be called with the key of this public name; once this returns, the call may be made.
    ///
    /// # Errors
    /// [`Error::Refused`] when the generation was to be stopped meanwhile, [`Error::LeaseLost`], or [`Error::Unavailable`] once the retries time out.
    pub(crate) async fn record_intent(&self, lease: Lease, provider: &str, key: &str) -> Result<(), Error> {
        let (lease, provider, provider_key) = (Some(to_proto(lease)), provider.to_owned(), key.to_owned());
        let request = wire::RecordIntentRequest { lease, provider, provider_key };
        self.retry(|| {
            let (mut client, request) = (self.inner.clone(), request.clone());
            async move { call_once(client.record_intent(request)).await }
        })
        .await?;
        Ok(())
    }

    /// Records that the provider took the order.
    ///
    /// # Errors
    /// [`Error::LeaseLost`], or [`Error::Unavailable`] once the retries time out.
    pub(crate) async fn record_submission(&self, lease: Lease, reference: &Reference) -> Result<(), Error> {
        let (lease, provider_reference) = (Some(to_proto(lease)), reference.0.clone());
        let request = wire::RecordSubmissionRequest { lease, provider_reference };
        self.retry(|| {
            let (mut client, request) = (self.inner.clone(), request.clone());
            async move { call_once(client.record_submission(request)).await }
        })
        .await?;
        Ok(())
    }

    /// Ends a lease while the attempt goes on at the provider, which was called with the key of this public name.
    ///
    /// # Errors
    /// [`Error::LeaseLost`], or [`Error::Unavailable`] once the retries time out.
    pub(crate) async fn suspend(&self, lease: Lease, key: &str, suspension: Suspension) -> Result<(), Error> {
        let request = wire::SuspendWorkRequest {
            lease: Some(to_proto(lease)),
            poll_after: suspension.poll_after.and_then(|after| after.try_into().ok()),
            unconfirmed: suspension.unconfirmed,
            percent: suspension.percent.map(i32::from),
            stage: suspension.stage,
            queue_position: suspension.queue_position,
            message: suspension.message,
            trouble: suspension.trouble.map_or(wire::Trouble::Unspecified, trouble_to_proto).into(),
            provider_condition: condition_to_proto(suspension.condition).into(),
            provider_key: key.to_owned(),
        };
        self.retry(|| {
            let (mut client, request) = (self.inner.clone(), request.clone());
            async move { call_once(client.suspend_work(request)).await }
        })
        .await?;
        Ok(())
    }

    /// Passes on that a verified webhook of `provider` named a job; tried once, since providers send it again.
    ///
    /// # Errors
    /// [`Error::Unavailable`], or [`Error::LeaseLost`] when it is refused.
    pub(crate) async fn hint(
        &self,
        provider: &str,
        job: Uuid,
        event: &str,
        reference: Option<&str>,
        confirmation: Confirmation,
    ) -> Result<Hinted, Error> {
        let request = wire::HintWorkRequest {
            provider: provider.to_owned(),
            event: event.to_owned(),
            job: job.to_string(),
            provider_reference: reference.unwrap_or_default().to_owned(),
            confirmation: confirmation_to_proto(confirmation).into(),
        };
        let response = call_once(self.inner.clone().hint_work(request)).await.map_err(parse_status)?;
        let confirm_at_model = Some(response.confirm_at_model.clone()).filter(|model| !model.is_empty());
        let wire::HintWorkResponse { awaited, traceparent, provider_key: key, .. } = response;
        Ok(Hinted { awaited, traceparent, confirm_at_model, key })
    }

    /// Reports how far the work is; tried once, since the next report says more. Returns whether it is to be cancelled.
    ///
    /// # Errors
    /// [`Error::LeaseLost`], or [`Error::Unavailable`].
    pub(crate) async fn report_progress(&self, lease: Lease, percent: u8, stage: &str) -> Result<bool, Error> {
        let request = wire::ReportProgressRequest {
            lease: Some(to_proto(lease)),
            percent: percent.into(),
            stage: stage.to_owned(),
            finalizing: false,
        };
        let response = call_once(self.inner.clone().report_progress(request)).await;
        Ok(response.map_err(parse_status)?.cancel_requested)
    }

    /// Reports that the provider is done and its output is being stored.
    ///
    /// # Errors
    /// [`Error::LeaseLost`], or [`Error::Unavailable`] once the retries time out.
    pub(crate) async fn finalize(&self, lease: Lease) -> Result<(), Error> {
        let request = wire::ReportProgressRequest {
            lease: Some(to_proto(lease)),
            percent: 95,
            stage: "finalizing".to_owned(),
            finalizing: true,
        };
        self.retry(|| {
            let (mut client, request) = (self.inner.clone(), request.clone());
            async move { call_once(client.report_progress(request)).await }
        })
        .await?;
        Ok(())
    }

    /// Delivers the result.
    ///
    /// # Errors
    /// [`Error::LeaseLost`], or [`Error::Unavailable`] once the retries time out.
    pub(crate) async fn complete(&self, lease: Lease, completion: Completion) -> Result<(), Error> {
        let request = wire::CompleteWorkRequest {
            lease: Some(to_proto(lease)),
            outputs: completion.outputs.into_iter().map(output_to_proto).collect(),
            usage: Some(usage_to_proto(completion.usage)),
        };
        self.retry(|| {
            let (mut client, request) = (self.inner.clone(), request.clone());
            async move { call_once(client.complete_work(request)).await }
        })
        .await?;
        Ok(())
    }

    /// Reports that the attempt failed, for which the provider was called with the key of this public name. Returns whether there will be another.
    ///
    /// # Errors
    /// [`Error::LeaseLost`], or [`Error::Unavailable`] once the retries time out.
    pub(crate) async fn fail(&self, lease: Lease, key: &str, failure: &Failure) -> Result<bool, Error> {
        let mut request = wire::FailWorkRequest {
            lease: Some(to_proto(lease)),
            reason: failure.reason.as_str().to_owned(),
            message: failure.reason.message().to_owned(),
            retry_after: failure.retry_after.and_then(|after| after.try_into().ok()),
            detail: failure_detail(failure),
            provider_key: key.to_owned(),
            ..wire::FailWorkRequest::default()
        };
        request.set_provider_condition(condition_to_proto(failure.condition));
        request.set_failure_class(class_to_proto(failure.class));
        request.set_provider_charge(charge_to_proto(failure.charge));
        let response = self
            .retry(|| {
                let (mut client, request) = (self.inner.clone(), request.clone());
                async move { call_once(client.fail_work(request)).await }
            })
            .await?;
        Ok(response.will_retry)
    }

    /// The models of the catalogue that are at a provider; tried once.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub(crate) async fn list_remote_models(&self) -> Result<Vec<RemoteModel>, Error> {
        let request = wire::ListRemoteModelsRequest {};
        let response = call_once(self.inner.clone().list_remote_models(request)).await.map_err(unavailable)?;
        let model = |model: wire::RemoteModel| RemoteModel {
            name: model.model,
            provider: model.provider,
            model: model.remote_name,
            cost: model.cost.map(|cost| ModelCost {
                expected_micros: cost.expected_micros,
                cost_micros: cost.cost_micros,
                outputs: cost.outputs,
                drifted: cost.drifted,
            }),
        };
        Ok(response.models.into_iter().map(model).collect())
    }

    /// Gives a lease back unused.
    ///
    /// # Errors
    /// [`Error::LeaseLost`], or [`Error::Unavailable`]; tried once, since the process is about to end.
    pub(crate) async fn release(&self, lease: Lease) -> Result<(), Error> {
        let request = wire::ReleaseWorkRequest { lease: Some(to_proto(lease)) };
        call_once(self.inner.clone().release_work(request)).await.map_err(parse_status)?;
        Ok(())
    }
}

impl WorkClient {
    /// Tries until there is an answer that means something, with growing pauses. A repetition for which the budget has no room is
    /// put off by the longest pause: what is reported here must not be lost while its lease lasts.
    async fn retry<T, F: Future<Output = Result<T, Status>>>(&self, call: impl Fn() -> F) -> Result<T, Error> {
        let until = Instant::now() + RETRY_TIMEOUT;
        let mut pause = Duration::from_millis(50);
        let mut tries = 0_u32;
        self.retries.record_call();
        loop {
            match call().await.map_err(parse_status) {
                Err(error @ Error::Unavailable { .. }) if Instant::now() < until => {
                    // Once for each call, not for each try: an outage of a minute is one thing to look into.
                    if tries == 0 {
                        tracing::warn!(%error, "a call is tried again");
                    }
                    tries += 1;
                    sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
                    pause = (pause * 2).min(MAX_PAUSE);
                    while !self.retries.try_retry() {
                        if Instant::now() >= until {
                            return Err(error);
                        }
                        sleep(MAX_PAUSE.mul_f64(0.5 + fastrand::f64())).await;
                    }
                }
                result => return result,
            }
        }
    }
}

fn confirmation_to_proto(confirmation: Confirmation) -> wire::hint_work_request::Confirmation {
    match confirmation {
        Confirmation::NotAsked => wire::hint_work_request::Confirmation::NotAsked,
        Confirmation::Confirmed => wire::hint_work_request::Confirmation::Confirmed,
    }
}

/// One try with its deadline.
async fn call_once<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Status> {
    deadline::within(Instant::now() + CALL_TIMEOUT, call).await.map(Response::into_inner)
}

/// What a status means for the lease. The first group says that its work is no longer ours to speak of.
fn parse_status(status: Status) -> Error {
    match status.code() {
        Code::Aborted | Code::NotFound | Code::InvalidArgument => Error::LeaseLost(status.message().to_owned()),
        // The lease is ours, and the generation in a state that this does not follow.
        Code::FailedPrecondition => Error::Refused(status.message().to_owned()),
        _ => unavailable(status),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "an error is consumed where it is mapped")]
fn unavailable(status: Status) -> Error {
    Error::Unavailable { service: SERVICE, code: format!("{:?}", status.code()), message: status.message().to_owned() }
}
