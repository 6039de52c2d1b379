//! What operators read of orders: spans, log lines and metrics. Telemetry belongs to the process, so the orders are carried out in
//! a process of their own: this test binary again, with one ignored test.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use chassis::settings::Source;
use chassis::telemetry::{self, Telemetry};
use domain::provider::Provider;
use generation_worker::config;
use generation_worker::metrics;
use generation_worker::providers::Registry;
use proto::work::v1::receive_hook_request::Header;
use proto::work::v1::{OrderTrouble, ReceiveHookRequest, Trouble as Clock};
use provider_double::Double;
use serde_json::Value;
use testkit::{Kind, Span, Spans};
use tonic::Request;

use crate::cluster::Cluster;
use crate::fake_provider::{FakeProvider, done};
use crate::node::{Node, TRACEPARENT};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const STARTER: &str = "00f067aa0ba902b7";
const TOKEN: &str = "double-token";

/// The registry of a worker whose remote providers are all the double.
pub(crate) fn registry(double: &Double, token: &str) -> Registry {
    let url = |path: &str| format!("http://{}{path}", double.address()).parse().unwrap();
    let header = |scheme: &str| format!("{scheme} {token}").parse().unwrap();
    let keys = |provider, scheme: &str| {
        token.split(',').map(|token| config::ProviderKey::new(provider, scheme, token).unwrap()).collect::<Vec<_>>()
    };
    let mut config = crate::cluster::config(&"http://127.0.0.1:1".parse().unwrap(), &std::env::temp_dir());
    config.replicate = Some(config::Replicate {
        url: url("/replicate/v1"),
        keys: keys(Provider::Replicate, "Bearer"),
        hooks: None,
        secrets: Vec::new(),
    });
    config.fal = Some(config::Fal {
        url: url("/fal"),
        keys: keys(Provider::Fal, "Key"),
        hooks: None,
        users: Vec::new(),
        key_set: url("/fal-keys"),
        rest_url: url("/fal-rest"),
        api_url: url("/fal-api"),
    });
    config.openrouter =
        Some(config::OpenRouter { url: url("/openrouter/api/v1"), keys: keys(Provider::OpenRouter, "Bearer") });
    let gpu = config::CogBox { url: url("/cog/gpu"), authorization: Some(header("Bearer")) };
    config.cog.insert("gpu".to_owned(), gpu);
    Registry::open(&config).unwrap()
}

/// The provider of a model in these tests, and what it calls it.
pub(crate) fn at_provider(model: &str) -> (&'static str, &'static str) {
    match model {
        "by-replicate" => ("replicate", "acme/video"),
        "by-fal" => ("fal", "fal-ai/video/text-to-video"),
        "by-openrouter" => ("openrouter", "acme/video"),
        "by-cog" => ("cog", "gpu"),
        _ => ("local", "sketch"),
    }
}

/// Queues work of a model, in the trace of its starter.
fn queue(node: &Node, model: &str, prompt: &str, reference: &str, cancel: bool) -> String {
    node.queue(|work| {
        work.model = format!("models/{model}");
        let order = work.order.as_mut().unwrap();
        let (provider, name) = at_provider(model);
        (order.provider, order.model) = (provider.into(), name.into());
        order.input = serde_json::json!({"prompt": prompt}).to_string();
        work.provider_reference = reference.into();
        (work.poll, work.cancel_requested) = (!reference.is_empty(), cancel);
        work.traceparent = TRACEPARENT.into();
    })
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by the other tests in a process of its own"]
async fn carries_orders_out() {
    let telemetry = Telemetry::start("generation-worker", &telemetry::Settings::read(&Source::process()).unwrap());
    let bill = std::env::temp_dir().join(format!("rushes-bill-{}", uuid::Uuid::now_v7().simple()));
    let double = Double::start(provider_double::Settings::new(&bill)).await.unwrap();
    let cluster = Cluster::start(registry(&double, TOKEN), |_| {}).await;
    let node = &cluster.node;

    // Submitted, left to its provider, polled until its video is there, and fetched.
    let job = queue(node, "by-replicate", "a harbour", "", false);
    node.suspended(&job).await;
    let reference = node.submitted(&job).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    node.completed(&queue(node, "by-replicate", "a harbour", &reference, false)).await;
    // One that is worked on for ever is cancelled.
    let job = queue(node, "by-fal", "[endless]", "", false);
    let reference = node.submitted(&job).await;
    node.failed(&queue(node, "by-fal", "[endless]", &reference, true)).await;
    // One fails, one is refused for now, and the built-in provider makes one.
    let job = queue(node, "by-fal", "[failed]", "", false);
    let reference = node.submitted(&job).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    node.failed(&queue(node, "by-fal", "[failed]", &reference, false)).await;
    node.failed(&queue(node, "by-replicate", "[throttled]", "", false)).await;
    node.completed(&queue(node, "local-sketch", "a harbour", "", false)).await;
    // One cannot be asked about for a moment, and then for longer than a moment.
    let job = queue(node, "by-openrouter", "[poll-401:ever]", "", false);
    let reference = node.submitted(&job).await;
    for seconds in [0, 61] {
        let elapsed = Duration::from_secs(seconds).try_into().ok();
        let job = node.queue(|work| {
            let order = work.order.as_mut().unwrap();
            (order.provider, order.model) = ("openrouter".into(), "acme/video".into());
            (work.poll, work.provider_reference) = (true, reference.clone());
            work.provider_key = config::ProviderKey::new(Provider::OpenRouter, "Bearer", TOKEN).unwrap().name;
            work.troubles = vec![OrderTrouble { trouble: Clock::Poll.into(), elapsed }];
            work.traceparent = TRACEPARENT.into();
        });
        node.suspended(&job).await;
    }
    // A wrong credential is refused.
    let strangers = Cluster::start(registry(&double, "wrong-token"), |_| {}).await;
    strangers.node.failed(&queue(&strangers.node, "by-replicate", "a harbour", "", false)).await;
    // A webhook comes, and another that nobody can verify.
    let fake = Cluster::start(FakeProvider::new([done()]).registry(), |_| {}).await;
    let header = |name: &str, value: &str| Header { name: name.into(), value: value.into() };
    let webhook = |secret: &str| ReceiveHookRequest {
        provider: "fake".into(),
        job: crate::cluster::hook_path("fake", uuid::Uuid::now_v7()),
        headers: vec![header("x-secret", secret), header("x-event", "done")],
        body: b"order-5".to_vec(),
    };
    fake.webhooks.clone().receive_hook(Request::new(webhook("open sesame"))).await.unwrap();
    fake.webhooks.clone().receive_hook(Request::new(webhook("guess"))).await.unwrap_err();

    let page = telemetry::page();
    for metric in metrics::ALL {
        let recorded = page.contains(&format!("# TYPE {} ", metric.name));
        let described = page.contains(&format!("# HELP {} {}", metric.name, metric.help()));
        assert_eq!(recorded, described, "{}", metric.name);
    }
    for line in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = line.split(' ').next().unwrap();
        let ours = name.starts_with("rushes_work") || name.starts_with("rushes_provider");
        assert!(!ours || metrics::ALL.iter().any(|metric| metric.name == name), "{name} is not in the table");
    }
    let count = |name: &str, labels: &[&str]| {
        let series =
            page.lines().find(|line| line.starts_with(name) && labels.iter().all(|label| line.contains(label)));
        series.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
    };
    let refused = ["provider=\"openrouter\"", "key=\"openrouter/", "phase=\"poll\"", "outcome=\"account_refused\""];
    assert_eq!(count("rushes_provider_failures_total{", &refused), Some(2), "{page}");
    let refused = ["provider=\"replicate\"", "key=\"replicate/", "phase=\"submit\"", "status=\"401\""];
    assert_eq!(count("rushes_provider_calls_total{", &refused), Some(1), "{page}");
    for series in
        ["rushes_work_total{outcome=\"completed\"} 2", "rushes_provider_webhooks_total{outcome=\"refused\"} 1"]
    {
        assert!(page.contains(series), "no {series} in\n{page}");
    }
    let _ = std::fs::remove_file(bill);
    telemetry.shutdown();
}

/// What the process above writes to standard error.
fn run(environment: &[(&str, &str)]) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "telemetry::carries_orders_out", "--ignored", "--nocapture"])
        .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
        .envs([("RUSHES_LOG", "info"), ("RUSHES_LOG_FORMAT", "json")])
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_to_a_provider_is_a_span_of_the_generations_trace_and_its_webhook_is_linked_to_it() {
    let spans = Spans::collect().await.unwrap();
    let endpoint = spans.endpoint();
    let run = move || run(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)]);
    tokio::task::spawn_blocking(run).await.unwrap();
    let all = spans.all();
    let trace: Vec<&Span> = all.iter().filter(|span| span.trace == TRACE).collect();
    let named = |name: &str| trace.iter().copied().filter(|span| span.name == name).collect::<Vec<_>>();

    for (name, method, statuses) in [
        ("submit replicate", "POST", &["201", "429", "401"][..]),
        ("submit fal", "POST", &["200"]),
        ("poll replicate", "GET", &["200"]),
        ("poll fal", "GET", &["200", "499", "500"]),
        ("cancel fal", "PUT", &["202"]),
        ("fetch output", "GET", &["200"]),
    ] {
        let calls: Vec<_> = named(name).into_iter().filter(|span| span.kind == Kind::Client).collect();
        let mut seen = BTreeSet::new();
        for call in calls {
            let status = call.attribute("http.response.status_code").unwrap();
            seen.insert(status);
            assert_eq!(call.attribute("http.request.method"), Some(method), "{call:?}");
            assert_eq!(call.attribute("server.address"), Some("127.0.0.1"), "{call:?}");
            assert!(call.attribute("server.port").is_some() && call.attribute("rushes.provider").is_some(), "{call:?}");
            let failed = status.starts_with(['4', '5']);
            assert_eq!(call.error.is_some(), failed, "{call:?}");
            assert_eq!(call.attribute("error.type"), failed.then_some(status), "{call:?}");
            let parent = all.iter().find(|span| Some(&span.id) == call.parent.as_ref()).unwrap();
            assert!(parent.name.starts_with("work ") || parent.name == "store output", "{parent:?}");
        }
        assert_eq!(seen, statuses.iter().copied().collect(), "{name}");
    }
    for name in ["work by-replicate", "submit local", "wait local", "fetch output", "store output"] {
        assert!(!named(name).is_empty(), "no {name}");
    }

    let received = |span: &&Span| span.name.ends_with("HookService/ReceiveHook") && span.kind == Kind::Server;
    let links: Vec<_> = all.iter().filter(received).map(|span| span.links.clone()).collect();
    let linked = vec![(TRACE.to_owned(), STARTER.to_owned())];
    assert!(links.len() == 2 && links.contains(&linked) && links.contains(&Vec::new()), "{links:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_a_line_when_it_is_submitted_and_when_it_is_settled_and_a_failure_says_why() {
    let text = tokio::task::spawn_blocking(|| run(&[])).await.unwrap();
    let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let about = |message: &str, provider: &str| {
        let chosen = |line: &&Value| line["message"] == message && line["provider"] == provider;
        lines.iter().filter(chosen).collect::<Vec<_>>()
    };
    let names_all = |line: &Value| {
        ["generation", "job", "model", "provider"]
            .iter()
            .all(|field| line[field].as_str().is_some_and(|id| !id.is_empty()))
            && line["attempt"] == 1
            && line["trace_id"] == TRACE
    };

    let submitted = about("order submitted", "replicate");
    assert_eq!(submitted.len(), 1, "{text}");
    assert!(names_all(submitted[0]) && submitted[0]["reference"].is_string() && submitted[0]["level"] == "INFO");
    let settled = about("order settled", "replicate");
    let outcomes: Vec<_> = settled.iter().map(|line| (line["outcome"].as_str(), line["level"].as_str())).collect();
    // Whoever asks for a pause is given it; and of a wrong credential whoever pauses the provider speaks, once.
    let expected = [(Some("completed"), Some("INFO")), (Some("failed"), Some("INFO")), (Some("failed"), Some("INFO"))];
    assert_eq!(outcomes, expected, "{text}");
    assert!(settled.iter().all(|line| names_all(line)), "{text}");
    let refused = settled[2];
    assert_eq!((&refused["http_status"], &refused["reason"]), (&401.into(), &"PROVIDER_QUOTA".into()), "{refused}");
    assert!(refused["excerpt"].as_str().unwrap().contains("Unauthenticated"), "{refused}");

    let settled = about("order settled", "fal");
    let outcomes: BTreeSet<_> = settled.iter().map(|line| (line["outcome"].as_str(), line["level"].as_str())).collect();
    let expected = [(Some("cancelled"), Some("INFO")), (Some("failed"), Some("WARN"))];
    assert_eq!(outcomes, expected.into(), "a user's cancel is nobody's matter: {text}");
    let failed = settled.iter().find(|line| line["outcome"] == "failed").unwrap();
    assert_eq!(failed["http_status"], 500, "{failed}");
    assert!(failed["excerpt"].as_str().unwrap().contains("runner_server_error"), "{failed}");
    // One failed poll is nobody's business; those of a key that has not worked for a minute are.
    let failed = about("call failed", "openrouter");
    assert_eq!(failed.iter().map(|line| line["level"].as_str()).collect::<Vec<_>>(), [Some("INFO"), Some("WARN")]);
    for line in failed {
        assert!(names_all(line) && line["provider_key"].as_str().is_some_and(|key| key.starts_with("openrouter/")));
        assert_eq!((&line["phase"], &line["http_status"]), (&"poll".into(), &401.into()), "{line}");
        assert!(!line["excerpt"].as_str().unwrap().is_empty(), "{line}");
    }
    assert!(!text.contains(TOKEN) && !text.contains("wrong-token"), "a credential is logged: {text}");
}
