//! Scaled time: a deadline is two minutes there and not a day, so an order that has been in trouble, or has ignored a request to stop,
//! for some minutes has for a day, and what is waited for a bounded time comes to its end within the run.
//!
//! Invariant: a trouble that passes is never made older: the provider's lasts for three requests at most, and an order in trouble is
//! polled once a minute at least.

use std::time::Duration;

use sqlx::PgPool;
use tokio::task::JoinHandle;

/// Makes what is old a day older, again and again.
pub(super) struct ScaledTime(JoinHandle<()>);

impl ScaledTime {
    pub(super) fn begin(pool: &PgPool) -> Self {
        let pool = pool.clone();
        Self(tokio::spawn(async move {
            loop {
                // The database may be away: then the next round does it.
                let _ = age(&pool).await;
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
        }))
    }

    /// Ends it.
    ///
    /// # Errors
    /// When a last round fails, with every server there: then none was right.
    pub(super) async fn end(self, pool: &PgPool) -> sqlx::Result<()> {
        drop(self);
        age(pool).await
    }
}

impl Drop for ScaledTime {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Since when an order has been in trouble, by what is, and since when it was to stop.
const CLOCKS: [(&str, &str); 5] = [
    ("provider_calls", "poll_trouble_time"),
    ("provider_calls", "order_trouble_time"),
    ("provider_calls", "output_trouble_time"),
    ("provider_calls", "storage_trouble_time"),
    ("jobs", "cancel_at"),
];

/// What began two and a half minutes ago began a day earlier. What a service has locked waits for the next round.
async fn age(pool: &PgPool) -> sqlx::Result<()> {
    for (table, clock) in CLOCKS {
        let statement = format!(
            "update {table} set {clock} = {clock} - interval '25 hours'
             where ctid = any (array(
                 select ctid from {table}
                 where {clock} between now() - interval '24 hours' and now() - interval '150 seconds'
                 for update skip locked))"
        );
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(pool).await?;
    }
    Ok(())
}
