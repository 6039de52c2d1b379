//! Webhooks as they should not be.

use provider_double::{Event, Protocol};

use crate::client::{BOTH, Client, until};

/// The value of a header.
fn header<'a>(head: &'a str, name: &str) -> &'a str {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or_default()
}

#[tokio::test]
async fn fals_header_may_name_another_request_than_the_body() {
    let client = Client::plain().await;
    let id = client.taken(Protocol::Fal, "a harbour").await;
    let hook = client.hook().await;
    assert_eq!((hook.body["request_id"].as_str(), header(&hook.head, "x-fal-webhook-request-id")), (Some(&*id), &*id));

    let id = client.taken(Protocol::Fal, "[hook-other-id]").await;
    let hook = client.hook().await;
    let named = header(&hook.head, "x-fal-webhook-request-id");
    assert_eq!((&hook.body["request_id"], &hook.body["gateway_request_id"]), (&id.clone().into(), &named.into()));
    assert!(named.len() == 36 && named != id, "{named}");
    assert_eq!(client.faults(&id), [("hook-other-id".to_owned(), false)]);
}

#[tokio::test]
async fn a_body_may_name_no_order_and_be_longer_than_anybody_reads() {
    let client = Client::plain().await;
    for (protocol, name, hooks) in [(Protocol::Replicate, "id", 2), (Protocol::Fal, "request_id", 1)] {
        client.taken(protocol, "[hook-no-id]").await;
        for _ in 0..hooks {
            let body = client.hook().await.body;
            assert!(body["status"].is_string() && body.get(name).is_none(), "{body}");
        }
        let id = client.taken(protocol, "[hook-long]").await;
        for _ in 0..hooks {
            let hook = client.hook().await;
            assert!(hook.bytes > 2 << 20 && hook.body[name] == id.as_str(), "{} bytes", hook.bytes);
        }
        assert_eq!(client.faults(&id), [("hook-long".to_owned(), false)]);
    }
}

#[tokio::test]
async fn a_lost_webhook_does_not_come_and_is_on_the_bill() {
    let client = Client::plain().await;
    for protocol in BOTH {
        let id = client.taken(protocol, "[hook-lost]").await;
        client.result(protocol, &id).await;
        assert_eq!(client.faults(&id), [("hook-lost".to_owned(), false)]);
    }
    // Those of the next one come, and none before; the bill says which were accepted.
    let id = client.taken(Protocol::Fal, "a harbour").await;
    assert_eq!(client.hook().await.body["request_id"], id);
    let notified = || client.bill(None).into_iter().filter(|line| line.event == Event::Notified);
    until("the bill says so", async || notified().count() > 0).await;
    assert!(notified().all(|line| line.order == id));
}
