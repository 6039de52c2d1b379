//! Providers' webhooks: the verified ones are passed on as a hint to poll, the others are not believed.

use generation_worker::model::{CallOutcome, Charge, Trouble};
use proto::work::v1::ReceiveHookRequest;
use proto::work::v1::hint_work_request::Confirmation;
use proto::work::v1::receive_hook_request::Header;
use tonic::{Code, Request, Status};
use uuid::Uuid;

use crate::cluster::{Cluster, hook_path};
use crate::fake_provider::{FakeProvider, WORKING, done};

fn webhook(job: &str, headers: &[(&str, &str)]) -> ReceiveHookRequest {
    let header = |(name, value): &(&str, &str)| Header { name: (*name).into(), value: value.as_bytes().to_vec() };
    ReceiveHookRequest {
        provider: "fake".into(),
        job: job.into(),
        headers: headers.iter().map(header).collect(),
        body: b"order-5".to_vec(),
    }
}

async fn send(cluster: &Cluster, request: ReceiveHookRequest) -> Result<(), Status> {
    cluster.webhooks.clone().receive_hook(Request::new(request)).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verified_webhook_only_says_that_it_is_time_to_poll() {
    let cluster = Cluster::start(FakeProvider::new([done()]).registry(), |_| {}).await;
    let job = Uuid::now_v7();
    let good = webhook(&hook_path("fake", job), &[("x-secret", "open sesame"), ("x-event", "done")]);
    let job = job.to_string();
    send(&cluster, good.clone()).await.unwrap();
    let hints = cluster.node.state().hints.clone();
    assert_eq!(hints.len(), 1);
    assert_eq!((hints[0].provider.as_str(), &hints[0].job), ("fake", &job));
    assert_eq!((&hints[0].event, hints[0].provider_reference.as_str()), (&format!("done of {job}"), "order-5"));
    // What cannot be passed on now is to be sent again.
    cluster.node.refuse_next("hint_work", Status::unavailable("restarting"));
    assert_eq!(send(&cluster, good).await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_verified_goes_no_further() {
    let cluster = Cluster::start(FakeProvider::new([done()]).registry(), |_| {}).await;
    let id = Uuid::now_v7();
    let job = hook_path("fake", id);
    let good = webhook(&job, &[("x-secret", "open sesame"), ("x-event", "done")]);
    let other = Uuid::now_v7().to_string();
    for wrong in [
        // A signature is of what was sent, and not of where to: the address must be one of ours, and of this job.
        webhook(&id.to_string(), &[("x-secret", "open sesame"), ("x-event", "done")]),
        webhook(&job.replace(&id.to_string(), &other), &[("x-secret", "open sesame"), ("x-event", "done")]),
        webhook(&hook_path("another", id), &[("x-secret", "open sesame"), ("x-event", "done")]),
        webhook(&job, &[("x-event", "done")]),
        webhook(&job, &[("x-secret", "guess"), ("x-event", "done")]),
        webhook("not-a-job", &[("x-secret", "open sesame"), ("x-event", "done")]),
        webhook(&job, &[("x-secret", "open sesame"), ("x-event", "done"), ("bad name", "x")]),
        ReceiveHookRequest { provider: "nobody".into(), ..good.clone() },
        ReceiveHookRequest { body: vec![b'x'; (3 << 20) + 1], ..good },
    ] {
        assert_eq!(send(&cluster, wrong).await.unwrap_err().code(), Code::Unauthenticated);
    }
    assert!(cluster.node.state().hints.is_empty());
}

/// Both providers sign for others as well; which order is ours the provider says when it is asked by our key.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_its_provider_does_not_know_settles_nothing() {
    let good = || webhook(&hook_path("fake", Uuid::now_v7()), &[("x-secret", "open sesame"), ("x-event", "done")]);
    let trouble = |outcome| Err(Trouble::new(outcome, "as the test wants it"));
    for (answer, expected) in [
        (Ok(WORKING), None),
        (Ok(done()), None),
        (trouble(CallOutcome::Failed(Charge::Unknown)), None),
        (trouble(CallOutcome::NotFound), Some(Code::Unauthenticated)),
        (trouble(CallOutcome::AccountRefused), Some(Code::Unavailable)),
        (trouble(CallOutcome::Unavailable), Some(Code::Unavailable)),
        (trouble(CallOutcome::Unreadable), Some(Code::Unavailable)),
    ] {
        let provider = FakeProvider::saying([answer.clone()]);
        let cluster = Cluster::start(provider.registry(), |_| {}).await;
        cluster.node.state().unsettled = "acme/film".to_owned();
        assert_eq!(send(&cluster, good()).await.map_err(|status| status.code()).err(), expected, "{answer:?}");
        let confirmed =
            cluster.node.state().hints.iter().filter(|hint| hint.confirmation() == Confirmation::Confirmed).count();
        assert_eq!(confirmed, usize::from(expected.is_none()), "{answer:?}");
    }
}
