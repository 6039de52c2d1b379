//! Providers' webhooks at the public port.

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

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

/// The beginning of the answer to a body of so many bytes, whose length nothing says before.
async fn post_unannounced(cluster: &Cluster, path: &str, length: usize) -> String {
    let (mut answer, mut sending) = TcpStream::connect(cluster.addr).await.unwrap().into_split();
    let head = format!("POST {path} HTTP/1.1\r\nhost: gateway\r\ntransfer-encoding: chunked\r\n\r\n{length:x}\r\n");
    let body = [head.into_bytes(), vec![b'x'; length], b"\r\n0\r\n\r\n".to_vec()].concat();
    // Who refuses it may close the connection before all of it has come.
    let sending = tokio::spawn(async move { sending.write_all(&body).await });
    let mut status = [0; 12];
    answer.read_exact(&mut status).await.unwrap();
    sending.abort();
    String::from_utf8(status.to_vec()).unwrap()
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
    assert_eq!(post_unannounced(&cluster, "/hooks/known/job-8", (3 << 20) + 1).await, "HTTP/1.1 413");
    assert!(cluster.upstream.hooks.lock().unwrap().iter().all(|hook| hook.job == "job-7"));
    // Without a worker there is no such address.
    let cluster = Cluster::start_with(|config| config.upstreams.generation_worker_internal = None).await;
    let status = post(&cluster, Method::POST, "/hooks/known/job-7", Bytes::new()).await;
    assert!(status.is_client_error() && status != StatusCode::UNAUTHORIZED, "{status}");
}
