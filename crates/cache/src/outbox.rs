//! The outbox: how a transaction tells the cache what it changes, and how a load reads what it needs beside its data.
//!
//! Invariant: a change and its outbox row are one transaction; for an aggregate the row is the bump of its version.
//!
//! The row has the change's traceparent, which `chassis::postgres::Pool::transaction` sets for the transaction.
//!
//! Tables with an emit trigger write their rows themselves; [`append`] and [`bump`] are for changes that no trigger
//! sees.
//!
//! # A load in one statement
//! Data, version and clock must come from one snapshot. A row key, also when the row does not exist:
//! ```sql
//! select c.epoch, c.seq, g.version, g.state
//! from cache_clock c
//! left join generations g on g.account_id = $1 and g.id = $2
//! where c.part = 0
//! ```
//! An aggregate (`cache_version` reads in the snapshot of the statement that calls it):
//! ```sql
//! select c.epoch, c.seq, cache_version($1) as version, p.projects
//! from cache_clock c
//! cross join lateral (select json_agg(p) as projects from projects p where p.account_id = $2) p
//! where c.part = 0
//! ```

use chassis::postgres::{Error, statement};
use sqlx::PgConnection;

use crate::key::{Class, Key};

/// Writes the change of one row into the outbox of the open transaction, with the traceparent of the current span.
/// `version` is the row's exact new version; a deletion's is one more than the last.
///
/// # Errors
/// What PostgreSQL answered; the transaction cannot be committed then.
pub async fn append(connection: &mut PgConnection, key: &Key, version: i64) -> Result<(), Error> {
    debug_assert_eq!(key.class(), Class::Row, "an aggregate has no version of its own: bump it");
    write(connection, key, Some(version)).await
}

/// Writes the change of an aggregate into the outbox of the open transaction, which raises its version by one.
///
/// # Errors
/// What PostgreSQL answered; the transaction cannot be committed then.
pub async fn bump(connection: &mut PgConnection, key: &Key) -> Result<(), Error> {
    debug_assert_eq!(key.class(), Class::Aggregate, "a row's version is its own: append it");
    write(connection, key, None).await
}

async fn write(connection: &mut PgConnection, key: &Key, version: Option<i64>) -> Result<(), Error> {
    let write = sqlx::query(
        "insert into outbox (key, ver, trace)
         values ($1, $2, coalesce($3, nullif(current_setting('rushes.traceparent', true), '')))",
    )
    .bind(key.as_str())
    .bind(version)
    .bind(chassis::telemetry::traceparent())
    .execute(connection);
    statement("append_outbox", write).await.map(drop)
}
