//! Orders that live at their provider: no lease is kept while they are made, and each poll ends in an outcome or another pause.

use generation_worker::model::{Charge, Class, Failure, OrderStatus};
use proto::work::v1::FailureClass;

use crate::cluster::Cluster;
use crate::fake_provider::{DONE, FakeProvider, WORKING};
use crate::node::Report;

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_left_to_its_provider_and_polled() {
    let provider = FakeProvider::new([OrderStatus::Waiting { position: Some(3) }, WORKING, DONE]).remote();
    let cluster = Cluster::start(provider.registry(), |_| {}).await;
    let job = cluster.node.queue(|_| {});
    let first = cluster.node.suspended(&job).await;
    assert!(!first.unconfirmed && first.poll_after.is_some() && first.percent.is_none(), "{first:?}");
    let reports = cluster.node.reports(&job);
    let expected = matches!(reports[..], [Report::Intended(_), Report::Submitted(_), Report::Suspended(_)]);
    assert!(expected, "{reports:?}");
    assert_eq!(provider.script().forgotten, 0);

    // Each poll is a lease of its own; the pauses grow up to a quarter of a minute.
    let poll = |polls| {
        cluster.node.queue(move |work| {
            (work.poll, work.polls, work.provider_reference) = (true, polls, "fake-1".into());
        })
    };
    let waiting = cluster.node.suspended(&poll(1)).await;
    assert_eq!((waiting.stage.as_str(), waiting.percent), ("queued", None));
    let working = cluster.node.suspended(&poll(30)).await;
    assert_eq!((working.stage.as_str(), working.percent), ("rendering", Some(40)));
    assert_eq!(working.poll_after.unwrap().seconds, 15);
    assert!(waiting.poll_after.unwrap().seconds < 15);
    cluster.node.completed(&poll(31)).await;
    assert_eq!(provider.script().ordered.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_that_fails_says_nothing_about_the_order() {
    let provider = FakeProvider::new([]).remote();
    provider.script().polls.push_back(Err(Failure::internal("bad gateway")));
    let cluster = Cluster::start(provider.registry(), |_| {}).await;
    let job = cluster.node.queue(|work| (work.poll, work.provider_reference) = (true, "fake-1".into()));
    assert!(!cluster.node.suspended(&job).await.unconfirmed);
    provider.script().polls =
        [Ok(OrderStatus::Failed(Failure { class: Class::Safety, ..Failure::internal("no") }))].into();
    let job = cluster.node.queue(|work| (work.poll, work.provider_reference) = (true, "fake-1".into()));
    assert_eq!(cluster.node.failed(&job).await.failure_class(), FailureClass::Safety);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_video_that_was_made_is_fetched_again_and_not_ordered_again() {
    let provider = FakeProvider::new([DONE]).remote();
    provider.script().fetches = [Failure::internal("bad gateway"), Failure::bad_output("gone")].into();
    let cluster = Cluster::start(provider.registry(), |_| {}).await;
    let poll =
        || cluster.node.queue(|work| (work.poll, work.polls, work.provider_reference) = (true, 2, "fake-1".into()));
    let later = cluster.node.suspended(&poll()).await;
    assert!(!later.unconfirmed && later.poll_after.is_some(), "{later:?}");
    // What its provider has no more is not worth waiting for.
    assert_eq!(cluster.node.failed(&poll()).await.failure_class(), FailureClass::BadOutput);
    cluster.node.completed(&poll()).await;
    assert!(provider.script().ordered.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_asks_the_provider_and_ends_as_it_says() {
    for (says, completes) in [(OrderStatus::Cancelled(Charge::Unknown), false), (DONE, true)] {
        let provider = FakeProvider::new([WORKING]).remote();
        provider.script().after_cancel = Some(says);
        let cluster = Cluster::start(provider.registry(), |_| {}).await;
        let job = cluster.node.queue(|work| {
            (work.poll, work.cancel_requested, work.provider_reference) = (true, true, "fake-1".into());
        });
        if completes {
            cluster.node.completed(&job).await;
        } else {
            assert_eq!(cluster.node.failed(&job).await.failure_class(), FailureClass::Cancelled);
        }
        assert_eq!(provider.script().cancels, 1);
    }
    // One that is unconfirmed is searched for, and not ordered only to be cancelled.
    let provider = FakeProvider::new([WORKING]).remote().without_search();
    let cluster = Cluster::start(provider.registry(), |_| {}).await;
    let job = cluster.node.queue(|work| (work.poll, work.cancel_requested, work.in_doubt) = (true, true, true));
    let unconfirmed = cluster.node.suspended(&job).await;
    assert!(unconfirmed.unconfirmed && unconfirmed.poll_after.is_none());
    assert!(provider.script().ordered.is_empty());
}
