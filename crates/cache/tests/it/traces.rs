//! A change can be followed: from the span that made it, by a link, to the relay's pass that published it, and in that pass's trace
//! to every node that received it.

use std::time::Duration;

use chassis::postgres::statement;
use chassis::settings::Source;
use chassis::telemetry::{self, Telemetry, attributes};
use testkit::{Kind, Span, Spans};
use tracing::Instrument as _;

use crate::cluster::{Cluster, LONG};

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_linked_to_its_relay_whose_trace_has_its_receivers() {
    let spans = Spans::collect().await.unwrap();
    let source = Source::of(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &spans.endpoint()), ("RUSHES_LOG", "info")]);
    let telemetry = Telemetry::start("cache-test", &telemetry::Settings::read(&source).unwrap());
    let cluster = Cluster::new().await;
    let (one, two) = tokio::join!(cluster.ready_node(), cluster.ready_node());

    // Starting the servers logs through checks that tracing-subscriber's per-layer filters remember on this thread
    // until the next event; without one the span would be taken for filtered out.
    tracing::info!("the cluster is up");
    let span = tracing::info_span!("a change");
    let trace = async {
        let account = one.account;
        let change = async |connection: &mut sqlx::PgConnection| {
            let insert = sqlx::query("insert into thing (account, id) values ($1, 'a')").bind(account);
            statement("insert_thing", insert.execute(connection)).await.map(drop)
        };
        one.data.transaction("change", change).await.unwrap();
        telemetry::trace_id().expect("there is a trace")
    }
    .instrument(span)
    .await;
    two.sees("a", 1).await;

    let limit = LONG.max(Duration::from_secs(30));
    let relay = spans.wait("the relay's span, linked to the change", limit, |all| {
        all.iter().find(|s| s.name == "cache.relay" && s.links.iter().any(|(linked, _)| *linked == trace)).cloned()
    });
    let relay = relay.await.unwrap();
    let publish = spans.wait("the publishing of the relay's message", limit, |all| {
        all.iter().find(|s| s.kind == Kind::Producer && s.parent.as_ref() == Some(&relay.id)).cloned()
    });
    let publish = publish.await.unwrap();
    assert!(publish.name.starts_with("publish ") && publish.name.ends_with(".cache.inv.0"), "{}", publish.name);
    assert_eq!(publish.attribute(attributes::MESSAGING_SYSTEM), Some("nats"));
    assert_eq!(publish.attribute(attributes::MESSAGING_OPERATION_TYPE), Some("send"));
    // Both nodes, and in the relay's trace: a message makes no trace of its own.
    let received = spans.wait("a receiver's span for each node", limit, |all| {
        let of_it = |span: &&Span| span.kind == Kind::Consumer && span.parent.as_ref() == Some(&publish.id);
        let received: Vec<_> = all.iter().filter(of_it).cloned().collect();
        (received.len() == 2).then_some(received)
    });
    for received in received.await.unwrap() {
        assert_eq!(received.trace, relay.trace);
        assert_eq!(received.attribute(attributes::MESSAGING_DESTINATION_NAME), publish.name.strip_prefix("publish "));
    }
    telemetry.shutdown();
}
