//! The database restored to a time before an order was recorded. What is left then is a queued job without that order, which is what
//! a job is before its first claim, so these tests restore nothing.

use proto::generations::v1::State;
use proto::generations::v1::charge::ProviderCharge;
use proto::work::v1::{FailWorkRequest, FailureClass};
use tonic::Code;

use crate::cluster::{Cluster, PRICE, refusal};
use crate::submissions::hint;
use crate::worker::Worker;

async fn causes(cluster: &Cluster, job: &str) -> Vec<String> {
    let query =
        sqlx::query_scalar("select cause from job_events where job_id = $1::uuid and cause is not null order by id");
    query.bind(job).fetch_all(&cluster.pool).await.unwrap()
}

#[tokio::test]
async fn a_forgotten_order_is_found_by_its_webhook_and_never_ordered_again() {
    let cluster = Cluster::new().await;
    let user = cluster.user(1).await;
    let name = cluster.started(&user).await.name;
    let job = name.trim_start_matches("generations/").to_owned();
    assert!(hint(&cluster, &job, "event-1", "order-1").await, "from here on it is waited for");
    assert!(!hint(&cluster, &job, "event-1", "order-1").await, "heard before");
    assert_eq!(causes(&cluster, &job).await, ["FORGOTTEN_ORDER_FOUND"]);

    let mut worker = Worker::new(&cluster, 1).await;
    let work = worker.next().await;
    assert_eq!((work.in_doubt, work.provider_reference.as_str()), (false, "order-1"));
    assert_eq!((work.poll, work.attempt), (true, 1));
    let shown = cluster.get(&user, &name).await.unwrap();
    assert_eq!((shown.state(), shown.attempt_count), (State::Processing, 1), "it is at work there");
    let beside = refusal(worker.intended(&work).await);
    assert_eq!(beside, (Code::FailedPrecondition, "ILLEGAL_TRANSITION".to_owned()), "no order beside it");
    // A worker records no reference that it was given.
    worker.finalizing(&work).await.unwrap();
    worker.complete(&work).await.unwrap();
    assert_eq!(cluster.get(&user, &name).await.unwrap().state(), State::Completed);
    assert_eq!(cluster.credit(&user).await.spent_micros, PRICE);
}

#[tokio::test]
async fn an_order_that_is_over_is_not_forgotten() {
    let cluster = Cluster::new().await;
    let user = cluster.user(1).await;
    let name = cluster.started(&user).await.name;
    let job = name.trim_start_matches("generations/").to_owned();
    let mut worker = Worker::new(&cluster, 1).await;
    let work = worker.next().await;
    worker.submitted(&work).await.unwrap();
    let failure = FailWorkRequest {
        lease: work.lease.clone(),
        failure_class: FailureClass::Internal.into(),
        message: "it did not work".to_owned(),
        provider_charge: ProviderCharge::NotCharged.into(),
        ..FailWorkRequest::default()
    };
    let failed = cluster.node.works.clone().fail_work(failure).await.unwrap().into_inner();
    assert!(failed.will_retry);
    assert!(!hint(&cluster, &job, "event-1", "order-1").await);
    assert!(causes(&cluster, &job).await.iter().all(|cause| cause != "FORGOTTEN_ORDER_FOUND"));
    // The one after it was forgotten.
    assert!(hint(&cluster, &job, "event-2", "order-2").await);
    assert!(causes(&cluster, &job).await.iter().any(|cause| cause == "FORGOTTEN_ORDER_FOUND"));
    worker.free(1).await;
    let work = worker.next().await;
    assert_eq!((work.provider_reference.as_str(), work.attempt), ("order-2", 2));
    worker.finalizing(&work).await.unwrap();
    worker.complete(&work).await.unwrap();
}
