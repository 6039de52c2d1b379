//! One generation is one trace: from the gateway's span down to the worker's, with PostgreSQL, Redis and the poster on the
//! way, and every change that NATS announced linked to the call that made it.

use std::time::Duration;

use anyhow::Result;
use proto::generations::v1::State;
use testkit::{Kind, Span, Spans, Tree};

use crate::cluster::{Cluster, Options};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

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
