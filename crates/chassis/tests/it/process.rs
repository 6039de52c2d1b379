//! A process from its settings to its exit code. Each case runs in a process of its own: this test binary again, with one
//! ignored test.

use std::{
    process::{Command, ExitCode},
    time::Duration,
};

use chassis::{process, server::Server, telemetry};
use testkit::{Process, Spans};
use tonic::service::Routes;

use crate::wire::free;

const POINTS: &[&str] = &["test.first", "test.second"];

/// A service that listens until it is told to end; or fails as `TEST_FAILS` says; or panics.
fn service() -> ExitCode {
    process::run("shop", POINTS, async |process| {
        let settings = telemetry::Settings::read(process.settings())?;
        process.start_telemetry(&settings);
        let _work = tracing::info_span!("work").entered();
        match process.settings().optional::<String>("TEST_FAILS", "a way to fail")?.as_deref() {
            Some("panic") => panic!("as it was told"),
            Some(_) => return Err(anyhow::anyhow!("the shelf broke").context("the shop cannot open")),
            None => {}
        }
        if process.settings().optional::<u8>("TEST_HANGS", "1")?.is_some() {
            tracing::info!("hanging");
            std::future::pending::<()>().await;
        }
        let bound = Server::new("shop", &free()).bind().await?;
        Ok(bound.serve(Routes::default(), process.drain()).await?)
    })
}

#[test]
#[ignore = "run by the other tests in a process of its own"]
fn runs_the_service() {
    let code = format!("{:?}", service());
    let known = (0..=255_u8).find(|known| format!("{:?}", ExitCode::from(*known)) == code);
    std::process::exit(known.unwrap().into());
}

fn command(environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "process::runs_the_service", "--ignored", "--nocapture"])
        .env("RUSHES_LOG_FORMAT", "json")
        .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
        .envs(environment.iter().copied());
    command
}

/// The process's exit code and what it wrote to standard error.
fn run(environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let output = command(environment).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_start_that_fails_says_one_sentence_and_exits_with_1() {
    for (setting, sentence) in [
        (("TEST_FAILS", "1"), "shop: the shop cannot open: the shelf broke\n"),
        (("RUSHES_LOG_FORMAT", "xml"), "shop: RUSHES_LOG_FORMAT is \"xml\"; it should be json or pretty\n"),
    ] {
        assert_eq!(run(&[setting]), (Some(1), sentence.to_owned()));
    }
}

#[test]
fn an_unknown_crash_point_is_answered_with_those_that_there_are() {
    let (code, text) = run(&[("RUSHES_CRASH_AT", "?")]);
    assert_eq!(code, Some(1));
    assert!(
        text.starts_with("shop: RUSHES_CRASH_AT should be ") && text.ends_with(": test.first, test.second\n"),
        "{text}"
    );
}

/// Runs the service until its log has `until`, sends it one signal after another, each when the last is in the log, and gives
/// its exit code and its log.
async fn signalled(environment: &[(&str, &str)], until: &[&str]) -> (Option<i32>, Vec<serde_json::Value>) {
    let folder = std::env::temp_dir().join(format!("chassis-process-{}", uuid::Uuid::now_v7().simple()));
    std::fs::create_dir_all(&folder).unwrap();
    let process = Process::spawn("shop", command(environment), &folder.join("log")).unwrap();
    let limit = Duration::from_secs(30);
    for message in until {
        let logged = async || process.tail(100).contains(&format!("\"{message}\"")).then_some(());
        testkit::eventually(message, limit, logged).await.unwrap();
        process.ask_to_end();
    }
    let ended = testkit::eventually("its end", limit, async || process.ended()).await.unwrap();
    // The first lines of standard output are the test harness's.
    let lines = process.tail(100).lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    std::fs::remove_dir_all(&folder).unwrap();
    (ended.code(), lines)
}

#[tokio::test]
async fn a_start_logs_both_addresses_once_and_a_signal_ends_it() {
    let (code, lines) = signalled(&[], &["listening"]).await;
    assert_eq!(code, Some(0));
    let listening: Vec<_> = lines.iter().filter(|line| line["message"] == "listening").collect();
    assert_eq!(listening.len(), 1);
    let (line, address) = (listening[0], |value: &serde_json::Value| value.as_str().unwrap().parse().unwrap());
    assert_eq!((&line["level"], &line["service"]), (&"INFO".into(), &"shop".into()));
    let addresses: [std::net::SocketAddr; 2] = [address(&line["addr"]), address(&line["admin"])];
    assert!(addresses[0].port() != 0 && addresses[1].port() != 0 && addresses[0] != addresses[1], "{addresses:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_are_sent_on_every_way_out() {
    let spans = Spans::collect().await.unwrap();
    let endpoint = spans.endpoint();
    let exporter = ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str());
    let ways: [(&[(&str, &str)], i32); 2] =
        [(&[exporter, ("TEST_FAILS", "1")], 1), (&[exporter, ("TEST_FAILS", "panic")], 101)];
    for (at, (environment, expected)) in ways.into_iter().enumerate() {
        let code = tokio::task::block_in_place(|| run(environment).0);
        assert_eq!(code, Some(expected));
        let arrived =
            |all: &[testkit::Span]| (all.iter().filter(|span| span.name == "work").count() > at).then_some(());
        spans.wait("the span", Duration::from_secs(5), arrived).await.unwrap();
    }
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let (code, _) = signalled(&[("TEST_HANGS", "1")], &["hanging", "draining"]).await;
    assert_eq!(code, Some(130));
}
