//! A finished order's file: fetched again for a bounded time, checked, delivered once, and never ordered again.

use std::time::Duration;

use generation_worker::model::{CallOutcome, Made, OrderStatus, Trouble};
use proto::generations::v1::charge::ProviderCharge;
use proto::work::v1::{FailureClass, OrderTrouble, SuspendWorkRequest, Trouble as Clock};
use sha2::Digest as _;
use tonic::Status;

use crate::cluster::Cluster;
use crate::fake_provider::{FakeProvider, done, film, outputs};
use crate::node::Report;

fn remote() -> FakeProvider {
    FakeProvider::new([done()]).remote().not_idempotent().without_search()
}

/// Queues the poll of an order that has been in these troubles for so many seconds.
fn poll(cluster: &Cluster, troubles: &[(Clock, u64)]) -> String {
    let troubles = troubles.iter().map(|(clock, seconds)| OrderTrouble {
        trouble: (*clock).into(),
        elapsed: Duration::from_secs(*seconds).try_into().ok(),
    });
    let troubles = troubles.collect();
    cluster.node.queue(|work| {
        (work.poll, work.polls, work.provider_reference) = (true, 2, "fake-1".into());
        work.troubles = troubles;
    })
}

async fn suspended(cluster: &Cluster, troubles: &[(Clock, u64)]) -> SuspendWorkRequest {
    cluster.node.suspended(&poll(cluster, troubles)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_becomes_of_the_file_the_order_is_not_made_again() {
    for (outcome, bound, reason) in [
        (CallOutcome::FileRefused, 600, "OUTPUT_UNAVAILABLE"),
        (CallOutcome::FileUnavailable, 3_600, "OUTPUT_UNAVAILABLE"),
        (CallOutcome::FileSlow, 3_600, "OUTPUT_UNAVAILABLE"),
        (CallOutcome::FileCut, 600, "PROVIDER_BAD_OUTPUT"),
        (CallOutcome::FileUnusable, 600, "PROVIDER_BAD_OUTPUT"),
    ] {
        let provider = remote();
        let fail = || provider.script().fetches.push_back(Trouble::new(outcome, "no"));
        let cluster = Cluster::start(provider.registry(), |_| {}).await;
        fail();
        let later = suspended(&cluster, &[]).await;
        assert_eq!((later.trouble(), later.unconfirmed), (Clock::Output, false), "{outcome:?}");
        assert!(later.poll_after.is_some());
        fail();
        let waits = suspended(&cluster, &[(Clock::Output, bound - 10)]).await;
        assert!(waits.poll_after.unwrap().seconds >= 15, "it is fetched less often the longer it lasts");
        fail();
        let ended = cluster.node.failed(&poll(&cluster, &[(Clock::Output, bound)])).await;
        assert_eq!((ended.failure_class(), ended.reason.as_str()), (FailureClass::Final, reason), "{outcome:?}");
        assert_eq!(ended.provider_charge(), ProviderCharge::Charged);
        // Nothing of it is a reason to give up: the next one is fetched.
        cluster.node.completed(&poll(&cluster, &[(Clock::Output, bound)])).await;
        assert!(provider.script().ordered.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_whole_video_is_not_delivered() {
    let whole = film(1_000);
    for (video, reason) in [
        (Vec::new(), "PROVIDER_BAD_OUTPUT"),
        (b"<!doctype html><title>403</title>".to_vec(), "PROVIDER_BAD_OUTPUT"),
        (b"GIF89a\x01\x00\x01\x00".to_vec(), "PROVIDER_BAD_OUTPUT"),
        (b"RIFF\x16\0\0\0WEBPVP8L\x09\0\0\0\x2f\0\0\0\0\x07\x10\xfd\x8f\0".to_vec(), "PROVIDER_BAD_OUTPUT"),
        (still(1), "PROVIDER_BAD_OUTPUT"),
        (whole[..900].to_vec(), "PROVIDER_BAD_OUTPUT"),
        (whole[..1_024].to_vec(), "PROVIDER_BAD_OUTPUT"),
    ] {
        let provider = remote();
        provider.script().files = vec![video];
        let cluster = Cluster::start(provider.registry(), |_| {}).await;
        assert_eq!(suspended(&cluster, &[]).await.trouble(), Clock::Output);
        assert_eq!(cluster.node.failed(&poll(&cluster, &[(Clock::Output, 600)])).await.reason, reason);
        assert!(cluster.node.state().registered.is_empty());
        assert_eq!(cluster.stored(), 0, "nothing of it is kept");
    }
    // What is too large is so the next time.
    let provider = remote();
    provider.script().files = vec![film(8 << 20)];
    let cluster = Cluster::start(provider.registry(), |_| {}).await;
    let ended = cluster.node.failed(&poll(&cluster, &[])).await;
    assert_eq!((ended.reason.as_str(), ended.provider_charge()), ("PROVIDER_BAD_OUTPUT", ProviderCharge::Charged));
    assert_eq!(cluster.stored(), 0);
    provider.script().files = vec![film(100)];
    cluster.node.completed(&poll(&cluster, &[])).await;
    assert_eq!(cluster.stored(), 1, "what is a video is");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_named_by_its_bytes() {
    let mut quicktime = film(100);
    quicktime[8..12].copy_from_slice(b"qt  ");
    let webm = [
        &[0x1a, 0x45, 0xdf, 0xa3, 0x87, 0x42, 0x82, 0x84][..],
        b"webm",
        &[0x18, 0x53, 0x80, 0x67, 0x89, 0x1f, 0x43, 0xb6, 0x75, 0x84, 1, 2, 3, 4],
    ];
    for (video, extension) in [(film(100), "mp4"), (quicktime, "mov"), (webm.concat(), "webm")] {
        let provider = remote();
        provider.script().files = vec![video];
        let cluster = Cluster::start(provider.registry(), |_| {}).await;
        assert_eq!(cluster.node.completed(&poll(&cluster, &[])).await.outputs[0].extension, extension);
    }
}

/// A picture that goes through for a whole one.
fn still(number: u8) -> Vec<u8> {
    let chunk = |kind: &[u8; 4], content: &[u8]| {
        [&u32::try_from(content.len()).unwrap().to_be_bytes()[..], kind, content, &[0; 4]].concat()
    };
    let chunks = [chunk(b"IHDR", &[0; 13]), chunk(b"IDAT", &[number; 9]), chunk(b"IEND", &[])].concat();
    [&b"\x89PNG\r\n\x1a\n"[..], &chunks].concat()
}

/// Queues the poll of an order for so many outputs of these kinds.
fn poll_for(cluster: &Cluster, kinds: &[&str], max_outputs: i32) -> String {
    cluster.node.queue(|work| {
        (work.poll, work.polls, work.provider_reference) = (true, 2, "fake-1".into());
        let order = work.order.as_mut().unwrap();
        order.output_kinds = kinds.iter().map(|kind| (*kind).to_owned()).collect();
        order.max_outputs = max_outputs;
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn several_outputs_are_delivered_in_their_order_and_no_more_than_were_ordered() {
    let provider = FakeProvider::new([outputs(3)]).remote();
    provider.script().files = vec![still(1), still(2), still(3)];
    let cluster = Cluster::start(provider.registry(), |_| {}).await;
    for (max_outputs, expected) in [(4, 3), (2, 2), (1, 1)] {
        let completed = cluster.node.completed(&poll_for(&cluster, &["image"], max_outputs)).await;
        let made: Vec<_> =
            completed.outputs.into_iter().map(|made| (made.output.unwrap().asset, made.extension)).collect();
        let asset = |number| (format!("assets/{}", hex::encode(sha2::Sha256::digest(still(number)))), "png".to_owned());
        assert_eq!(made, (1..=3).map(asset).take(expected).collect::<Vec<_>>());
    }
}

/// A file of another kind is no output; only where nothing else is there is it trouble.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_another_kind_is_no_output() {
    let provider = FakeProvider::new([outputs(2)]).remote();
    let cluster = Cluster::start(provider.registry(), |_| {}).await;
    provider.script().files = vec![still(1), film(100)];
    for (kinds, extensions) in
        [(&["video"][..], &["mp4"][..]), (&["image"], &["png"]), (&["video", "image"], &["png", "mp4"])]
    {
        let completed = cluster.node.completed(&poll_for(&cluster, kinds, 4)).await;
        let made: Vec<_> = completed.outputs.iter().map(|made| made.extension.as_str()).collect();
        assert_eq!(made, extensions, "{kinds:?}");
    }
    let later = cluster.node.suspended(&poll_for(&cluster, &["audio"], 4)).await;
    assert_eq!(later.trouble(), Clock::Output);
}

/// One of several that cannot be had is trouble of the output: what was fetched is fetched again, and the order never made again.
#[tokio::test(flavor = "multi_thread")]
async fn a_result_is_delivered_whole_or_not_at_all() {
    let provider = FakeProvider::new([outputs(2)]).remote().not_idempotent().without_search();
    let whole = still(2);
    provider.script().files = vec![still(1), whole[..40].to_vec()];
    let cluster = Cluster::start(provider.registry(), |_| {}).await;
    let later = cluster.node.suspended(&poll_for(&cluster, &["image"], 2)).await;
    assert_eq!((later.trouble(), later.unconfirmed), (Clock::Output, false));
    provider.script().files = vec![still(1), whole];
    assert_eq!(cluster.node.completed(&poll_for(&cluster, &["image"], 2)).await.outputs.len(), 2);
    assert!(provider.script().ordered.is_empty());
}

/// Where a provider names no file of an order of several, each has an address all the same. Once the first alone was fetched, and the
/// others, made and paid for, were lost.
#[tokio::test(flavor = "multi_thread")]
async fn of_files_that_are_not_named_those_that_stay_away_were_not_made() {
    let addresses = (0..3).map(|file| file.to_string()).collect();
    let made = OrderStatus::Done(Made { addresses, unnamed: 3, ..Made::default() });
    let provider = FakeProvider::new([made]).remote().not_idempotent().without_search();
    let cluster = Cluster::start(provider.registry(), |_| {}).await;
    let poll = |seconds| {
        cluster.node.queue(|work| {
            (work.poll, work.polls, work.provider_reference) = (true, 2, "fake-1".into());
            let order = work.order.as_mut().unwrap();
            (order.max_outputs, order.output_kinds) = (3, vec!["image".to_owned()]);
            let elapsed = Duration::from_secs(seconds).try_into().ok();
            work.troubles = vec![OrderTrouble { trouble: Clock::Output.into(), elapsed }];
        })
    };
    provider.script().files = vec![still(1), still(2), still(3)];
    assert_eq!(cluster.node.completed(&poll(0)).await.outputs.len(), 3);
    provider.script().files = vec![still(1), still(2)];
    assert_eq!(cluster.node.suspended(&poll(59)).await.trouble(), Clock::Output);
    assert_eq!(cluster.node.completed(&poll(60)).await.outputs.len(), 2);
    // Something was made, the provider says.
    provider.script().files = Vec::new();
    assert_eq!(cluster.node.suspended(&poll(599)).await.trouble(), Clock::Output);
    assert_eq!(cluster.node.failed(&poll(600)).await.reason, "OUTPUT_UNAVAILABLE");
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_storage_is_waited_for_longer_than_a_file() {
    let provider = remote();
    let cluster = Cluster::start(provider.registry(), |_| {}).await;
    let away = || (0..5).for_each(|_| cluster.node.refuse_next("register_output", Status::unavailable("away")));
    away();
    assert_eq!(suspended(&cluster, &[(Clock::Output, 3_600)]).await.trouble(), Clock::Storage);
    away();
    let ended = cluster.node.failed(&poll(&cluster, &[(Clock::Storage, 24 * 3_600)])).await;
    assert_eq!((ended.reason.as_str(), ended.provider_charge()), ("OUTPUT_UNAVAILABLE", ProviderCharge::Charged));
}

/// With two slots and four downloads, four files that never come leave both slots to others.
#[tokio::test(flavor = "multi_thread")]
async fn slow_files_hold_no_slot_of_the_work() {
    let slow = remote();
    slow.script().stalls = true;
    let quick = FakeProvider::new([done()]);
    let registry = slow.registry().with(std::sync::Arc::new(quick.named("quick")));
    let cluster = Cluster::start(registry, |config| {
        config.work.slots = 2;
        config.downloads.timeout = Duration::from_secs(3);
    })
    .await;
    let stalled: Vec<String> = (0..4).map(|_| poll(&cluster, &[])).collect();
    for job in &stalled {
        let finalizing = |report: &Report| matches!(report, Report::Finalizing).then_some(());
        cluster.node.wait_for(job, "it downloads", finalizing).await;
    }
    let job = cluster.node.queue(|work| work.order.as_mut().unwrap().provider = "quick".into());
    let done = cluster.node.suspended(&poll(&cluster, &[])).await;
    assert_eq!((done.trouble(), done.message.as_str()), (Clock::Unspecified, "as many downloads as may are under way"));
    assert!(cluster.node.reports(&stalled[0]).iter().all(|report| !matches!(report, Report::Suspended(_))));
    let waits = cluster.node.suspended(&job);
    // The built-in kind downloads too, once a slot for downloads is free.
    let _ = tokio::time::timeout(Duration::from_secs(5), waits).await;
    for job in &stalled {
        assert_eq!(cluster.node.suspended(job).await.trouble(), Clock::Output, "it ends after its time");
    }
}
