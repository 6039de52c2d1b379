//! The database schema: the one migrator over `/migrations`, and the roles of the services.
//!
//! Invariant: there is one folder and one migrator. Two migrators on one database refuse each other's versions, so every
//! program that migrates (`rushes migrate`, `rushes up`, the tests) goes through this crate.

mod accounts;
mod grants;

use sqlx::Connection;
use sqlx::migrate::{MigrateError, Migrator};

pub use accounts::{ACCOUNT_TABLES, AccountTable, Erased, Exported};
pub use grants::{GRANTS, Grant, Roles, Service};

/// Every migration of the product, in order, embedded in the binary.
pub static MIGRATOR: Migrator = sqlx::migrate!("../../migrations");

/// Brings the database at `url` up to the newest migration, which does nothing when it is there already, and gives each service's role
/// the rights that it has in [`GRANTS`].
///
/// Safe to run from several processes at once: the migrator holds an advisory lock.
pub async fn migrate(url: &str) -> Result<Roles, MigrateError> {
    let mut connection = sqlx::PgConnection::connect(url).await?;
    MIGRATOR.run(&mut connection).await?;
    let roles = grants::apply(&mut connection).await?;
    connection.close().await?;
    Ok(roles)
}

/// The newest migration that this binary knows, as its 14-digit version; `None` when there is none.
#[must_use]
pub fn newest() -> Option<i64> {
    MIGRATOR.iter().map(|migration| migration.version).max()
}
