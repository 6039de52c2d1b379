//! Waiting in a test for something that happens elsewhere: ask again until it is so, never sleep and hope.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Asks `question` again until it gives `Some`, at most for `limit` of the machine's clock (tokio's may be paused).
///
/// `what` says in the error what did not happen, as in "generation … is COMPLETED".
pub async fn eventually<T>(what: &str, limit: Duration, mut question: impl AsyncFnMut() -> Option<T>) -> Result<T> {
    let started = Instant::now();
    loop {
        if let Some(answer) = question().await {
            return Ok(answer);
        }
        if started.elapsed() >= limit {
            bail!("not within {limit:?}: {what}");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
