//! WorkService, for workers on the internal network.

use std::pin::Pin;
use std::time::Duration;

use domain::money::Micros;
use domain::name;
use futures::Stream;
use jobs::Lease;
use proto::generations::v1::{Output as OutputMessage, charge};
use proto::work::v1::heartbeat_response::LeaseStatus;
use proto::work::v1::work_service_server::WorkService;
use proto::work::v1::{
    ClaimWorkRequest, ClaimWorkResponse, CompleteWorkRequest, CompleteWorkResponse, FailWorkRequest, FailWorkResponse,
    FailureClass, HeartbeatRequest, HeartbeatResponse, HintWorkRequest, HintWorkResponse, Lease as LeaseMessage,
    RecordIntentRequest, RecordIntentResponse, RecordSubmissionRequest, RecordSubmissionResponse, ReleaseWorkRequest,
    ReleaseWorkResponse, ReportProgressRequest, ReportProgressResponse, SuspendWorkRequest, SuspendWorkResponse,
};
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use crate::claims::Claims;
use crate::error::Error;
use crate::fields::Fields;
use crate::record::{Output, ProviderCharge};
use crate::store::{Step, Suspension};
use crate::work::{Class, Report, Work};

/// The most leases in one heartbeat.
const LEASES: usize = 1_000;
/// The most characters of a stage.
const STAGE: usize = 60;
/// The most characters of a message or a reference.
const TEXT: usize = 1_000;
/// The most characters of a provider's name.
const NAME: usize = 60;
/// The longest pause that a provider's Retry-After is believed.
const PAUSE: Duration = Duration::from_secs(24 * 3600);

/// The service over its rules.
#[derive(Clone)]
pub(crate) struct WorkApi {
    pub(crate) work: Work,
    pub(crate) claims: Claims,
}

#[tonic::async_trait]
impl WorkService for WorkApi {
    type ClaimWorkStream = Pin<Box<dyn Stream<Item = Result<ClaimWorkResponse, Status>> + Send>>;

    async fn claim_work(
        &self,
        request: Request<Streaming<ClaimWorkRequest>>,
    ) -> Result<Response<Self::ClaimWorkStream>, Status> {
        Ok(Response::new(Box::pin(self.claims.serve(request.into_inner()).await?)))
    }

    async fn heartbeat(&self, request: Request<HeartbeatRequest>) -> Result<Response<HeartbeatResponse>, Status> {
        let request = request.into_inner();
        let mut fields = Fields::default();
        if request.leases.len() > LEASES {
            fields.wrong("leases", format_args!("must hold at most {LEASES}; it holds {}", request.leases.len()));
        }
        let asked = request.leases.iter().enumerate();
        let read = asked.filter_map(|(at, asked)| lease(&mut fields, &format!("leases[{at}]"), Some(asked)));
        let leases: Vec<_> = read.collect();
        let statuses = self.work.heartbeat(&fields.done(Some(leases))?).await?;
        let statuses = statuses.into_iter().map(|status| LeaseStatus {
            job: status.lease.job.to_string(),
            held: status.held.is_some(),
            cancel_requested: status.held.is_some_and(|held| held.cancel_requested),
        });
        Ok(Response::new(HeartbeatResponse { statuses: statuses.collect() }))
    }

    async fn record_intent(
        &self,
        request: Request<RecordIntentRequest>,
    ) -> Result<Response<RecordIntentResponse>, Status> {
        let request = request.into_inner();
        let mut fields = Fields::default();
        let lease = lease(&mut fields, "lease", request.lease.as_ref());
        let provider = text(&mut fields, "provider", &request.provider, NAME);
        let (lease, provider) = fields.done(lease.zip(provider))?;
        self.work.intended(lease, provider).await?;
        Ok(Response::new(RecordIntentResponse {}))
    }

    async fn suspend_work(
        &self,
        request: Request<SuspendWorkRequest>,
    ) -> Result<Response<SuspendWorkResponse>, Status> {
        let pause = suspension(&request.into_inner())?;
        self.work.suspend(&pause).await?;
        Ok(Response::new(SuspendWorkResponse {}))
    }

    async fn hint_work(&self, request: Request<HintWorkRequest>) -> Result<Response<HintWorkResponse>, Status> {
        let request = request.into_inner();
        let mut fields = Fields::default();
        let provider = text(&mut fields, "provider", &request.provider, NAME);
        let event = text(&mut fields, "event", &request.event, TEXT);
        let job = fields.take("job", Uuid::try_parse(&request.job).map_err(|_| "must be the job's UUID"));
        let reference = match request.provider_reference.as_str() {
            "" => Some(None),
            given => text(&mut fields, "provider_reference", given, TEXT).map(Some),
        };
        let (((provider, event), job), reference) = fields.done(provider.zip(event).zip(job).zip(reference))?;
        let awaited = self.work.hint((provider, event), job, reference).await?;
        Ok(Response::new(HintWorkResponse { awaited }))
    }

    async fn record_submission(
        &self,
        request: Request<RecordSubmissionRequest>,
    ) -> Result<Response<RecordSubmissionResponse>, Status> {
        let request = request.into_inner();
        let mut fields = Fields::default();
        let lease = lease(&mut fields, "lease", request.lease.as_ref());
        let reference = text(&mut fields, "provider_reference", &request.provider_reference, TEXT);
        let (lease, reference) = fields.done(lease.zip(reference))?;
        self.work.submitted(lease, reference).await?;
        Ok(Response::new(RecordSubmissionResponse {}))
    }

    async fn report_progress(
        &self,
        request: Request<ReportProgressRequest>,
    ) -> Result<Response<ReportProgressResponse>, Status> {
        let request = request.into_inner();
        let mut fields = Fields::default();
        let lease = lease(&mut fields, "lease", request.lease.as_ref());
        let percent = i16::try_from(request.percent).ok().filter(|percent| (0..=100).contains(percent));
        if percent.is_none() {
            fields.wrong("percent", "must be 0 to 100");
        }
        let stage = stage(&request.stage);
        let (lease, percent) = fields.done(lease.zip(percent))?;
        let step = Step { lease, percent, stage };
        let cancel_requested = if request.finalizing {
            self.work.finalizing(&step).await?;
            false
        } else {
            self.work.progressed(step).await?
        };
        Ok(Response::new(ReportProgressResponse { cancel_requested }))
    }

    async fn complete_work(
        &self,
        request: Request<CompleteWorkRequest>,
    ) -> Result<Response<CompleteWorkResponse>, Status> {
        let request = request.into_inner();
        let mut fields = Fields::default();
        let lease = lease(&mut fields, "lease", request.lease.as_ref());
        let output = output(&mut fields, request.output.as_ref(), &request.extension);
        if request.cost_micros < 0 {
            fields.wrong("cost_micros", "must not be negative");
        }
        let (lease, output) = fields.done(lease.zip(output))?;
        self.work.complete(lease, &output, Micros::new(request.cost_micros)).await?;
        Ok(Response::new(CompleteWorkResponse {}))
    }

    async fn fail_work(&self, request: Request<FailWorkRequest>) -> Result<Response<FailWorkResponse>, Status> {
        let request = request.into_inner();
        let mut fields = Fields::default();
        let lease = fields_of_failure(&mut fields, &request);
        let lease = fields.done(lease)?;
        let will_retry = self.work.fail(lease, report(request)).await?;
        Ok(Response::new(FailWorkResponse { will_retry }))
    }

    async fn release_work(
        &self,
        request: Request<ReleaseWorkRequest>,
    ) -> Result<Response<ReleaseWorkResponse>, Status> {
        let request = request.into_inner();
        let mut fields = Fields::default();
        let lease = lease(&mut fields, "lease", request.lease.as_ref());
        self.work.release(fields.done(lease)?).await?;
        Ok(Response::new(ReleaseWorkResponse {}))
    }
}

fn suspension(request: &SuspendWorkRequest) -> Result<Suspension, Error> {
    let mut fields = Fields::default();
    let lease = lease(&mut fields, "lease", request.lease.as_ref());
    let percent = request.percent.map(|percent| i16::try_from(percent).unwrap_or(-1));
    if percent.is_some_and(|percent| !(0..=100).contains(&percent)) {
        fields.wrong("percent", "must be 0 to 100, or unset");
    }
    if request.queue_position < 0 {
        fields.wrong("queue_position", "must not be negative");
    }
    let poll_after = request.poll_after.map(|after| Duration::try_from(after).unwrap_or_default().min(PAUSE));
    if poll_after.is_none() && !request.unconfirmed {
        fields.wrong("poll_after", "must be set where there is an order to poll at");
    }
    Ok(Suspension {
        lease: fields.done(lease)?,
        poll_after,
        unconfirmed: request.unconfirmed,
        percent,
        stage: stage(&request.stage),
        queue_position: request.queue_position,
        message: request.message.chars().take(TEXT).collect(),
    })
}

fn stage(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(STAGE).collect()
}

fn lease(fields: &mut Fields, field: &str, message: Option<&LeaseMessage>) -> Option<Lease> {
    let message = message.cloned().unwrap_or_default();
    let job = fields.take(format!("{field}.job"), Uuid::try_parse(&message.job).map_err(|_| "must be the job's UUID"));
    if message.fence < 1 {
        fields.wrong(format!("{field}.fence"), "must be the fence that came with the lease");
    }
    job.map(|job| Lease { job, fence: message.fence })
}

fn text<'t>(fields: &mut Fields, field: &str, text: &'t str, most: usize) -> Option<&'t str> {
    let fits = !text.is_empty() && text.chars().count() <= most;
    if !fits {
        fields.wrong(field, format_args!("must have 1 to {most} characters"));
    }
    fits.then_some(text)
}

fn output(fields: &mut Fields, message: Option<&OutputMessage>, extension: &str) -> Option<Output> {
    let message = message.cloned().unwrap_or_default();
    let sha256 = fields.take("output.asset", name::asset(&message.asset));
    let poster = match message.poster.as_str() {
        "" => Some(None),
        text => fields.take("output.poster", name::asset(text)).map(Some),
    };
    if message.size_bytes < 1 {
        fields.wrong("output.size_bytes", "must be more than 0");
    }
    if message.width < 0 || message.height < 0 {
        fields.wrong("output", "must not have a negative width or height");
    }
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if extension.is_empty() || extension.len() > 8 || !extension.chars().all(plain) {
        fields.wrong("extension", "must be a file ending without a dot, such as mp4");
    }
    let duration = message.duration.unwrap_or_default();
    sha256.zip(poster).map(|(sha256, poster)| Output {
        sha256,
        extension: extension.to_owned(),
        size_bytes: message.size_bytes,
        mime_type: message.mime_type,
        width: message.width,
        height: message.height,
        duration_ms: duration.seconds.saturating_mul(1_000).saturating_add(i64::from(duration.nanos) / 1_000_000),
        poster,
        poster_missing_reason: message.poster_missing_reason,
    })
}

fn fields_of_failure(fields: &mut Fields, request: &FailWorkRequest) -> Option<Lease> {
    let snake = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    if request.reason.len() > 64 || !request.reason.chars().all(snake) {
        fields.wrong("reason", "must be upper snake case of at most 64 characters, or empty");
    }
    lease(fields, "lease", request.lease.as_ref())
}

fn report(request: FailWorkRequest) -> Report {
    let class = match request.failure_class() {
        FailureClass::Unspecified | FailureClass::Internal => Class::Internal,
        FailureClass::Throttled => Class::Throttled,
        FailureClass::InvalidInput => Class::InvalidInput,
        FailureClass::Safety => Class::Safety,
        FailureClass::BadOutput => Class::BadOutput,
        FailureClass::Cancelled => Class::Cancelled,
    };
    let provider_charge = match request.provider_charge() {
        charge::ProviderCharge::Unspecified => None,
        charge::ProviderCharge::NotCharged => Some(ProviderCharge::NotCharged),
        charge::ProviderCharge::Charged => Some(ProviderCharge::Charged),
        charge::ProviderCharge::Unknown => Some(ProviderCharge::Unknown),
    };
    let retry_after = request.retry_after.and_then(|after| Duration::try_from(after).ok());
    Report {
        class,
        reason: request.reason,
        message: request.message.chars().take(TEXT).collect(),
        retry_after: retry_after.map(|after| after.min(PAUSE)),
        provider_charge,
    }
}
