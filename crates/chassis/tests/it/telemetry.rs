//! Logs with their trace, one trace over two processes' worth of hops, what a caller can quote, and metrics. Telemetry belongs
//! to the process, so each case runs in a process of its own: this test binary again, with one ignored test.

use std::{process::Command, time::Duration};

use chassis::status::Failure;
use chassis::{
    client,
    postgres::{self, Pool, PoolSettings, statement},
    request,
    server::{Server, Timeouts},
    settings::Source,
    telemetry::{self, Telemetry},
};
use http::{HeaderMap, HeaderName, Request};
use http_body::Frame;
use sqlx::{Connection as _, PgConnection};
use testkit::{Database, Kind, Spans, Tree};
use tonic::{Status, body::Body};
use tonic_types::StatusExt as _;
use tower::ServiceExt as _;
use tracing::Instrument as _;

use crate::wire::{self, free, ok, serve};

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
    span.in_scope(|| {
        tracing::warn!(answer = 42, name = "a", "something happened");
        // A span that the log sees and the trace does not.
        tracing::debug_span!("detail").in_scope(|| tracing::warn!("something within happened"));
    });
    tracing::warn!("something else happened");
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

#[test]
fn a_line_has_its_trace_in_both_forms_even_within_a_span_that_is_not_traced() {
    for (format, pair) in [
        ("json", "\"trace_id\":\"0af7651916cd43dd8448eb211c80319c\""),
        ("pretty", "trace_id=0af7651916cd43dd8448eb211c80319c"),
    ] {
        let text = run("telemetry::writes_a_line", &[("RUSHES_LOG", "debug"), ("RUSHES_LOG_FORMAT", format)]);
        let line = |what| text.lines().find(|line| line.contains(what)).expect("the line");
        assert_eq!(line("something happened").matches(pair).count(), 1, "{text}");
        assert_eq!(line("something within happened").matches(pair).count(), 1, "{text}");
        assert!(!line("something else happened").contains("trace_id"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by another test in a process of its own"]
async fn makes_a_call() {
    let telemetry = Telemetry::start("test", &telemetry::Settings::read(&Source::process()).unwrap());
    let server = Server::new("test", &free()).method("/test.Test/Get", Timeouts::default());
    let server = serve(server, |_| async { ok() }).await;
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
    assert!(page.contains("# HELP rushes_rpc_server_queries Database round trips of one call.\n"), "{page}");
    telemetry.shutdown();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by another test in a process of its own"]
async fn says_which_trace() {
    let _telemetry = Telemetry::start("test", &telemetry::Settings::read(&Source::process()).unwrap());
    let server = Server::new("test", &free()).limit(2).streaming(["/test.Test/Watch", "/test.Test/Break"]);
    let stopped = std::sync::Arc::new(tokio::sync::Notify::new());
    let stop = stopped.clone();
    let (arrived, mut arrivals) = tokio::sync::mpsc::channel(2);
    let server = serve(server, move |path| {
        let (stopped, arrived) = (stopped.clone(), arrived.clone());
        async move {
            let trailers = |code: &'static str| {
                let trailers = HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), code.parse().unwrap())]);
                futures::stream::iter([Ok(Frame::trailers(trailers))])
            };
            match path.as_str() {
                "/test.Test/Refuse" => Status::from(Failure::not_found("NONE", "there is none")).into_http(),
                "/test.Test/Bare" => Status::not_found("there is none").into_http(),
                "/test.Test/Break" => wire::stream(trailers("14")),
                "/test.Test/Panic" => panic!("as it was told"),
                "/test.Test/Wait" => {
                    let stop = stopped.notified();
                    let _ = arrived.try_send(());
                    stop.await;
                    ok()
                }
                _ => ok(),
            }
        }
    })
    .await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let parent = ("traceparent", PARENT);
    for path in ["Get", "Watch"] {
        let (headers, trailers) = wire::call(server.addr, &format!("/test.Test/{path}"), &[parent]).await;
        assert_eq!(
            (&headers["x-trace-id"], &trailers["grpc-status"]),
            (&trace.parse().unwrap(), &"0".parse().unwrap())
        );
    }
    let addr = server.addr;
    let waiting: Vec<_> = (0..2)
        .map(|_| tokio::spawn(async move { wire::call(addr, "/test.Test/Wait", &[("grpc-timeout", "9S")]).await }))
        .collect();
    // Not before both are there: one that came while another call had its place would be shed itself.
    for _ in 0..2 {
        arrivals.recv().await.unwrap();
    }
    let mut errors = vec![("OVERLOADED", wire::call(server.addr, "/test.Test/Shed", &[parent]).await)];
    stop.notify_waiters();
    for call in waiting {
        call.await.unwrap();
    }
    for (path, reason, headers) in [
        ("Refuse", "NONE", vec![parent]),
        ("Bare", "NOT_FOUND", vec![parent]),
        ("Break", "UNAVAILABLE", vec![parent]),
        ("Panic", "INTERNAL", vec![parent]),
        ("Get", "MAX_STALE_INVALID", vec![parent, ("rushes-max-stale", "0")]),
        ("Wait", "DEADLINE_EXCEEDED", vec![parent, ("grpc-timeout", "1m")]),
    ] {
        errors.push((reason, wire::call(server.addr, &format!("/test.Test/{path}"), &headers).await));
    }
    for (reason, (headers, trailers)) in errors {
        assert_eq!(headers["x-trace-id"], trace, "{reason}");
        assert_eq!(trailers["x-trace-id"], trace, "{reason}");
        let details = Status::from_header_map(&trailers).unwrap().get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason, "rushes.dev"));
        assert_eq!(info.metadata["trace_id"], trace, "{reason}");
    }
    let page = telemetry::page();
    assert!(
        page.contains("rushes_rpc_server_stream_duration_seconds_count{method=\"test.Test/Watch\",code=\"OK\"} 1\n")
    );
    assert!(page.contains("rushes_rpc_server_duration_seconds_count{method=\"_OTHER\",code=\"NOT_FOUND\"} 2\n"));
    assert!(!page.contains("Refuse") && !page.contains("Shed"), "anyone may send any path");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by another test in a process of its own"]
async fn measures_statements() {
    let telemetry = Telemetry::start("test", &telemetry::Settings::read(&Source::process()).unwrap());
    let database = Database::fresh().await.unwrap();
    let settings = PoolSettings { min: 1, max: 7, ..PoolSettings::default() };
    let read = Pool::connect_lazy("read", &database.url(), &settings).unwrap();
    let write = Pool::connect_lazy("write", &database.url(), &settings).unwrap();
    let series = "select n from generate_series(1, 300) as n";
    let all: Vec<i32> = read
        .run("series", async |connection: &mut PgConnection| sqlx::query_scalar(series).fetch_all(connection).await)
        .await
        .unwrap();
    assert_eq!(all.len(), 300);
    let changed: Result<(), postgres::Error> = write
        .transaction("change", async |connection: &mut PgConnection| {
            statement("make", sqlx::query("create table things (n int)").execute(&mut *connection)).await?;
            let fill = "insert into things select generate_series(1, 30) returning n";
            statement("fill", sqlx::query(fill).fetch_all(&mut *connection)).await?;
            statement("one", sqlx::query("select n from things where n = 7").fetch_one(&mut *connection)).await?;
            let none = sqlx::query("select n from things where n = 77").fetch_one(&mut *connection);
            assert!(matches!(statement("none", none).await, Err(postgres::Error::NoRow)));
            Ok(())
        })
        .await;
    changed.unwrap();
    let known = async || telemetry::page().contains("rushes_postgres_server_connections_max ").then_some(());
    testkit::eventually("the server's limit is known", Duration::from_secs(10), known).await.unwrap();
    let page = telemetry::page();
    let value = |series: &str| {
        let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in\n{page}")).parse::<f64>().unwrap()
    };
    for (pool, statement, outcome, rows) in [
        ("read", "series", "ok", Some(300.0)),
        ("write", "begin", "ok", Some(0.0)),
        ("write", "fill", "ok", Some(30.0)),
        ("write", "one", "ok", Some(1.0)),
        ("write", "none", "no_row", None),
        ("write", "commit", "ok", Some(0.0)),
    ] {
        let labels = format!("pool=\"{pool}\",statement=\"{statement}\"");
        let seconds = format!("rushes_postgres_statement_seconds_count{{{labels},outcome=\"{outcome}\"}}");
        assert_eq!(value(&seconds) as u32, 1, "{statement}");
        if let Some(rows) = rows {
            assert_eq!(value(&format!("rushes_postgres_statement_rows_sum{{{labels}}}")), rows, "{statement}");
        }
    }
    assert_eq!(value("rushes_postgres_pool_max{pool=\"write\"}"), 7.0);
    assert_eq!(value("rushes_postgres_connections_max"), 15.0, "two pools and a liveness probe");
    let url = database.url();
    let mut direct = PgConnection::connect(&url).await.unwrap();
    let limit: i32 =
        sqlx::query_scalar("select current_setting('max_connections')::integer").fetch_one(&mut direct).await.unwrap();
    assert_eq!(value("rushes_postgres_server_connections_max"), f64::from(limit));
    telemetry.shutdown();
}

#[test]
fn statements_are_measured_with_their_pool_and_rows_and_are_not_in_the_log() {
    let log =
        run("telemetry::measures_statements", &[("RUSHES_LOG", "info,sqlx=trace"), ("RUSHES_LOG_FORMAT", "json")]);
    assert!(!log.contains("rows_returned"), "{log}");
}

#[test]
fn every_reply_and_every_error_says_which_trace_it_belongs_to() {
    run("telemetry::says_which_trace", &[]);
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
    assert_eq!(served.attribute("rpc.response.status_code"), Some("OK"));
    let related = spans.all().into_iter().find(|span| span.name == "related").unwrap();
    assert_eq!(related.links, [(trace.to_owned(), caller.to_owned())]);
    assert_ne!(related.trace, trace);
}

/// Calls that come with no trace, with one that is not recorded, and with one that is; each makes a call of its own.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by another test in a process of its own"]
async fn answers_traced_and_untraced_calls() {
    let telemetry = Telemetry::start("test", &telemetry::Settings::read(&Source::process()).unwrap());
    let inner = serve(Server::new("test", &free()), |_| async { ok() }).await;
    let channel = client::connect("test", &format!("http://{}", inner.addr).parse().unwrap());
    let outer = serve(Server::new("test", &free()), move |_| {
        let channel = channel.clone();
        async move {
            let request = Request::post("/test.Test/Inner").header("content-type", "application/grpc");
            let answer = channel.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
            tracing::warn!(inner = answer.headers()["x-trace-id"].to_str().unwrap(), "answered");
            let later = request::in_current_trace(async { telemetry::trace_id() });
            assert_eq!(tokio::spawn(later).await.unwrap(), telemetry::trace_id());
            ok()
        }
    })
    .await;
    for parent in [None, Some(PARENT), Some(&PARENT.replace("-01", "-00").replace("0af7", "0af8"))] {
        let headers: Vec<_> = parent.map(|parent| ("traceparent", parent)).into_iter().collect();
        let (headers, _) = wire::call(outer.addr, "/test.Test/Outer", &headers).await;
        tracing::warn!(outer = headers["x-trace-id"].to_str().unwrap(), "called");
    }
    telemetry.shutdown();
}

/// The names of the spans that are recorded of these calls with the part `sample`, and the lines that the process wrote.
async fn recorded(sample: &'static str) -> (Vec<testkit::Span>, Vec<serde_json::Value>) {
    let spans = Spans::collect().await.unwrap();
    let endpoint = spans.endpoint();
    let written = tokio::task::spawn_blocking(move || {
        let settings = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_TRACES_SAMPLER_ARG", sample),
            ("RUSHES_LOG_FORMAT", "json"),
        ];
        run("telemetry::answers_traced_and_untraced_calls", &settings)
    });
    let written = written.await.unwrap();
    let lines = written.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    (spans.all(), lines)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_recorded_as_its_caller_says_else_as_its_part_and_has_its_trace_in_any_case() {
    for (sample, traces) in [("0", 1), ("1", 2)] {
        let (spans, lines) = recorded(sample).await;
        // Each recorded call has a span at the server, one at the client that it is, and one at the server that it calls.
        assert_eq!(spans.len(), 3 * traces, "{sample}: {spans:?}");
        assert!(spans.iter().any(|span| span.trace.starts_with("0af7")), "its caller records it");
        assert!(!spans.iter().any(|span| span.trace.starts_with("0af8")), "its caller does not");
        let said = |message: &str| lines.iter().filter(|line| line["message"] == message).collect::<Vec<_>>();
        let (inner, outer) = (said("answered"), said("called"));
        assert_eq!((inner.len(), outer.len()), (3, 3));
        for (inner, outer) in inner.iter().zip(&outer) {
            assert_eq!(inner["inner"], outer["outer"], "one trace over both hops");
            assert_eq!(inner["trace_id"], outer["outer"], "and its lines have its id");
        }
    }
}
