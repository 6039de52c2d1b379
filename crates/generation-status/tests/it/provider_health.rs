//! Providers that take no orders, and orders in trouble: what waits, what is shown, and what is never ordered again.

use std::time::Duration;

use proto::generations::v1::charge::ProviderCharge;
use proto::generations::v1::resolve_generation_request::Resolution;
use proto::generations::v1::{CancelGenerationRequest, ResolveGenerationRequest, State, WaitReason};
use proto::models::v1::model_service_client::ModelServiceClient;
use proto::models::v1::{GetModelRequest, Model, model};
use proto::work::v1::{FailureClass, ProviderCondition, Trouble, Work};
use testkit::eventually;

use crate::cluster::{Cluster, PRICE, User};
use crate::worker::Worker;

const SKETCH: &str = "models/local-sketch";

async fn model(cluster: &Cluster, user: &User) -> Model {
    named(cluster, user, SKETCH).await
}

pub(crate) async fn named(cluster: &Cluster, user: &User, name: &str) -> Model {
    let mut client = ModelServiceClient::new(cluster.node.doors());
    client.get_model(user.asks(GetModelRequest { name: name.to_owned() })).await.unwrap().into_inner()
}

/// Waits until the model is in this state.
async fn shows(cluster: &Cluster, user: &User, state: model::State) -> Model {
    let shown = async || Some(model(cluster, user).await).filter(|model| model.state() == state);
    eventually(state.as_str_name(), Duration::from_secs(20), shown).await.unwrap()
}

/// Reports that nothing was ordered, for this reason.
pub(crate) async fn refused(worker: &Worker, work: &Work, condition: ProviderCondition) -> bool {
    worker.intended(work).await.unwrap();
    let change = |request: &mut proto::work::v1::FailWorkRequest| {
        request.set_provider_charge(ProviderCharge::NotCharged);
        request.set_provider_condition(condition);
        "the provider answered 403; 403: user is locked".clone_into(&mut request.detail);
    };
    worker.fail_with(work, FailureClass::Unavailable, change).await.unwrap()
}

/// Makes what waits claimable, and the next probe due.
pub(crate) async fn hasten(cluster: &Cluster) {
    sqlx::query("update jobs set run_at = now() where state = 'queued'").execute(&cluster.pool).await.unwrap();
    sqlx::query("update job_breakers set probe_time = now()").execute(&cluster.pool).await.unwrap();
}

/// A locked account used to burn every order in six seconds, without a word to anyone.
#[tokio::test]
async fn a_locked_account_costs_no_order_and_what_waits_goes_on_by_itself() {
    let cluster = Cluster::new().await;
    let user = cluster.user(3).await;
    let mut names = Vec::new();
    for _ in 0..3 {
        names.push(cluster.started(&user).await.name);
    }
    let mut worker = Worker::new(&cluster, 1).await;
    let work = worker.next().await;
    shows(&cluster, &user, model::State::Available).await;
    assert!(refused(&worker, &work, ProviderCondition::AccountRefused).await, "it waits");
    let unavailable = shows(&cluster, &user, model::State::Unavailable).await.unavailability.unwrap();
    assert_eq!(unavailable.reason(), model::unavailability::Reason::AccountRefused);
    assert!(unavailable.since_time.is_some());
    for name in &names {
        let shown = async || {
            let shown = cluster.get(&user, name).await.unwrap();
            (shown.state() == State::Queued && shown.wait_reason() == WaitReason::ProviderUnavailable).then_some(shown)
        };
        let shown = eventually("all wait visibly", Duration::from_secs(20), shown).await.unwrap();
        assert_eq!(shown.attempt_count, i32::from(shown.name == work.generation), "it was claimed once at most");
    }
    let history: Vec<String> = sqlx::query_scalar("select last_error from jobs where id = $1::text::uuid")
        .bind(&work.lease.as_ref().unwrap().job)
        .fetch_all(&cluster.pool)
        .await
        .unwrap();
    assert_eq!(history, ["the provider answered 403; 403: user is locked"], "operators read its own words");

    // Probes go on failing for as long as the account is locked, and no attempt counts.
    for _ in 0..7 {
        hasten(&cluster).await;
        worker.free(1).await;
        let work = worker.next().await;
        assert!(work.attempt <= 1, "attempt {}", work.attempt);
        assert!(refused(&worker, &work, ProviderCondition::AccountRefused).await);
    }
    hasten(&cluster).await;
    worker.free(1).await;
    let probe = worker.next().await;
    worker.carry_out(&probe).await;
    shows(&cluster, &user, model::State::Available).await;
    for _ in 0..2 {
        hasten(&cluster).await;
        worker.free(1).await;
        let work = worker.next().await;
        worker.carry_out(&work).await;
    }
    for name in &names {
        assert_eq!(cluster.get(&user, name).await.unwrap().state(), State::Completed);
    }
    assert_eq!(cluster.credit(&user).await.spent_micros, 3 * PRICE);
}

/// Nothing is lost, nothing is put off for long, and what waits goes on without anybody's doing.
#[tokio::test]
async fn an_outage_of_an_hour_parts_nothing_from_its_order_and_ends_by_itself() {
    let cluster = Cluster::new().await;
    let user = cluster.user(6).await;
    let mut worker = Worker::new(&cluster, 1).await;
    let early = cluster.started(&user).await.name;
    let work = worker.next().await;
    worker.submitted(&work).await.unwrap();
    let soon = |request: &mut proto::work::v1::SuspendWorkRequest| {
        request.poll_after = Some(prost_types::Duration { seconds: 60, nanos: 0 });
    };
    worker.suspend(&work, soon).await.unwrap();
    let mut waiting = Vec::new();
    for _ in 0..5 {
        waiting.push(cluster.started(&user).await.name);
    }
    // An hour of probes and polls, once for each of its minutes.
    let mut opened = false;
    for minute in 0..60 {
        hasten(&cluster).await;
        for statement in [
            "update jobs set run_at = now() where state = 'waiting'",
            "update provider_calls set poll_trouble_time = poll_trouble_time - interval '1 minute'",
            "update job_breakers set open_time = open_time - interval '1 minute'",
        ] {
            sqlx::query(statement).execute(&cluster.pool).await.unwrap();
        }
        for _ in 0..2 {
            worker.free(1).await;
            let work = worker.next().await;
            if work.poll {
                let elapsed = work.troubles.first().map_or(0, |trouble| trouble.elapsed.unwrap().seconds / 60);
                assert!(elapsed <= minute, "{elapsed} of {minute} minutes");
                let fails = |request: &mut proto::work::v1::SuspendWorkRequest| {
                    soon(request);
                    request.set_trouble(Trouble::Poll);
                };
                worker.suspend(&work, fails).await.unwrap();
            } else {
                assert_eq!(work.attempt, 1, "no attempt counts");
                assert!(refused(&worker, &work, ProviderCondition::Outage).await);
            }
        }
        let open: i64 = sqlx::query_scalar("select count(*) from job_breakers where open_time is not null")
            .fetch_one(&cluster.pool)
            .await
            .unwrap();
        opened |= open == 1;
        assert!(!opened || open == 1, "once open it stays so");
        let longest: f64 = sqlx::query_scalar(
            "select extract(epoch from greatest(
                 (select max(run_at) from jobs where state in ('queued', 'waiting')),
                 (select max(probe_time) from job_breakers)) - now())::double precision",
        )
        .fetch_one(&cluster.pool)
        .await
        .unwrap();
        assert!(longest <= 61.0, "put off for {longest} s");
    }
    assert!(opened);
    assert_eq!(cluster.get(&user, &early).await.unwrap().wait_reason(), WaitReason::ProviderUnavailable);
    for name in &waiting {
        let shown = async || {
            let shown = cluster.get(&user, name).await.unwrap();
            (shown.state() == State::Queued && shown.wait_reason() == WaitReason::ProviderUnavailable).then_some(())
        };
        eventually("it waits visibly", Duration::from_secs(20), shown).await.unwrap();
    }
    // It is over: whatever comes next is taken.
    let mut ended = 0;
    while ended < 6 {
        hasten(&cluster).await;
        sqlx::query("update jobs set run_at = now() where state = 'waiting'").execute(&cluster.pool).await.unwrap();
        worker.free(1).await;
        let work = worker.next().await;
        if work.poll {
            worker.finalizing(&work).await.unwrap();
            worker.complete(&work).await.unwrap();
        } else {
            worker.carry_out(&work).await;
        }
        ended += 1;
    }
    for name in waiting.iter().chain([&early]) {
        let done = cluster.get(&user, name).await.unwrap();
        assert_eq!((done.state(), done.attempt_count), (State::Completed, 1), "{name}");
    }
    assert_eq!(cluster.credit(&user).await.spent_micros, 6 * PRICE);
}

/// An open breaker keeps new orders back, and nothing else: what a dead worker ordered used to wait behind it, and its cancel too.
#[tokio::test]
async fn orders_of_dead_workers_pass_an_open_breaker() {
    let cluster = Cluster::with(|config| config.work.reap_interval = Duration::from_millis(50)).await;
    let user = cluster.user(9).await;
    let mut names = Vec::new();
    for _ in 0..4 {
        names.push(cluster.started(&user).await.name);
    }
    let mut worker = Worker::new(&cluster, 4).await;
    let [known, cancelled, in_doubt, locked] =
        [worker.next().await, worker.next().await, worker.next().await, worker.next().await];
    worker.submitted(&known).await.unwrap();
    worker.submitted(&cancelled).await.unwrap();
    worker.intended(&in_doubt).await.unwrap();
    assert!(refused(&worker, &locked, ProviderCondition::AccountRefused).await);
    shows(&cluster, &user, model::State::Unavailable).await;
    cluster.expire_leases().await;
    let request = user.asks(CancelGenerationRequest { name: cancelled.generation.clone() });
    cluster.node.generations.clone().cancel_generation(request).await.unwrap();

    let mut successor = Worker::new(&cluster, 4).await;
    let mut at_provider = 0;
    while at_provider < 3 {
        let work = successor.next().await;
        if work.generation == locked.generation {
            // The breaker's probe, which is due after a while.
            assert!(refused(&successor, &work, ProviderCondition::AccountRefused).await);
            successor.free(1).await;
            continue;
        }
        at_provider += 1;
        assert!(work.poll, "{work:?}");
        assert_eq!(work.cancel_requested, work.generation == cancelled.generation);
        assert_eq!(work.in_doubt, work.generation == in_doubt.generation);
        if work.in_doubt {
            successor.referred(&work, "order-2").await.unwrap();
        }
        if work.cancel_requested {
            successor.fail(&work, FailureClass::Cancelled).await.unwrap();
        } else {
            successor.finalizing(&work).await.unwrap();
            successor.complete(&work).await.unwrap();
        }
    }
    let state = async |work: &Work| cluster.get(&user, &work.generation).await.unwrap().state();
    assert_eq!(state(&known).await, State::Completed);
    assert_eq!(state(&in_doubt).await, State::Completed);
    assert_eq!(state(&cancelled).await, State::Cancelled);
}

/// Whatever a worker thinks of it, an order that may have been made or charged is followed by no other.
#[tokio::test]
async fn what_may_have_been_charged_ends_once() {
    let cluster = Cluster::new().await;
    let user = cluster.user(9).await;
    let mut worker = Worker::new(&cluster, 1).await;
    for class in [FailureClass::Internal, FailureClass::BadOutput, FailureClass::Throttled, FailureClass::Unavailable] {
        for charge in [ProviderCharge::Unspecified, ProviderCharge::Unknown] {
            let name = cluster.started(&user).await.name;
            let work = worker.next().await;
            worker.submitted(&work).await.unwrap();
            let again = worker.fail_with(&work, class, |request| request.set_provider_charge(charge)).await.unwrap();
            assert!(!again, "{class:?} {charge:?}");
            let failed = cluster.get(&user, &name).await.unwrap();
            assert_eq!(
                (failed.state(), failed.charge.unwrap().provider_charge()),
                (State::Failed, ProviderCharge::Unknown)
            );
            worker.free(1).await;
        }
    }
    assert_eq!(cluster.credit(&user).await.held_micros, 0);
}

/// Takes the next poll, with what it says of the order: each trouble, and for how many minutes.
async fn polled(worker: &mut Worker) -> (Work, Vec<(Trouble, i64)>) {
    worker.free(1).await;
    let work = worker.next().await;
    let troubles = work.troubles.iter().map(|it| (it.trouble(), it.elapsed.unwrap().seconds / 60)).collect();
    (work, troubles)
}

/// The clocks are the database's: they start with the first trouble, go on over polls, and stop with good news.
#[tokio::test]
async fn a_trouble_is_timed_from_its_beginning_to_the_next_good_news() {
    let cluster = Cluster::new().await;
    let user = cluster.user(1).await;
    let name = cluster.started(&user).await.name;
    let mut worker = Worker::new(&cluster, 1).await;
    let work = worker.next().await;
    assert!(work.troubles.is_empty());
    worker.submitted(&work).await.unwrap();
    worker.suspend(&work, |request| request.set_trouble(Trouble::Order)).await.unwrap();
    let age = "update provider_calls set order_trouble_time = order_trouble_time - interval '5 minutes'";
    sqlx::query(age).execute(&cluster.pool).await.unwrap();
    let (work, troubles) = polled(&mut worker).await;
    assert_eq!(troubles, [(Trouble::Order, 5)]);
    // That it cannot be asked says nothing about the order: both clocks run.
    worker.suspend(&work, |request| request.set_trouble(Trouble::Poll)).await.unwrap();
    let shown = cluster.get(&user, &name).await.unwrap();
    assert_eq!(shown.wait_reason(), WaitReason::Unspecified, "one poll that fails is nothing to be told of");
    let (work, troubles) = polled(&mut worker).await;
    assert_eq!(troubles, [(Trouble::Poll, 0), (Trouble::Order, 5)]);
    worker.suspend(&work, |request| request.set_trouble(Trouble::Order)).await.unwrap();
    assert_eq!(cluster.get(&user, &name).await.unwrap().wait_reason(), WaitReason::ProviderUnavailable);
    let (work, troubles) = polled(&mut worker).await;
    assert_eq!(troubles, [(Trouble::Order, 5)]);
    worker.suspend(&work, |_| {}).await.unwrap();
    assert_eq!(cluster.get(&user, &name).await.unwrap().wait_reason(), WaitReason::Unspecified);
    let (work, troubles) = polled(&mut worker).await;
    assert_eq!(troubles, []);
    // A finished order whose file cannot be had shows it, and an operator can end it.
    worker.finalizing(&work).await.unwrap();
    worker.suspend(&work, |request| request.set_trouble(Trouble::Output)).await.unwrap();
    let shown = cluster.get(&user, &name).await.unwrap();
    assert_eq!((shown.state(), shown.wait_reason()), (State::Finalizing, WaitReason::OutputDelayed));
    let request = ResolveGenerationRequest {
        account: format!("accounts/{}", user.account),
        name: name.clone(),
        note: "ada: its file is gone".to_owned(),
        resolution: Some(Resolution::Failed(ProviderCharge::Charged.into())),
    };
    let ended = cluster.node.generations.clone().resolve_generation(request).await.unwrap().into_inner();
    assert_eq!((ended.state(), ended.charge.unwrap().provider_charge()), (State::Failed, ProviderCharge::Charged));
    assert_eq!(cluster.credit(&user).await.available_micros, PRICE);
}

#[tokio::test]
async fn several_submissions_without_an_answer_are_an_outage() {
    let cluster = Cluster::new().await;
    let user = cluster.user(9).await;
    let mut worker = Worker::new(&cluster, 1).await;
    shows(&cluster, &user, model::State::Available).await;
    for _ in 0..4 {
        assert_eq!(model(&cluster, &user).await.state(), model::State::Available);
        cluster.started(&user).await;
        let work = worker.next().await;
        worker.intended(&work).await.unwrap();
        let unconfirmed = |request: &mut proto::work::v1::SuspendWorkRequest| {
            (request.unconfirmed, request.poll_after) = (true, None);
            request.set_provider_condition(ProviderCondition::Outage);
        };
        worker.suspend(&work, unconfirmed).await.unwrap();
        worker.free(1).await;
    }
    let shown = shows(&cluster, &user, model::State::Unavailable).await.unavailability.unwrap();
    assert_eq!(shown.reason(), model::unavailability::Reason::Outage);
}

/// A probe used to be an order whose answer might be lost, once for each minute of an outage.
#[tokio::test]
async fn the_probe_of_an_outage_asks_before_it_orders() {
    let cluster = Cluster::new().await;
    let user = cluster.user(2).await;
    let mut worker = Worker::new(&cluster, 1).await;
    cluster.started(&user).await;
    let mut asked = Vec::new();
    for _ in 0..13 {
        hasten(&cluster).await;
        let work = worker.next().await;
        asked.push(work.ask_first);
        assert!(refused(&worker, &work, ProviderCondition::Outage).await);
        worker.free(1).await;
    }
    // Four orders that were not answered open the breaker. Of what follows each is its probe, and every eighth failure in a row is
    // followed by one without a question: a provider may take orders and answer no questions.
    let expected = [[false; 4], [true; 4]].concat().into_iter().chain([false]).chain([true; 4]);
    assert_eq!(asked, expected.collect::<Vec<_>>());
    // An order that a locked account refuses is in no doubt.
    hasten(&cluster).await;
    let work = worker.next().await;
    assert!(refused(&worker, &work, ProviderCondition::AccountRefused).await);
    hasten(&cluster).await;
    worker.free(1).await;
    let work = worker.next().await;
    assert!(!work.ask_first);
    worker.carry_out(&work).await;
    cluster.started(&user).await;
    worker.free(1).await;
    assert!(!worker.next().await.ask_first, "the breaker is closed");
}

#[tokio::test]
async fn a_model_that_no_worker_serves_says_so() {
    let cluster = Cluster::new().await;
    let user = cluster.user(1).await;
    let shown = shows(&cluster, &user, model::State::Unavailable).await.unavailability.unwrap();
    assert_eq!((shown.reason(), shown.since_time), (model::unavailability::Reason::NoWorker, None));
    let _worker = Worker::new(&cluster, 1).await;
    shows(&cluster, &user, model::State::Available).await;
    sqlx::query("update job_servers set seen_time = now() - interval '2 minutes'")
        .execute(&cluster.pool)
        .await
        .unwrap();
    shows(&cluster, &user, model::State::Unavailable).await;
}
