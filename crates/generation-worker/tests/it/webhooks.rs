//! Providers' webhooks: the verified ones are passed on as a hint to poll, the others are not believed.

use proto::work::v1::ReceiveHookRequest;
use proto::work::v1::receive_hook_request::Header;
use tonic::{Code, Request, Status};
use uuid::Uuid;

use crate::cluster::Cluster;
use crate::fake_provider::{FakeProvider, done};

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
    let job = Uuid::now_v7().to_string();
    let good = webhook(&job, &[("x-secret", "open sesame"), ("x-event", "done")]);
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
    let job = Uuid::now_v7().to_string();
    let good = webhook(&job, &[("x-secret", "open sesame"), ("x-event", "done")]);
    for wrong in [
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
