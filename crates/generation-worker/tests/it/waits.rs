//! Orders that live at their provider: no lease is kept while they are made, and each poll ends in an outcome or another wait.

use generation_worker::providers::{Charge, Class, Failure, OrderStatus};
use proto::work::v1::FailureClass;

use crate::peers::{Said, Stage};
use crate::scripted::{DONE, Scripted, WORKING};

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_left_to_its_provider_and_looked_at() {
    let provider = Scripted::new([OrderStatus::Waiting { position: Some(3) }, WORKING, DONE]).remote();
    let stage = Stage::with(provider.registry(), |_| {}).await;
    let job = stage.peer.give(|_| {});
    let first = stage.peer.suspended(&job).await;
    assert!(!first.unconfirmed && first.poll_after.is_some() && first.percent.is_none(), "{first:?}");
    let said = stage.peer.said(&job);
    assert!(matches!(said[..], [Said::Intended(_), Said::Submitted(_), Said::Suspended(_)]), "{said:?}");
    assert_eq!(provider.script().forgotten, 0);

    // Each poll is a lease of its own; the pauses grow up to a quarter of a minute.
    let poll = |polls| {
        stage.peer.give(move |work| {
            (work.poll, work.polls, work.provider_reference) = (true, polls, "scripted-1".into());
        })
    };
    let waiting = stage.peer.suspended(&poll(1)).await;
    assert_eq!((waiting.stage.as_str(), waiting.percent), ("queued", None));
    let working = stage.peer.suspended(&poll(30)).await;
    assert_eq!((working.stage.as_str(), working.percent), ("rendering", Some(40)));
    assert_eq!(working.poll_after.unwrap().seconds, 15);
    assert!(waiting.poll_after.unwrap().seconds < 15);
    stage.peer.completed(&poll(31)).await;
    assert_eq!(provider.script().ordered.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_that_fails_says_nothing_about_the_order() {
    let provider = Scripted::new([]).remote();
    provider.script().polls.push_back(Err(Failure::internal("bad gateway")));
    let stage = Stage::with(provider.registry(), |_| {}).await;
    let job = stage.peer.give(|work| (work.poll, work.provider_reference) = (true, "scripted-1".into()));
    assert!(!stage.peer.suspended(&job).await.unconfirmed);
    provider.script().polls =
        [Ok(OrderStatus::Failed(Failure { class: Class::Safety, ..Failure::internal("no") }))].into();
    let job = stage.peer.give(|work| (work.poll, work.provider_reference) = (true, "scripted-1".into()));
    assert_eq!(stage.peer.failed(&job).await.failure_class(), FailureClass::Safety);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_video_that_was_made_is_fetched_again_and_not_ordered_again() {
    let provider = Scripted::new([DONE]).remote();
    provider.script().fetches = [Failure::internal("bad gateway"), Failure::bad_output("gone")].into();
    let stage = Stage::with(provider.registry(), |_| {}).await;
    let poll =
        || stage.peer.give(|work| (work.poll, work.polls, work.provider_reference) = (true, 2, "scripted-1".into()));
    let later = stage.peer.suspended(&poll()).await;
    assert!(!later.unconfirmed && later.poll_after.is_some(), "{later:?}");
    // What its provider has no more is no use to wait for.
    assert_eq!(stage.peer.failed(&poll()).await.failure_class(), FailureClass::BadOutput);
    stage.peer.completed(&poll()).await;
    assert!(provider.script().ordered.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_asks_the_provider_and_ends_as_it_says() {
    for (says, completes) in [(OrderStatus::Cancelled(Charge::Unknown), false), (DONE, true)] {
        let provider = Scripted::new([WORKING]).remote();
        provider.script().after_cancel = Some(says);
        let stage = Stage::with(provider.registry(), |_| {}).await;
        let job = stage.peer.give(|work| {
            (work.poll, work.cancel_requested, work.provider_reference) = (true, true, "scripted-1".into());
        });
        if completes {
            stage.peer.completed(&job).await;
        } else {
            assert_eq!(stage.peer.failed(&job).await.failure_class(), FailureClass::Cancelled);
        }
        assert_eq!(provider.script().cancels, 1);
    }
    // One that is in doubt is looked for, and not ordered only to be cancelled.
    let provider = Scripted::new([WORKING]).remote().blind();
    let stage = Stage::with(provider.registry(), |_| {}).await;
    let job = stage.peer.give(|work| (work.poll, work.cancel_requested, work.in_doubt) = (true, true, true));
    let unconfirmed = stage.peer.suspended(&job).await;
    assert!(unconfirmed.unconfirmed && unconfirmed.poll_after.is_none());
    assert!(provider.script().ordered.is_empty());
}
