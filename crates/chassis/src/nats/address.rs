//! Where NATS is and who we are there, as `RUSHES_NATS_URL` says, and the check of both when a service starts.
//!
//! Invariant: a fault that only somebody who changes a setting can mend stops the start with one sentence; a server that is not
//! there, or not yet, stops nothing.

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use async_nats::{ConnectErrorKind, ConnectOptions, ServerAddr};
use url::Url;

use crate::settings::Error;

const VARIABLE: &str = "RUSHES_NATS_URL";
/// How long a start waits for it at most.
const LIMIT: Duration = Duration::from_secs(3);

/// What a URL of NATS says.
#[derive(Debug)]
pub(super) struct Address {
    pub(super) server: ServerAddr,
    /// A `.creds` file with a user's JWT and seed.
    credentials: Option<PathBuf>,
    /// The certificates, in PEM, by which the server's is checked, in place of the system's.
    authority: Option<PathBuf>,
}

impl Address {
    /// Reads `nats://…` or `tls://…`, with the parameters `credentials` and `ca`, which name files.
    pub(super) fn parse(url: &str) -> Result<Self, Error> {
        if url.contains(',') {
            return Err(should("the URL of one server, which tells of the others of its cluster"));
        }
        let mut parsed = Url::parse(url).map_err(|_| should("a URL such as nats://host:4222 or tls://host:4222"))?;
        if !["nats", "tls"].contains(&parsed.scheme()) {
            return Err(should("a URL that begins with nats:// or, where TLS is a must, with tls://"));
        }
        let (mut credentials, mut authority) = (None, None);
        for (name, value) in parsed.query_pairs() {
            let file = match &*name {
                "credentials" => &mut credentials,
                "ca" => &mut authority,
                _ => return Err(should(&format!("a URL without the parameter {name:?}, which is not understood"))),
            };
            *file = Some(PathBuf::from(&*value));
        }
        if credentials.is_some() && !parsed.username().is_empty() {
            return Err(should("a URL with a user or with a file of credentials, not with both"));
        }
        parsed.set_query(None);
        let server = ServerAddr::from_url(parsed).map_err(|error| should(&format!("a URL of a server: {error}")))?;
        Ok(Self { server, credentials, authority })
    }

    /// What to connect with.
    pub(super) async fn options(&self) -> Result<ConnectOptions, Error> {
        let options = match (&self.credentials, self.server.username(), self.server.password()) {
            (Some(file), ..) => ConnectOptions::with_credentials_file(file).await.map_err(|error| {
                should(&format!("a URL whose credentials can be read: {}: {error}", file.display()))
            })?,
            (None, Some(user), Some(password)) => ConnectOptions::with_user_and_password(user.into(), password.into()),
            (None, Some(token), None) => ConnectOptions::with_token(token.into()),
            (None, None, _) => ConnectOptions::new(),
        };
        let Some(file) = &self.authority else { return Ok(options) };
        let text = tokio::fs::read_to_string(file).await;
        let text = text.map_err(|error| should(&format!("a URL whose ca can be read: {}: {error}", file.display())))?;
        if !text.contains("-----BEGIN CERTIFICATE-----") {
            return Err(should(&format!("a URL whose ca has certificates in PEM: {} has none", file.display())));
        }
        Ok(options.add_root_certificates(file.clone()))
    }
}

/// Checks the URL, its files, and what it leads to if that answers within three seconds.
///
/// # Errors
/// One sentence that says what the URL should be.
pub async fn check(url: &str) -> Result<(), Error> {
    let address = Address::parse(url)?;
    let options = address.options().await?.connection_timeout(LIMIT);
    match tokio::time::timeout(LIMIT, options.connect(address.server)).await {
        Ok(Err(error)) => refusal(&error).map_or(Ok(()), Err),
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}

/// Why a server that is there will never take this connection.
fn refusal(error: &async_nats::ConnectError) -> Option<Error> {
    // rustls reports what is wrong with a handshake or a certificate as invalid data.
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    let invalid = cause.is_some_and(|cause| cause.kind() == io::ErrorKind::InvalidData);
    match error.kind() {
        kind if kind == ConnectErrorKind::Tls || invalid => Some(should(&format!(
            "a URL of a server that speaks TLS, with the ca that signed its certificate if that is no public one: {error}"
        ))),
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            Some(should(&format!("a URL with a user, a token or credentials that the server knows: {error}")))
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
        for url in [
            "nats://h",
            "nats://user:word@h:4222",
            "nats://token@h:4222",
            "tls://h:4222?ca=/ca.pem&credentials=/user.creds",
        ] {
            assert!(Address::parse(url).is_ok(), "{url}");
        }
        for (url, part) in [
            ("h:4222", "nats://"),
            ("ws://h:4222", "tls://"),
            ("nats://h:4222,nats://i:4222", "one server"),
            ("nats://h:4222?tls=true", "\"tls\""),
            ("nats://user:hunter2@h?credentials=/c", "not with both"),
        ] {
            let error = Address::parse(url).unwrap_err().to_string();
            let named = error.starts_with(VARIABLE) && error.contains(part) && !error.contains("hunter2");
            assert!(named, "{url}: {error}");
        }
        let address = Address::parse("tls://h:4222?ca=/ca.pem").unwrap();
        assert_eq!((address.server.host(), address.server.port()), ("h", 4222));
    }

    #[tokio::test]
    async fn files_are_read_when_a_service_starts() {
        for parameter in ["credentials", "ca"] {
            let error = check(&format!("nats://127.0.0.1:1?{parameter}=/no/such/file")).await.unwrap_err().to_string();
            assert!(error.contains(parameter) && error.contains("/no/such/file"), "{error}");
        }
        let error = check("tls://127.0.0.1:1?ca=/dev/null").await.unwrap_err().to_string();
        assert!(error.contains("has none"), "{error}");
        // Nobody is there, which is no fault of the setting.
        assert!(check("nats://127.0.0.1:1").await.is_ok());
    }
}
