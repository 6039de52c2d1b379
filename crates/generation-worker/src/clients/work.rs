//! The client of WorkService: the claim stream, and every call about a lease, with its retries.
//!
//! Invariant: a call that may have been carried out is repeated with the same fence, so that repeating it is safe; an answer that
//! says that the lease is another's is [`Error::LeaseLost`], after which nothing more is said about the work.

use std::time::Duration;

use chassis::client::Channel;
use chassis::request::deadline;
use domain::id::AccountId;
use proto::generations::v1::Output;
use proto::generations::v1::charge::ProviderCharge;
use proto::work::v1 as wire;
use proto::work::v1::work_service_client::WorkServiceClient;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Response, Status, Streaming};
use tracing::instrument::WithSubscriber as _;
use tracing::subscriber::NoSubscriber;
use uuid::Uuid;

use crate::error::Error;
use crate::model::{
    Charge, Class, Clock, Clocks, Completion, Condition, Failure, Form, Hinted, InputFile, Lease, MediaKind, Order,
    Reason, Reference, RemoteModel, StoredFile, Suspension, Usage, Work,
};

/// Its name in errors.
const SERVICE: &str = "generation-status";
/// How long one try of a call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long opening the claim stream may take: leases wait to be prolonged meanwhile.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a call is repeated while generation-status does not answer. By then the lease is another's.
const RETRY_TIMEOUT: Duration = Duration::from_secs(120);

/// The outputs that a result may have.
const MAX_OUTPUTS: usize = 16;

/// Talks to generation-status; clones share the channel.
#[derive(Clone)]
pub(crate) struct WorkClient {
    inner: WorkServiceClient<Channel>,
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

/// Work that came with something that this worker cannot read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Unreadable {
    /// The lease that it came under.
    pub(crate) lease: Lease,
    /// To be reported of it.
    pub(crate) failure: Failure,
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
        Self { inner: WorkServiceClient::new(channel) }
    }

    /// Opens a claim stream for `slots` free slots and work for `providers`. It lasts as long as the process, so it is outside of every span.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub(crate) async fn claim(&self, worker: &str, providers: Vec<String>, slots: u32) -> Result<Claims, Error> {
        let (send, requests) = mpsc::channel(256);
        let slots = i32::try_from(slots).unwrap_or(i32::MAX);
        let first = wire::ClaimWorkRequest { worker: worker.to_owned(), providers, slots };
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

    /// Records that `provider` is about to be called; once this returns, the call may be made.
    ///
    /// # Errors
    /// [`Error::Refused`] when the generation was to be stopped meanwhile, [`Error::LeaseLost`], or [`Error::Unavailable`] once the retries time out.
    pub(crate) async fn record_intent(&self, lease: Lease, provider: &str) -> Result<(), Error> {
        let request = wire::RecordIntentRequest { lease: Some(to_proto(lease)), provider: provider.to_owned() };
        retry(|| {
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
        retry(|| {
            let (mut client, request) = (self.inner.clone(), request.clone());
            async move { call_once(client.record_submission(request)).await }
        })
        .await?;
        Ok(())
    }

    /// Ends a lease while the attempt goes on at the provider.
    ///
    /// # Errors
    /// [`Error::LeaseLost`], or [`Error::Unavailable`] once the retries time out.
    pub(crate) async fn suspend(&self, lease: Lease, suspension: Suspension) -> Result<(), Error> {
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
        };
        retry(|| {
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
    ) -> Result<Hinted, Error> {
        let request = wire::HintWorkRequest {
            provider: provider.to_owned(),
            event: event.to_owned(),
            job: job.to_string(),
            provider_reference: reference.unwrap_or_default().to_owned(),
        };
        let response = call_once(self.inner.clone().hint_work(request)).await.map_err(parse_status)?;
        Ok(Hinted { awaited: response.awaited, traceparent: response.traceparent })
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
        retry(|| {
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
        retry(|| {
            let (mut client, request) = (self.inner.clone(), request.clone());
            async move { call_once(client.complete_work(request)).await }
        })
        .await?;
        Ok(())
    }

    /// Reports that the attempt failed. Returns whether there will be another.
    ///
    /// # Errors
    /// [`Error::LeaseLost`], or [`Error::Unavailable`] once the retries time out.
    pub(crate) async fn fail(&self, lease: Lease, failure: &Failure) -> Result<bool, Error> {
        let mut request = wire::FailWorkRequest {
            lease: Some(to_proto(lease)),
            reason: failure.reason.as_str().to_owned(),
            message: failure.reason.message().to_owned(),
            retry_after: failure.retry_after.and_then(|after| after.try_into().ok()),
            detail: failure_detail(failure),
            ..wire::FailWorkRequest::default()
        };
        request.set_provider_condition(condition_to_proto(failure.condition));
        request.set_failure_class(class_to_proto(failure.class));
        request.set_provider_charge(charge_to_proto(failure.charge));
        let response = retry(|| {
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

/// One try with its deadline.
async fn call_once<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Status> {
    deadline::within(Instant::now() + CALL_TIMEOUT, call).await.map(Response::into_inner)
}

/// Tries until there is an answer that means something, with growing pauses.
async fn retry<T, F: Future<Output = Result<T, Status>>>(call: impl Fn() -> F) -> Result<T, Error> {
    let until = Instant::now() + RETRY_TIMEOUT;
    let mut pause = Duration::from_millis(50);
    let mut tries = 0_u32;
    loop {
        match call().await.map_err(parse_status) {
            Err(error @ Error::Unavailable { .. }) if Instant::now() < until => {
                // Once for each call, not for each try: an outage of a minute is one thing to look into.
                if tries == 0 {
                    tracing::warn!(%error, "a call is tried again");
                }
                tries += 1;
                sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
                pause = (pause * 2).min(Duration::from_secs(2));
            }
            result => return result,
        }
    }
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

fn to_proto(lease: Lease) -> wire::Lease {
    wire::Lease { job: lease.job.to_string(), fence: lease.fence }
}

fn class_to_proto(class: Class) -> wire::FailureClass {
    match class {
        Class::Internal => wire::FailureClass::Internal,
        Class::Throttled => wire::FailureClass::Throttled,
        Class::Unavailable => wire::FailureClass::Unavailable,
        Class::InvalidInput => wire::FailureClass::InvalidInput,
        Class::Safety => wire::FailureClass::Safety,
        Class::Final => wire::FailureClass::Final,
        Class::Cancelled => wire::FailureClass::Cancelled,
    }
}

fn trouble_to_proto(clock: Clock) -> wire::Trouble {
    match clock {
        Clock::Poll => wire::Trouble::Poll,
        Clock::Order => wire::Trouble::Order,
        Clock::Output => wire::Trouble::Output,
        Clock::Storage => wire::Trouble::Storage,
    }
}

fn condition_to_proto(condition: Option<Condition>) -> wire::ProviderCondition {
    match condition {
        None => wire::ProviderCondition::Unspecified,
        Some(Condition::AccountRefused) => wire::ProviderCondition::AccountRefused,
        Some(Condition::Outage) => wire::ProviderCondition::Outage,
        Some(Condition::Misconfigured) => wire::ProviderCondition::Misconfigured,
    }
}

/// What operators read of a failure: what it was, and what the provider said.
fn failure_detail(failure: &Failure) -> String {
    let Failure { detail, evidence, .. } = failure;
    match evidence.status {
        Some(status) => format!("{detail}; {status}: {}", evidence.excerpt),
        None if evidence.excerpt.is_empty() => detail.clone(),
        None => format!("{detail}: {}", evidence.excerpt),
    }
}

fn charge_to_proto(charge: Charge) -> ProviderCharge {
    match charge {
        Charge::NotCharged => ProviderCharge::NotCharged,
        Charge::Charged => ProviderCharge::Charged,
        Charge::Unknown => ProviderCharge::Unspecified,
    }
}

fn output_to_proto(file: StoredFile) -> wire::MadeOutput {
    let output = Output {
        asset: file.asset,
        size_bytes: file.size_bytes,
        mime_type: file.mime_type,
        width: file.width,
        height: file.height,
        duration: file.duration.and_then(|duration| duration.try_into().ok()),
        url: file.url,
        poster: file.poster,
        poster_url: file.poster_url,
        poster_missing_reason: file.poster_missing_reason,
    };
    wire::MadeOutput { output: Some(output), extension: file.extension }
}

fn usage_to_proto(usage: Usage) -> wire::Usage {
    wire::Usage {
        run_time: usage.run_time.and_then(|time| time.try_into().ok()),
        provider_cost_micros: usage.cost_micros,
        provider_units: usage.units,
    }
}

/// The work of a message; nothing without a lease that it could be spoken of under, which is then left to run out.
fn parse_work(work: wire::Work) -> Option<Result<Work, Unreadable>> {
    let Some(lease) = work.lease.as_ref().and_then(parse_lease) else {
        tracing::error!(generation = work.generation, "work came without a lease that can be read");
        return None;
    };
    let unreadable = |what: &str| {
        // Nothing was ordered by this lease, so the charge is left to what earlier ones recorded.
        let detail = format!("the work's {what} cannot be read");
        let failure = Failure::new(Class::Final, Reason::ProviderInternal, Charge::Unknown, detail);
        Some(Err(Unreadable { lease, failure }))
    };
    let Ok(account) = AccountId::from_name(&work.account) else { return unreadable("account") };
    let Some(order) = work.order else {
        let begun = work.in_doubt || !work.provider_reference.is_empty();
        let charge = if begun { Charge::Unknown } else { Charge::NotCharged };
        let detail = format!("the work says nothing of what {} is to be sent", work.model);
        let failure = Failure::new(Class::Unavailable, Reason::ModelMisconfigured, charge, detail);
        let failure = Failure { condition: Some(Condition::Misconfigured), ..failure };
        return Some(Err(Unreadable { lease, failure }));
    };
    let Some(order) = parse_order(lease.job, order) else { return unreadable("order") };
    Some(Ok(Work {
        lease,
        generation: work.generation,
        account,
        model: work.model,
        order,
        attempt: work.attempt,
        reference: (!work.provider_reference.is_empty()).then_some(Reference(work.provider_reference)),
        unconfirmed: work.in_doubt,
        poll: work.poll,
        polls: work.polls,
        clocks: work.troubles.iter().fold(Clocks::default(), parse_clock),
        cancel_requested: work.cancel_requested,
        traceparent: work.traceparent,
    }))
}

/// What is ordered; nothing where a part of it is not understood, since what is left out of an order is another order.
fn parse_order(key: Uuid, order: wire::Order) -> Option<Order> {
    Some(Order {
        key,
        provider: order.provider,
        model: order.model,
        input: serde_json::from_str(&order.input).ok()?,
        files: order.files.into_iter().map(parse_file).collect::<Option<_>>()?,
        output: (!order.output.is_empty()).then_some(order.output),
        refusals: order.refusals,
        output_kinds: order.output_kinds.iter().map(|kind| MediaKind::parse(kind)).collect::<Option<_>>()?,
        max_outputs: usize::try_from(order.max_outputs).ok()?.clamp(1, MAX_OUTPUTS),
        max_run_time: order.max_run_time.map(Duration::try_from).transpose().ok()?,
    })
}

fn parse_file(file: wire::order::File) -> Option<InputFile> {
    let name = format!("{}.{}", file.asset.strip_prefix("assets/")?, file.extension).parse().ok()?;
    Some(InputFile {
        pointer: file.pointer,
        name,
        mime_type: file.mime_type,
        size_bytes: u64::try_from(file.size_bytes).ok()?,
        forms: file.forms.iter().map(|form| Form::parse(form)).collect::<Option<_>>()?,
    })
}

fn parse_clock(mut clocks: Clocks, trouble: &wire::OrderTrouble) -> Clocks {
    let elapsed = trouble.elapsed.and_then(|elapsed| Duration::try_from(elapsed).ok());
    match trouble.trouble() {
        wire::Trouble::Poll => clocks.poll = elapsed,
        wire::Trouble::Order => clocks.order = elapsed,
        wire::Trouble::Output => clocks.output = elapsed,
        wire::Trouble::Storage => clocks.storage = elapsed,
        wire::Trouble::Unspecified => {}
    }
    clocks
}

fn parse_lease(lease: &wire::Lease) -> Option<Lease> {
    Some(Lease { job: Uuid::try_parse(&lease.job).ok()?, fence: lease.fence })
}
