//! What may go wrong with a provider, and what is reported of it: failure classes, lost answers, results that cannot be used.

use std::collections::VecDeque;
use std::time::Duration;

use generation_worker::model::{Class, Evidence, Failure, NotSubmitted, OrderStatus};
use proto::generations::v1::charge::ProviderCharge;
use proto::work::v1::{FailWorkRequest, FailureClass};
use tonic::Status;
use uuid::Uuid;

use crate::cluster::Cluster;
use crate::fake_provider::{DONE, FakeProvider, WORKING};
use crate::node::Report;

async fn failed(provider: &FakeProvider) -> FailWorkRequest {
    let cluster = Cluster::start(provider.registry(), |_| {}).await;
    let job = cluster.node.queue(|_| {});
    cluster.node.failed(&job).await
}

fn failure(class: Class) -> Failure {
    Failure { class, retry_after: Some(Duration::from_secs(7)), ..Failure::internal("as it said") }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_class_is_reported_as_it_is() {
    for (class, reported) in [
        (Class::Internal, FailureClass::Internal),
        (Class::Throttled, FailureClass::Throttled),
        (Class::InvalidInput, FailureClass::InvalidInput),
        (Class::Safety, FailureClass::Safety),
        (Class::BadOutput, FailureClass::BadOutput),
    ] {
        let at_poll = FakeProvider::new([WORKING, OrderStatus::Failed(failure(class))]);
        let at_order = FakeProvider::new([DONE]);
        at_order.script().submits.push_back(NotSubmitted::Refused(failure(class)));
        for provider in [at_poll, at_order] {
            let charged = if provider.script().submits.is_empty() {
                ProviderCharge::Unspecified
            } else {
                ProviderCharge::NotCharged
            };
            let request = failed(&provider).await;
            assert_eq!((request.failure_class(), request.provider_charge()), (reported, charged));
            assert_eq!((request.message.as_str(), request.retry_after.unwrap().seconds), ("as it said", 7));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_asked_for_again_under_the_same_key() {
    let provider = FakeProvider::new([DONE]);
    provider.script().submits = VecDeque::from([
        NotSubmitted::unconfirmed("the connection broke", Evidence::default()),
        NotSubmitted::unconfirmed("the connection broke", Evidence::default()),
    ]);
    let cluster = Cluster::start(provider.registry(), |_| {}).await;
    let job = cluster.node.queue(|_| {});
    cluster.node.completed(&job).await;
    let key = Uuid::try_parse(&job).unwrap();
    assert_eq!(provider.script().ordered, [key; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_that_promise_nothing_is_ordered_twice() {
    // What can be searched is searched for again later, what cannot be waits for a webhook or an operator.
    for (provider, searched) in [
        (FakeProvider::new([DONE]).not_idempotent(), true),
        (FakeProvider::new([DONE]).not_idempotent().without_search(), false),
    ] {
        provider.script().submits.push_back(NotSubmitted::unconfirmed("the connection broke", Evidence::default()));
        let cluster = Cluster::start(provider.registry(), |_| {}).await;
        let job = cluster.node.queue(|_| {});
        let unconfirmed = cluster.node.suspended(&job).await;
        assert!(unconfirmed.unconfirmed && unconfirmed.poll_after.is_some() == searched, "{unconfirmed:?}");
        assert_eq!(unconfirmed.message, "the connection broke");
        assert_eq!(provider.script().ordered.len(), 1);

        // Nor by whoever takes it over, not even when nothing is found under the key.
        let job = cluster.node.queue(|work| work.in_doubt = true);
        assert!(cluster.node.suspended(&job).await.unconfirmed);
        assert_eq!(provider.script().ordered.len(), 1);
        let reports = cluster.node.reports(&job);
        assert!(matches!(reports[..], [Report::Suspended(_)]), "{reports:?}");
    }
    let found = FakeProvider::new([DONE]).not_idempotent();
    found.script().finds = true;
    let cluster = Cluster::start(found.registry(), |_| {}).await;
    let job = cluster.node.queue(|work| work.in_doubt = true);
    cluster.node.completed(&job).await;
    assert!(found.script().ordered.is_empty());

    let forgetful = FakeProvider::new([WORKING, OrderStatus::Unknown]).not_idempotent();
    assert_eq!(failed(&forgetful).await.reason, "OUTPUT_UNAVAILABLE");
    assert_eq!(forgetful.script().ordered.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unconfirmed_order_is_confirmed_under_the_same_key_where_that_costs_nothing() {
    let provider = FakeProvider::new([DONE]).without_search();
    let cluster = Cluster::start(provider.registry(), |_| {}).await;
    let job = cluster.node.queue(|work| work.in_doubt = true);
    cluster.node.completed(&job).await;
    assert_eq!(provider.script().ordered, [Uuid::try_parse(&job).unwrap()]);
    assert!(
        !cluster.node.reports(&job).iter().any(|report| matches!(report, Report::Intended(_))),
        "it stands already"
    );
}

/// That the second submission is refused says nothing about the first.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_after_a_lost_answer_settles_nothing() {
    let provider = FakeProvider::new([DONE]).without_search();
    let refusals = std::iter::repeat_n(NotSubmitted::Refused(failure(Class::Throttled)), 10);
    provider.script().submits.push_back(NotSubmitted::unconfirmed("the connection broke", Evidence::default()));
    provider.script().submits.extend(refusals);
    let cluster = Cluster::start(provider.registry(), |_| {}).await;
    let job = cluster.node.queue(|_| {});
    assert!(cluster.node.suspended(&job).await.unconfirmed);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_byte_leaves_before_the_intent_is_committed() {
    let provider = FakeProvider::new([DONE]);
    // With one slot the second is begun once the first was let go of.
    let cluster = Cluster::start(provider.registry(), |config| config.work.slots = 1).await;
    cluster.node.refuse_next("record_intent", Status::aborted("another has it"));
    let job = cluster.node.queue(|_| {});
    let next = cluster.node.queue(|_| {});
    cluster.node.completed(&next).await;
    assert!(cluster.node.reports(&job).is_empty());
    assert_eq!(provider.script().ordered, [Uuid::try_parse(&next).unwrap()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_searched_for_first() {
    for provider in [FakeProvider::new([DONE]), FakeProvider::new([DONE]).not_idempotent()] {
        provider.script().finds = true;
        provider.script().submits.push_back(NotSubmitted::unconfirmed("the connection broke", Evidence::default()));
        let cluster = Cluster::start(provider.registry(), |_| {}).await;
        let job = cluster.node.queue(|_| {});
        cluster.node.completed(&job).await;
        assert_eq!(provider.script().ordered.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_cannot_be_asked_for_a_while_is_waited_for() {
    let provider = FakeProvider::new([]);
    let mut polls: VecDeque<_> = (0..15).map(|_| Err(failure(Class::Internal))).collect();
    polls.extend([Ok(WORKING), Ok(DONE)]);
    provider.script().polls = polls;
    let cluster = Cluster::start(provider.registry(), |_| {}).await;
    let job = cluster.node.queue(|_| {});
    cluster.node.completed(&job).await;
    provider.script().polls = VecDeque::from([Err(failure(Class::Internal))]);
    let job = cluster.node.queue(|_| {});
    assert_eq!(cluster.node.failed(&job).await.reason, "PROVIDER_INTERNAL");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_takes_too_long_is_stopped() {
    let provider = FakeProvider::new([WORKING]);
    let cluster =
        Cluster::start(provider.registry(), |config| config.work.order_timeout = Duration::from_millis(100)).await;
    let job = cluster.node.queue(|_| {});
    assert_eq!(cluster.node.failed(&job).await.reason, "PROVIDER_TIMEOUT");
    assert_eq!(provider.script().cancels, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_cannot_be_used_is_reported_so() {
    for video in [Vec::new(), vec![0; (8 << 20) + 1]] {
        let provider = FakeProvider::new([DONE]);
        provider.script().video = video;
        let request = failed(&provider).await;
        assert_eq!(
            (request.failure_class(), request.reason.as_str()),
            (FailureClass::BadOutput, "PROVIDER_BAD_OUTPUT")
        );
    }
    let provider = FakeProvider::new([DONE]);
    let cluster = Cluster::start(provider.registry(), |_| {}).await;
    cluster.node.refuse_next("register_output", Status::invalid_argument("is neither MP4 nor WebM"));
    let job = cluster.node.queue(|_| {});
    let request = cluster.node.failed(&job).await;
    assert_eq!(request.failure_class(), FailureClass::BadOutput);
    assert!(request.message.contains("neither MP4 nor WebM"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poster_is_waited_for_while_its_maker_is_away() {
    let provider = FakeProvider::new([DONE]);
    let cluster = Cluster::start(provider.registry(), |_| {}).await;
    cluster.node.refuse_next("register_output", Status::unavailable("restarting"));
    cluster.node.refuse_next("register_output", Status::resource_exhausted("busy"));
    let mut account = String::new();
    let job = cluster.node.queue(|work| account.clone_from(&work.account));
    cluster.node.completed(&job).await;
    let registered = cluster.node.state().registered.clone();
    assert_eq!(registered.len(), 1);
    assert_eq!(format!("accounts/{}", registered[0].0), account);
    assert_eq!(registered[0].1.extension, "mp4");
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_cannot_be_read_is_reported_so() {
    let provider = FakeProvider::new([DONE]);
    let cluster = Cluster::start(provider.registry(), |_| {}).await;
    let unknown = cluster.node.queue(|work| work.model = "models/none".into());
    let nobody = cluster.node.queue(|work| work.account = "nobody".into());
    for job in [unknown, nobody] {
        assert_eq!(cluster.node.failed(&job).await.failure_class(), FailureClass::Internal);
    }
    assert!(provider.script().ordered.is_empty());
}
