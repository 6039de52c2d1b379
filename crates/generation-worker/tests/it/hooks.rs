//! What becomes of providers' webhooks: the verified ones are passed on as a word to poll, the others are not believed.

use proto::work::v1::ReceiveHookRequest;
use proto::work::v1::hook_service_server::HookService as _;
use proto::work::v1::receive_hook_request::Header;
use tonic::{Code, Request, Status};
use uuid::Uuid;

use crate::peers::Stage;
use crate::scripted::{DONE, Scripted};

fn hook(job: &str, headers: &[(&str, &str)]) -> ReceiveHookRequest {
    let header = |(name, value): &(&str, &str)| Header { name: (*name).into(), value: value.as_bytes().to_vec() };
    ReceiveHookRequest {
        provider: "scripted".into(),
        job: job.into(),
        headers: headers.iter().map(header).collect(),
        body: b"order-5".to_vec(),
    }
}

async fn sent(stage: &Stage, request: ReceiveHookRequest) -> Result<(), Status> {
    stage.hooks.receive_hook(Request::new(request)).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verified_webhook_only_says_that_it_is_time_to_look() {
    let stage = Stage::with(Scripted::new([DONE]).registry(), |_| {}).await;
    let job = Uuid::now_v7().to_string();
    let good = hook(&job, &[("x-secret", "open sesame"), ("x-event", "done")]);
    sent(&stage, good.clone()).await.unwrap();
    let hints = stage.peer.state().hints.clone();
    assert_eq!(hints.len(), 1);
    assert_eq!((hints[0].provider.as_str(), &hints[0].job), ("scripted", &job));
    assert_eq!((&hints[0].event, hints[0].provider_reference.as_str()), (&format!("done of {job}"), "order-5"));
    // What cannot be passed on now is to be sent again.
    stage.peer.answer("hint_work", Status::unavailable("restarting"));
    assert_eq!(sent(&stage, good).await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_verified_goes_no_further() {
    let stage = Stage::with(Scripted::new([DONE]).registry(), |_| {}).await;
    let job = Uuid::now_v7().to_string();
    let good = hook(&job, &[("x-secret", "open sesame"), ("x-event", "done")]);
    for wrong in [
        hook(&job, &[("x-event", "done")]),
        hook(&job, &[("x-secret", "guess"), ("x-event", "done")]),
        hook("not-a-job", &[("x-secret", "open sesame"), ("x-event", "done")]),
        hook(&job, &[("x-secret", "open sesame"), ("x-event", "done"), ("bad name", "x")]),
        ReceiveHookRequest { provider: "nobody".into(), ..good.clone() },
        ReceiveHookRequest { body: vec![b'x'; (1 << 20) + 1], ..good },
    ] {
        assert_eq!(sent(&stage, wrong).await.unwrap_err().code(), Code::Unauthenticated);
    }
    assert!(stage.peer.state().hints.is_empty());
}
