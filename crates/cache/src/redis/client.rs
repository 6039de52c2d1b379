//! The client of Redis that `RUSHES_REDIS_URL` asks for, and the check of it when a service starts.
//!
//! Invariant: a fault that only somebody who changes a setting can mend stops the start with one sentence; a server that is not
//! there, or not yet, stops nothing.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use chassis::settings::Error;
use redis::{Client, ConnectionAddr, ErrorKind, IntoConnectionInfo as _, RedisError, TlsCertificates};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use url::Url;

const VARIABLE: &str = "RUSHES_REDIS_URL";
const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
/// How long a start waits for it at most.
const LIMIT: Duration = Duration::from_secs(3);

/// A client for `redis://…`, or `rediss://…` for TLS, with the parameters `protocol`, and `ca` for a file of certificates in PEM by
/// which the server's is checked, in place of the public ones. It does not connect.
pub(crate) fn open(url: &str) -> Result<Client, Error> {
    let unread = || should("a URL such as redis://host:6379, or rediss://host:6379 for TLS");
    let mut parsed = Url::parse(url).map_err(|_| unread())?;
    if !["redis", "rediss", "valkey", "valkeys", "unix", "redis+unix", "valkey+unix"].contains(&parsed.scheme()) {
        return Err(unread());
    }
    if parsed.fragment().is_some() {
        return Err(should(
            "a URL without a fragment: a certificate that is not checked protects nothing; name its ca",
        ));
    }
    let (mut authority, mut kept) = (None, Vec::new());
    for (name, value) in parsed.query_pairs() {
        match &*name {
            "ca" => authority = Some(value.into_owned()),
            // Unix sockets have no other place for these.
            "protocol" | "db" | "user" | "pass" => kept.push((name.into_owned(), value.into_owned())),
            _ => return Err(should(&format!("a URL without the parameter {name:?}, which is not understood"))),
        }
    }
    parsed.set_query(None);
    if !kept.is_empty() {
        parsed.query_pairs_mut().extend_pairs(kept);
    }
    let unusable = |error: RedisError| should(&format!("a URL that can be used: {error}"));
    let tls = ["rediss", "valkeys"].contains(&parsed.scheme());
    let Some(file) = authority else { return Client::open(parsed).map_err(unusable) };
    if !tls {
        return Err(should("a URL that begins with rediss:// where it names a ca"));
    }
    let pem = std::fs::read(&file).map_err(|error| should(&format!("a URL whose ca can be read: {file}: {error}")))?;
    // The library takes a file without any for one that trusts nobody.
    if !pem.windows(BEGIN.len()).any(|part| part == BEGIN) {
        return Err(should(&format!("a URL whose ca has certificates in PEM: {file} has none")));
    }
    let certificates = TlsCertificates { client_tls: None, root_cert: Some(pem) };
    let info = parsed.into_connection_info().map_err(unusable)?;
    Client::build_with_tls(info, certificates)
        .map_err(|error| should(&format!("a URL whose ca has certificates in PEM: {file}: {error}")))
}

/// Checks the URL, and what it leads to if that answers within three seconds.
pub(crate) async fn check(url: &str) -> Result<(), Error> {
    let client = open(url)?;
    let Err(error) = ask(&client).await else { return Ok(()) };
    if let Some(refused) = refusal(&error) {
        return Err(refused);
    }
    match client.get_connection_info().addr() {
        // A Redis that does not speak TLS takes a handshake for the beginning of a command, and waits for the rest of it.
        ConnectionAddr::TcpTls { host, port, .. } if error.is_timeout() && speaks_plainly(host, *port).await => {
            Err(should("a URL of a server that speaks TLS: this one does not, and its URL begins with redis://"))
        }
        // One that speaks nothing else ends a connection at its first command.
        ConnectionAddr::Tcp(host, port) if error.is_connection_dropped() && speaks_tls(host, *port).await => {
            Err(should("a URL that begins with rediss://: this server speaks nothing but TLS"))
        }
        _ => Ok(()),
    }
}

/// The error of a first command; what takes too long is none.
async fn ask(client: &Client) -> Result<(), RedisError> {
    let ping = async {
        let mut connection = client.get_multiplexed_async_connection().await?;
        redis::cmd("PING").query_async::<()>(&mut connection).await
    };
    tokio::time::timeout(LIMIT, ping).await.unwrap_or(Ok(()))
}

/// Whether a server makes a TLS connection, or one whose certificate we do not trust.
async fn speaks_tls(host: &str, port: u16) -> bool {
    let address = ConnectionAddr::TcpTls { host: host.to_owned(), port, insecure: false, tls_params: None };
    let client = address.into_connection_info().and_then(Client::open);
    match client {
        Ok(client) => ask(&client).await.map_or_else(|error| refusal(&error).is_some(), |()| true),
        Err(_) => false,
    }
}

/// Whether a server answers a command that is not encrypted.
async fn speaks_plainly(host: &str, port: u16) -> bool {
    let ping = async {
        let mut stream = tokio::net::TcpStream::connect((host, port)).await?;
        stream.write_all(b"PING\r\n").await?;
        stream.read_u8().await
    };
    matches!(tokio::time::timeout(LIMIT, ping).await, Ok(Ok(b'+' | b'-')))
}

/// Why a server that is there will never take this connection.
fn refusal(error: &RedisError) -> Option<Error> {
    if matches!(error.kind(), ErrorKind::AuthenticationFailed)
        || matches!(error.code(), Some("NOAUTH" | "WRONGPASS" | "NOPERM"))
    {
        return Some(should(&format!("a URL with a user and a password that the server knows: {error}")));
    }
    // The library keeps its causes in an Arc, and gives that.
    let cause = error.source().and_then(|source| source.downcast_ref::<Arc<dyn StdError + Send + Sync>>());
    let io = cause.and_then(|cause| cause.downcast_ref::<std::io::Error>());
    match (error.kind(), io.map(std::io::Error::kind)) {
        // rustls reports what is wrong with a handshake or a certificate as invalid data.
        (_, Some(std::io::ErrorKind::InvalidData)) => Some(should(&format!(
            "a URL of a server that speaks TLS, with the ca that signed its certificate if that is no public one: {error}"
        ))),
        (ErrorKind::Parse, _) => {
            Some(should(&format!("a URL of a Redis; for one that speaks TLS it begins with rediss://: {error}")))
        }
        _ => None,
    }
}

fn should(what: &str) -> Error {
    Error::wrong(VARIABLE, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_understood_is_named() {
        for url in ["redis://h", "rediss://:word@h:6380/1", "redis://h?protocol=resp3", "unix:///run/redis.sock?db=1"] {
            assert!(open(url).is_ok(), "{url}");
        }
        for (url, part) in [
            ("h:6379", "redis://host"),
            ("http://h:6379", "redis://host"),
            ("redis://:hunter2@h?tls=true", "\"tls\""),
            ("rediss://h#insecure", "fragment"),
            ("redis://h?ca=/ca.pem", "rediss://"),
            ("rediss://h?ca=/no/such/file", "/no/such/file"),
            ("redis://h/notanumber", "can be used"),
        ] {
            let error = open(url).unwrap_err().to_string();
            let named = error.starts_with(VARIABLE) && error.contains(part) && !error.contains("hunter2");
            assert!(named, "{url}: {error}");
        }
    }
}
