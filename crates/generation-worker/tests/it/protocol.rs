//! Work between the worker and the services beside it: reported in order, each thing once, with the fence.

use std::sync::Arc;
use std::time::Duration;

use generation_worker::model::{CallOutcome, Charge, Made, OrderStatus, Trouble, Usage};
use generation_worker::providers::Registry;
use generation_worker::providers::local::Local;
use proto::work::v1::{self as wire, FailureClass};
use tonic::Status;

use crate::cluster::Cluster;
use crate::fake_provider::{FakeProvider, WORKING, done};
use crate::node::{Report, TRACEPARENT};

fn sketches() -> Registry {
    Registry::default().with(Arc::new(Local::new(Duration::ZERO, 2)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sketch_is_made_stored_and_delivered() {
    let cluster = Cluster::start(sketches(), |_| {}).await;
    let job = cluster.node.queue(|work| work.traceparent = TRACEPARENT.into());
    let completed = cluster.node.completed(&job).await;
    let lease = completed.lease.unwrap();
    assert_eq!((lease.job.as_str(), lease.fence), (job.as_str(), 1));
    let [made] = <[_; 1]>::try_from(completed.outputs).unwrap();
    assert_eq!((made.extension.as_str(), completed.usage), ("mp4", Some(wire::Usage::default())));
    let output = made.output.unwrap();
    assert_eq!((output.width, output.height, output.mime_type.as_str()), (640, 360, "video/mp4"));
    assert_eq!(output.duration.unwrap().seconds, 3);
    assert_eq!((output.poster.as_str(), output.poster_missing_reason.as_str()), ("assets/poster", ""));

    let reports = cluster.node.reports(&job);
    assert!(matches!(&reports[0], Report::Intended(provider) if provider == "local"), "{reports:?}");
    let reports = &reports[1..];
    let order: Vec<u8> = reports
        .iter()
        .map(|report| match report {
            Report::Intended(_) | Report::Suspended(_) => 9,
            Report::Submitted(_) => 0,
            Report::Progress(..) => 1,
            Report::Finalizing => 2,
            Report::Completed(_) => 3,
            Report::Failed(_) | Report::Released => 4,
        })
        .collect();
    assert!(order.is_sorted() && order.iter().filter(|n| **n != 1).eq(&[0, 2, 3]), "{reports:?}");
    assert!(matches!(&reports[0], Report::Submitted(reference) if *reference == format!("local-{job}")), "{reports:?}");
    let progress: Vec<_> = reports
        .iter()
        .filter_map(|report| match report {
            Report::Progress(percent, doing) => Some((*percent, doing.clone())),
            _ => None,
        })
        .collect();
    assert!(progress.is_sorted_by_key(|(percent, _)| *percent), "{progress:?}");
    assert!(progress.iter().all(|(percent, doing)| (0..=100).contains(percent) && !doing.is_empty()), "{progress:?}");
    let name = output.asset.strip_prefix("assets/").unwrap();
    let bytes = cluster.blobs.get(&format!("{name}.mp4").parse().unwrap()).await.unwrap();
    assert_eq!(&bytes[4..8], b"ftyp");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_of_an_earlier_attempt_is_gone_on_with() {
    let provider = FakeProvider::new([WORKING, done()]);
    let cluster = Cluster::start(provider.registry(), |_| {}).await;
    let job = cluster.node.queue(|work| work.provider_reference = "fake-before".into());
    cluster.node.completed(&job).await;
    assert!(provider.script().ordered.is_empty(), "nothing was ordered again");
    assert!(!cluster.node.reports(&job).iter().any(|report| matches!(report, Report::Submitted(_))));
    // The built-in provider forgets with its process; there the same key is drawn again.
    let cluster = Cluster::start(sketches(), |_| {}).await;
    let job = cluster.node.queue(|work| {
        work.provider_reference = format!("local-{}", work.lease.as_ref().unwrap().job);
        work.attempt = 2;
    });
    cluster.node.completed(&job).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_fence_ends_all_reports_of_the_work() {
    for method in ["record_submission", "report_progress", "complete_work"] {
        // A refused report of progress counts only while there is something to wait for.
        let polls = if method == "report_progress" { 400 } else { 3 };
        let provider = FakeProvider::new(std::iter::repeat_n(WORKING, polls).chain([done()]));
        let cluster = Cluster::start(provider.registry(), |_| {}).await;
        cluster.node.refuse_next(method, Status::aborted("another has it"));
        let job = cluster.node.queue(|_| {});
        let forgotten = testkit::eventually("the order is let go of", Duration::from_secs(10), async || {
            (provider.script().forgotten == 1).then_some(())
        });
        forgotten.await.unwrap();
        let reports = cluster.node.reports(&job);
        let ended = |report: &Report| matches!(report, Report::Completed(_) | Report::Failed(_) | Report::Released);
        assert!(!reports.iter().any(ended), "{method}: {reports:?}");
        // The worker itself goes on.
        let next = cluster.node.queue(|_| {});
        cluster.node.completed(&next).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_a_heartbeat_calls_lost_is_let_go_of() {
    let provider = FakeProvider::new([WORKING]);
    let cluster = Cluster::start(provider.registry(), |_| {}).await;
    let job = cluster.node.queue(|_| {});
    cluster.node.wait_for(&job, "it is submitted", |report| matches!(report, Report::Submitted(_)).then_some(())).await;
    cluster.node.state().lost = true;
    let forgotten = testkit::eventually("the order is let go of", Duration::from_secs(10), async || {
        (provider.script().forgotten == 1).then_some(())
    });
    forgotten.await.unwrap();
    let ended = |report: &Report| matches!(report, Report::Completed(_) | Report::Failed(_) | Report::Released);
    assert!(!cluster.node.reports(&job).iter().any(ended));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_is_passed_on_and_its_outcome_reported() {
    let provider = FakeProvider::new([WORKING]);
    provider.script().after_cancel = Some(Err(Trouble::new(CallOutcome::Stopped(Charge::Unknown), "stopped")));
    let cluster = Cluster::start(provider.registry(), |_| {}).await;
    let job = cluster.node.queue(|_| {});
    cluster.node.wait_for(&job, "it is submitted", |report| matches!(report, Report::Submitted(_)).then_some(())).await;
    cluster.node.state().cancel = true;
    let failed = cluster.node.failed(&job).await;
    assert_eq!(failed.failure_class(), FailureClass::Cancelled);
    assert_eq!(provider.script().cancels, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn finished_work_wins_over_a_cancel() {
    let provider = FakeProvider::new([WORKING]);
    provider.script().after_cancel = Some(Ok(done()));
    let cluster = Cluster::start(provider.registry(), |_| {}).await;
    let job = cluster.node.queue(|_| {});
    cluster.node.wait_for(&job, "it is submitted", |report| matches!(report, Report::Submitted(_)).then_some(())).await;
    cluster.node.state().cancel = true;
    cluster.node.completed(&job).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cancelled_before_it_is_ordered_is_never_ordered() {
    let provider = FakeProvider::new([done()]);
    let cluster = Cluster::start(provider.registry(), |_| {}).await;
    let job = cluster.node.queue(|work| work.cancel_requested = true);
    assert_eq!(cluster.node.failed(&job).await.failure_class(), FailureClass::Cancelled);
    assert!(provider.script().ordered.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_claimed_than_there_are_slots_over_broken_streams_too() {
    let provider = FakeProvider::new(std::iter::repeat_n(WORKING, 200).chain([done()]));
    let cluster = Cluster::start(provider.registry(), |config| config.work.slots = 3).await;
    let jobs: Vec<_> = (0..16).map(|_| cluster.node.queue(|_| {})).collect();
    for job in &jobs[..3] {
        cluster.node.completed(job).await;
        // A stream that is cut is opened anew, and asks for the slots that are free by then.
        let streams = cluster.node.state().streams;
        let opened = testkit::eventually("another stream", Duration::from_secs(20), async || {
            cluster.node.cut();
            (cluster.node.state().streams > streams).then_some(())
        });
        opened.await.unwrap();
    }
    for job in &jobs {
        cluster.node.completed(job).await;
    }
    assert_eq!(cluster.node.state().max_leased, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_gives_back_what_is_not_done_in_time() {
    let provider = FakeProvider::new([WORKING]);
    let mut cluster = Cluster::start(provider.registry(), |_| {}).await;
    let job = cluster.node.queue(|_| {});
    cluster.node.wait_for(&job, "it is submitted", |report| matches!(report, Report::Submitted(_)).then_some(())).await;
    cluster.drain.begin();
    tokio::time::timeout(Duration::from_secs(3), &mut cluster.working).await.expect("within the grace period").unwrap();
    assert!(matches!(cluster.node.reports(&job).last(), Some(Report::Released)), "{:?}", cluster.node.reports(&job));
    let late = cluster.node.queue(|_| {});
    assert!(cluster.node.reports(&late).is_empty(), "nothing is taken after the drain began");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_lets_finish_what_can() {
    let provider = FakeProvider::new(std::iter::repeat_n(WORKING, 60).chain([done()]));
    let mut cluster = Cluster::start(provider.registry(), |_| {}).await;
    let job = cluster.node.queue(|_| {});
    cluster.node.wait_for(&job, "it is submitted", |report| matches!(report, Report::Submitted(_)).then_some(())).await;
    cluster.drain.begin();
    tokio::time::timeout(Duration::from_secs(3), &mut cluster.working).await.expect("within the grace period").unwrap();
    assert!(
        matches!(cluster.node.reports(&job).last(), Some(Report::Completed(_))),
        "{:?}",
        cluster.node.reports(&job)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_generation_status_does_not_hear_is_reported_again() {
    let provider = FakeProvider::new([done()]);
    let cluster = Cluster::start(provider.registry(), |_| {}).await;
    for method in ["record_submission", "report_progress", "complete_work", "complete_work"] {
        cluster.node.refuse_next(method, Status::unavailable("restarting"));
    }
    let job = cluster.node.queue(|_| {});
    cluster.node.completed(&job).await;
    assert_eq!(provider.script().ordered.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_provider_says_of_its_use_is_reported() {
    let usage = Usage { run_time: Some(Duration::from_millis(2_500)), cost_micros: Some(560_000), units: "4.0".into() };
    let made = Made { addresses: vec!["0".to_owned()], usage, ..Made::default() };
    let cluster = Cluster::start(FakeProvider::new([OrderStatus::Done(made)]).registry(), |_| {}).await;
    let usage = cluster.node.completed(&cluster.node.queue(|_| {})).await.usage.unwrap();
    assert_eq!((usage.provider_cost_micros, usage.provider_units.as_str()), (Some(560_000), "4.0"));
    assert_eq!(usage.run_time.map(|time| (time.seconds, time.nanos)), Some((2, 500_000_000)));
}
