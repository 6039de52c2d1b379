//! Orders that live at their provider: no lease is kept while they are made, and each poll ends in an outcome or another pause.

use std::time::Duration;

use generation_worker::model::{CallOutcome, Charge, OrderStatus, Trouble};
use proto::work::v1::{FailureClass, OrderTrouble, Trouble as Clock};

use crate::cluster::Cluster;
use crate::fake_provider::{FakeProvider, WORKING, done};
use crate::node::Report;

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_left_to_its_provider_and_polled() {
    let provider = FakeProvider::new([OrderStatus::Waiting { position: Some(3) }, WORKING, done()]).remote();
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
    for outcome in [
        CallOutcome::NotSent,
        CallOutcome::Lost,
        CallOutcome::Unavailable,
        CallOutcome::Unreadable,
        CallOutcome::AccountRefused,
        CallOutcome::Throttled,
    ] {
        let provider = FakeProvider::saying([Err(Trouble::new(outcome, "no"))]).remote();
        let cluster = Cluster::start(provider.registry(), |_| {}).await;
        let suspended = cluster.node.suspended(&poll(&cluster, Clock::Poll, 23 * 3_600)).await;
        assert_eq!((suspended.unconfirmed, suspended.trouble()), (false, Clock::Poll), "{outcome:?}");
        // A day later it ends, with what is known of the charge: nothing.
        let ended = cluster.node.failed(&poll(&cluster, Clock::Poll, 24 * 3_600)).await;
        assert_eq!((ended.failure_class(), ended.reason.as_str()), (FailureClass::Final, "PROVIDER_TIMEOUT"));
        assert!(provider.script().ordered.is_empty());
    }
    let provider = FakeProvider::saying([Err(Trouble::new(CallOutcome::SafetyRefused, "no"))]).remote();
    let cluster = Cluster::start(provider.registry(), |_| {}).await;
    assert_eq!(cluster.node.failed(&poll(&cluster, Clock::Poll, 0)).await.failure_class(), FailureClass::Safety);
}

/// Queues a poll of an order that has been in this trouble for so many seconds.
fn poll(cluster: &Cluster, clock: Clock, seconds: u64) -> String {
    let elapsed = Duration::from_secs(seconds).try_into().ok();
    let trouble = OrderTrouble { trouble: clock.into(), elapsed };
    cluster.node.queue(|work| {
        (work.poll, work.polls, work.provider_reference) = (true, 2, "fake-1".into());
        work.troubles = vec![trouble];
    })
}

/// A single 404 used to order, and pay for, the video three times.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_its_provider_does_not_know_is_asked_for_again_and_never_made_again() {
    for (outcome, reason) in [
        (CallOutcome::NotFound, "OUTPUT_UNAVAILABLE"),
        (CallOutcome::OutputMissing, "OUTPUT_UNAVAILABLE"),
        (CallOutcome::ResultUnavailable, "PROVIDER_INTERNAL"),
    ] {
        let provider = FakeProvider::saying([Err(Trouble::new(outcome, "404"))]).remote().not_idempotent();
        let cluster = Cluster::start(provider.registry(), |_| {}).await;
        let again = cluster.node.suspended(&poll(&cluster, Clock::Order, 590)).await;
        assert_eq!((again.unconfirmed, again.trouble()), (false, Clock::Order), "{outcome:?}");
        let ended = cluster.node.failed(&poll(&cluster, Clock::Order, 600)).await;
        assert_eq!((ended.failure_class(), ended.reason.as_str()), (FailureClass::Final, reason));
        provider.script().polls = [Ok(done())].into();
        cluster.node.completed(&poll(&cluster, Clock::Order, 590)).await;
        assert!(provider.script().ordered.is_empty());
    }
    // Where the same key costs once, the order is sent again under it.
    let provider = FakeProvider::saying([Err(Trouble::new(CallOutcome::NotFound, "404"))]).remote();
    let cluster = Cluster::start(provider.registry(), |_| {}).await;
    let job = cluster.node.queue(|work| {
        (work.poll, work.provider_reference) = (true, format!("fake-{}", work.lease.as_ref().unwrap().job));
    });
    assert_eq!(cluster.node.suspended(&job).await.trouble(), Clock::Unspecified);
    assert_eq!(provider.script().ordered.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_asks_the_provider_and_ends_as_it_says() {
    let stopped = Err(Trouble::new(CallOutcome::Stopped(Charge::Unknown), "stopped"));
    for (says, completes) in [(stopped, false), (Ok(done()), true)] {
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

/// A provider that does not answer keeps nobody from cancelling for longer than the grace.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_ends_after_its_grace_where_the_provider_cannot_be_asked() {
    let provider = FakeProvider::saying([Err(Trouble::new(CallOutcome::AccountRefused, "401"))]).remote();
    let cluster = Cluster::start(provider.registry(), |_| {}).await;
    let cancel = |seconds| {
        let elapsed = Duration::from_secs(seconds).try_into().ok();
        cluster.node.queue(|work| {
            (work.poll, work.cancel_requested, work.provider_reference) = (true, true, "fake-1".into());
            work.troubles = vec![OrderTrouble { trouble: Clock::Poll.into(), elapsed }];
        })
    };
    assert_eq!(cluster.node.suspended(&cancel(590)).await.trouble(), Clock::Poll);
    let ended = cluster.node.failed(&cancel(600)).await;
    assert_eq!((ended.failure_class(), ended.reason.as_str()), (FailureClass::Cancelled, "CANCELLED"));
}
