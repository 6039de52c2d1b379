//! Submissions in doubt, and orders that are waited for without a lease: what each step leaves behind, and who settles it.

use std::time::Duration;

use proto::generations::v1::charge::ProviderCharge;
use proto::generations::v1::progress::Basis;
use proto::generations::v1::resolve_generation_request::Resolution;
use proto::generations::v1::{CancelGenerationRequest, Generation, ResolveGenerationRequest, State, WaitReason};
use proto::work::v1::hint_work_request::Confirmation;
use proto::work::v1::{FailureClass, HintWorkRequest, HintWorkResponse, Work};
use testkit::eventually;
use tonic::{Code, Status};

use crate::cluster::{Cluster, PRICE, User, refusal};
use crate::worker::Worker;

async fn quick() -> Cluster {
    Cluster::with(|config| config.work.reap_interval = Duration::from_millis(50)).await
}

async fn claimed(cluster: &Cluster, user: &User) -> (Worker, Work, String) {
    let name = cluster.started(user).await.name;
    let mut worker = Worker::new(cluster, 1).await;
    let work = worker.next().await;
    (worker, work, name)
}

/// A submission of which nothing is known but that it was intended.
pub(crate) async fn unconfirmed(cluster: &Cluster, user: &User) -> (Worker, Work, String) {
    let (worker, work, name) = claimed(cluster, user).await;
    worker.intended(&work).await.unwrap();
    worker.suspend_unconfirmed(&work).await.unwrap();
    worker.free(1).await;
    (worker, work, name)
}

pub(crate) async fn hint(cluster: &Cluster, job: &str, event: &str, reference: &str) -> bool {
    hinted(cluster, job, event, reference).await.awaited
}

pub(crate) async fn hinted(cluster: &Cluster, job: &str, event: &str, reference: &str) -> HintWorkResponse {
    let request = HintWorkRequest {
        provider: "local".to_owned(),
        event: event.to_owned(),
        job: job.to_owned(),
        provider_reference: reference.to_owned(),
        confirmation: Confirmation::Confirmed.into(),
    };
    cluster.node.works.clone().hint_work(request).await.unwrap().into_inner()
}

pub(crate) async fn resolve(cluster: &Cluster, user: &User, name: &str, how: Resolution) -> Result<Generation, Status> {
    let request = ResolveGenerationRequest {
        account: format!("accounts/{}", user.account),
        name: name.to_owned(),
        note: "ada: asked the provider".to_owned(),
        resolution: Some(how),
    };
    Ok(cluster.node.generations.clone().resolve_generation(request).await?.into_inner())
}

async fn cancel(cluster: &Cluster, user: &User, name: &str) -> Generation {
    let request = user.asks(CancelGenerationRequest { name: name.to_owned() });
    cluster.node.generations.clone().cancel_generation(request).await.unwrap().into_inner()
}

/// Lets a generation's total deadline pass, as time would.
async fn overdue(cluster: &Cluster, name: &str) {
    sqlx::query("update generations set total_deadline = now() where id = $1::uuid")
        .bind(name.trim_start_matches("generations/"))
        .execute(&cluster.pool)
        .await
        .unwrap();
}

/// Waits until the reaper has taken the lease of a job.
async fn taken_back(cluster: &Cluster, job: &str) {
    let taken = async || {
        let query = "select count(*) from jobs where id = $1::text::uuid and state <> 'leased'";
        let count: i64 = sqlx::query_scalar(query).bind(job).fetch_one(&cluster.pool).await.unwrap();
        (count == 1).then_some(())
    };
    eventually("the job is taken back", Duration::from_secs(20), taken).await.unwrap();
}

async fn until(cluster: &Cluster, user: &User, name: &str, state: State) -> Generation {
    let reached = eventually(state.as_str_name(), Duration::from_secs(20), async || {
        cluster.get(user, name).await.ok().filter(|generation| generation.state() == state)
    });
    reached.await.unwrap()
}

fn provider_charge(generation: &Generation) -> ProviderCharge {
    generation.charge.as_ref().unwrap().provider_charge()
}

fn reason(generation: &Generation) -> String {
    let details = &generation.error.as_ref().expect("an error").details[0].value;
    String::from_utf8_lossy(details).into_owned()
}

#[tokio::test]
async fn a_reference_needs_its_intent_and_a_successor_gets_both() {
    let cluster = quick().await;
    let user = cluster.user(1).await;
    let (worker, work, _) = claimed(&cluster, &user).await;
    assert!(!work.in_doubt && !work.poll);
    let illegal = (Code::FailedPrecondition, "ILLEGAL_TRANSITION".to_owned());
    assert_eq!(refusal(worker.referred(&work, "order-1").await), illegal);
    worker.intended(&work).await.unwrap();
    worker.intended(&work).await.unwrap();
    cluster.expire_leases().await;
    let mut successor = Worker::new(&cluster, 1).await;
    let work = successor.next().await;
    assert!(work.in_doubt && work.provider_reference.is_empty(), "it may have been ordered");
    assert_eq!(refusal(successor.intended(&work).await), illegal, "no second order beside one that may live");
    successor.referred(&work, "order-1").await.unwrap();
    successor.referred(&work, "order-1").await.unwrap();
    assert_eq!(refusal(successor.referred(&work, "order-2").await), illegal, "an order has one reference");
    cluster.expire_leases().await;
    let mut last = Worker::new(&cluster, 1).await;
    let work = last.next().await;
    assert_eq!((work.in_doubt, work.provider_reference.as_str()), (false, "order-1"));
    assert_eq!((work.poll, work.attempt), (true, 1), "it is the same attempt, whoever goes on with it");
    last.carry_out(&work).await;
}

#[tokio::test]
async fn a_webhook_is_refused_while_a_worker_holds_the_submission() {
    let cluster = quick().await;
    let user = cluster.user(1).await;
    let (worker, work, name) = claimed(&cluster, &user).await;
    let job = name.trim_start_matches("generations/").to_owned();
    worker.intended(&work).await.unwrap();
    let request = || HintWorkRequest {
        provider: "local".to_owned(),
        event: "event-1".to_owned(),
        job: job.clone(),
        provider_reference: "order-1".to_owned(),
        confirmation: Confirmation::Confirmed.into(),
    };
    let refused = refusal(cluster.node.works.clone().hint_work(request()).await);
    assert_eq!(refused, (Code::Unavailable, "SUBMISSION_UNDER_WAY".to_owned()));
    // The worker died before it had an answer. Its successor parks, and then the provider's next try is what settles it.
    cluster.expire_leases().await;
    let mut successor = Worker::new(&cluster, 1).await;
    let work = successor.next().await;
    assert!(work.in_doubt);
    successor.suspend_unconfirmed(&work).await.unwrap();
    assert!(hint(&cluster, &job, "event-1", "order-1").await, "it is the first that is heard of this event");
    successor.free(1).await;
    let poll = successor.next().await;
    assert_eq!((poll.poll, poll.provider_reference.as_str()), (true, "order-1"));
    successor.finalizing(&poll).await.unwrap();
    successor.complete(&poll).await.unwrap();
}

/// Between a worker's death and its successor's claim the webhook used to be taken, and what it said was lost.
#[tokio::test]
async fn a_webhook_that_comes_before_the_successor_is_what_it_goes_on_with() {
    let cluster = quick().await;
    let user = cluster.user(1).await;
    let (worker, work, name) = claimed(&cluster, &user).await;
    let job = name.trim_start_matches("generations/").to_owned();
    worker.intended(&work).await.unwrap();
    cluster.expire_leases().await;
    taken_back(&cluster, &job).await;
    assert!(hint(&cluster, &job, "event-1", "order-1").await);
    let mut successor = Worker::new(&cluster, 1).await;
    let work = successor.next().await;
    assert_eq!((work.in_doubt, work.provider_reference.as_str()), (false, "order-1"));
    successor.finalizing(&work).await.unwrap();
    successor.complete(&work).await.unwrap();
}

/// An operator's finding counts only once a worker has tried to find out: the one that was lost may have been about to order.
#[tokio::test]
async fn a_submission_whose_worker_was_lost_is_tried_by_another_before_anybody_settles_it() {
    let cluster = quick().await;
    let user = cluster.user(1).await;
    let (worker, work, name) = claimed(&cluster, &user).await;
    worker.intended(&work).await.unwrap();
    cluster.expire_leases().await;
    taken_back(&cluster, name.trim_start_matches("generations/")).await;
    let refused = refusal(resolve(&cluster, &user, &name, Resolution::Requeue(true)).await);
    assert_eq!(refused, (Code::FailedPrecondition, "NOT_UNCONFIRMED".to_owned()));
    let mut successor = Worker::new(&cluster, 1).await;
    let work = successor.next().await;
    successor.suspend_unconfirmed(&work).await.unwrap();
    assert_eq!(resolve(&cluster, &user, &name, Resolution::Requeue(true)).await.unwrap().state(), State::Queued);
}

#[tokio::test]
async fn a_wait_holds_no_lease_and_a_poll_is_no_attempt() {
    let cluster = quick().await;
    let user = cluster.user(1).await;
    let (mut worker, work, name) = claimed(&cluster, &user).await;
    worker.submitted(&work).await.unwrap();
    let mut seen = work;
    for poll in 0..3 {
        worker
            .suspend(&seen, |request| {
                (request.percent, request.queue_position) = (Some(10 * poll), 3 - poll);
            })
            .await
            .unwrap();
        assert_eq!(refusal(worker.progress(&seen, 99).await), (Code::Aborted, "STALE_FENCE".to_owned()));
        worker.free(1).await;
        seen = worker.next().await;
        assert_eq!((seen.poll, seen.polls, seen.attempt), (true, poll, 1));
        assert_eq!(seen.provider_reference, "order-1");
        let shown = cluster.get(&user, &name).await.unwrap();
        let progress = shown.progress.clone().unwrap();
        assert_eq!((shown.state(), shown.wait_reason()), (State::Processing, WaitReason::ProviderQueue));
        assert_eq!(
            (progress.percent, progress.queue_position, progress.basis()),
            (10 * poll, 3 - poll, Basis::Provider)
        );
    }
    // A poll that finds nothing new changes nothing, not even the version.
    let version = cluster.get(&user, &name).await.unwrap().version;
    worker.suspend(&seen, |request| (request.percent, request.queue_position) = (Some(20), 1)).await.unwrap();
    worker.free(1).await;
    seen = worker.next().await;
    assert_eq!(cluster.get(&user, &name).await.unwrap().version, version);
    // A poll whose worker dies is done by another.
    cluster.expire_leases().await;
    let mut successor = Worker::new(&cluster, 1).await;
    let work = successor.next().await;
    assert_eq!((work.poll, work.attempt), (true, 1));
    assert_eq!(refusal(worker.finalizing(&seen).await), (Code::Aborted, "STALE_FENCE".to_owned()));
    successor.finalizing(&work).await.unwrap();
    successor.complete(&work).await.unwrap();
    let done = cluster.get(&user, &name).await.unwrap();
    assert_eq!(
        (done.state(), done.attempt_count, provider_charge(&done)),
        (State::Completed, 1, ProviderCharge::Charged)
    );
}

/// A webhook can be signed by a provider and name an order that is not ours.
#[tokio::test]
async fn a_reference_is_recorded_only_once_the_provider_has_confirmed_it() {
    let cluster = quick().await;
    let user = cluster.user(1).await;
    let (mut worker, work, name) = unconfirmed(&cluster, &user).await;
    let job = work.lease.unwrap().job;
    let request = |confirmation: Confirmation| HintWorkRequest {
        provider: "local".to_owned(),
        event: "event-1".to_owned(),
        job: job.clone(),
        provider_reference: "order-of-a-stranger".to_owned(),
        confirmation: confirmation.into(),
    };
    for _ in 0..2 {
        let answer = cluster.node.works.clone().hint_work(request(Confirmation::NotAsked)).await.unwrap().into_inner();
        assert!(!answer.awaited && !answer.confirm_at_model.is_empty(), "{answer:?}");
        let refused = refusal(cluster.node.works.clone().hint_work(request(Confirmation::Unspecified)).await);
        assert_eq!(refused, (Code::Unavailable, "REFERENCE_NOT_CONFIRMED".to_owned()), "a worker that cannot ask");
    }
    let shown = cluster.get(&user, &name).await.unwrap();
    assert_eq!((shown.state(), shown.wait_reason()), (State::Submitting, WaitReason::SubmissionUnconfirmed));
    let known: i64 = sqlx::query_scalar("select count(*) from provider_calls where reference is not null")
        .fetch_one(&cluster.pool)
        .await
        .unwrap();
    assert_eq!(known, 0);
    // The event of what was refused is not used up: the order that the provider confirms settles it.
    assert!(hint(&cluster, &job, "event-1", "order-7").await);
    let poll = worker.next().await;
    assert_eq!(poll.provider_reference, "order-7");
    // Of an order that is known nobody is asked again.
    let later = HintWorkRequest { event: "event-2".to_owned(), ..request(Confirmation::NotAsked) };
    let later = HintWorkRequest { provider_reference: "order-7".to_owned(), ..later };
    assert_eq!(cluster.node.works.clone().hint_work(later).await.unwrap().into_inner().confirm_at_model, "");
    worker.finalizing(&poll).await.unwrap();
    worker.complete(&poll).await.unwrap();
}

#[tokio::test]
async fn an_unconfirmed_submission_is_settled_by_a_webhook() {
    let cluster = quick().await;
    let user = cluster.user(1).await;
    let (mut worker, work, name) = unconfirmed(&cluster, &user).await;
    let shown = cluster.get(&user, &name).await.unwrap();
    assert_eq!((shown.state(), shown.wait_reason()), (State::Submitting, WaitReason::SubmissionUnconfirmed));
    let job = work.lease.unwrap().job;
    assert!(!hint(&cluster, &uuid::Uuid::now_v7().to_string(), "other", "order-7").await, "of no job of ours");
    // Whoever passes the webhook on can link its trace to the generation's.
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let query = sqlx::query("update generations set traceparent = $2 where id = $1::uuid").bind(&job).bind(trace);
    query.execute(&cluster.pool).await.unwrap();
    let first = hinted(&cluster, &job, "event-1", "order-7").await;
    assert_eq!((first.awaited, first.traceparent.as_str()), (true, trace));
    let repeated = hinted(&cluster, &job, "event-1", "order-7").await;
    assert_eq!((repeated.awaited, repeated.traceparent.as_str()), (false, ""), "heard before");
    assert!(!hint(&cluster, &job, "event-2", "order-8").await, "another's order");
    let poll = worker.next().await;
    assert_eq!((poll.poll, poll.in_doubt, poll.provider_reference.as_str()), (true, false, "order-7"));
    assert_eq!(cluster.get(&user, &name).await.unwrap().state(), State::Processing);
    worker.finalizing(&poll).await.unwrap();
    worker.complete(&poll).await.unwrap();
    assert_eq!(cluster.credit(&user).await.spent_micros, PRICE);
}

/// A webhook that names no order is a hint all the same: the order is asked about, and nothing is taken for its reference.
#[tokio::test]
async fn a_webhook_without_a_reference_only_makes_the_poll_due() {
    let cluster = quick().await;
    let user = cluster.user(2).await;
    let (mut worker, work, name) = claimed(&cluster, &user).await;
    worker.submitted(&work).await.unwrap();
    worker.suspend(&work, |request| request.poll_after.as_mut().unwrap().seconds = 3_600).await.unwrap();
    worker.free(1).await;
    assert!(hint(&cluster, &work.lease.as_ref().unwrap().job, "event-1", "").await);
    let poll = worker.next().await;
    assert_eq!((poll.poll, poll.generation, poll.provider_reference.as_str()), (true, name, "order-1"));

    let (_worker, work, name) = unconfirmed(&cluster, &user).await;
    let job = work.lease.unwrap().job;
    hint(&cluster, &job, "event-2", "").await;
    let shown = cluster.get(&user, &name).await.unwrap();
    assert_eq!((shown.state(), shown.wait_reason()), (State::Submitting, WaitReason::SubmissionUnconfirmed));
}

#[tokio::test]
async fn an_unconfirmed_submission_is_settled_by_an_operator() {
    let cluster = quick().await;
    let user = cluster.user(3).await;
    let unconfirmed_only = (Code::FailedPrecondition, "NOT_UNCONFIRMED".to_owned());

    let (mut worker, _, name) = unconfirmed(&cluster, &user).await;
    resolve(&cluster, &user, &name, Resolution::ProviderReference("order-9".to_owned())).await.unwrap();
    let poll = worker.next().await;
    assert_eq!((poll.poll, poll.provider_reference.as_str()), (true, "order-9"));
    assert_eq!(refusal(resolve(&cluster, &user, &name, Resolution::Requeue(true)).await), unconfirmed_only);
    worker.finalizing(&poll).await.unwrap();
    worker.complete(&poll).await.unwrap();

    let (_, _, name) = unconfirmed(&cluster, &user).await;
    let failed = resolve(&cluster, &user, &name, Resolution::Failed(ProviderCharge::Charged.into())).await.unwrap();
    assert_eq!((failed.state(), provider_charge(&failed)), (State::Failed, ProviderCharge::Charged));
    assert!(reason(&failed).contains("SUBMISSION_OUTCOME_UNKNOWN"));
    assert_eq!(failed.charge.unwrap().released_micros, PRICE, "the user never pays for a doubt");
    assert_eq!(refusal(resolve(&cluster, &user, &name, Resolution::Requeue(true)).await), unconfirmed_only);

    let (mut worker, _, name) = unconfirmed(&cluster, &user).await;
    let queued = resolve(&cluster, &user, &name, Resolution::Requeue(true)).await.unwrap();
    assert_eq!(queued.state(), State::Queued);
    let again = worker.next().await;
    assert_eq!((again.in_doubt, again.poll, again.attempt), (false, false, 2));
    worker.carry_out(&again).await;
    let stranger = cluster.user(0).await;
    let missing = refusal(resolve(&cluster, &stranger, &name, Resolution::Requeue(true)).await);
    assert_eq!(missing, (Code::NotFound, "GENERATION_NOT_FOUND".to_owned()));
    let notes: i64 = sqlx::query_scalar("select count(*) from job_events where detail = 'ada: asked the provider'")
        .fetch_one(&cluster.pool)
        .await
        .unwrap();
    assert_eq!(notes, 3, "each decision leaves its line");
}

#[tokio::test]
async fn an_unconfirmed_submission_ends_at_its_deadline() {
    let cluster = quick().await;
    let user = cluster.user(2).await;
    let (_, _, name) = unconfirmed(&cluster, &user).await;
    overdue(&cluster, &name).await;
    let failed = until(&cluster, &user, &name, State::Failed).await;
    assert!(reason(&failed).contains("SUBMISSION_OUTCOME_UNKNOWN"));
    assert_eq!((provider_charge(&failed), failed.charge.unwrap().released_micros), (ProviderCharge::Unknown, PRICE));
    // One that its user gave up meanwhile is cancelled by then, and its provider charge stays UNKNOWN.
    let (mut worker, _, name) = unconfirmed(&cluster, &user).await;
    assert_eq!(cancel(&cluster, &user, &name).await.state(), State::Cancelling);
    let poll = worker.next().await;
    assert!(poll.in_doubt && poll.cancel_requested && poll.poll);
    worker.suspend_unconfirmed(&poll).await.unwrap();
    overdue(&cluster, &name).await;
    assert_eq!(provider_charge(&until(&cluster, &user, &name, State::Cancelled).await), ProviderCharge::Unknown);
}

#[tokio::test]
async fn the_total_deadline_stops_orders_and_ends_waiting_generations() {
    let cluster = quick().await;
    let user = cluster.user(4).await;
    // At its provider: stopped first, and what the provider says then counts.
    for completes in [false, true] {
        let (mut worker, work, name) = claimed(&cluster, &user).await;
        worker.submitted(&work).await.unwrap();
        worker.suspend(&work, |request| request.poll_after.as_mut().unwrap().seconds = 3_600).await.unwrap();
        worker.free(1).await;
        overdue(&cluster, &name).await;
        let poll = worker.next().await;
        assert!(poll.poll && poll.cancel_requested, "the deadline makes a poll due");
        if completes {
            worker.finalizing(&poll).await.unwrap();
            worker.complete(&poll).await.unwrap();
            assert_eq!(until(&cluster, &user, &name, State::Completed).await.attempt_count, 1, "finished work wins");
        } else {
            worker.fail(&poll, FailureClass::Cancelled).await.unwrap();
            let failed = until(&cluster, &user, &name, State::Failed).await;
            assert!(reason(&failed).contains("TOTAL_DEADLINE"));
            assert_eq!(provider_charge(&failed), ProviderCharge::Unknown);
        }
    }
    // Between two attempts there is no order to stop.
    let (worker, work, name) = claimed(&cluster, &user).await;
    worker.fail(&work, FailureClass::Internal).await.unwrap();
    overdue(&cluster, &name).await;
    let failed = until(&cluster, &user, &name, State::Failed).await;
    assert_eq!(provider_charge(&failed), ProviderCharge::NotCharged);
    // A provider that never answers is not waited for for ever.
    let (worker, work, name) = claimed(&cluster, &user).await;
    worker.submitted(&work).await.unwrap();
    worker.suspend(&work, |request| request.poll_after.as_mut().unwrap().seconds = 3_600).await.unwrap();
    overdue(&cluster, &name).await;
    until(&cluster, &user, &name, State::Cancelling).await;
    sqlx::query("update jobs set cancel_at = now() - interval '11 min' where state = 'waiting'")
        .execute(&cluster.pool)
        .await
        .unwrap();
    assert_eq!(provider_charge(&until(&cluster, &user, &name, State::Failed).await), ProviderCharge::Unknown);
}

#[tokio::test]
async fn nothing_is_ordered_that_the_total_deadline_would_stop() {
    let cluster = quick().await;
    let user = cluster.user(2).await;
    let left = async |name: &str, seconds: f64| {
        let id: uuid::Uuid = name.rsplit_once('/').unwrap().1.parse().unwrap();
        sqlx::query("update generations set total_deadline = now() + make_interval(secs => $2) where id = $1")
            .bind(id)
            .bind(seconds)
            .execute(&cluster.pool)
            .await
            .unwrap();
    };
    sqlx::query("insert into model_paces (model, p50, p80, samples) values ('local-sketch', '100 s', '200 s', 5)")
        .execute(&cluster.pool)
        .await
        .unwrap();
    let (in_time, work, name) = claimed(&cluster, &user).await;
    left(&name, 130.0).await;
    in_time.intended(&work).await.unwrap();

    let (worker, work, name) = claimed(&cluster, &user).await;
    left(&name, 90.0).await;
    let refused = worker.intended(&work).await.unwrap_err();
    assert!(format!("{refused:?}").contains("NO_TIME_LEFT"), "{refused:?}");
    worker.fail(&work, FailureClass::Cancelled).await.unwrap();
    let failed = cluster.get(&user, &name).await.unwrap();
    assert!(reason(&failed).contains("TOTAL_DEADLINE"), "{failed:?}");
    assert_eq!((provider_charge(&failed), failed.charge.unwrap().released_micros), (ProviderCharge::NotCharged, PRICE));
}

#[tokio::test]
async fn progress_that_a_provider_does_not_report_is_estimated() {
    let cluster = Cluster::with(|config| config.work.reconcile_interval = Duration::from_millis(50)).await;
    let user = cluster.user(1).await;
    sqlx::query("insert into model_paces (model, p50, p80, samples) values ('local-sketch', '100 s', '200 s', 5)")
        .execute(&cluster.pool)
        .await
        .unwrap();
    let (worker, work, name) = claimed(&cluster, &user).await;
    worker.submitted(&work).await.unwrap();
    let shown = cluster.get(&user, &name).await.unwrap();
    let eta = shown.progress.clone().unwrap().eta.unwrap();
    assert_eq!(eta.p80.unwrap().seconds - eta.p50.unwrap().seconds, 100);
    // Half of the usual time passes.
    sqlx::query(
        "update generations set start_time = start_time - interval '50 s', eta_p50 = eta_p50 - interval '50 s'",
    )
    .execute(&cluster.pool)
    .await
    .unwrap();
    worker.suspend(&work, |_| {}).await.unwrap();
    let progress = cluster.get_from(&user, &name, shown.version + 1).await.unwrap().progress.unwrap();
    assert_eq!(progress.basis(), Basis::Estimated);
    assert!((47..=60).contains(&progress.percent), "{}", progress.percent);
}
