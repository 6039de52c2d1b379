//! The servers that a run measures on: a PostgreSQL of our own with its normal settings, fsync included, Redis and NATS.
//!
//! Invariant: everything lies in one temporary directory that goes with this value, whatever else is on the machine.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use testkit::{Nats, Postgres, Redis};
use url::Url;

/// The database in which everything is seeded and measured.
const NAME: &str = "rushes_bench";

/// A migrated database on servers of its own.
pub(super) struct BenchDatabase {
    url: String,
    pub(super) redis: Redis,
    pub(super) nats: Nats,
    // Dropped in this order: the server must be gone before its directory is.
    _postgres: Postgres,
    folder: Folder,
}

impl BenchDatabase {
    /// Starts the servers and migrates an empty database.
    pub(super) async fn start() -> Result<Self> {
        let folder = Folder::create()?;
        let postgres = Postgres::keep(&folder.path.join("postgres")).await?;
        let (redis, nats) = tokio::try_join!(Redis::launch(), Nats::launch())?;
        let url = migrated(&postgres.url(), NAME).await?;
        Ok(Self { url, redis, nats, _postgres: postgres, folder })
    }

    /// The database's URL, as its owner and the server's superuser.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The URL of another migrated database on the same server, called `name`, which needs no quotes.
    pub(super) async fn another(&self, name: &str) -> Result<String> {
        migrated(&self.url, name).await
    }

    /// Where logs and objects of the run go.
    pub(super) fn folder(&self) -> &Path {
        &self.folder.path
    }

    /// A connection of the benchmark's own.
    pub(super) async fn connect(&self) -> Result<PgConnection> {
        PgConnection::connect(&self.url).await.context("connecting to the database to measure on")
    }

    /// PostgreSQL's name and version.
    pub(super) async fn version(&self) -> Result<String> {
        let version: String =
            sqlx::query_scalar("select 'PostgreSQL ' || split_part(current_setting('server_version'), ' ', 1)")
                .fetch_one(&mut self.connect().await?)
                .await?;
        Ok(version)
    }

    /// Today's date, `2026-11-21`.
    pub(super) async fn today(&self) -> Result<String> {
        Ok(sqlx::query_scalar("select current_date::text").fetch_one(&mut self.connect().await?).await?)
    }
}

/// Makes a database on the server of `server`, migrates it, and gives its URL.
async fn migrated(server: &str, name: &str) -> Result<String> {
    let mut connection = PgConnection::connect(server).await.context("connecting to the new PostgreSQL")?;
    sqlx::query(AssertSqlSafe(format!("create database {name}"))).execute(&mut connection).await?;
    connection.close().await?;
    let mut url = Url::parse(server)?;
    url.set_path(name);
    schema::migrate(url.as_str()).await.context("migrating the database to measure on")?;
    Ok(url.into())
}

/// A directory that goes when dropped.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn create() -> Result<Self> {
        use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
        let path = std::env::temp_dir().join(format!("rushes-bench-{:016x}", fastrand::u64(..)));
        let making = || format!("making {}", path.display());
        std::fs::DirBuilder::new().mode(0o711).create(&path).with_context(making)?;
        // Others may pass and not look: PostgreSQL runs as another user when we are root.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o711)).with_context(making)?;
        Ok(Self { path })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
