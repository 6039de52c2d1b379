//! How a provider's API is called: one pooled client for each provider, with time-outs, bounded answers and no redirects.
//!
//! Invariant: [`Trouble::NotSent`] is said only when no connection came about (name, TCP or TLS), so that no byte of the request
//! can have left. Everything after that, a time-out of the whole call included, is [`Trouble::Lost`]. Nothing is sent twice here.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use chassis::egress::{Egress, Reach, is_public};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde_json::Value;
use url::{Host, Url};

use super::{Charge, Class, Failure, NotSubmitted};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a call may take in all.
const CALL: Duration = Duration::from_secs(30);
/// How long a download may stand still.
const STILL: Duration = Duration::from_secs(30);
/// The longest answer that is read, in bytes.
const ANSWER: usize = 1 << 20;

/// One provider's API.
#[derive(Clone, Debug)]
pub(super) struct Api {
    client: reqwest::Client,
    /// For addresses that the provider chose.
    egress: Egress,
    base: Url,
    authorization: HeaderValue,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Trouble {
    /// No connection came about: nothing left.
    #[error("the provider cannot be reached: {0}")]
    NotSent(String),
    /// The connection was lost, or the answer could not be read: the provider may have acted.
    #[error("the provider's answer was lost: {0}")]
    Lost(String),
}

/// What the provider answered.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    /// The body as JSON; null when it is none.
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// After how many seconds to come again, where the provider says so in that form.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let seconds = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse::<u64>().ok()?;
        Some(Duration::from_secs(seconds.min(3_600)))
    }

    /// A failure to poll: it says nothing about the order.
    pub(super) fn no_look(&self) -> Failure {
        let mut failure = Failure::internal(format!("the provider answered {}", self.status.as_u16()));
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            failure.class = Class::Throttled;
        }
        failure.retry_after = self.retry_after();
        failure
    }

    /// Why an order was not taken. Only the refusals by which nothing was ordered are told as such; whatever a gateway or a
    /// broken server may say of an order that went through is not.
    pub(super) fn no_order(&self) -> NotSubmitted {
        let code = self.status.as_u16();
        let (class, reason) = match code {
            400 | 404 | 405 | 413 | 415 | 422 => (Class::InvalidInput, "INPUT_SCHEMA_VIOLATION"),
            401..=403 => (Class::Internal, "PROVIDER_QUOTA"),
            429 => (Class::Throttled, "PROVIDER_QUOTA"),
            _ => return NotSubmitted::Unconfirmed(format!("the provider answered {code}")),
        };
        NotSubmitted::Refused(Failure {
            class,
            reason,
            retry_after: self.retry_after(),
            charge: Charge::NotCharged,
            ..Failure::internal(format!("the provider refused the order with {code}"))
        })
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        Self::internal(trouble.to_string())
    }
}

impl From<Trouble> for NotSubmitted {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::NotSent(_) => {
                Self::Refused(Failure { charge: Charge::NotCharged, ..Failure::internal(trouble.to_string()) })
            }
            Trouble::Lost(why) => Self::Unconfirmed(why),
        }
    }
}

impl Api {
    /// The API under `base`. `authorization` is sent with every call, and with no download.
    ///
    /// # Errors
    /// When no client can be built.
    pub(super) fn new(base: Url, mut authorization: HeaderValue) -> Result<Self, reqwest::Error> {
        authorization.set_sensitive(true);
        // Set once for the process; whoever came first chose the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .read_timeout(STILL)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .user_agent("rushes")
            .build()?;
        let egress = Egress::new(reach(&base))?;
        Ok(Self { client, egress, base, authorization })
    }

    /// The address of a path below the base; each segment is escaped.
    pub(super) fn at<'a>(&self, segments: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    /// Calls once.
    pub(super) async fn call(&self, method: Method, url: Url, body: Option<&Value>) -> Result<Answer, Trouble> {
        let mut request =
            self.client.request(method, url).timeout(CALL).header(AUTHORIZATION, self.authorization.clone());
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        }
        read(request.send().await.map_err(trouble)?).await
    }

    /// A public document of the provider's, without credentials.
    pub(super) async fn public(&self, url: Url) -> Result<Answer, Trouble> {
        read(self.client.get(url).timeout(CALL).send().await.map_err(trouble)?).await
    }

    /// The bytes of an output. No credential goes to wherever it lies, and only a provider that is itself called at an address
    /// of this network, as in tests, may name another such address.
    pub(super) async fn download<'a>(&self, address: &str) -> Result<BoxStream<'a, Result<Bytes, Failure>>, Failure> {
        let url = Url::parse(address).map_err(|_| Failure::bad_output("the provider's output has no address"))?;
        let request = self.egress.request(Method::GET, url);
        let request = request.map_err(|refused| Failure::bad_output(format!("the provider's output: {refused}")))?;
        let response = request.send().await.map_err(|error| Failure::from(trouble(error)))?;
        if !response.status().is_success() {
            let code = response.status().as_u16();
            let message = format!("the provider's output cannot be fetched: {code}");
            // What is refused is not there any more; what broke may be there in a moment.
            let gone = response.status().is_client_error() && !matches!(code, 408 | 425 | 429);
            let class = if gone { Class::BadOutput } else { Class::Internal };
            return Err(Failure { class, reason: "OUTPUT_UNAVAILABLE", ..Failure::internal(message) });
        }
        let pieces = stream::try_unfold(response, |mut response| async move {
            let piece = response.chunk().await.map_err(|error| Failure::from(trouble(error)))?;
            Ok(piece.map(|piece| (piece, response)))
        });
        Ok(pieces.boxed())
    }
}

/// Where a provider's outputs may lie. Its own address is the operator's choice.
fn reach(base: &Url) -> Reach {
    let inward = match base.host() {
        Some(Host::Ipv4(address)) => !is_public(address.into()),
        Some(Host::Ipv6(address)) => !is_public(address.into()),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    if inward { Reach::Anywhere } else { Reach::Public }
}

async fn read(mut response: reqwest::Response) -> Result<Answer, Trouble> {
    let (status, headers) = (response.status(), response.headers().clone());
    let mut body = BytesMut::new();
    while let Some(piece) = response.chunk().await.map_err(|error| Trouble::Lost(said(error)))? {
        if body.len() + piece.len() > ANSWER {
            return Err(Trouble::Lost("it is longer than is read".to_owned()));
        }
        body.extend_from_slice(&piece);
    }
    Ok(Answer { status, headers, body: body.freeze() })
}

fn trouble(error: reqwest::Error) -> Trouble {
    // Said of errors of the connector alone, which has the request only once the connection stands.
    if error.is_connect() { Trouble::NotSent(said(error)) } else { Trouble::Lost(said(error)) }
}

/// With its causes, and without the address, which may carry what is nobody's business.
fn said(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_provider_out_there_names_no_address_in_here() {
        let api = |base: &str| Api::new(base.parse().unwrap(), HeaderValue::from_static("Bearer x")).unwrap();
        let out_there = api("https://api.replicate.com/v1");
        for inward in [
            "https://169.254.169.254/latest/meta-data/",
            "https://[::ffff:10.0.0.1]/video.mp4",
            "http://replicate.delivery/video.mp4",
            "file:///etc/passwd",
        ] {
            let failure = out_there.download(inward).await.map(drop).unwrap_err();
            assert_eq!(failure.reason, "PROVIDER_BAD_OUTPUT", "{inward}");
        }
        let resolved = out_there.download("https://localhost/video.mp4").await.map(drop).unwrap_err();
        assert!(resolved.message.contains("public internet"), "{resolved:?}");
        assert_eq!(
            (reach(&out_there.base), reach(&api("http://127.0.0.1:1/v1").base)),
            (Reach::Public, Reach::Anywhere)
        );
    }
}
