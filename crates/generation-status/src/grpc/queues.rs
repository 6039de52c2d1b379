//! QueueService: for operators, across accounts.

use std::collections::BTreeMap;
use std::time::Duration;

use chassis::caller::Caller;
use domain::id::{AccountId, GenerationId};
use domain::page;
use jobs::{DeadLetter as Letter, PausedQueue, Share};
use proto::generations::v1::Generation;
use proto::queues::v1::queue_service_server::QueueService;
use proto::queues::v1::{
    AccountStats, DeadLetter, GetQueueStatsRequest, GetQueueStatsResponse, ListDeadLettersRequest,
    ListDeadLettersResponse, Pause, PauseQueueRequest, PauseQueueResponse, QueueStats, RequeueDeadLetterRequest,
    ResumeQueueRequest, ResumeQueueResponse, SetAccountRunningLimitRequest, SetAccountRunningLimitResponse,
    SetAccountWeightRequest, SetAccountWeightResponse,
};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::fields::Fields;
use crate::queues::{Queues, Stats};
use crate::wire::{Face, model_name, timestamp};

/// What an account's weight may be.
const WEIGHTS: std::ops::RangeInclusive<f64> = 0.01..=100.0;
/// The most that an account's running limit may be.
const RUNNING: i32 = 1_000_000;
/// What page tokens of the dead letters are for.
const LETTERS: &str = "deadLetters";
/// Dead letters are no account's listing.
const NOBODY: AccountId = AccountId(Uuid::nil());

/// The service over its rules.
#[derive(Clone)]
pub(crate) struct QueuesApi {
    pub(crate) queues: Queues,
    pub(crate) face: Face,
}

#[tonic::async_trait]
impl QueueService for QueuesApi {
    async fn get_queue_stats(
        &self,
        request: Request<GetQueueStatsRequest>,
    ) -> Result<Response<GetQueueStatsResponse>, Status> {
        let mut fields = Fields::default();
        let accounts = fields.take("accounts", page::size(request.into_inner().accounts));
        let stats = self.queues.stats(fields.done(accounts)?.into()).await?;
        Ok(Response::new(numbers(stats)))
    }

    async fn pause_queue(&self, request: Request<PauseQueueRequest>) -> Result<Response<PauseQueueResponse>, Status> {
        let by = by(&request);
        let request = request.into_inner();
        let mut fields = Fields::default();
        let model = which(&mut fields, &request.model);
        let note = fields.note(&request.note);
        let (model, note) = fields.done(model.zip(note))?;
        self.queues.pause(&model, &(by + &note)).await?;
        Ok(Response::new(PauseQueueResponse {}))
    }

    async fn resume_queue(
        &self,
        request: Request<ResumeQueueRequest>,
    ) -> Result<Response<ResumeQueueResponse>, Status> {
        let mut fields = Fields::default();
        let model = which(&mut fields, &request.into_inner().model);
        let resumed = self.queues.resume(&fields.done(model)?).await?;
        Ok(Response::new(ResumeQueueResponse { resumed }))
    }

    async fn list_dead_letters(
        &self,
        request: Request<ListDeadLettersRequest>,
    ) -> Result<Response<ListDeadLettersResponse>, Status> {
        let request = request.into_inner();
        let mut fields = Fields::default();
        let page = fields.page(NOBODY, LETTERS, request.page_size, &request.page_token);
        let (letters, next) = self.queues.dead_letters(fields.done(page)?).await?;
        Ok(Response::new(ListDeadLettersResponse {
            dead_letters: letters.into_iter().map(letter).collect(),
            next_page_token: next.map(|cursor| page::token(NOBODY, LETTERS, cursor)).unwrap_or_default(),
        }))
    }

    async fn requeue_dead_letter(
        &self,
        request: Request<RequeueDeadLetterRequest>,
    ) -> Result<Response<Generation>, Status> {
        let by = by(&request);
        let request = request.into_inner();
        let mut fields = Fields::default();
        let id = fields.take("generation", GenerationId::from_name(&request.generation));
        let note = fields.note(&request.note);
        let request_id = fields.request_id(&request.request_id);
        let ((id, note), request_id) = fields.done(id.zip(note).zip(request_id))?;
        let record = self.queues.requeue(id, request_id, &(by + &note)).await?;
        Ok(Response::new(self.face.generation(&record)))
    }

    async fn set_account_weight(
        &self,
        request: Request<SetAccountWeightRequest>,
    ) -> Result<Response<SetAccountWeightResponse>, Status> {
        let request = request.into_inner();
        let mut fields = Fields::default();
        let account = fields.take("account", AccountId::from_name(&request.account));
        if !WEIGHTS.contains(&request.weight) {
            fields.wrong("weight", format_args!("must be {} to {}", WEIGHTS.start(), WEIGHTS.end()));
        }
        self.queues.set_weight(fields.done(account)?, request.weight).await?;
        Ok(Response::new(SetAccountWeightResponse {}))
    }

    async fn set_account_running_limit(
        &self,
        request: Request<SetAccountRunningLimitRequest>,
    ) -> Result<Response<SetAccountRunningLimitResponse>, Status> {
        let request = request.into_inner();
        let mut fields = Fields::default();
        let account = fields.take("account", AccountId::from_name(&request.account));
        if request.limit.is_some_and(|limit| !(0..=RUNNING).contains(&limit)) {
            fields.wrong("limit", format_args!("must be 0 to {RUNNING}, or unset"));
        }
        self.queues.set_running_limit(fields.done(account)?, request.limit).await?;
        Ok(Response::new(SetAccountRunningLimitResponse {}))
    }
}

/// Whose key it was, where the call came through the gateway: a note can say anything.
fn by<T>(request: &Request<T>) -> String {
    Caller::of(request).map(|caller| format!("accounts/{}: ", caller.account)).unwrap_or_default()
}

/// The model meant, or an empty name for all.
fn which(fields: &mut Fields, model: &str) -> Option<String> {
    if model.is_empty() { Some(String::new()) } else { fields.model("model", model) }
}

fn numbers(stats: Stats) -> GetQueueStatsResponse {
    let mut paused: BTreeMap<_, _> = stats.paused.into_iter().map(|paused| (paused.queue.clone(), paused)).collect();
    let all = paused.remove("").map(pause);
    let mut queues: BTreeMap<_, _> = stats
        .depths
        .into_iter()
        .map(|depth| {
            let stats = QueueStats {
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
        let stats = QueueStats { model: model_name(&model), ..QueueStats::default() };
        queues.entry(model).or_insert(stats).pause = Some(pause(paused));
    }
    GetQueueStatsResponse {
        queues: queues.into_values().collect(),
        accounts: stats.shares.iter().map(share).collect(),
        pause: all,
    }
}

fn share(share: &Share) -> AccountStats {
    AccountStats {
        account: AccountId(share.account).name(),
        queued: share.queued,
        running: share.running,
        oldest: Some(duration(share.oldest)),
        weight: share.weight,
        running_limit: share.running_limit,
    }
}

fn pause(paused: PausedQueue) -> Pause {
    Pause { pause_time: Some(timestamp(paused.pause_time)), note: paused.note }
}

fn letter(letter: Letter) -> DeadLetter {
    DeadLetter {
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
