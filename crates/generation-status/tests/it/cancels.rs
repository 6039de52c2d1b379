//! CancelGeneration, and the races that it can get into.

use proto::generations::v1::charge::ProviderCharge;
use proto::generations::v1::{CancelGenerationRequest, Generation, State};
use proto::work::v1::{FailWorkRequest, FailureClass};
use tonic::{Code, Status};

use crate::cluster::{Cluster, PRICE, User, refusal};
use crate::worker::Worker;

async fn cancel(cluster: &Cluster, user: &User, name: &str) -> Result<Generation, Status> {
    let request = user.asks(CancelGenerationRequest { name: name.to_owned() });
    Ok(cluster.node.generations.clone().cancel_generation(request).await?.into_inner())
}

#[tokio::test]
async fn a_queued_generation_is_cancelled_at_once() {
    let cluster = Cluster::new().await;
    let user = cluster.user(1).await;
    let name = cluster.started(&user).await.name;
    let cancelled = cancel(&cluster, &user, &name).await.unwrap();
    assert_eq!((cancelled.state(), cancelled.version), (State::Cancelled, 2));
    assert_eq!(cancel(&cluster, &user, &name).await.unwrap(), cancelled, "twice is once");
    let credit = cluster.credit(&user).await;
    assert_eq!((credit.available_micros, credit.held_micros), (PRICE, 0));
}

#[tokio::test]
async fn a_running_generation_is_asked_to_stop() {
    let cluster = Cluster::new().await;
    let user = cluster.user(1).await;
    let name = cluster.started(&user).await.name;
    let mut worker = Worker::new(&cluster, 1).await;
    let work = worker.next().await;
    worker.submitted(&work).await.unwrap();
    let asked = cancel(&cluster, &user, &name).await.unwrap();
    assert_eq!(asked.state(), State::Cancelling);
    assert_eq!(cancel(&cluster, &user, &name).await.unwrap(), asked);
    assert_eq!(worker.heartbeat(&work).await, (true, true));
    assert!(worker.progress(&work, 70).await.unwrap());
    assert_eq!(cluster.credit(&user).await.held_micros, PRICE, "until the provider has spoken");
    assert!(!worker.fail(&work, FailureClass::Cancelled).await.unwrap());
    assert_eq!(cluster.get(&user, &name).await.unwrap().state(), State::Cancelled);
    assert_eq!(cluster.credit(&user).await.available_micros, PRICE);
}

#[tokio::test]
async fn a_failure_while_cancelling_is_a_cancel() {
    let cluster = Cluster::new().await;
    let user = cluster.user(1).await;
    let name = cluster.started(&user).await.name;
    let mut worker = Worker::new(&cluster, 1).await;
    let work = worker.next().await;
    cancel(&cluster, &user, &name).await.unwrap();
    assert!(!worker.fail(&work, FailureClass::Internal).await.unwrap(), "nobody wants another attempt");
    assert_eq!(cluster.get(&user, &name).await.unwrap().state(), State::Cancelled);
}

/// One that was cancelled between its claim and its intent used to wait for two leases to run out, with its hold.
#[tokio::test]
async fn what_is_cancelled_after_its_claim_is_never_ordered() {
    let cluster = Cluster::new().await;
    let user = cluster.user(1).await;
    let name = cluster.started(&user).await.name;
    let mut worker = Worker::new(&cluster, 1).await;
    let work = worker.next().await;
    assert_eq!(cancel(&cluster, &user, &name).await.unwrap().state(), State::Cancelling);
    let refused = refusal(worker.intended(&work).await);
    assert_eq!(refused, (Code::FailedPrecondition, "ILLEGAL_TRANSITION".to_owned()));
    let orders: i64 = sqlx::query_scalar("select count(*) from provider_calls").fetch_one(&cluster.pool).await.unwrap();
    assert_eq!(orders, 0);
    let uncharged = |request: &mut FailWorkRequest| request.set_provider_charge(ProviderCharge::NotCharged);
    assert!(!worker.fail_with(&work, FailureClass::Cancelled, uncharged).await.unwrap());
    let ended = cluster.get(&user, &name).await.unwrap();
    assert_eq!(
        (ended.state(), ended.charge.unwrap().provider_charge()),
        (State::Cancelled, ProviderCharge::NotCharged)
    );
    assert_eq!(cluster.credit(&user).await.available_micros, PRICE);
}

#[tokio::test]
async fn finished_work_wins() {
    let cluster = Cluster::new().await;
    let user = cluster.user(2).await;
    for asked_first in [true, false] {
        let name = cluster.started(&user).await.name;
        let mut worker = Worker::new(&cluster, 1).await;
        let work = worker.next().await;
        worker.submitted(&work).await.unwrap();
        if asked_first {
            assert_eq!(cancel(&cluster, &user, &name).await.unwrap().state(), State::Cancelling);
            worker.finalizing(&work).await.unwrap();
        } else {
            worker.finalizing(&work).await.unwrap();
            assert_eq!(cancel(&cluster, &user, &name).await.unwrap().state(), State::Finalizing);
        }
        assert_eq!(worker.heartbeat(&work).await, (true, false), "there is nothing to stop any more");
        worker.complete(&work).await.unwrap();
        assert_eq!(cancel(&cluster, &user, &name).await.unwrap().state(), State::Completed);
    }
    assert_eq!(cluster.credit(&user).await.spent_micros, 2 * PRICE);
}

#[tokio::test]
async fn a_cancel_outlives_its_worker() {
    let cluster = Cluster::with(|config| config.work.reap_interval = std::time::Duration::from_millis(50)).await;
    let user = cluster.user(1).await;
    let name = cluster.started(&user).await.name;
    let mut vanished = Worker::new(&cluster, 1).await;
    let lost = vanished.next().await;
    vanished.submitted(&lost).await.unwrap();
    drop(vanished);
    assert_eq!(cancel(&cluster, &user, &name).await.unwrap().state(), State::Cancelling);
    cluster.expire_leases().await;
    let mut worker = Worker::new(&cluster, 1).await;
    let work = worker.next().await;
    assert!(work.cancel_requested && work.provider_reference == "order-1");
    worker.fail(&work, FailureClass::Cancelled).await.unwrap();
    assert_eq!(cluster.get(&user, &name).await.unwrap().state(), State::Cancelled);
}

#[tokio::test]
async fn finished_work_wins_also_when_its_worker_vanishes() {
    let cluster = Cluster::with(|config| config.work.reap_interval = std::time::Duration::from_millis(50)).await;
    let user = cluster.user(1).await;
    let name = cluster.started(&user).await.name;
    let mut vanished = Worker::new(&cluster, 1).await;
    let lost = vanished.next().await;
    vanished.submitted(&lost).await.unwrap();
    cancel(&cluster, &user, &name).await.unwrap();
    vanished.finalizing(&lost).await.unwrap();
    cluster.expire_leases().await;
    let mut worker = Worker::new(&cluster, 1).await;
    let work = worker.next().await;
    assert!(!work.cancel_requested, "nothing is to be stopped any more");
    worker.carry_out(&work).await;
    assert_eq!(cluster.get(&user, &name).await.unwrap().state(), State::Completed);
}

/// A worker finishing and a user cancelling at the same moment, many times: one of them wins, and the money follows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancels_race_with_work() {
    let cluster = Cluster::new().await;
    let user = cluster.user(40).await;
    let mut worker = Worker::new(&cluster, 1).await;
    let (mut completed, mut cancelled) = (0, 0);
    for round in 0..40 {
        let name = cluster.started(&user).await.name;
        let late = std::time::Duration::from_micros(fastrand::u64(0..15_000));
        let stop = async {
            tokio::time::sleep(late).await;
            cancel(&cluster, &user, &name).await.unwrap()
        };
        let carry_out = async {
            // Where the cancel comes first there is no work.
            let next = tokio::time::timeout(std::time::Duration::from_millis(1_500), worker.next()).await;
            let Ok(work) = next else { return false };
            let done = async {
                worker.submitted(&work).await?;
                worker.progress(&work, 50).await?;
                worker.finalizing(&work).await?;
                worker.complete(&work).await
            };
            if done.await.is_err() {
                worker.fail(&work, FailureClass::Cancelled).await.unwrap();
            }
            true
        };
        let (_, worked) = tokio::join!(stop, carry_out);
        match cluster.get(&user, &name).await.unwrap().state() {
            State::Completed => completed += 1,
            State::Cancelled => cancelled += 1,
            other => panic!("round {round} ended {other:?}"),
        }
        if worked {
            worker.free(1).await;
        }
    }
    let credit = cluster.credit(&user).await;
    assert_eq!((credit.spent_micros, credit.held_micros), (completed * PRICE, 0));
    assert_eq!(completed + cancelled, 40);
}
