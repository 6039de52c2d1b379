//! The way of a piece of work between the worker and its neighbours: told in order, each thing once, with the fence.

use std::sync::Arc;
use std::time::Duration;

use generation_worker::providers::local::{self, Local};
use generation_worker::providers::{Charge, Made, OrderStatus, Registry};
use proto::work::v1::FailureClass;
use tonic::Status;

use crate::peers::{Said, Stage};
use crate::scripted::{DONE, Scripted, WORKING};

fn sketches() -> Registry {
    Registry::default().with(local::MODEL, Arc::new(Local::new(Duration::ZERO, 2)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sketch_is_made_stored_and_delivered() {
    let stage = Stage::with(sketches(), |_| {}).await;
    let job =
        stage.peer.give(|work| work.traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into());
    let completed = stage.peer.completed(&job).await;
    let lease = completed.lease.unwrap();
    assert_eq!((lease.job.as_str(), lease.fence), (job.as_str(), 1));
    assert_eq!((completed.cost_micros, completed.extension.as_str()), (250_000, "mp4"));
    let output = completed.output.unwrap();
    assert_eq!((output.width, output.height, output.mime_type.as_str()), (640, 360, "video/mp4"));
    assert_eq!(output.duration.unwrap().seconds, 3);
    assert_eq!((output.poster.as_str(), output.poster_missing_reason.as_str()), ("assets/poster", ""));

    let said = stage.peer.said(&job);
    assert!(matches!(&said[0], Said::Intended(provider) if provider == "local"), "{said:?}");
    let said = &said[1..];
    let order: Vec<u8> = said
        .iter()
        .map(|said| match said {
            Said::Intended(_) | Said::Suspended(_) => 9,
            Said::Submitted(_) => 0,
            Said::Progress(..) => 1,
            Said::Finalizing => 2,
            Said::Completed(_) => 3,
            Said::Failed(_) | Said::Released => 4,
        })
        .collect();
    assert!(order.is_sorted() && order.iter().filter(|n| **n != 1).eq(&[0, 2, 3]), "{said:?}");
    assert!(matches!(&said[0], Said::Submitted(reference) if *reference == format!("local-{job}")), "{said:?}");
    let told =
        |said: &Said| if let Said::Progress(percent, stage) = said { Some((*percent, stage.clone())) } else { None };
    let progress: Vec<_> = said.iter().filter_map(told).collect();
    assert!(progress.is_sorted_by_key(|(percent, _)| *percent), "{progress:?}");
    assert!(progress.iter().all(|(percent, stage)| (0..=100).contains(percent) && !stage.is_empty()), "{progress:?}");
    let name = output.asset.strip_prefix("assets/").unwrap();
    let bytes = stage.blobs.get(&format!("{name}.mp4").parse().unwrap()).await.unwrap();
    assert_eq!(&bytes[4..8], b"ftyp");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_of_an_earlier_attempt_is_gone_on_with() {
    let provider = Scripted::new([WORKING, DONE]);
    let stage = Stage::with(provider.registry(), |_| {}).await;
    let job = stage.peer.give(|work| work.provider_reference = "scripted-before".into());
    stage.peer.completed(&job).await;
    assert!(provider.script().ordered.is_empty(), "nothing was ordered again");
    assert!(!stage.peer.said(&job).iter().any(|said| matches!(said, Said::Submitted(_))));
    // The built-in provider forgets with its process; there the same key is drawn again.
    let stage = Stage::with(sketches(), |_| {}).await;
    let job = stage.peer.give(|work| {
        work.provider_reference = format!("local-{}", work.lease.as_ref().unwrap().job);
        work.attempt = 2;
    });
    stage.peer.completed(&job).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_fence_ends_all_talk_of_the_work() {
    for method in ["record_submission", "report_progress", "complete_work"] {
        let provider = Scripted::new([WORKING, WORKING, WORKING, DONE]);
        let stage = Stage::with(provider.registry(), |_| {}).await;
        stage.peer.answer(method, Status::aborted("another has it"));
        let job = stage.peer.give(|_| {});
        let forgotten = testkit::eventually("the order is let go of", Duration::from_secs(10), async || {
            (provider.script().forgotten == 1).then_some(())
        });
        forgotten.await.unwrap();
        let said = stage.peer.said(&job);
        let ended = |said: &Said| matches!(said, Said::Completed(_) | Said::Failed(_) | Said::Released);
        assert!(!said.iter().any(ended), "{method}: {said:?}");
        // The worker itself goes on.
        let next = stage.peer.give(|_| {});
        stage.peer.completed(&next).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_a_heartbeat_calls_lost_is_let_go_of() {
    let provider = Scripted::new([WORKING]);
    let stage = Stage::with(provider.registry(), |_| {}).await;
    let job = stage.peer.give(|_| {});
    stage.peer.hears(&job, "it is submitted", |said| matches!(said, Said::Submitted(_)).then_some(())).await;
    stage.peer.state().lost = true;
    let forgotten = testkit::eventually("the order is let go of", Duration::from_secs(10), async || {
        (provider.script().forgotten == 1).then_some(())
    });
    forgotten.await.unwrap();
    let ended = |said: &Said| matches!(said, Said::Completed(_) | Said::Failed(_) | Said::Released);
    assert!(!stage.peer.said(&job).iter().any(ended));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_is_passed_on_and_its_outcome_told() {
    let provider = Scripted::new([WORKING]);
    provider.script().after_cancel = Some(OrderStatus::Cancelled(Charge::Unknown));
    let stage = Stage::with(provider.registry(), |_| {}).await;
    let job = stage.peer.give(|_| {});
    stage.peer.hears(&job, "it is submitted", |said| matches!(said, Said::Submitted(_)).then_some(())).await;
    stage.peer.state().cancel = true;
    let failed = stage.peer.failed(&job).await;
    assert_eq!(failed.failure_class(), FailureClass::Cancelled);
    assert_eq!(provider.script().cancels, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn finished_work_wins_over_a_cancel() {
    let provider = Scripted::new([WORKING]);
    provider.script().after_cancel = Some(DONE);
    let stage = Stage::with(provider.registry(), |_| {}).await;
    let job = stage.peer.give(|_| {});
    stage.peer.hears(&job, "it is submitted", |said| matches!(said, Said::Submitted(_)).then_some(())).await;
    stage.peer.state().cancel = true;
    stage.peer.completed(&job).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cancelled_before_it_is_ordered_is_never_ordered() {
    let provider = Scripted::new([DONE]);
    let stage = Stage::with(provider.registry(), |_| {}).await;
    let job = stage.peer.give(|work| work.cancel_requested = true);
    assert_eq!(stage.peer.failed(&job).await.failure_class(), FailureClass::Cancelled);
    assert!(provider.script().ordered.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_taken_than_there_are_hands_over_broken_streams_too() {
    let provider = Scripted::new(std::iter::repeat_n(WORKING, 200).chain([DONE]));
    let stage = Stage::with(provider.registry(), |settings| settings.slots = 3).await;
    let jobs: Vec<_> = (0..16).map(|_| stage.peer.give(|_| {})).collect();
    for job in &jobs[..3] {
        stage.peer.completed(job).await;
        // A stream that is cut is opened anew, and asks for the hands that are free by then.
        let streams = stage.peer.state().streams;
        let opened = testkit::eventually("another stream", Duration::from_secs(20), async || {
            stage.peer.cut();
            (stage.peer.state().streams > streams).then_some(())
        });
        opened.await.unwrap();
    }
    for job in &jobs {
        stage.peer.completed(job).await;
    }
    assert_eq!(stage.peer.state().most_out, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_gives_back_what_is_not_done_in_time() {
    let provider = Scripted::new([WORKING]);
    let mut stage = Stage::with(provider.registry(), |_| {}).await;
    let job = stage.peer.give(|_| {});
    stage.peer.hears(&job, "it is submitted", |said| matches!(said, Said::Submitted(_)).then_some(())).await;
    stage.drain.begin();
    tokio::time::timeout(Duration::from_secs(3), &mut stage.working).await.expect("within the grace period").unwrap();
    assert!(matches!(stage.peer.said(&job).last(), Some(Said::Released)), "{:?}", stage.peer.said(&job));
    let late = stage.peer.give(|_| {});
    assert!(stage.peer.said(&late).is_empty(), "nothing is taken after the drain began");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_lets_finish_what_can() {
    let provider = Scripted::new(std::iter::repeat_n(WORKING, 60).chain([DONE]));
    let mut stage = Stage::with(provider.registry(), |_| {}).await;
    let job = stage.peer.give(|_| {});
    stage.peer.hears(&job, "it is submitted", |said| matches!(said, Said::Submitted(_)).then_some(())).await;
    stage.drain.begin();
    tokio::time::timeout(Duration::from_secs(3), &mut stage.working).await.expect("within the grace period").unwrap();
    assert!(matches!(stage.peer.said(&job).last(), Some(Said::Completed(_))), "{:?}", stage.peer.said(&job));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_generation_status_does_not_hear_is_told_again() {
    let provider = Scripted::new([DONE]);
    let stage = Stage::with(provider.registry(), |_| {}).await;
    for method in ["record_submission", "report_progress", "complete_work", "complete_work"] {
        stage.peer.answer(method, Status::unavailable("restarting"));
    }
    let job = stage.peer.give(|_| {});
    stage.peer.completed(&job).await;
    assert_eq!(provider.script().ordered.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_s_own_price_is_charged_up_to_what_is_held() {
    for (asked, charged) in [(1_000, 1_000), (900_000, 250_000), (-5, 0)] {
        let provider = Scripted::new([OrderStatus::Done(Made { extension: "mp4", cost_micros: Some(asked) })]);
        let stage = Stage::with(provider.registry(), |_| {}).await;
        let job = stage.peer.give(|_| {});
        assert_eq!(stage.peer.completed(&job).await.cost_micros, charged);
    }
}
