//! The handlers of WorkService, for workers on the internal network.

use std::pin::Pin;
use std::time::Duration;

use catalogue::MediaKind;
use chassis::fields::Fields;
use domain::name;
use domain::provider::Provider;
use futures::Stream;
use jobs::Lease;
use proto::generations::v1 as generations;
use proto::work::v1 as api;
use proto::work::v1::work_service_server::WorkService;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use super::claims::ClaimStreams;
use super::key_names::parse_key;
use crate::costs::has_drifted;
use crate::error::Error;
use crate::live_catalogue::LiveCatalogue;
use crate::model::{
    Condition, Confirmation, FailureClass, FailureReport, Hint, Hinted, ModelCost, Moderation, Output, ProgressReport,
    ProviderCharge, Suspension, Trouble, Usage,
};
use crate::presenter::model_name;
use crate::work::Work;

/// How many leases one heartbeat may prolong.
const MAX_LEASES: usize = 1_000;
const MAX_STAGE_CHARACTERS: usize = 60;
/// Of a message, a reference or an event.
const MAX_TEXT_CHARACTERS: usize = 1_000;
/// Of a provider's name.
const MAX_NAME_CHARACTERS: usize = 60;
/// How many outputs one generation may have.
const MAX_OUTPUTS: usize = 16;
/// How many things an output may be flagged as.
const MAX_CATEGORIES: usize = 16;
/// The longest pause that a provider may ask for.
const MAX_PAUSE: Duration = Duration::from_secs(24 * 3600);

/// The service over its rules.
#[derive(Clone)]
pub(crate) struct WorkApi {
    pub(crate) work: Work,
    pub(crate) claims: ClaimStreams,
    pub(crate) catalogue: LiveCatalogue,
}

#[tonic::async_trait]
impl WorkService for WorkApi {
    type ClaimWorkStream = Pin<Box<dyn Stream<Item = Result<api::ClaimWorkResponse, Status>> + Send>>;

    async fn claim_work(
        &self,
        request: Request<Streaming<api::ClaimWorkRequest>>,
    ) -> Result<Response<Self::ClaimWorkStream>, Status> {
        Ok(Response::new(Box::pin(self.claims.serve(request.into_inner()).await?)))
    }

    async fn heartbeat(
        &self,
        request: Request<api::HeartbeatRequest>,
    ) -> Result<Response<api::HeartbeatResponse>, Status> {
        let request = request.into_inner();
        let mut fields = Fields::default();
        let asked = fields.bounded("leases", &request.leases, MAX_LEASES).iter().enumerate();
        let read = asked.filter_map(|(at, asked)| parse_lease(&mut fields, &format!("leases[{at}]"), Some(asked)));
        let leases: Vec<_> = read.collect();
        let statuses = self.work.heartbeat(&fields.done(Some(leases))?).await?;
        let statuses = statuses.into_iter().map(|status| api::heartbeat_response::LeaseStatus {
            job: status.lease.job.to_string(),
            held: status.held.is_some(),
            cancel_requested: status.held.is_some_and(|held| held.cancel_requested),
        });
        Ok(Response::new(api::HeartbeatResponse { statuses: statuses.collect() }))
    }

    async fn record_intent(
        &self,
        request: Request<api::RecordIntentRequest>,
    ) -> Result<Response<api::RecordIntentResponse>, Status> {
        let request = request.into_inner();
        let mut fields = Fields::default();
        let lease = parse_lease(&mut fields, "lease", request.lease.as_ref());
        let provider = parse_text(&mut fields, "provider", &request.provider, MAX_NAME_CHARACTERS);
        let key = parse_key(&mut fields, &request.provider_key);
        let ((lease, provider), key) = fields.done(lease.zip(provider).zip(key))?;
        self.work.record_intent(lease, provider, &key).await?;
        Ok(Response::new(api::RecordIntentResponse {}))
    }

    async fn suspend_work(
        &self,
        request: Request<api::SuspendWorkRequest>,
    ) -> Result<Response<api::SuspendWorkResponse>, Status> {
        let suspension = parse_suspend(&request.into_inner())?;
        self.work.suspend(&suspension).await?;
        Ok(Response::new(api::SuspendWorkResponse {}))
    }

    async fn hint_work(
        &self,
        request: Request<api::HintWorkRequest>,
    ) -> Result<Response<api::HintWorkResponse>, Status> {
        let request = request.into_inner();
        let mut fields = Fields::default();
        let provider = parse_text(&mut fields, "provider", &request.provider, MAX_NAME_CHARACTERS);
        let event = parse_text(&mut fields, "event", &request.event, MAX_TEXT_CHARACTERS);
        let job = fields.take("job", Uuid::try_parse(&request.job).map_err(|_| "must be the job's UUID"));
        let reference = match request.provider_reference.as_str() {
            "" => Some(None),
            given => parse_text(&mut fields, "provider_reference", given, MAX_TEXT_CHARACTERS).map(Some),
        };
        let (((provider, event), job), reference) = fields.done(provider.zip(event).zip(job).zip(reference))?;
        let confirmation = match request.confirmation() {
            api::hint_work_request::Confirmation::Unspecified => Confirmation::Impossible,
            api::hint_work_request::Confirmation::NotAsked => Confirmation::NotAsked,
            api::hint_work_request::Confirmation::Confirmed => Confirmation::Confirmed,
        };
        let hint = Hint { provider, event, job, reference, confirmation };
        let Hinted { awaited, traceparent, confirm_at_model, key: provider_key, .. } = self.work.hint(hint).await?;
        let confirm_at_model = confirm_at_model.unwrap_or_default();
        Ok(Response::new(api::HintWorkResponse { awaited, traceparent, confirm_at_model, provider_key }))
    }

    async fn record_submission(
        &self,
        request: Request<api::RecordSubmissionRequest>,
    ) -> Result<Response<api::RecordSubmissionResponse>, Status> {
        let request = request.into_inner();
        let mut fields = Fields::default();
        let lease = parse_lease(&mut fields, "lease", request.lease.as_ref());
        let reference = parse_text(&mut fields, "provider_reference", &request.provider_reference, MAX_TEXT_CHARACTERS);
        let (lease, reference) = fields.done(lease.zip(reference))?;
        self.work.record_submission(lease, reference).await?;
        Ok(Response::new(api::RecordSubmissionResponse {}))
    }

    async fn report_progress(
        &self,
        request: Request<api::ReportProgressRequest>,
    ) -> Result<Response<api::ReportProgressResponse>, Status> {
        let request = request.into_inner();
        let mut fields = Fields::default();
        let lease = parse_lease(&mut fields, "lease", request.lease.as_ref());
        let percent = i16::try_from(request.percent).ok().filter(|percent| (0..=100).contains(percent));
        if percent.is_none() {
            fields.wrong("percent", "must be 0 to 100");
        }
        let stage = clean_stage(&request.stage);
        let (lease, percent) = fields.done(lease.zip(percent))?;
        let report = ProgressReport { lease, percent, stage };
        let cancel_requested = if request.finalizing {
            self.work.begin_finalizing(&report).await?;
            false
        } else {
            self.work.report_progress(report).await?
        };
        Ok(Response::new(api::ReportProgressResponse { cancel_requested }))
    }

    async fn complete_work(
        &self,
        request: Request<api::CompleteWorkRequest>,
    ) -> Result<Response<api::CompleteWorkResponse>, Status> {
        let request = request.into_inner();
        let mut fields = Fields::default();
        let lease = parse_lease(&mut fields, "lease", request.lease.as_ref());
        let outputs = parse_outputs(&mut fields, &request.outputs);
        let usage = parse_usage(&mut fields, &request.usage.clone().unwrap_or_default());
        let (lease, outputs) = fields.done(lease.zip(outputs))?;
        self.work.complete(lease, &outputs, &usage).await?;
        Ok(Response::new(api::CompleteWorkResponse {}))
    }

    async fn fail_work(
        &self,
        request: Request<api::FailWorkRequest>,
    ) -> Result<Response<api::FailWorkResponse>, Status> {
        let (lease, report) = parse_fail(request.into_inner())?;
        let will_retry = self.work.fail(lease, report).await?;
        Ok(Response::new(api::FailWorkResponse { will_retry }))
    }

    async fn list_remote_models(
        &self,
        _: Request<api::ListRemoteModelsRequest>,
    ) -> Result<Response<api::ListRemoteModelsResponse>, Status> {
        let models = self.catalogue.current();
        let remote = models.all().iter().filter(|model| model.provider != Provider::Local);
        // Which models there are is known without the database.
        let costs = self.work.provider_costs().await.unwrap_or_else(|error| {
            tracing::debug!(error = &error as &dyn std::error::Error, "what models cost cannot be read");
            Vec::new()
        });
        let models = remote.map(|model| api::RemoteModel {
            model: model_name(&model.id),
            provider: model.provider.as_str().to_owned(),
            remote_name: model.remote_name.clone(),
            cost: costs.iter().find(|cost| cost.model == model.id).map(cost_to_proto),
        });
        Ok(Response::new(api::ListRemoteModelsResponse { models: models.collect() }))
    }

    async fn release_work(
        &self,
        request: Request<api::ReleaseWorkRequest>,
    ) -> Result<Response<api::ReleaseWorkResponse>, Status> {
        let request = request.into_inner();
        let mut fields = Fields::default();
        let lease = parse_lease(&mut fields, "lease", request.lease.as_ref());
        self.work.release(fields.done(lease)?).await?;
        Ok(Response::new(api::ReleaseWorkResponse {}))
    }
}

fn parse_suspend(request: &api::SuspendWorkRequest) -> Result<Suspension, Error> {
    let mut fields = Fields::default();
    let lease = parse_lease(&mut fields, "lease", request.lease.as_ref());
    let percent = request.percent.map(|percent| i16::try_from(percent).unwrap_or(-1));
    if percent.is_some_and(|percent| !(0..=100).contains(&percent)) {
        fields.wrong("percent", "must be 0 to 100, or unset");
    }
    if request.queue_position < 0 {
        fields.wrong("queue_position", "must not be negative");
    }
    let poll_after = request.poll_after.map(|after| Duration::try_from(after).unwrap_or_default().min(MAX_PAUSE));
    if poll_after.is_none() && !request.unconfirmed {
        fields.wrong("poll_after", "must be set where there is an order to poll at");
    }
    let key = parse_key(&mut fields, &request.provider_key);
    let (lease, key) = fields.done(lease.zip(key))?;
    Ok(Suspension {
        lease,
        key,
        poll_after,
        unconfirmed: request.unconfirmed,
        percent,
        stage: clean_stage(&request.stage),
        queue_position: request.queue_position,
        trouble: match request.trouble() {
            api::Trouble::Unspecified => None,
            api::Trouble::Poll => Some(Trouble::Poll),
            api::Trouble::Order => Some(Trouble::Order),
            api::Trouble::Output => Some(Trouble::Output),
            api::Trouble::Storage => Some(Trouble::Storage),
        },
        condition: parse_condition(request.provider_condition()),
        message: request.message.chars().take(MAX_TEXT_CHARACTERS).collect(),
    })
}

fn parse_condition(condition: api::ProviderCondition) -> Option<Condition> {
    match condition {
        api::ProviderCondition::Unspecified => None,
        api::ProviderCondition::AccountRefused => Some(Condition::AccountRefused),
        api::ProviderCondition::Outage => Some(Condition::Outage),
        api::ProviderCondition::Misconfigured => Some(Condition::Misconfigured),
    }
}

fn cost_to_proto(cost: &ModelCost) -> api::ModelCost {
    api::ModelCost {
        expected_micros: cost.expected_micros,
        cost_micros: cost.cost_micros,
        outputs: cost.outputs,
        drifted: has_drifted(cost),
    }
}

fn clean_stage(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_STAGE_CHARACTERS).collect()
}

fn parse_lease(fields: &mut Fields, field: &str, message: Option<&api::Lease>) -> Option<Lease> {
    let message = message.cloned().unwrap_or_default();
    let job = fields.take(format!("{field}.job"), Uuid::try_parse(&message.job).map_err(|_| "must be the job's UUID"));
    if message.fence < 1 {
        fields.wrong(format!("{field}.fence"), "must be the fence that came with the lease");
    }
    job.map(|job| Lease { job, fence: message.fence })
}

fn parse_text<'t>(fields: &mut Fields, field: &str, text: &'t str, max: usize) -> Option<&'t str> {
    let fits = !text.is_empty() && text.chars().count() <= max;
    if !fits {
        fields.wrong(field, format_args!("must have 1 to {max} characters"));
    }
    fits.then_some(text)
}

fn parse_outputs(fields: &mut Fields, made: &[api::MadeOutput]) -> Option<Vec<Output>> {
    if made.is_empty() || made.len() > MAX_OUTPUTS {
        fields.wrong("outputs", format_args!("must have 1 to {MAX_OUTPUTS}"));
        return None;
    }
    let read = made.iter().enumerate().map(|(at, made)| parse_output(fields, &format!("outputs[{at}]"), made));
    read.collect()
}

fn parse_usage(fields: &mut Fields, usage: &api::Usage) -> Usage {
    let run_ms = usage.run_time.map(|time| Duration::try_from(time).unwrap_or_default());
    if usage.provider_cost_micros.is_some_and(|cost| cost < 0) {
        fields.wrong("usage.provider_cost_micros", "must not be negative");
    }
    Usage {
        run_ms: run_ms.map(|time| i64::try_from(time.as_millis()).unwrap_or(i64::MAX)),
        provider_cost_micros: usage.provider_cost_micros,
        provider_units: usage.provider_units.chars().take(MAX_NAME_CHARACTERS).collect(),
    }
}

fn parse_output(fields: &mut Fields, field: &str, made: &api::MadeOutput) -> Option<Output> {
    let (message, extension) = (made.output.clone().unwrap_or_default(), &made.extension);
    let sha256 = fields.take(format!("{field}.output.asset"), name::asset(&message.asset));
    let poster = match message.poster.as_str() {
        "" => Some(None),
        text => fields.take(format!("{field}.output.poster"), name::asset(text)).map(Some),
    };
    if message.size_bytes < 1 {
        fields.wrong(format!("{field}.output.size_bytes"), "must be more than 0");
    }
    if message.width < 0 || message.height < 0 {
        fields.wrong(format!("{field}.output"), "must not have a negative width or height");
    }
    if MediaKind::of(&message.mime_type).is_none() {
        fields
            .wrong(format!("{field}.output.mime_type"), "must be of a video, a picture or a sound, such as video/mp4");
    }
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if extension.is_empty() || extension.len() > 8 || !extension.chars().all(plain) {
        fields.wrong(format!("{field}.extension"), "must be a file ending without a dot, such as mp4");
    }
    let duration = message.duration.unwrap_or_default();
    let moderation = message.moderation.map(|said| Moderation {
        provider: said.provider.chars().take(MAX_NAME_CHARACTERS).collect(),
        flagged: said.flagged,
        categories: said.categories.iter().take(MAX_CATEGORIES).map(|category| clean_stage(category)).collect(),
        effect: clean_stage(&said.effect),
    });
    sha256.zip(poster).map(|(sha256, poster)| Output {
        sha256,
        extension: extension.clone(),
        size_bytes: message.size_bytes,
        mime_type: message.mime_type,
        width: message.width,
        height: message.height,
        duration_ms: duration.seconds.saturating_mul(1_000).saturating_add(i64::from(duration.nanos) / 1_000_000),
        poster,
        poster_missing_reason: message.poster_missing_reason,
        moderation,
        // Known from its asset, and not from the worker.
        pictures: None,
    })
}

fn parse_fail(request: api::FailWorkRequest) -> Result<(Lease, FailureReport), Error> {
    let mut fields = Fields::default();
    let snake = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    if request.reason.len() > 64 || !request.reason.chars().all(snake) {
        fields.wrong("reason", "must be upper snake case of at most 64 characters, or empty");
    }
    let lease = parse_lease(&mut fields, "lease", request.lease.as_ref());
    let key = parse_key(&mut fields, &request.provider_key);
    let (lease, key) = fields.done(lease.zip(key))?;
    let class = match request.failure_class() {
        api::FailureClass::Unspecified | api::FailureClass::Internal => FailureClass::Internal,
        api::FailureClass::Throttled => FailureClass::Throttled,
        api::FailureClass::InvalidInput => FailureClass::InvalidInput,
        api::FailureClass::Safety => FailureClass::Safety,
        api::FailureClass::BadOutput => FailureClass::BadOutput,
        api::FailureClass::Cancelled => FailureClass::Cancelled,
        api::FailureClass::Unavailable => FailureClass::Unavailable,
        api::FailureClass::Final => FailureClass::Final,
    };
    let provider_charge = match request.provider_charge() {
        generations::charge::ProviderCharge::Unspecified => None,
        generations::charge::ProviderCharge::NotCharged => Some(ProviderCharge::NotCharged),
        generations::charge::ProviderCharge::Charged => Some(ProviderCharge::Charged),
        generations::charge::ProviderCharge::Unknown => Some(ProviderCharge::Unknown),
    };
    let retry_after = request.retry_after.and_then(|after| Duration::try_from(after).ok());
    let condition = parse_condition(request.provider_condition());
    let report = FailureReport {
        class,
        detail: request.detail.chars().take(MAX_TEXT_CHARACTERS).collect(),
        condition,
        key,
        reason: request.reason,
        message: request.message.chars().take(MAX_TEXT_CHARACTERS).collect(),
        retry_after: retry_after.map(|after| after.min(MAX_PAUSE)),
        provider_charge,
    };
    Ok((lease, report))
}
