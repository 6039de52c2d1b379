//! Providers' webhooks at the public port.

use bytes::Bytes;
use http::{Method, Request, StatusCode};

use crate::assets::{send, trace_id};
use crate::cluster::Cluster;

async fn post(cluster: &Cluster, method: Method, path: &str, body: Bytes) -> StatusCode {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json")
        .header("webhook-id", "msg-1");
    let response = send(cluster, request.body(body).unwrap()).await;
    trace_id(&response);
    response.status()
}

#[tokio::test]
async fn a_webhook_is_forwarded_as_it_came() {
    let cluster = Cluster::start().await;
    // No JSON printer would write this body: the signature is over its very bytes.
    let body = Bytes::from_static(b"{ \"id\" :1,\r\n \"x\":\"\xff\" }");
    assert_eq!(post(&cluster, Method::POST, "/hooks/known/job-7", body.clone()).await, StatusCode::NO_CONTENT);
    let hooks = cluster.upstream.hooks.lock().unwrap().clone();
    assert_eq!((hooks[0].provider.as_str(), hooks[0].job.as_str()), ("known", "job-7"));
    assert_eq!(hooks[0].body[..], body[..]);
    assert!(hooks[0].headers.iter().any(|header| header.name == "webhook-id" && header.value[..] == *b"msg-1"));
}

#[tokio::test]
async fn a_wrong_or_too_long_webhook_is_refused() {
    let cluster = Cluster::start().await;
    let some = Bytes::from_static(b"{}");
    assert_eq!(post(&cluster, Method::POST, "/hooks/forged/job-7", some.clone()).await, StatusCode::UNAUTHORIZED);
    assert_eq!(post(&cluster, Method::POST, "/hooks/away/job-7", some.clone()).await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(post(&cluster, Method::POST, "/hooks/known", some.clone()).await, StatusCode::NOT_FOUND);
    assert_eq!(post(&cluster, Method::GET, "/hooks/known/job-7", some).await, StatusCode::METHOD_NOT_ALLOWED);
    let longest = Bytes::from(vec![b'x'; 3 << 20]);
    assert_eq!(post(&cluster, Method::POST, "/hooks/known/job-7", longest).await, StatusCode::NO_CONTENT);
    let longer = Bytes::from(vec![b'x'; (3 << 20) + 1]);
    assert_eq!(post(&cluster, Method::POST, "/hooks/known/job-8", longer).await, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(cluster.upstream.hooks.lock().unwrap().iter().all(|hook| hook.job == "job-7"));
    // Without a worker there is no such address.
    let cluster = Cluster::start_with(|config| config.upstreams.generation_worker_internal = None).await;
    let status = post(&cluster, Method::POST, "/hooks/known/job-7", Bytes::new()).await;
    assert!(status.is_client_error() && status != StatusCode::UNAUTHORIZED, "{status}");
}
