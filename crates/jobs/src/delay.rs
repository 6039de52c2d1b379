//! Delayed jobs: queued, with a `run_at` that has not come. An index of their own keeps them apart from claimable ones, so that
//! a claim reads none of them however many there are; each claim first promotes those that have come due.

use chassis::postgres::statement;
use sqlx::PgConnection;

use crate::Error;

/// Up to 500 jobs of kind `$1` that have come due. Materialized, as is every part that locks rows; a bound, so that a claim after
/// a long pause promotes a backlog in several steps instead of holding one long transaction.
macro_rules! due {
    () => {
        "with due as materialized (
             select id from jobs where kind = $1 and state = 'queued' and delayed and run_at <= now()
             order by run_at limit 500
             for update skip locked
         )"
    };
}

/// Moves what is due to the claimable jobs.
macro_rules! promote {
    () => {
        "update jobs set delayed = false from due where jobs.id = due.id"
    };
}
pub(crate) use {due, promote};

/// Promotes what is due, in a statement of its own: the claim that follows must see the result.
pub(crate) async fn promote_due(tx: &mut PgConnection, kind: &str) -> Result<(), Error> {
    statement("promote_jobs", sqlx::query(concat!(due!(), promote!())).bind(kind).execute(tx)).await?;
    Ok(())
}
