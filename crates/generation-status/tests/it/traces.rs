//! The trace that a change's row in the outbox carries: its caller's, whether it came by a request or a gathered report.

use chassis::settings::Source;
use chassis::telemetry::{self, Telemetry};
use tracing::Instrument as _;

use crate::cluster::Cluster;
use crate::worker::Worker;

/// The ids of the traces in the outbox, oldest first, of all changes that came after `after`; and where that ends.
async fn traces(cluster: &Cluster, after: i64) -> (Vec<String>, i64) {
    let rows: Vec<(i64, Option<String>)> = sqlx::query_as("select id, trace from outbox where id > $1 order by id")
        .bind(after)
        .fetch_all(&cluster.pool)
        .await
        .unwrap();
    let end = rows.last().expect("changes").0;
    // {version}-{trace}-{span}-{flags}
    let id = |trace: Option<String>| trace.unwrap_or_default().split('-').nth(1).unwrap_or_default().to_owned();
    (rows.into_iter().map(|(_, trace)| id(trace)).collect(), end)
}

/// Does `work` in a trace of its own, and returns that trace's id with what came of it.
async fn traced<T>(work: impl Future<Output = T>) -> (String, T) {
    let work = async { (telemetry::trace_id().expect("a trace"), work.await) };
    work.instrument(tracing::info_span!("a caller")).await
}

#[tokio::test]
async fn a_change_carries_the_trace_of_its_caller() {
    let settings = telemetry::Settings::read(&Source::of(&[("RUSHES_LOG", "off")])).unwrap();
    // For all tests of this process, as long as it runs.
    std::mem::forget(Telemetry::start("generation-status", &settings));
    // Without a relay the outbox keeps its rows.
    let cluster = Cluster::with(|config| config.cache.relay = false).await;
    let user = cluster.user(1).await;
    let (_, end) = traces(&cluster, 0).await;

    let (trace, generation) = traced(cluster.started(&user)).await;
    let (seen, end) = traces(&cluster, end).await;
    assert!(seen.iter().all(|seen| *seen == trace), "start: {seen:?} and not {trace}");
    assert_eq!(generation.traceparent.split('-').nth(1), Some(trace.as_str()));

    let mut worker = Worker::new(&cluster, 1).await;
    let work = worker.next().await;
    let (_, end) = traces(&cluster, end).await;
    let (trace, ()) = traced(async { worker.submitted(&work).await.unwrap() }).await;
    let (seen, end) = traces(&cluster, end).await;
    assert!(seen.iter().all(|seen| *seen == trace), "submission: {seen:?} and not {trace}");
    let (trace, _) = traced(async { worker.progress(&work, 50).await.unwrap() }).await;
    let (seen, _) = traces(&cluster, end).await;
    assert!(seen.iter().all(|seen| *seen == trace), "progress: {seen:?} and not {trace}");
}
