//! The time from a commit until no replica's L1 serves what was before it, beside a bare round trip over the same NATS server.
//!
//! Two ways: as services write, with a hint from their cache; and by a change that only the outbox has.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cache::{Changes, Signal};
use chassis::settings::Source;
use futures::StreamExt as _;

use crate::replica::{Replica, key};
use crate::result::Result;

const REPLICAS: usize = 3;
const COMMITS: usize = 100;
const TIMEOUT: Duration = Duration::from_secs(5);
const ECHO: &str = "cost.echo";

/// Prints the median and the 99th percentile of a hundred of each, in milliseconds, for each round.
pub(crate) async fn measure(source: &Source, rounds: usize) -> Result<()> {
    let replicas = Replica::start(source, REPLICAS, 1).await?;
    let mut listeners: Vec<Changes> = replicas.iter().map(|replica| replica.cache.changes()).collect();
    let url: String = source.required("RUSHES_NATS_URL", "a URL")?;
    let (asking, answering) = (chassis::nats::connect(&url).await?, chassis::nats::connect(&url).await?);
    let mut questions = answering.subscribe(ECHO).await?;
    answering.flush().await?;
    let answers = tokio::spawn(async move {
        while let Some(question) = questions.next().await {
            if let Some(reply) = question.reply {
                // A lost answer ends in the asker's timeout.
                let _ = answering.publish(reply, question.payload).await;
            }
        }
    });
    let writer = Arc::clone(&replicas[0]);
    for round in 0..=rounds {
        let (mut trips, mut notified, mut by_outbox) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..COMMITS {
            let began = Instant::now();
            asking.request(ECHO, "question".into()).await?;
            trips.push(began.elapsed());
            notified.push(propagate(&writer, &mut listeners, true).await?);
            // Not in step with the relay, which has just been woken.
            tokio::time::sleep(Duration::from_millis(60).mul_f64(fastrand::f64())).await;
            by_outbox.push(propagate(&writer, &mut listeners, false).await?);
        }
        // The first round opens connections.
        if round > 0 {
            let [trip, notified, by_outbox] = [trips, notified, by_outbox].map(percentiles);
            println!(
                "trip_p50={} trip_p99={} notified_p50={} notified_p99={} by_outbox_p50={} by_outbox_p99={}",
                trip.0, trip.1, notified.0, notified.1, by_outbox.0, by_outbox.1
            );
        }
    }
    answers.abort();
    Ok(())
}

/// The time from one commit until every replica has dropped what was before it.
async fn propagate(writer: &Replica, listeners: &mut [Changes], hints: bool) -> Result<Duration> {
    let key = key(0);
    let version = writer.change(&key, 0).await?;
    let committed = Instant::now();
    if hints {
        writer.cache.wrote(&key, version).await;
    }
    for listener in listeners {
        let notified = async {
            loop {
                match listener.next().await {
                    Some(Signal::Changed(change)) if change.version >= version => return Ok(()),
                    Some(_) => {}
                    None => return Err("the cache was closed"),
                }
            }
        };
        tokio::time::timeout(TIMEOUT, notified).await??;
    }
    Ok(committed.elapsed())
}

fn percentiles(mut times: Vec<Duration>) -> (f64, f64) {
    times.sort();
    let at = |share: f64| times[(times.len() as f64 * share) as usize - 1].as_secs_f64() * 1e3;
    (at(0.5), at(0.99))
}
