//! A change can be followed: from the span that made it, by links, to the relay that published it and every node that
//! received it.

use std::time::Duration;

use chassis::postgres::statement;
use chassis::settings::Source;
use chassis::telemetry::{self, Telemetry};
use testkit::{Kind, Spans};
use tracing::Instrument as _;

use crate::cluster::{Cluster, LONG};

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_linked_to_its_relay_and_that_to_its_receivers() {
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
    assert_eq!(relay.kind, Kind::Producer);
    let received = spans.wait("a receiver's span, linked to the relay's", limit, |all| {
        all.iter().find(|s| s.name == "cache.receive" && s.links.iter().any(|(_, span)| *span == relay.id)).cloned()
    });
    assert_eq!(received.await.unwrap().kind, Kind::Consumer);
    telemetry.shutdown();
}
