//! Which queues somebody serves, whether or not anything is claimed from them: all of a worker's slots may be taken.

use chassis::postgres::statement;
use sqlx::PgConnection;

use crate::Error;

/// A queue counts as served for so many seconds after a worker was last seen to serve it: several times the interval at which that
/// is said.
pub(crate) const SERVED_SECONDS: f64 = 60.0;

/// Says that workers serve these queues of a kind now. To be repeated well within a minute.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn mark_served(tx: &mut PgConnection, kind: &str, queues: &[String]) -> Result<(), Error> {
    let query = sqlx::query(
        "insert into job_servers (kind, queue)
         select $1, queue from unnest($2::text[]) as served(queue)
         -- In one order, so that two processes never wait for each other in a circle.
         order by queue
         on conflict (kind, queue) do update set seen_time = now()",
    )
    .bind(kind)
    .bind(queues);
    statement("mark_served", query.execute(tx)).await?;
    Ok(())
}
