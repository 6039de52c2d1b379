//! Reads PostgreSQL's clock every few seconds, from PostgreSQL itself or from a process that has a database.

use std::sync::Arc;
use std::time::Duration;

use crate::inner::Inner;
use crate::{nats, store};
use coherence::clock::Sample;
use coherence::time::PgTime;

/// Between two readings: often enough that drift costs a proof less than a millisecond.
const EVERY: Duration = Duration::from_secs(5);
/// After a reading that failed.
const RETRY: Duration = Duration::from_millis(250);
const TIMEOUT: Duration = Duration::from_secs(1);

/// Reads until the cache is closed: at once, every five seconds, sooner after a failure or when asked.
pub(crate) async fn keep(inner: Arc<Inner>) {
    loop {
        let asked = inner.now();
        let read = tokio::time::timeout(TIMEOUT, read(&inner)).await.ok().flatten();
        if let Some((lower, upper)) = read {
            inner.sampled(Sample { asked, answered: inner.now(), lower, upper });
        }
        let wait = if read.is_some() { EVERY } else { RETRY };
        tokio::select! {
            () = inner.stop.cancelled() => return,
            () = inner.reading.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

async fn read(inner: &Inner) -> Option<(PgTime, PgTime)> {
    if let Some(pool) = &inner.pool {
        return store::clock(pool).await.ok().map(|showed| (showed, showed));
    }
    nats::clock::ask(inner.nats.as_ref()?, &inner.settings.space).await
}
