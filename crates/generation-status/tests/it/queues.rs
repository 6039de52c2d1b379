//! What operators do: pauses, numbers, dead letters, shares.

use std::time::Duration;

use chassis::request::caller::Caller;
use proto::generations::v1::start_generation_request::Priority;
use proto::generations::v1::{
    BatchGetGenerationsRequest, Generation, ListGenerationsRequest, StartGenerationRequest, State, WaitReason,
};
use proto::queues::v1::{
    GetQueueStatsRequest, GetQueueStatsResponse, ListDeadLettersRequest, ListDeadLettersResponse, PauseQueueRequest,
    RequeueDeadLetterRequest, ResumeQueueRequest, SetAccountRunningLimitRequest, SetAccountWeightRequest,
};
use proto::work::v1::FailureClass;
use testkit::eventually;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::cluster::{Cluster, PRICE, User, refusal};
use crate::watches::{Watch, named};
use crate::worker::Worker;

const MODEL: &str = "models/local-sketch";

pub(crate) async fn quick() -> Cluster {
    Cluster::with(|config| config.work.reap_interval = Duration::from_millis(50)).await
}

pub(crate) async fn pause(cluster: &Cluster, model: &str, note: &str) -> Result<(), Status> {
    let request = PauseQueueRequest { model: model.to_owned(), note: note.to_owned() };
    cluster.node.queues.clone().pause_queue(request).await.map(drop)
}

pub(crate) async fn resume(cluster: &Cluster, model: &str) -> bool {
    let request = ResumeQueueRequest { model: model.to_owned() };
    cluster.node.queues.clone().resume_queue(request).await.unwrap().into_inner().resumed
}

async fn stats(cluster: &Cluster, accounts: i32) -> GetQueueStatsResponse {
    cluster.node.queues.clone().get_queue_stats(GetQueueStatsRequest { accounts }).await.unwrap().into_inner()
}

async fn letters(cluster: &Cluster, page_size: i32, token: &str) -> Result<ListDeadLettersResponse, Status> {
    let request = ListDeadLettersRequest { page_size, page_token: token.to_owned() };
    Ok(cluster.node.queues.clone().list_dead_letters(request).await?.into_inner())
}

pub(crate) async fn requeue(cluster: &Cluster, name: &str, request_id: Uuid) -> Result<Generation, Status> {
    let mut request = Request::new(RequeueDeadLetterRequest {
        generation: name.to_owned(),
        note: "ada: the workers are back".to_owned(),
        request_id: request_id.to_string(),
    });
    Caller::account(Uuid::nil()).attach(&mut request);
    Ok(cluster.node.queues.clone().requeue_dead_letter(request).await?.into_inner())
}

/// A generation that nobody took in time.
pub(crate) async fn expired(cluster: &Cluster, user: &User) -> String {
    let name = cluster.started(user).await.name;
    sqlx::query("update jobs set deadline_at = now() where id = $1::uuid")
        .bind(name.trim_start_matches("generations/"))
        .execute(&cluster.pool)
        .await
        .unwrap();
    let over = async || cluster.get(user, &name).await.ok().filter(|generation| generation.state() == State::Expired);
    eventually("EXPIRED", Duration::from_secs(20), over).await.unwrap();
    name
}

/// Whether the front of the queue, asked by its own statement, gives nothing out.
async fn nothing_is_given(cluster: &Cluster) -> bool {
    let mut connection = cluster.pool.acquire().await.unwrap();
    let mut tx = sqlx::Connection::begin(&mut *connection).await.unwrap();
    let queues = ["local-sketch".to_owned()];
    let wanted = jobs::ClaimRequest {
        kind: "generation",
        queues: &queues,
        worker: "probe",
        limit: 1,
        lease: Duration::from_secs(30),
        limits: Some(jobs::Limits { account: cluster.config.generations.account_running }),
    };
    let given = jobs::claim(&mut tx, wanted).await.unwrap();
    tx.rollback().await.unwrap();
    given.is_empty()
}

#[tokio::test]
async fn a_pause_stops_claims_and_running_work_goes_on() {
    let cluster = Cluster::new().await;
    let user = cluster.user(3).await;
    cluster.started(&user).await;
    let mut worker = Worker::new(&cluster, 1).await;
    let running = worker.next().await;
    for model in [MODEL, ""] {
        pause(&cluster, model, "ada: the provider is down").await.unwrap();
        pause(&cluster, model, "ada: the provider is still down").await.unwrap();
        let waiting = cluster.started(&user).await;
        assert!(nothing_is_given(&cluster).await, "{model} is paused");
        let stats = stats(&cluster, 0).await;
        let note = if model.is_empty() { stats.pause } else { stats.queues[0].pause.clone() };
        assert_eq!(note.unwrap().note, "ada: the provider is still down");
        assert!(resume(&cluster, model).await);
        assert!(!resume(&cluster, model).await, "it is over");
        assert!(!nothing_is_given(&cluster).await, "{model} goes on");
        worker.free(1).await;
        let work = worker.next().await;
        assert_eq!(work.generation, waiting.name);
        worker.carry_out(&work).await;
    }
    worker.carry_out(&running).await;
    assert!(!resume(&cluster, "models/other").await);
    for (model, note) in [("local-sketch", "ada"), ("", ""), ("", "  "), ("", "two\nlines")] {
        assert_eq!(refusal(pause(&cluster, model, note).await).0, Code::InvalidArgument, "{model:?} {note:?}");
    }
}

#[tokio::test]
async fn statistics_are_by_model_and_by_account() {
    let cluster = Cluster::new().await;
    let (many, few) = (cluster.user(5).await, cluster.user(1).await);
    for _ in 0..5 {
        cluster.started(&many).await;
    }
    cluster.started(&few).await;
    let mut worker = Worker::new(&cluster, 1).await;
    let work = worker.next().await;
    let weight = SetAccountWeightRequest { account: format!("accounts/{}", few.account), weight: 2.5 };
    cluster.node.queues.clone().set_account_weight(weight.clone()).await.unwrap();

    let stats = stats(&cluster, 0).await;
    let queue = &stats.queues[0];
    assert_eq!((queue.model.as_str(), queue.ready, queue.leased, queue.dead), (MODEL, 5, 1, 0));
    assert!(queue.oldest.is_some() && stats.pause.is_none());
    let all: Vec<_> = stats.accounts.iter().map(|a| (a.account.as_str(), a.queued + a.running, a.weight)).collect();
    let (larger, smaller) = (format!("accounts/{}", many.account), format!("accounts/{}", few.account));
    assert_eq!(all, [(larger.as_str(), 5, 1.0), (smaller.as_str(), 1, 2.5)]);
    let one = self::stats(&cluster, 1).await;
    assert_eq!(one.accounts.len(), 1);

    for (account, weight) in [("x", 1.0), (larger.as_str(), 0.0), (larger.as_str(), f64::NAN), (larger.as_str(), 1e9)] {
        let request = SetAccountWeightRequest { account: account.to_owned(), weight };
        let answer = cluster.node.queues.clone().set_account_weight(request).await;
        assert_eq!(refusal(answer).0, Code::InvalidArgument, "{account} {weight}");
    }
    let nobody = SetAccountWeightRequest { account: format!("accounts/{}", Uuid::now_v7()), weight: 1.0 };
    let answer = cluster.node.queues.clone().set_account_weight(nobody).await;
    assert_eq!(refusal(answer), (Code::NotFound, "ACCOUNT_NOT_FOUND".to_owned()));
    worker.carry_out(&work).await;
}

#[tokio::test]
async fn a_dead_letter_is_requeued_once_and_only_when_its_price_is_held() {
    let cluster = quick().await;
    let user = cluster.user(1).await;
    let name = expired(&cluster, &user).await;
    let gone = (Code::NotFound, "DEAD_LETTER_NOT_FOUND".to_owned());

    // What it cost went back and is spent on something else: nothing is requeued, and the letter stays.
    let other = cluster.started(&user).await;
    let poor = refusal(requeue(&cluster, &name, Uuid::now_v7()).await);
    assert_eq!(poor, (Code::FailedPrecondition, "INSUFFICIENT_CREDIT".to_owned()));
    let page = letters(&cluster, 0, "").await.unwrap();
    assert_eq!(page.dead_letters.len(), 1);
    assert_eq!(refusal(requeue(&cluster, &other.name, Uuid::now_v7()).await), gone, "it lives");

    cluster.grant(&user, PRICE, Uuid::now_v7()).await.unwrap();
    let request = Uuid::now_v7();
    let again = requeue(&cluster, &name, request).await.unwrap();
    assert_eq!((again.state(), again.retried_from.as_str()), (State::Queued, name.as_str()));
    assert_eq!(cluster.credit(&user).await.held_micros, 2 * PRICE);
    assert_eq!(requeue(&cluster, &name, request).await.unwrap().name, again.name, "the same request");
    assert_eq!(refusal(requeue(&cluster, &name, Uuid::now_v7()).await), gone, "one letter, one generation");
    assert_eq!(cluster.get(&user, &name).await.unwrap().state(), State::Expired, "what is over stays over");
    assert!(letters(&cluster, 0, "").await.unwrap().dead_letters.is_empty());

    for name in [&name, &again.name] {
        let lines: Vec<String> =
            sqlx::query_scalar("select detail from job_events where job_id = $1::uuid and cause = 'REQUEUED'")
                .bind(name.trim_start_matches("generations/"))
                .fetch_all(&cluster.pool)
                .await
                .unwrap();
        assert_eq!(lines, [format!("accounts/{}: ada: the workers are back", Uuid::nil())], "whose key, who, why");
    }
    let mut worker = Worker::new(&cluster, 2).await;
    for _ in 0..2 {
        let work = worker.next().await;
        worker.carry_out(&work).await;
    }
    assert_eq!(cluster.credit(&user).await.spent_micros, 2 * PRICE);
}

#[tokio::test]
async fn two_operators_requeue_one_letter_once() {
    let cluster = quick().await;
    let user = cluster.user(4).await;
    let name = expired(&cluster, &user).await;
    let both = tokio::join!(requeue(&cluster, &name, Uuid::now_v7()), requeue(&cluster, &name, Uuid::now_v7()));
    assert_eq!([both.0, both.1].iter().filter(|answer| answer.is_ok()).count(), 1);
    assert_eq!(cluster.credit(&user).await.held_micros, PRICE);
}

#[tokio::test]
async fn dead_letters_come_in_pages_newest_first() {
    let cluster = quick().await;
    let mut names = Vec::new();
    for user in [cluster.user(2).await, cluster.user(1).await] {
        names.push(expired(&cluster, &user).await);
    }
    names.reverse();
    let first = letters(&cluster, 1, "").await.unwrap();
    let second = letters(&cluster, 1, &first.next_page_token).await.unwrap();
    let listed: Vec<_> = [&first, &second].iter().map(|page| page.dead_letters[0].generation.clone()).collect();
    assert_eq!(listed, names);
    assert!(second.next_page_token.is_empty());
    let letter = &first.dead_letters[0];
    assert_eq!((letter.model.as_str(), letter.cause.as_str(), letter.claim_count), (MODEL, "START_DEADLINE", 0));
    assert!(letter.end_time.is_some());
    assert_eq!(refusal(letters(&cluster, 1, "x").await), (Code::InvalidArgument, "PAGE_TOKEN_INVALID".to_owned()));
}

/// Waits until every way of reading a generation shows this wait reason.
async fn shows_reason(cluster: &Cluster, user: &User, name: &str, reason: WaitReason) {
    let all = async || {
        let one = cluster.get(user, name).await.ok()?;
        let request = user.asks(ListGenerationsRequest { parent: user.scene(), ..ListGenerationsRequest::default() });
        let list = cluster.node.generations.clone().list_generations(request).await.ok()?.into_inner();
        let request = user.asks(BatchGetGenerationsRequest { names: vec![name.to_owned()] });
        let batch = cluster.node.generations.clone().batch_get_generations(request).await.ok()?.into_inner();
        let listed = list.generations.into_iter().find(|generation| generation.name == name)?;
        let watched = Watch::of(&cluster.node, user, named(&[name])).await.ok()?.snapshot().await;
        [one.wait_reason(), listed.wait_reason(), batch.generations[0].wait_reason(), watched[0].wait_reason()]
            .iter()
            .all(|shown| *shown == reason)
            .then_some(())
    };
    eventually(reason.as_str_name(), Duration::from_secs(20), all).await.unwrap();
}

#[tokio::test]
async fn a_block_reason_is_shown_without_a_new_version() {
    let cluster = Cluster::with(|config| config.generations.account_running = 1).await;
    let (user, other) = (cluster.user(3).await, cluster.user(1).await);
    cluster.started(&user).await;
    let mut worker = Worker::new(&cluster, 1).await;
    let running = worker.next().await;
    let waiting = cluster.started(&user).await;
    assert_eq!(waiting.wait_reason(), WaitReason::Capacity);
    shows_reason(&cluster, &user, &waiting.name, WaitReason::AccountLimit).await;
    assert_eq!(cluster.get(&user, &waiting.name).await.unwrap().version, waiting.version, "nothing was written");

    pause(&cluster, MODEL, "ada: polling").await.unwrap();
    shows_reason(&cluster, &user, &waiting.name, WaitReason::Paused).await;
    assert!(resume(&cluster, MODEL).await);
    shows_reason(&cluster, &user, &waiting.name, WaitReason::AccountLimit).await;
    assert_eq!(cluster.get(&user, &running.generation).await.unwrap().wait_reason(), WaitReason::Unspecified);

    // The provider has had enough: that holds for others too.
    worker.intended(&running).await.unwrap();
    assert!(worker.fail_uncharged(&running, FailureClass::Throttled).await.unwrap());
    let behind = cluster.started(&other).await;
    sqlx::query("update job_pools set closed_until = now() + interval '1 hour'").execute(&cluster.pool).await.unwrap();
    shows_reason(&cluster, &other, &behind.name, WaitReason::ProviderThrottled).await;
    shows_reason(&cluster, &user, &waiting.name, WaitReason::ProviderThrottled).await;
    assert!(nothing_is_given(&cluster).await);
    let pools: Vec<(String, f64)> =
        sqlx::query_as("select pool, ceiling from job_pools").fetch_all(&cluster.pool).await.unwrap();
    assert_eq!(pools, [("local".to_owned(), 1.0)], "the provider's, by its name");
    sqlx::query("update job_pools set closed_until = now()").execute(&cluster.pool).await.unwrap();
    shows_reason(&cluster, &other, &behind.name, WaitReason::Capacity).await;
}

#[tokio::test]
async fn an_account_keeps_to_its_own_limit() {
    let cluster = Cluster::with(|config| config.generations.account_running = 1).await;
    let user = cluster.user(3).await;
    for _ in 0..3 {
        cluster.started(&user).await;
    }
    let mut worker = Worker::new(&cluster, 3).await;
    let first = worker.next().await;
    assert!(nothing_is_given(&cluster).await);
    let limit = |account: String, limit| {
        let request = SetAccountRunningLimitRequest { account, limit };
        let mut queues = cluster.node.queues.clone();
        async move { queues.set_account_running_limit(request).await }
    };
    let name = format!("accounts/{}", user.account);
    limit(name.clone(), Some(3)).await.unwrap();
    let works = [first, worker.next().await, worker.next().await];
    assert_eq!(stats(&cluster, 0).await.accounts[0].running_limit, Some(3));
    assert_eq!(refusal(limit(name.clone(), Some(-1)).await).0, Code::InvalidArgument);
    let nobody = limit(format!("accounts/{}", Uuid::now_v7()), None).await;
    assert_eq!(refusal(nobody), (Code::NotFound, "ACCOUNT_NOT_FOUND".to_owned()));
    for work in &works {
        worker.carry_out(work).await;
    }
}

#[tokio::test]
async fn an_account_has_a_limit_of_open_generations() {
    let cluster = Cluster::with(|config| config.generations.account_open = 2).await;
    let user = cluster.user(9).await;
    let start_request = user.start_request();
    let first = cluster.start(&user, start_request.clone()).await.unwrap();
    cluster.started(&user).await;
    let full = (Code::ResourceExhausted, "ACCOUNT_CONCURRENCY".to_owned());
    let refused = cluster.start(&user, user.start_request()).await.unwrap_err();
    assert!(refused.get_error_details().retry_info().is_some_and(|info| info.retry_delay.is_some()));
    assert_eq!(refusal::<()>(Err(refused)), full);
    let check = StartGenerationRequest { validate_only: true, ..user.start_request() };
    assert_eq!(refusal(cluster.start(&user, check).await), full);
    assert_eq!(cluster.start(&user, start_request).await.unwrap().name, first.name, "a repetition is no other");
    cluster.started(&cluster.user(1).await).await;
    cluster.cancel_many(&user, &[&first.name]).await;
    cluster.started(&user).await;
}

#[tokio::test]
async fn background_generations_go_last() {
    let cluster = Cluster::new().await;
    let user = cluster.user(3).await;
    let later = StartGenerationRequest { priority: Priority::Background.into(), ..user.start_request() };
    let later = cluster.start(&user, later).await.unwrap();
    let usual = cluster.started(&user).await;
    let mut worker = Worker::new(&cluster, 1).await;
    for name in [usual.name, later.name] {
        let work = worker.next().await;
        assert_eq!(work.generation, name);
        worker.carry_out(&work).await;
        worker.free(1).await;
    }
    let wrong = StartGenerationRequest { priority: 9, ..user.start_request() };
    assert_eq!(refusal(cluster.start(&user, wrong).await).0, Code::InvalidArgument);
}
