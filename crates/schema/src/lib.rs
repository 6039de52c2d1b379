//! The database schema: the one migrator over `/migrations`.
//!
//! Invariant: there is one folder and one migrator. Two migrators on one database refuse each other's versions, so every
//! program that migrates (`rushes migrate`, `rushes up`, the tests) goes through this crate.

use sqlx::Connection;
use sqlx::migrate::{MigrateError, Migrator};

/// Every migration of the product, in order, embedded in the binary.
pub static MIGRATOR: Migrator = sqlx::migrate!("../../migrations");

/// Brings the database at `url` up to the newest migration; does nothing when it is there already.
///
/// Safe to run from several processes at once: the migrator holds an advisory lock.
pub async fn migrate(url: &str) -> Result<(), MigrateError> {
    let mut connection = sqlx::PgConnection::connect(url).await?;
    MIGRATOR.run(&mut connection).await?;
    connection.close().await?;
    Ok(())
}

/// The newest migration that this binary knows, as its 14-digit version; `None` when there is none.
#[must_use]
pub fn newest() -> Option<i64> {
    MIGRATOR.iter().map(|migration| migration.version).max()
}
