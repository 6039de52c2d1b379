//! What operators do about many generations at once.

use std::time::Duration;

use proto::generations::v1::charge::ProviderCharge;
use proto::generations::v1::{CancelGenerationRequest, State, WaitReason};
use proto::queues::v1::bulk_resolve_generations_request::Resolution;
use proto::queues::v1::bulk_result::Outcome;
use proto::queues::v1::{
    BulkFilter, BulkRequeueDeadLettersRequest, BulkRequeueDeadLettersResponse, BulkResolveGenerationsRequest,
    BulkResolveGenerationsResponse, BulkResult,
};
use proto::work::v1::Trouble;
use tonic::{Code, Status};

use crate::cluster::{Cluster, PRICE, User, refusal};
use crate::queues::expired;
use crate::worker::Worker;

const MODEL: &str = "models/local-sketch";
const NOTE: &str = "ada: the workers are back";

async fn quick() -> Cluster {
    Cluster::with(|config| config.work.reap_interval = Duration::from_millis(50)).await
}

fn of_model() -> BulkFilter {
    BulkFilter { model: MODEL.to_owned(), ..BulkFilter::default() }
}

/// Asks for dead letters to be requeued, after `change`.
async fn requeue(
    cluster: &Cluster,
    filter: BulkFilter,
    change: impl FnOnce(&mut BulkRequeueDeadLettersRequest),
) -> Result<BulkRequeueDeadLettersResponse, Status> {
    let filter = Some(filter);
    let mut request =
        BulkRequeueDeadLettersRequest { filter, note: NOTE.to_owned(), ..BulkRequeueDeadLettersRequest::default() };
    change(&mut request);
    Ok(cluster.node.queues.clone().bulk_requeue_dead_letters(request).await?.into_inner())
}

/// Asks for generations to be settled, after `change`.
async fn resolve(
    cluster: &Cluster,
    filter: BulkFilter,
    resolution: Resolution,
    change: impl FnOnce(&mut BulkResolveGenerationsRequest),
) -> Result<BulkResolveGenerationsResponse, Status> {
    let mut request = BulkResolveGenerationsRequest {
        filter: Some(filter),
        note: NOTE.to_owned(),
        resolution: Some(resolution),
        ..BulkResolveGenerationsRequest::default()
    };
    change(&mut request);
    Ok(cluster.node.queues.clone().bulk_resolve_generations(request).await?.into_inner())
}

fn names(results: &[BulkResult]) -> Vec<&str> {
    results.iter().map(|result| result.generation.as_str()).collect()
}

/// The names of the generations that were done, or the reason why one was not.
fn outcome(result: &BulkResult) -> Result<String, String> {
    match result.outcome.as_ref().expect("an outcome") {
        Outcome::Done(name) => Ok(name.clone()),
        Outcome::Error(error) => {
            let details = error.details.iter().map(|any| String::from_utf8_lossy(&any.value).into_owned());
            Err(details.collect())
        }
    }
}

/// The lines that operators left in the histories.
async fn notes(cluster: &Cluster) -> i64 {
    sqlx::query_scalar("select count(*) from job_events where detail = $1")
        .bind(NOTE)
        .fetch_one(&cluster.pool)
        .await
        .unwrap()
}

/// Starts a generation whose submission is unconfirmed.
async fn unconfirmed(cluster: &Cluster, worker: &mut Worker, user: &User) -> String {
    let name = cluster.started(user).await.name;
    let work = worker.next().await;
    assert_eq!(work.generation, name);
    worker.intended(&work).await.unwrap();
    worker.suspend_unconfirmed(&work).await.unwrap();
    worker.free(1).await;
    name
}

#[tokio::test]
async fn dead_letters_are_requeued_by_the_page_and_each_once() {
    let cluster = quick().await;
    let (rich, poor) = (cluster.user(9).await, cluster.user(1).await);
    let mut letters = Vec::new();
    for _ in 0..3 {
        letters.push(expired(&cluster, &rich).await);
    }
    letters.push(expired(&cluster, &poor).await);
    letters.reverse();
    // What the poor account's letter cost is spent on something else.
    cluster.started(&poor).await;

    let dry = requeue(&cluster, of_model(), |request| {
        request.validate_only = true;
        request.note.clear();
    });
    let dry = dry.await.unwrap();
    assert_eq!(names(&dry.results), letters);
    assert!(dry.results.iter().all(|result| result.outcome.is_none() && result.provider == "local"), "{dry:?}");
    assert_eq!(requeue(&cluster, of_model(), |request| request.validate_only = true).await.unwrap().results.len(), 4);

    let mut page = requeue(&cluster, of_model(), |request| request.page_size = 2).await.unwrap();
    assert_eq!(names(&page.results), letters[..2]);
    assert!(outcome(&page.results[0]).unwrap_err().contains("INSUFFICIENT_CREDIT"), "{page:?}");
    let mut replaced = vec![outcome(&page.results[1]).unwrap()];
    let next = |filter: BulkFilter, token: String| {
        requeue(&cluster, filter, |request| (request.page_size, request.page_token) = (2, token))
    };
    let other = BulkFilter { provider: "fal".to_owned(), ..of_model() };
    let foreign = refusal(next(other, page.next_page_token.clone()).await);
    assert_eq!(foreign, (Code::InvalidArgument, "PAGE_TOKEN_INVALID".to_owned()));
    page = next(BulkFilter { before_time: page.before_time, ..of_model() }, page.next_page_token).await.unwrap();
    assert_eq!(names(&page.results), letters[2..]);
    replaced.extend(page.results.iter().map(|result| outcome(result).unwrap()));
    assert!(page.next_page_token.is_empty());
    for (name, letter) in replaced.iter().zip(&letters[1..]) {
        let new = cluster.get(&rich, name).await.unwrap();
        assert_eq!((new.state(), new.retried_from.as_str()), (State::Queued, letter.as_str()));
    }
    assert_eq!(cluster.credit(&rich).await.held_micros, 3 * PRICE);
    assert_eq!(notes(&cluster).await, 6, "a line for each letter and for what replaced it");

    // Again: the letter that is left, and nothing twice.
    let again = requeue(&cluster, of_model(), |_| {}).await.unwrap();
    assert_eq!(names(&again.results), letters[..1]);
    assert!(outcome(&again.results[0]).is_err());
    cluster.grant(&poor, PRICE, uuid::Uuid::now_v7()).await.unwrap();
    let both = tokio::join!(requeue(&cluster, of_model(), |_| {}), requeue(&cluster, of_model(), |_| {}));
    let done: Vec<_> = [both.0.unwrap(), both.1.unwrap()].iter().flat_map(|page| page.results.clone()).collect();
    assert!(!done.is_empty());
    assert!(done.windows(2).all(|two| outcome(&two[0]) == outcome(&two[1])), "one replacement: {done:?}");
    assert_eq!(cluster.credit(&poor).await.held_micros, 2 * PRICE);
}

#[tokio::test]
async fn a_filter_is_every_condition_that_it_has() {
    let cluster = quick().await;
    let (one, other) = (cluster.user(2).await, cluster.user(2).await);
    let (first, second) = (expired(&cluster, &one).await, expired(&cluster, &other).await);
    sqlx::query("update jobs set finished_at = finished_at - interval '1 hour' where id = $1::uuid")
        .bind(first.trim_start_matches("generations/"))
        .execute(&cluster.pool)
        .await
        .unwrap();
    let account = format!("accounts/{}", other.account);
    let minutes = |minutes: i64| Some(prost_types::Duration { seconds: minutes * 60, nanos: 0 });
    let filter = BulkFilter::default;
    for (filter, expected) in [
        (of_model(), vec![&second, &first]),
        (BulkFilter { model: "models/other".to_owned(), ..filter() }, vec![]),
        (BulkFilter { provider: "local".to_owned(), ..filter() }, vec![&second, &first]),
        (BulkFilter { provider: "replicate".to_owned(), ..filter() }, vec![]),
        (BulkFilter { provider: "replicate".to_owned(), ..of_model() }, vec![]),
        (BulkFilter { account: account.clone(), ..filter() }, vec![&second]),
        (BulkFilter { reason: "START_DEADLINE".to_owned(), ..filter() }, vec![&second, &first]),
        (BulkFilter { reason: "LEASE_EXPIRED".to_owned(), ..of_model() }, vec![]),
        (BulkFilter { min_age: minutes(0), ..filter() }, vec![&second, &first]),
        (BulkFilter { min_age: minutes(30), ..filter() }, vec![&first]),
        (BulkFilter { min_age: minutes(90), ..filter() }, vec![]),
        (BulkFilter { min_age: minutes(30), account, ..filter() }, vec![]),
    ] {
        let chosen = requeue(&cluster, filter.clone(), |request| request.validate_only = true).await.unwrap();
        assert_eq!(names(&chosen.results), expected, "{filter:?}");
    }
    for wrong in [
        filter(),
        BulkFilter { model: "local-sketch".to_owned(), ..filter() },
        BulkFilter { account: "x".to_owned(), ..filter() },
        BulkFilter { reason: "two\nlines".to_owned(), ..filter() },
        BulkFilter { min_age: minutes(-1), ..filter() },
        BulkFilter { min_age: minutes(1), before_time: Some(prost_types::Timestamp::default()), ..filter() },
    ] {
        let refused = refusal(requeue(&cluster, wrong.clone(), |request| request.validate_only = true).await);
        assert_eq!(refused.0, Code::InvalidArgument, "{wrong:?}");
    }
    let silent = requeue(&cluster, of_model(), |request| request.note.clear()).await;
    assert_eq!(refusal(silent).0, Code::InvalidArgument, "a change says who and why");
}

#[tokio::test]
async fn unconfirmed_submissions_are_settled_together() {
    let cluster = quick().await;
    let user = cluster.user(9).await;
    let mut worker = Worker::new(&cluster, 1).await;
    let mut stuck = Vec::new();
    for _ in 0..3 {
        stuck.push(unconfirmed(&cluster, &mut worker, &user).await);
    }
    // One that is well, one that is queued and one that is to be stopped are no business of this.
    let well = cluster.started(&user).await.name;
    let work = worker.next().await;
    worker.submitted(&work).await.unwrap();
    worker.suspend(&work, |request| request.poll_after.as_mut().unwrap().seconds = 3_600).await.unwrap();
    let queued = cluster.started(&user).await.name;
    let cancelled = stuck.pop().unwrap();
    let request = user.asks(CancelGenerationRequest { name: cancelled.clone() });
    cluster.node.generations.clone().cancel_generation(request).await.unwrap();

    let unknown = Resolution::Failed(ProviderCharge::Unknown.into());
    let dry = resolve(&cluster, of_model(), unknown, |request| request.validate_only = true).await.unwrap();
    assert_eq!(names(&dry.results), stuck);
    assert_eq!(cluster.get(&user, &stuck[0]).await.unwrap().wait_reason(), WaitReason::SubmissionUnconfirmed);

    let first = resolve(&cluster, of_model(), unknown, |request| request.page_size = 1).await.unwrap();
    assert_eq!(outcome(&first.results[0]).as_deref(), Ok(stuck[0].as_str()));
    let failed = cluster.get(&user, &stuck[0]).await.unwrap();
    let charge = failed.charge.clone().unwrap();
    assert_eq!((failed.state(), charge.provider_charge()), (State::Failed, ProviderCharge::Unknown));
    assert_eq!(charge.released_micros, PRICE, "the user never pays for a doubt");

    let again = resolve(&cluster, of_model(), Resolution::Requeue(true), |_| {}).await.unwrap();
    assert_eq!(names(&again.results), stuck[1..]);
    assert_eq!(cluster.get(&user, &stuck[1]).await.unwrap().state(), State::Queued);
    assert!(resolve(&cluster, of_model(), Resolution::Requeue(true), |_| {}).await.unwrap().results.is_empty());
    assert_eq!(notes(&cluster).await, 2);
    for (name, state) in [(&well, State::Processing), (&queued, State::Queued), (&cancelled, State::Cancelling)] {
        assert_eq!(cluster.get(&user, name).await.unwrap().state(), state, "{name}");
    }
}

/// What was unconfirmed again since is another doubt, about another order.
#[tokio::test]
async fn a_repetition_settles_nothing_that_became_so_since() {
    let cluster = quick().await;
    let user = cluster.user(1).await;
    let mut worker = Worker::new(&cluster, 1).await;
    let name = unconfirmed(&cluster, &mut worker, &user).await;
    let first = resolve(&cluster, of_model(), Resolution::Requeue(true), |_| {}).await.unwrap();
    assert_eq!(names(&first.results), [&name]);
    let work = worker.next().await;
    worker.intended(&work).await.unwrap();
    worker.suspend_unconfirmed(&work).await.unwrap();
    let same = BulkFilter { before_time: first.before_time, ..of_model() };
    assert!(resolve(&cluster, same, Resolution::Requeue(true), |_| {}).await.unwrap().results.is_empty());
    assert_eq!(resolve(&cluster, of_model(), Resolution::Requeue(true), |_| {}).await.unwrap().results.len(), 1);
}

#[tokio::test]
async fn orders_in_trouble_are_ended_by_their_reason_and_never_ordered_again() {
    let cluster = quick().await;
    let user = cluster.user(2).await;
    let mut worker = Worker::new(&cluster, 2).await;
    let mut works = Vec::new();
    for _ in 0..2 {
        cluster.started(&user).await;
        let work = worker.next().await;
        worker.submitted(&work).await.unwrap();
        works.push(work);
    }
    worker.finalizing(&works[0]).await.unwrap();
    let later = |request: &mut proto::work::v1::SuspendWorkRequest| {
        request.poll_after.as_mut().unwrap().seconds = 3_600;
    };
    worker.suspend(&works[0], |request| (later(request), request.set_trouble(Trouble::Output)).0).await.unwrap();
    worker.suspend(&works[1], later).await.unwrap();
    let delayed = BulkFilter { reason: "OUTPUT_DELAYED".to_owned(), ..BulkFilter::default() };
    let again = refusal(resolve(&cluster, delayed.clone(), Resolution::Requeue(true), |_| {}).await);
    assert_eq!(again.0, Code::InvalidArgument);
    let unknown = BulkFilter { reason: "CAPACITY".to_owned(), ..BulkFilter::default() };
    let charged = Resolution::Failed(ProviderCharge::Charged.into());
    assert_eq!(refusal(resolve(&cluster, unknown, charged, |_| {}).await).0, Code::InvalidArgument);
    assert!(resolve(&cluster, of_model(), charged, |_| {}).await.unwrap().results.is_empty(), "none is unconfirmed");
    let ended = resolve(&cluster, delayed, charged, |_| {}).await.unwrap();
    assert_eq!(names(&ended.results), [&works[0].generation]);
    assert_eq!(cluster.get(&user, &works[0].generation).await.unwrap().state(), State::Failed);
    assert_eq!(cluster.get(&user, &works[1].generation).await.unwrap().state(), State::Processing);
}
