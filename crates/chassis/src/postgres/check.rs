//! The check of the database's URL when a service starts: what it asks for is understood, and what it leads to can be used.
//!
//! Invariant: a fault that only somebody who changes a setting can mend stops the start with one sentence; a server that is not
//! there, or not yet, stops nothing.

use std::time::Duration;

use sqlx::{ConnectOptions as _, Connection as _, PgConnection};
use url::Url;

use super::session::Session;
use crate::settings;

/// How long a start waits for it at most.
const LIMIT: Duration = Duration::from_secs(3);

/// How often two connections are compared: beside other clients a pooler may lend each another server once.
const ROUNDS: usize = 4;

const VARIABLE: &str = "RUSHES_DATABASE_URL";

/// The parameters of a URL that are understood. sqlx passes over others, and with them what somebody wanted.
const PARAMETERS: [&str; 19] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "passfile",
    "application_name",
    "options",
];

/// Checks the URL, and what it leads to if that answers within three seconds.
///
/// # Errors
/// One sentence that says what the URL should be.
pub async fn check(url: &str) -> Result<(), settings::Error> {
    check_parameters(url)?;
    tokio::time::timeout(LIMIT, check_server(url)).await.unwrap_or(Ok(()))
}

fn check_parameters(url: &str) -> Result<(), settings::Error> {
    let Ok(parsed) = Url::parse(url) else { return Ok(()) };
    let known = |name: &str| PARAMETERS.contains(&name) || name.starts_with("options[");
    match parsed.query_pairs().find(|(name, _)| !known(name)) {
        Some((name, _)) => Err(should(&format!("a URL without the parameter {name:?}, which is not understood"))),
        None => Ok(()),
    }
}

async fn check_server(url: &str) -> Result<(), settings::Error> {
    let options =
        Session::of(url).map_err(|_| should("a URL such as postgres://user:password@host:5432/name"))?.options;
    let mut first = match options.connect().await {
        Ok(connection) => connection,
        Err(error) => return refusal(&error).map_or(Ok(()), Err),
    };
    let Ok(mut second) = options.connect().await else { return Ok(()) };
    let shared = share_a_server(&mut first, &mut second).await;
    let _ = tokio::join!(first.close(), second.close());
    match shared {
        Some(true) => Err(should(
            "a URL of PostgreSQL or of a pooler in session mode (pool_mode = session): this one lends a server's connection for one \
             transaction at a time, and prepared statements and timeouts of a session are lost",
        )),
        Some(false) | None => Ok(()),
    }
}

/// Why a server that is there will never take this connection.
fn refusal(error: &sqlx::Error) -> Option<settings::Error> {
    match error {
        sqlx::Error::Tls(why) => Some(should(&format!(
            "a URL of a server that speaks TLS as its sslmode asks, or have sslmode=disable: {why}"
        ))),
        sqlx::Error::Configuration(why) => Some(should(&format!("a URL that can be used: {why}"))),
        sqlx::Error::Database(answer) => match answer.code().as_deref() {
            Some("28000" | "28P01" | "3D000") => Some(should(&format!(
                "a URL with a user, a password and a database that the server knows: {}",
                answer.message()
            ))),
            Some("08P01") => Some(should(&format!(
                "a URL of PostgreSQL or of a pooler that takes its clients: {}",
                answer.message()
            ))),
            _ => None,
        },
        _ => None,
    }
}

/// Whether two connections that are both up were served by one server's connection, as no two of PostgreSQL itself are; `None`
/// when that could not be asked.
async fn share_a_server(first: &mut PgConnection, second: &mut PgConnection) -> Option<bool> {
    let mut before = None;
    for _ in 0..ROUNDS {
        let one = backend(first).await?;
        // While a transaction is open its server is lent to nobody else, so a pooler has to show what it does.
        if let Err(sqlx::Error::Database(_)) = sqlx::raw_sql("begin").execute(&mut *second).await {
            // Statements alone are lent a server.
            return Some(true);
        }
        let other = backend(second).await?;
        sqlx::raw_sql("commit").execute(&mut *second).await.ok()?;
        if one == other || before.is_some_and(|before| before != one) {
            return Some(true);
        }
        before = Some(one);
    }
    Some(false)
}

async fn backend(connection: &mut PgConnection) -> Option<String> {
    use sqlx::Row as _;
    let row = sqlx::raw_sql("select pg_backend_pid()::text").fetch_one(connection).await.ok()?;
    row.try_get(0).ok()
}

fn should(what: &str) -> settings::Error {
    settings::Error::wrong(VARIABLE, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_understood_is_named() {
        for url in [
            "postgres://u:p@h/d",
            "postgres://u:p@h/d?sslmode=require&sslrootcert=/ca.pem",
            "postgres://h/d?options[x]=1",
        ] {
            assert_eq!(check_parameters(url), Ok(()), "{url}");
        }
        let error = check_parameters("postgres://u:hunter2@h/d?sslmode=require&channel_binding=require").unwrap_err();
        let error = error.to_string();
        assert!(
            error.starts_with(VARIABLE) && error.contains("channel_binding") && !error.contains("hunter2"),
            "{error}"
        );
    }
}
