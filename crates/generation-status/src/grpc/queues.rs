//! The handlers of QueueService, for operators, across accounts.

use std::collections::BTreeMap;
use std::time::Duration;

use chassis::fields::Fields;
use chassis::request::{actor::Actor, caller::Caller};
use domain::id::{AccountId, GenerationId};
use domain::page;
use jobs::{DeadLetter, PausedQueue, Share};
use proto::queues::v1 as api;
use proto::queues::v1::queue_service_server::QueueService;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::bulk::{page_to_proto, parse_requeue_many, parse_resolve_many};
use super::fields::{parse_model, parse_note};
use crate::bulk::Bulk;
use crate::error::Error;
use crate::model::QueueStats;
use crate::pages::Pages;
use crate::presenter::{Presenter, model_name, timestamp};
use crate::queues::Queues;

/// The range of an account's weight.
const WEIGHTS: std::ops::RangeInclusive<f64> = 0.01..=100.0;
const MAX_RUNNING_LIMIT: i32 = 1_000_000;
/// The listing that page tokens of dead letters belong to.
const DEAD_LETTERS: &str = "deadLetters";
/// The listing of dead letters belongs to no account.
const NO_ACCOUNT: AccountId = AccountId(Uuid::nil());

/// The service over its rules.
#[derive(Clone)]
pub(crate) struct QueuesApi {
    pub(crate) queues: Queues,
    pub(crate) bulk: Bulk,
    pub(crate) presenter: Presenter,
    pub(crate) pages: Pages,
}

#[tonic::async_trait]
impl QueueService for QueuesApi {
    async fn get_queue_stats(
        &self,
        request: Request<api::GetQueueStatsRequest>,
    ) -> Result<Response<api::GetQueueStatsResponse>, Status> {
        let mut fields = Fields::default();
        let accounts = fields.take("accounts", page::size(request.into_inner().accounts));
        let stats = self.queues.stats(fields.done(accounts)?.into()).await?;
        Ok(Response::new(stats_to_proto(stats)))
    }

    async fn pause_queue(
        &self,
        request: Request<api::PauseQueueRequest>,
    ) -> Result<Response<api::PauseQueueResponse>, Status> {
        let caller = caller_prefix(&request);
        let (model, note) = parse_pause(request.get_ref())?;
        self.queues.pause(&model, &(caller + &note), &Actor::of(&request)).await?;
        Ok(Response::new(api::PauseQueueResponse {}))
    }

    async fn resume_queue(
        &self,
        request: Request<api::ResumeQueueRequest>,
    ) -> Result<Response<api::ResumeQueueResponse>, Status> {
        let mut fields = Fields::default();
        let model = parse_model_or_all(&mut fields, &request.get_ref().model);
        let resumed = self.queues.resume(&fields.done(model)?, &Actor::of(&request)).await?;
        Ok(Response::new(api::ResumeQueueResponse { resumed }))
    }

    async fn list_dead_letters(
        &self,
        request: Request<api::ListDeadLettersRequest>,
    ) -> Result<Response<api::ListDeadLettersResponse>, Status> {
        let request = request.into_inner();
        let mut fields = Fields::default();
        let page = self.pages.parse(&mut fields, NO_ACCOUNT, DEAD_LETTERS, request.page_size, &request.page_token);
        let (letters, next) = self.queues.dead_letters(fields.done(page)?).await?;
        Ok(Response::new(api::ListDeadLettersResponse {
            dead_letters: letters.into_iter().map(dead_letter_to_proto).collect(),
            next_page_token: self.pages.token(NO_ACCOUNT, DEAD_LETTERS, next),
        }))
    }

    async fn requeue_dead_letter(
        &self,
        request: Request<api::RequeueDeadLetterRequest>,
    ) -> Result<Response<proto::generations::v1::Generation>, Status> {
        let caller = caller_prefix(&request);
        let (id, note, request_id) = parse_requeue(request.get_ref())?;
        let generation = self.queues.requeue(id, request_id, &(caller + &note), &Actor::of(&request)).await?;
        Ok(Response::new(self.presenter.generation(&generation)))
    }

    async fn bulk_requeue_dead_letters(
        &self,
        request: Request<api::BulkRequeueDeadLettersRequest>,
    ) -> Result<Response<api::BulkRequeueDeadLettersResponse>, Status> {
        let caller = caller_prefix(&request);
        let many = parse_requeue_many(&self.pages, request.get_ref())?;
        let note = many.note.map(|note| caller + &note);
        let page = self.bulk.requeue(&many.filter, note.as_deref(), many.page, &Actor::of(&request)).await?;
        let (results, next_page_token, before) = page_to_proto(&self.pages, "deadLetters", &many.filter, page);
        let before_time = Some(before);
        Ok(Response::new(api::BulkRequeueDeadLettersResponse { results, next_page_token, before_time }))
    }

    async fn bulk_resolve_generations(
        &self,
        request: Request<api::BulkResolveGenerationsRequest>,
    ) -> Result<Response<api::BulkResolveGenerationsResponse>, Status> {
        let caller = caller_prefix(&request);
        let many = parse_resolve_many(&self.pages, request.get_ref())?;
        let resolution = many.resolution.map(|(resolution, note)| (resolution, caller + &note));
        let resolution = resolution.as_ref().map(|(resolution, note)| (resolution, note.as_str()));
        let actor = Actor::of(&request);
        let page = self.bulk.resolve(&many.filter, many.stuck, resolution, many.page, &actor).await?;
        let (results, next_page_token, before) = page_to_proto(&self.pages, "stuck", &many.filter, page);
        let before_time = Some(before);
        Ok(Response::new(api::BulkResolveGenerationsResponse { results, next_page_token, before_time }))
    }

    async fn set_account_weight(
        &self,
        request: Request<api::SetAccountWeightRequest>,
    ) -> Result<Response<api::SetAccountWeightResponse>, Status> {
        let (actor, request) = (Actor::of(&request), request.into_inner());
        let mut fields = Fields::default();
        let account = fields.take("account", AccountId::from_name(&request.account));
        if !WEIGHTS.contains(&request.weight) {
            fields.wrong("weight", format_args!("must be {} to {}", WEIGHTS.start(), WEIGHTS.end()));
        }
        self.queues.set_weight(fields.done(account)?, request.weight, &actor).await?;
        Ok(Response::new(api::SetAccountWeightResponse {}))
    }

    async fn set_account_running_limit(
        &self,
        request: Request<api::SetAccountRunningLimitRequest>,
    ) -> Result<Response<api::SetAccountRunningLimitResponse>, Status> {
        let (actor, request) = (Actor::of(&request), request.into_inner());
        let mut fields = Fields::default();
        let account = fields.take("account", AccountId::from_name(&request.account));
        if request.limit.is_some_and(|limit| !(0..=MAX_RUNNING_LIMIT).contains(&limit)) {
            fields.wrong("limit", format_args!("must be 0 to {MAX_RUNNING_LIMIT}, or unset"));
        }
        self.queues.set_running_limit(fields.done(account)?, request.limit, &actor).await?;
        Ok(Response::new(api::SetAccountRunningLimitResponse {}))
    }
}

/// The caller's account as a prefix of the note, where the call came through the gateway: a note can claim to be anybody's.
fn caller_prefix<T>(request: &Request<T>) -> String {
    Caller::of(request).map(|caller| format!("accounts/{}: ", caller.account)).unwrap_or_default()
}

fn parse_pause(request: &api::PauseQueueRequest) -> Result<(String, String), Error> {
    let mut fields = Fields::default();
    let model = parse_model_or_all(&mut fields, &request.model);
    let note = parse_note(&mut fields, &request.note);
    Ok(fields.done(model.zip(note))?)
}

fn parse_requeue(request: &api::RequeueDeadLetterRequest) -> Result<(GenerationId, String, Uuid), Error> {
    let mut fields = Fields::default();
    let id = fields.take("generation", GenerationId::from_name(&request.generation));
    let note = parse_note(&mut fields, &request.note);
    let request_id = fields.required_request_id(&request.request_id);
    let ((id, note), request_id) = fields.done(id.zip(note).zip(request_id))?;
    Ok((id, note, request_id))
}

/// A model's id; an empty name, which means all, stays empty.
fn parse_model_or_all(fields: &mut Fields, model: &str) -> Option<String> {
    if model.is_empty() { Some(String::new()) } else { fields.take("model", parse_model(model)) }
}

fn stats_to_proto(stats: QueueStats) -> api::GetQueueStatsResponse {
    let mut paused: BTreeMap<_, _> = stats.paused.into_iter().map(|paused| (paused.queue.clone(), paused)).collect();
    let all = paused.remove("").map(pause_to_proto);
    let mut queues: BTreeMap<_, _> = stats
        .depths
        .into_iter()
        .map(|depth| {
            let stats = api::QueueStats {
                model: model_name(&depth.queue),
                ready: depth.ready,
                delayed: depth.delayed,
                leased: depth.leased,
                waiting: depth.waiting,
                dead: depth.dead,
                oldest: Some(duration(depth.oldest)),
                pause: None,
            };
            (depth.queue, stats)
        })
        .collect();
    for (model, paused) in paused {
        let stats = api::QueueStats { model: model_name(&model), ..api::QueueStats::default() };
        queues.entry(model).or_insert(stats).pause = Some(pause_to_proto(paused));
    }
    api::GetQueueStatsResponse {
        queues: queues.into_values().collect(),
        accounts: stats.shares.iter().map(share_to_proto).collect(),
        pause: all,
    }
}

fn share_to_proto(share: &Share) -> api::AccountStats {
    api::AccountStats {
        account: AccountId(share.account).name(),
        queued: share.queued,
        running: share.running,
        oldest: Some(duration(share.oldest)),
        weight: share.weight,
        running_limit: share.running_limit,
    }
}

fn pause_to_proto(paused: PausedQueue) -> api::Pause {
    api::Pause { pause_time: Some(timestamp(paused.pause_time)), note: paused.note }
}

fn dead_letter_to_proto(letter: DeadLetter) -> api::DeadLetter {
    api::DeadLetter {
        generation: GenerationId(letter.job).name(),
        account: AccountId(letter.account).name(),
        model: model_name(&letter.queue),
        cause: letter.cause.unwrap_or_default(),
        detail: letter.detail.unwrap_or_default(),
        attempt_count: letter.attempt,
        claim_count: letter.claims,
        create_time: Some(timestamp(letter.created_at)),
        end_time: letter.finished_at.map(timestamp),
    }
}

fn duration(time: Duration) -> prost_types::Duration {
    prost_types::Duration::try_from(time).unwrap_or_default()
}
