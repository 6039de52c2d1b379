//! Jobs whose time has not come. They stand apart from those that could be claimed, so that a claim reads none of them however
//! many there are; before each claim what has come due is put to the others.

use chassis::postgres::statement;
use sqlx::PgConnection;

use crate::Error;

/// What has come due, at most 500 jobs of a kind. Materialized, as all that locks.
macro_rules! due {
    () => {
        "with due as materialized (
             select id from jobs where kind = $1 and state = 'queued' and delayed and run_at <= now()
             order by run_at limit 500
             for update skip locked
         )"
    };
}
/// Puts what is due to what can be claimed.
macro_rules! wake {
    () => {
        "update jobs set delayed = false from due where jobs.id = due.id"
    };
}
pub(crate) use {due, wake};

/// Both, for a claim that has no other statement before it.
pub(crate) async fn wake_due(tx: &mut PgConnection, kind: &str) -> Result<(), Error> {
    statement("wake_jobs", sqlx::query(concat!(due!(), wake!())).bind(kind).execute(tx)).await?;
    Ok(())
}
