//! A database of its own for each test, copied from a migrated template, which takes a tenth of what migrating does.
//!
//! Invariant: the template is made once for a server and a set of migrations, under an advisory lock, since several test
//! processes share the server that `rushes test` starts.

use std::time::Duration;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::sync::OnceCell;
use url::Url;

use crate::config;
use crate::postgres::Postgres;
use schema::{Grant, Service};

/// The lock under which a template is made: the letters of "rushes" as a number.
const TEMPLATE_LOCK: i64 = 0x7275_7368_6573;

/// A migrated database that nobody else uses; dropped with this value.
pub struct Database {
    name: String,
    url: Url,
    server: Url,
}

/// The server that databases are made on, one for the process.
struct Shared {
    url: Url,
    template: String,
    /// Ended by the watchdog when the process ends: statics are not dropped.
    _server: Option<Postgres>,
}

impl Database {
    /// A fresh, migrated database on the server of `RUSHES_DATABASE_URL`, else on one that this process starts.
    pub async fn fresh() -> Result<Self> {
        static SHARED: OnceCell<Shared> = OnceCell::const_new();
        let shared = SHARED.get_or_try_init(shared).await?;
        Self::copy(&shared.url, &shared.template).await
    }

    /// A fresh, migrated database on `postgres`: for tests that stop or pause their server.
    pub async fn on(postgres: &Postgres) -> Result<Self> {
        let url = Url::parse(&postgres.url())?;
        let template = template(&url).await?;
        Self::copy(&url, &template).await
    }

    /// Its URL, as the owner of everything in it.
    #[must_use]
    pub fn url(&self) -> String {
        self.url.to_string()
    }

    /// Its URL, with no more rights than the role of `service` has.
    #[must_use]
    pub fn url_of(&self, service: Service) -> String {
        as_service(self.url.clone(), service)
    }

    /// `url`, which leads to a migrated database as its owner, with no more rights than the role of the program `name` has. `None`
    /// for a program that uses no database.
    pub fn url_for(url: &str, name: &str) -> Result<Option<String>> {
        let url = Url::parse(url).context("not the URL of a database")?;
        Ok(Service::named(name).map(|service| as_service(url, service)))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    async fn copy(server: &Url, template: &str) -> Result<Self> {
        let name = format!("test_{:016x}", fastrand::u64(..));
        let mut connection = connect(server).await?;
        execute(&mut connection, format!("create database {name} template {template}")).await?;
        connection.close().await?;
        Ok(Self { url: named(server, &name), name, server: server.clone() })
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // On a thread with a runtime of its own: the test's is busy waiting for this. Bounded, since a test may have left
        // its server stopped or paused, and then the database goes with the server.
        let (name, server) = (self.name.clone(), self.server.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                tokio::time::timeout(Duration::from_secs(3), async {
                    let mut connection = PgConnection::connect(server.as_str()).await?;
                    execute(&mut connection, format!("drop database if exists {name} with (force)")).await?;
                    anyhow::Ok(connection.close().await?)
                })
                .await?
            })
        });
        let _ = thread.join();
    }
}

async fn shared() -> Result<Shared> {
    let (url, server) = match config::database_url() {
        Some(url) => (url, None),
        None => {
            let server = Postgres::launch().await.context("starting a PostgreSQL for the tests")?;
            (server.url(), Some(server))
        }
    };
    let url = Url::parse(&url).context("RUSHES_DATABASE_URL should be a postgres:// URL")?;
    let template = template(&url).await?;
    Ok(Shared { url, template, _server: server })
}

/// The name of the template on `server` for the migrations of this build; made when it is missing.
async fn template(server: &Url) -> Result<String> {
    let mut digest = Sha256::new();
    for migration in schema::MIGRATOR.iter() {
        digest.update(&migration.checksum);
    }
    for Grant { table, service, rights } in schema::GRANTS {
        digest.update(format!("{table} {} {rights};", service.role()));
    }
    let name = format!("rushes_template_{}", &hex::encode(digest.finalize())[..16]);
    let mut connection = connect(server).await?;
    sqlx::query("select pg_advisory_lock($1)").bind(TEMPLATE_LOCK).execute(&mut connection).await?;
    let exists: bool =
        sqlx::query_scalar("select exists (select from pg_database where datname = $1 and datistemplate)")
            .bind(&name)
            .fetch_one(&mut connection)
            .await?;
    if !exists {
        // A template is marked as one only when its migrations are through, so a half-made one is made again.
        execute(&mut connection, format!("drop database if exists {name} with (force)")).await?;
        execute(&mut connection, format!("create database {name}")).await?;
        schema::migrate(named(server, &name).as_str()).await.context("migrating the template of the test databases")?;
        execute(&mut connection, format!("alter database {name} is_template true")).await?;
    }
    connection.close().await?;
    Ok(name)
}

async fn connect(server: &Url) -> Result<PgConnection> {
    PgConnection::connect(server.as_str()).await.context("connecting to the PostgreSQL of the tests")
}

/// Runs a statement whose only variable parts are names made here from hexadecimal digits.
async fn execute(connection: &mut PgConnection, statement: String) -> Result<()> {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await?;
    Ok(())
}

/// Each session begins by taking the role, so that a test needs no user and no password.
fn as_service(mut url: Url, service: Service) -> String {
    url.query_pairs_mut().append_pair("options[role]", service.role());
    url.into()
}

fn named(server: &Url, name: &str) -> Url {
    let mut url = server.clone();
    url.set_path(name);
    url
}
