//! One generation is one trace: from the gateway's span down to the worker's and to the webhook that tells of its end, with
//! PostgreSQL, Redis, NATS, the provider's calls and the poster on the way, and every change that the relay published linked to the
//! call that made it.

use std::time::Duration;

use anyhow::Result;
use proto::generations::v1::{Generation, StartGenerationRequest, State};
use proto::webhooks::v1::{CreateEndpointRequest, Endpoint};
use provider_double::{Double, Receiver};
use testkit::{Kind, Span, Spans, Tree};

use crate::client::{Client, order};
use crate::cluster::{Cluster, Options};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// A seed with which the receiver accepts the first webhook.
const ACCEPTING_SEED: u64 = 1;

#[tokio::test(flavor = "multi_thread")]
async fn one_generation_is_one_tree() -> Result<()> {
    let spans = Spans::collect().await?;
    let cluster = Cluster::start(Options { otlp: Some(spans.endpoint()), ..Options::default() }).await?;
    let client = cluster.client(10).await?;
    let project = client.project("Traced").await?;
    let scene = client.scene(&project, "One").await?;
    let traced = client.in_trace(&format!("00-{TRACE}-{CALLER}-01"));
    let started = traced.start(&scene, "a lighthouse in a storm").await?;
    assert!(started.traceparent.contains(TRACE), "{:?}", started.traceparent);
    let done = client.outcome(&started.name).await?;
    assert_eq!(done.state(), State::Completed, "{:?}", done.error);

    // The worker's own span ends after the completion that it reports, and spans leave in batches.
    let is_work = |span: &Span| span.service == "generation-worker" && span.name.starts_with("work ");
    let is_poster = |span: &Span| span.service == "thumbnail-worker" && span.kind == Kind::Server;
    let is_redis = |span: &Span| span.attribute("db.system.name") == Some("redis");
    let found = |all: &[Span]| {
        let trace: Vec<Span> = all.iter().filter(|s| s.trace == TRACE).cloned().collect();
        let tree = Tree::under(trace, CALLER);
        let whole = tree.orphans().next().is_none() && tree.find(is_work).is_some() && tree.find(is_poster).is_some();
        let announced = all.iter().any(|s| s.links.iter().any(|(trace, _)| trace == TRACE));
        (whole && announced && all.iter().any(is_redis)).then_some(tree)
    };
    let tree = match spans.wait("the whole trace", Duration::from_secs(30), found).await {
        Ok(tree) => tree,
        Err(error) => {
            println!("{}", Tree::under(spans.trace(TRACE), CALLER));
            return Err(error);
        }
    };

    let shown = tree.to_string();
    assert_eq!(tree.roots().count(), 1, "{shown}");
    let root = tree.roots().next().unwrap();
    assert_eq!((root.service.as_str(), root.kind), ("gateway", Kind::Server), "{shown}");
    let work = tree.find(is_work).unwrap();
    let way: Vec<_> = tree.path(work).iter().map(|span| span.service.clone()).collect();
    assert!(way.contains(&"gateway".into()) && way.contains(&"generation-status".into()), "{shown}");

    let sql = tree.find(|s| s.service == "generation-status" && s.attribute("db.system.name") == Some("postgresql"));
    assert!(sql.is_some(), "{shown}");
    let poster = tree.find(is_poster);
    let way: Vec<_> = tree.path(poster.unwrap()).iter().map(|span| span.service.clone()).collect();
    assert!(way.contains(&"generation-worker".into()), "{shown}");
    cluster.end().await
}

/// The steps of a generation whose video a remote provider makes, each as the service, the kind and the name of its span, and the
/// name of a span that it is under.
const CHAIN: [(&str, Kind, &str, &str); 16] = [
    ("gateway", Kind::Server, START, START),
    ("generation-status", Kind::Server, START, START),
    ("generation-status", Kind::Producer, WAKE_UP, START),
    ("generation-status", Kind::Consumer, "process jobs.ready.generation", WAKE_UP),
    ("generation-worker", Kind::Consumer, "work by-replicate", START),
    ("generation-status", Kind::Server, "rushes.work.v1.WorkService/RecordIntent", "work by-replicate"),
    ("generation-worker", Kind::Client, "submit replicate", "work by-replicate"),
    ("generation-status", Kind::Server, "rushes.work.v1.WorkService/RecordSubmission", "work by-replicate"),
    ("generation-worker", Kind::Client, "poll replicate", "work by-replicate"),
    ("generation-worker", Kind::Client, "fetch output", "store output"),
    ("thumbnail-worker", Kind::Server, "rushes.assets.v1.AssetService/RegisterOutput", "store output"),
    ("thumbnail-worker", Kind::Internal, "render poster", "rushes.assets.v1.AssetService/RegisterOutput"),
    ("generation-status", Kind::Server, "rushes.work.v1.WorkService/CompleteWork", "work by-replicate"),
    ("generation-status", Kind::Producer, "publish rushes.cache.hint", "rushes.work.v1.WorkService/CompleteWork"),
    ("generation-status", Kind::Consumer, "webhook job", START),
    ("generation-status", Kind::Client, "send webhook", "webhook job"),
];

const START: &str = "rushes.generations.v1.GenerationService/StartGeneration";
const WAKE_UP: &str = "publish jobs.ready.generation";
const INVALIDATION: &str = "publish rushes.cache.inv.0";

/// The first span of a step that is not among the spans, or not under the one that it belongs under.
fn missing(tree: &Tree) -> Option<&'static str> {
    let is_there = |(service, kind, name, above): &(&str, Kind, &str, &str)| {
        let mut spans = tree.spans().iter().filter(|s| s.service == *service && s.kind == *kind && s.name == *name);
        spans.any(|span| tree.path(span).iter().any(|span| span.name == *above))
    };
    CHAIN.iter().find(|step| !is_there(step)).map(|(_, _, name, _)| *name)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_step_of_a_generation_at_a_provider_is_a_span_of_its_trace() -> Result<()> {
    let spans = Spans::collect().await?;
    let folder = std::env::temp_dir().join(format!("rushes-chain-{}", uuid::Uuid::now_v7().simple()));
    std::fs::create_dir_all(&folder)?;
    let settings = provider_double::Settings::new(folder.join("bill.jsonl"));
    let (token, secret) = (settings.token.clone(), settings.secret.clone());
    let provider = Double::start(settings).await?;
    let customer = Receiver::start(ACCEPTING_SEED).await?;
    let models = serde_json::json!({"models": [{
        "id": "by-replicate", "provider": "replicate", "model": "acme/video", "price_micros": 100_000,
        "max_attempts": 1, "start_deadline": "60s", "total_deadline": "60s",
    }]});
    std::fs::write(folder.join("models.json"), models.to_string())?;
    let more = vec![
        ("RUSHES_MODELS", folder.join("models.json").display().to_string()),
        ("RUSHES_REPLICATE_TOKEN", token),
        ("RUSHES_REPLICATE_URL", format!("http://{}/replicate/v1", provider.address())),
        ("RUSHES_REPLICATE_WEBHOOK_SECRETS", secret),
        ("RUSHES_WEBHOOK_REACH", "anywhere".to_owned()),
    ];
    let cluster = Cluster::start(Options { otlp: Some(spans.endpoint()), more, ..Options::default() }).await?;
    let client = cluster.client(10).await?;
    let done = completed(&client, &customer).await?;
    assert_eq!(done.state(), State::Completed, "{:?}", done.error);

    // The relay's spans are of no generation's trace: one pass takes the changes of many, and is linked to each.
    let relayed = |all: &[Span]| {
        let passes: Vec<_> = all.iter().filter(|s| s.links.iter().any(|(trace, _)| trace == TRACE)).collect();
        let under = |kind: Kind, name: &str, parents: &[&Span]| -> Vec<Span> {
            let is_under = |span: &&Span| parents.iter().any(|parent| span.parent.as_ref() == Some(&parent.id));
            all.iter().filter(|s| s.kind == kind && s.name == name).filter(is_under).cloned().collect()
        };
        let published = under(Kind::Producer, INVALIDATION, &passes);
        let received = under(Kind::Consumer, "process rushes.cache.inv.0", &published.iter().collect::<Vec<_>>());
        ["gateway", "dashboard", "generation-status"].iter().all(|name| received.iter().any(|s| s.service == *name))
    };
    let found = |all: &[Span]| {
        let trace = all.iter().filter(|s| s.trace == TRACE).cloned().collect();
        let tree = Tree::under(trace, CALLER);
        (missing(&tree).is_none() && tree.orphans().next().is_none() && relayed(all)).then_some(tree)
    };
    let Ok(tree) = spans.wait("every step", Duration::from_secs(60), found).await else {
        let tree = Tree::under(spans.trace(TRACE), CALLER);
        anyhow::bail!("missing: {:?}, relayed: {}, in\n{tree}", missing(&tree), relayed(&spans.all()));
    };
    let sent = tree.spans().iter().rfind(|span| span.name == "send webhook").unwrap();
    assert_eq!(sent.attribute("http.response.status_code"), Some("200"));
    assert!(
        sent.attributes.values().all(|value| !value.contains("/hook?key=")),
        "an address is no attribute: {sent:?}"
    );
    for name in [WAKE_UP, "process jobs.ready.generation"] {
        let span = tree.find(|span| span.name == name).unwrap();
        assert_eq!(span.attribute("messaging.system"), Some("nats"));
        assert_eq!(span.attribute("messaging.destination.name"), Some("jobs.ready.generation"));
    }
    let received = customer.received();
    assert_eq!(received.len(), 1, "{received:?}");
    cluster.end().await?;
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

/// Orders a video from the provider, in the trace, with an endpoint for the news of its completion; and waits for its end.
async fn completed(client: &Client, customer: &Receiver) -> Result<Generation> {
    let endpoint = Endpoint {
        url: format!("{}/hook?key=secret", customer.url(0)),
        event_types: vec!["generation.completed".to_owned()],
        ..Endpoint::default()
    };
    let create = CreateEndpointRequest { endpoint: Some(endpoint), ..CreateEndpointRequest::default() };
    client.webhooks().create_endpoint(create).await?;
    let project = client.project("Traced").await?;
    let scene = client.scene(&project, "One").await?;
    let start = StartGenerationRequest { model: "models/by-replicate".into(), ..order(&scene.name, "a harbour") };
    let traced = client.in_trace(&format!("00-{TRACE}-{CALLER}-01"));
    let started = traced.generations().start_generation(start).await?.into_inner();
    client.outcome(&started.name).await
}
