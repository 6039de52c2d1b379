//! PostgreSQL, Redis and NATS of the local stack: those of the environment, else private ones with their data in
//! `.rushes/`. A system's own servers are never touched.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use schema::Service;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use testkit::{Nats, Postgres, Redis};

use crate::up::install::Server;
use crate::up::say::Say;
use cli::failure::{Exit, Failure};

/// Servers that exist already.
#[derive(Debug, clap::Args)]
pub(crate) struct Urls {
    /// An existing PostgreSQL database, instead of a private server.
    #[arg(long, env = "RUSHES_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    database_url: Option<String>,
    /// An existing Redis, instead of a private server.
    #[arg(long, env = "RUSHES_REDIS_URL", hide_env_values = true, value_name = "URL")]
    redis_url: Option<String>,
    /// An existing NATS, instead of a private server.
    #[arg(long, env = "RUSHES_NATS_URL", hide_env_values = true, value_name = "URL")]
    nats_url: Option<String>,
}

impl Urls {
    /// The servers that no URL was given for.
    pub(crate) fn missing(&self) -> Vec<Server> {
        let given = [self.database_url.is_some(), self.redis_url.is_some(), self.nats_url.is_some()];
        Server::ALL.into_iter().zip(given).filter(|(_, given)| !given).map(|(server, _)| server).collect()
    }
}

/// The servers of a running stack; private ones end with this value.
pub(crate) struct Servers {
    /// The database, as its owner.
    pub(crate) database: String,
    pub(crate) redis: String,
    pub(crate) nats: String,
    private: (Option<Postgres>, Option<Redis>, Option<Nats>),
}

impl Servers {
    pub(crate) async fn bring_up(urls: &Urls, home: &Path, say: &Say) -> Result<Self> {
        let (postgres, redis, nats) = (home.join("postgres"), home.join("redis"), home.join("nats"));
        let (postgres, redis, nats) = tokio::try_join!(
            unless(urls.database_url.is_some(), "PostgreSQL", Postgres::keep(&postgres)),
            unless(urls.redis_url.is_some(), "Redis", Redis::keep(&redis)),
            unless(urls.nats_url.is_some(), "NATS", Nats::keep(&nats)),
        )?;
        let servers = Self {
            database: url(urls.database_url.as_ref(), postgres.as_ref().map(Postgres::url))?,
            redis: url(urls.redis_url.as_ref(), redis.as_ref().map(Redis::url))?,
            nats: url(urls.nats_url.as_ref(), nats.as_ref().map(Nats::url))?,
            private: (postgres, redis, nats),
        };
        let places = [&servers.database, &servers.redis, &servers.nats].map(|url| place(url));
        say.step(format!("PostgreSQL at {}, Redis at {}, NATS at {}", places[0], places[1], places[2]));
        Ok(servers)
    }

    /// The database as each service reaches it. In a private server each has a user of its own, with its role and a kept password; a
    /// database that was given by its URL is reached by that URL, since its users are not ours to make.
    pub(crate) async fn databases(&self, home: &Path) -> Result<BTreeMap<&'static str, String>> {
        let mut databases = BTreeMap::new();
        for service in Service::ALL {
            let name = service.name();
            let url = match self.private.0 {
                None => self.database.clone(),
                Some(_) => {
                    let password = testkit::kept_secret(&home.join(format!("postgres-{name}.password")))?;
                    user(&self.database, service, &password).await.with_context(|| format!("making {name}'s user"))?
                }
            };
            databases.insert(name, url);
        }
        Ok(databases)
    }

    /// Waits until a private server has ended, and says which and why.
    pub(crate) async fn death(&self) -> Failure {
        let (postgres, redis, nats) = &self.private;
        loop {
            let trouble = postgres.as_ref().and_then(Postgres::trouble);
            let trouble = trouble.or_else(|| redis.as_ref().and_then(Redis::trouble));
            if let Some(trouble) = trouble.or_else(|| nats.as_ref().and_then(Nats::trouble)) {
                return Failure::new(trouble);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// Removes the data of the private servers. A database of the environment is not ours to empty.
pub(crate) async fn forget(home: &Path, urls: &Urls) -> Result<()> {
    if urls.database_url.is_some() {
        return Err(Failure::new("--fresh does not empty a database that was given by its URL")
            .todo("drop and create it yourself, then run `rushes up` without --fresh")
            .exit(Exit::Usage)
            .into());
    }
    Postgres::forget(&home.join("postgres")).await.context("removing the private PostgreSQL's data")?;
    match std::fs::remove_dir_all(home.join("blobs")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).context("removing the stored videos"),
        _ => Ok(()),
    }
}

/// Makes the user of a service, or gives it the password again, and says the URL that it connects with.
async fn user(owner: &str, service: Service, password: &str) -> Result<String> {
    let (name, role) = (service.name(), service.role());
    let mut connection = PgConnection::connect(owner).await?;
    let exists: bool = sqlx::query_scalar("select exists (select from pg_roles where rolname = $1)")
        .bind(name)
        .fetch_one(&mut connection)
        .await?;
    let verb = if exists { "alter" } else { "create" };
    // Names and password are ours: letters, digits and hyphens.
    let statements = format!("{verb} role \"{name}\" login password '{password}'; grant {role} to \"{name}\"");
    sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut connection).await?;
    connection.close().await?;
    let mut url = url::Url::parse(owner)?;
    let set = url.set_username(name).and_then(|()| url.set_password(Some(password)));
    set.ok().context("a URL that can have no user")?;
    Ok(url.into())
}

async fn unless<T>(given: bool, title: &str, start: impl Future<Output = Result<T>>) -> Result<Option<T>> {
    if given {
        return Ok(None);
    }
    start.await.map(Some).with_context(|| format!("{title} does not start"))
}

fn url(given: Option<&String>, private: Option<String>) -> Result<String> {
    given.cloned().or(private).context("a server was neither given nor started")
}

/// Host and port of a URL, without what may be secret in it.
fn place(url: &str) -> String {
    match url::Url::parse(url) {
        Ok(url) => {
            format!("{}:{}", url.host_str().unwrap_or("?"), url.port().map_or("?".to_owned(), |port| port.to_string()))
        }
        Err(_) => "?".to_owned(),
    }
}
