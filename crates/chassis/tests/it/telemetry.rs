//! Logs with their trace, one trace over two processes' worth of hops, and metrics. Telemetry belongs to the process, so
//! each case runs in a process of its own: this test binary again, with one ignored test.

use std::{process::Command, time::Duration};

use chassis::{
    client,
    server::Server,
    settings::Source,
    telemetry::{self, Telemetry},
};
use http::Request;
use testkit::{Kind, Spans, Tree};
use tonic::body::Body;
use tower::ServiceExt as _;
use tracing::Instrument as _;

use crate::wire::{free, ok, serve};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Runs the ignored test `name` in a process with `environment`, and gives what it wrote to standard error.
fn run(name: &str, environment: &[(&str, &str)]) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--ignored", "--nocapture"])
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}");
    text
}

#[test]
#[ignore = "run by another test in a process of its own"]
fn writes_a_line() {
    let _telemetry = Telemetry::start("test", &telemetry::Settings::read(&Source::process()).unwrap());
    let span = tracing::info_span!("work");
    telemetry::set_parent(&span, PARENT);
    span.in_scope(|| tracing::warn!(answer = 42, name = "a", "something happened"));
    assert_eq!(span.in_scope(telemetry::trace_id).unwrap(), "0af7651916cd43dd8448eb211c80319c");
    assert!(span.in_scope(telemetry::traceparent).unwrap().starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
    assert_eq!(telemetry::traceparent(), None);
}

#[test]
fn a_line_is_json_with_its_trace_even_when_the_log_is_quiet_and_nothing_is_exported() {
    let text = run("telemetry::writes_a_line", &[("RUSHES_LOG", "warn"), ("RUSHES_LOG_FORMAT", "json")]);
    let line = text.lines().find(|line| line.contains("something happened")).expect("the line");
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["trace_id"], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(line["span_id"].as_str().unwrap().len(), 16);
    assert_eq!((&line["service"], &line["level"]), (&"test".into(), &"WARN".into()));
    assert_eq!((&line["answer"], &line["name"]), (&42.into(), &"a".into()));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by another test in a process of its own"]
async fn makes_a_call() {
    let telemetry = Telemetry::start("test", &telemetry::Settings::read(&Source::process()).unwrap());
    let server = serve(Server::new("test", &free()), |_| async { ok() }).await;
    let channel = client::connect("test", &format!("http://{}", server.addr).parse().unwrap());
    let span = tracing::info_span!("root");
    telemetry::set_parent(&span, PARENT);
    let request = Request::post("/test.Test/Get").header("content-type", "application/grpc").body(Body::empty());
    let response = channel.oneshot(request.unwrap()).instrument(span).await.unwrap();
    http_body_util::BodyExt::collect(response.into_body()).await.unwrap();
    let other = tracing::info_span!("related");
    telemetry::link(&other, PARENT);
    drop(other);
    let page = telemetry::page();
    for series in [
        "rushes_rpc_server_duration_seconds_bucket{method=\"test.Test/Get\",code=\"OK\",le=\"0.001\"}",
        "rushes_rpc_client_duration_seconds_count{method=\"test.Test/Get\",code=\"OK\"} 1",
        "rushes_rpc_server_queries_sum{method=\"test.Test/Get\"} 0",
    ] {
        assert!(page.contains(series), "no {series} in\n{page}");
    }
    telemetry.shutdown();
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_arrive_as_one_tree_when_the_process_ends() {
    let spans = Spans::collect().await.unwrap();
    let endpoint = spans.endpoint();
    tokio::task::spawn_blocking(move || {
        run("telemetry::makes_a_call", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)]);
    })
    .await
    .unwrap();
    let (trace, caller) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let seen = spans.wait("three spans", Duration::from_secs(5), |all| {
        let trace: Vec<_> = all.iter().filter(|span| span.trace == trace).cloned().collect();
        (trace.len() == 3).then_some(trace)
    });
    let tree = Tree::under(seen.await.unwrap(), caller);
    assert_eq!(tree.orphans().count(), 0);
    let served = tree.find(|span| span.kind == Kind::Server).unwrap();
    let path: Vec<_> = tree.path(served).iter().map(|span| (span.name.as_str(), span.kind)).collect();
    let name = "test.Test/Get";
    assert_eq!(path, [("root", Kind::Internal), (name, Kind::Client), (name, Kind::Server)]);
    assert_eq!(served.service, "test");
    assert_eq!(served.attribute("rpc.grpc.status_code"), Some("0"));
    let related = spans.all().into_iter().find(|span| span.name == "related").unwrap();
    assert_eq!(related.links, [(trace.to_owned(), caller.to_owned())]);
    assert_ne!(related.trace, trace);
}
