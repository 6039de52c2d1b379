//! Jobs whose time has not come. They stand apart from those that could be claimed, so that a claim reads none of them however
//! many there are; before each claim what has come due is put to the others.

use chassis::postgres::statement;
use sqlx::PgConnection;

use crate::Error;

/// Puts what has come due, at most 500 jobs at once, to what can be claimed: a statement, or a part of one before its `select`.
macro_rules! due {
    () => {
        "update jobs set delayed = false
         where id in (select id from jobs where kind = $1 and state = 'queued' and delayed and run_at <= now()
                      order by run_at limit 500 for update skip locked)"
    };
}
pub(crate) use due;

/// As [`due!`], by itself.
pub(crate) async fn wake(tx: &mut PgConnection, kind: &str) -> Result<(), Error> {
    statement("wake_jobs", sqlx::query(due!()).bind(kind).execute(tx)).await?;
    Ok(())
}
