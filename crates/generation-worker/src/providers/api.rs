//! How a provider's API is called: one pooled client for each provider, with timeouts, bounded answers and no redirects; each
//! call is a span of kind client.
//!
//! Invariant: [`CallError::NotSent`] is said only when no connection came about (name, TCP or TLS), so that no byte of the request
//! can have left. Everything after that, a timeout of the whole call included, is [`CallError::Lost`]. Nothing is sent twice here.

mod downloads;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use chassis::egress::{Call, Egress, Reach, is_public};
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde_json::Value;
use tracing::Instrument as _;
use url::{Host, Url};

use super::{excerpt, refusals};
use crate::config::ProviderKey;
use crate::model::{CallOutcome, Evidence, Trouble};

pub(super) use super::call::Operation;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a call may take in all.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long sending a file may take in all.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(300);
/// How long no byte may come while an answer is read.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest answer that is read, in bytes. Predictions carry their logs, of which nothing bounds the length.
const MAX_ANSWER: usize = 16 << 20;

/// One provider's API.
#[derive(Clone, Debug)]
pub(super) struct Api {
    provider: &'static str,
    /// The public name of the key; empty where it has none.
    key: String,
    client: reqwest::Client,
    /// For addresses that the provider chose.
    egress: Egress,
    base: Url,
    authorization: Option<HeaderValue>,
    max_answer: usize,
}

/// A body that is written by its sender.
pub(super) struct RawBody {
    /// Empty: none is said.
    pub(super) content_type: String,
    pub(super) bytes: Bytes,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CallError {
    /// No connection came about: nothing left.
    #[error("the provider cannot be reached: {0}")]
    NotSent(String),
    /// The connection was lost, or the answer could not be read: the provider may have acted.
    #[error("the provider's answer was lost: {0}")]
    Lost(String),
    /// The answer is longer than is read.
    #[error("the provider's answer is longer than is read")]
    TooLong,
}

/// What the provider answered.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// What the provider was called with, to be taken out of what is logged.
    pub(super) credential: String,
}

impl Answer {
    /// The body as JSON; null when it is none.
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// What operators see of it.
    pub(super) fn evidence(&self) -> Evidence {
        self.evidence_in(&self.body)
    }

    /// What operators see of it, where the provider's reason is a part of the body.
    pub(super) fn evidence_in(&self, reason: &[u8]) -> Evidence {
        Evidence { status: Some(self.status.as_u16()), excerpt: excerpt::of_body(reason, &self.credential) }
    }

    /// After how many seconds to come again, where the provider says so in that form.
    fn retry_after(&self) -> Option<Duration> {
        let seconds = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse::<u64>().ok()?;
        // An hour is long enough to notice a wrong number in.
        Some(Duration::from_secs(seconds.min(3_600)))
    }

    /// What came of asking about an order, or for it to be stopped.
    pub(super) fn poll_trouble(&self) -> Trouble {
        self.trouble(match self.status.as_u16() {
            401..=403 => CallOutcome::AccountRefused,
            404 | 410 => CallOutcome::NotFound,
            429 => CallOutcome::Throttled,
            408 | 425 | 500.. => CallOutcome::Unavailable,
            _ => CallOutcome::Unreadable,
        })
    }

    /// What came of sending an order, of which nobody asked for the `unasked` fields. Only the refusals by which nothing was ordered are translated as such; whatever a gateway
    /// or a broken server may say of an order that went through is not.
    pub(super) fn submit_trouble(&self, unasked: &[String]) -> Trouble {
        self.trouble(match self.status.as_u16() {
            400 | 413 | 415 | 422 => refusals::parse_input_refusal(&self.json(), unasked),
            401..=403 => CallOutcome::AccountRefused,
            404 | 405 | 410 => CallOutcome::ModelRefused,
            429 => CallOutcome::Throttled,
            408 | 425 | 500.. => CallOutcome::Unavailable,
            _ => CallOutcome::Unreadable,
        })
    }

    /// What came of putting a file into the provider's storage; no order is concerned.
    pub(super) fn upload_trouble(&self) -> Trouble {
        self.trouble(match self.status.as_u16() {
            400 | 413 | 415 | 422 => CallOutcome::InputRefused,
            401..=403 => CallOutcome::AccountRefused,
            429 => CallOutcome::Throttled,
            404 | 408 | 425 | 500.. => CallOutcome::Unavailable,
            _ => CallOutcome::Unreadable,
        })
    }

    /// What came of a call that was answered.
    pub(super) fn trouble(&self, outcome: CallOutcome) -> Trouble {
        let detail = format!("the provider answered {}", self.status.as_u16());
        let trouble = Trouble::new(outcome, detail).with_evidence(self.evidence());
        Trouble { retry_after: self.retry_after(), ..trouble }
    }
}

impl From<CallError> for Trouble {
    fn from(error: CallError) -> Self {
        let (outcome, detail, cause) = match error {
            CallError::NotSent(cause) => (CallOutcome::NotSent, "the provider cannot be reached", cause),
            CallError::Lost(cause) => (CallOutcome::Lost, "the provider's answer was lost", cause),
            CallError::TooLong => {
                (CallOutcome::Unreadable, "the provider's answer is longer than is read", String::new())
            }
        };
        Self::new(outcome, detail).with_evidence(Evidence::cause(cause))
    }
}

impl Api {
    /// The API of `provider` under `base`. `authorization` is sent with every call, and with no download.
    ///
    /// # Errors
    /// When no client can be built.
    pub(super) fn new(
        provider: &'static str,
        base: Url,
        mut authorization: Option<HeaderValue>,
    ) -> Result<Self, reqwest::Error> {
        if let Some(authorization) = &mut authorization {
            authorization.set_sensitive(true);
        }
        // Process-wide; an error only says that somebody installed the same one before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            // A redirected POST may become a GET, and a followed one may order twice.
            .redirect(reqwest::redirect::Policy::none())
            // reqwest would repeat what HTTP/2 says was not processed; only the caller knows whether that may be.
            .retry(reqwest::retry::never())
            .no_proxy()
            .user_agent("rushes")
            .build()?;
        let egress = Egress::new(reach(&base))?;
        let key = String::new();
        Ok(Self { provider, key, client, egress, base, authorization, max_answer: MAX_ANSWER })
    }

    /// The same API, called with one of the provider's keys; all of them share its connections.
    pub(super) fn with_key(&self, key: &ProviderKey) -> Self {
        Self { key: key.name.clone(), authorization: Some(key.authorization.clone()), ..self.clone() }
    }

    /// The same API, whose answers may be as long as this, in bytes.
    pub(super) fn with_max_answer(self, max_answer: usize) -> Self {
        Self { max_answer, ..self }
    }

    /// Whose API it is.
    pub(super) fn provider(&self) -> &'static str {
        self.provider
    }

    /// The public name of the key that it is called with; empty where it has none.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// The address of a path below the base; each segment is escaped.
    pub(super) fn url<'a>(&self, segments: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    /// Calls once, for `operation`.
    pub(super) async fn call(
        &self,
        operation: Operation,
        method: Method,
        url: Url,
        body: Option<&Value>,
    ) -> Result<Answer, CallError> {
        self.call_with(operation, method, url, body, HeaderMap::new()).await
    }

    /// Calls once, for `operation`, with further headers.
    pub(super) async fn call_with(
        &self,
        operation: Operation,
        method: Method,
        url: Url,
        body: Option<&Value>,
        headers: HeaderMap,
    ) -> Result<Answer, CallError> {
        let call = operation.begin(self.provider, &method, &url);
        let mut request = self.authorized(method, url).timeout(CALL_TIMEOUT).headers(headers);
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        }
        self.answer(operation, request, call).await
    }

    /// Sends a body that is no JSON, such as a file, to the provider's own API.
    pub(super) async fn send_raw(
        &self,
        operation: Operation,
        method: Method,
        url: Url,
        body: RawBody,
    ) -> Result<Answer, CallError> {
        let call = operation.begin(self.provider, &method, &url);
        let request = self.authorized(method, url).timeout(UPLOAD_TIMEOUT);
        let request = request.header(CONTENT_TYPE, body.content_type).body(body.bytes);
        self.answer(operation, request, call).await
    }

    /// Sends a file, or what belongs to it, to where the provider said, without credentials.
    pub(super) async fn send_file(&self, method: Method, url: Url, body: RawBody) -> Result<Answer, Trouble> {
        let call = Operation::Upload.begin(self.provider, &method, &url);
        let request = self.egress.request(method, url).map_err(|refused| {
            call.failed("refused");
            Trouble::new(CallOutcome::Unreadable, format!("the address for an upload is not called: {refused}"))
        })?;
        let mut request = request.timeout(UPLOAD_TIMEOUT).body(body.bytes);
        if !body.content_type.is_empty() {
            request = request.header(CONTENT_TYPE, body.content_type);
        }
        Ok(self.answer(Operation::Upload, request, call).await?)
    }

    /// A request with the credential, to the provider's own API.
    fn authorized(&self, method: Method, url: Url) -> reqwest::RequestBuilder {
        let request = self.client.request(method, url);
        match &self.authorization {
            Some(authorization) => request.header(AUTHORIZATION, authorization.clone()),
            None => request,
        }
    }

    /// Fetches a public document of the provider's, without credentials.
    pub(super) async fn get_public(&self, operation: Operation, url: Url) -> Result<Answer, CallError> {
        let call = operation.begin(self.provider, &Method::GET, &url);
        self.answer(operation, self.client.get(url).timeout(CALL_TIMEOUT), call).await
    }

    async fn answer(
        &self,
        operation: Operation,
        request: reqwest::RequestBuilder,
        call: Call,
    ) -> Result<Answer, CallError> {
        let answer = async {
            let mut response = request.send().await.map_err(call_error)?;
            call.answered(response.status());
            operation.count(self.provider, &self.key, response.status());
            let (status, headers) = (response.status(), response.headers().clone());
            let mut body = BytesMut::new();
            while let Some(piece) = response.chunk().await.map_err(|error| CallError::Lost(describe(error)))? {
                if body.len() + piece.len() > self.max_answer {
                    return Err(CallError::TooLong);
                }
                body.extend_from_slice(&piece);
            }
            Ok(Answer { status, headers, body: body.freeze(), credential: self.credential() })
        };
        let answer = answer.instrument(call.span().clone()).await;
        if let Err(error) = &answer {
            call.failed(kind(error));
        }
        answer
    }

    /// The credential without its scheme.
    fn credential(&self) -> String {
        let text = self.authorization.as_ref().and_then(|header| header.to_str().ok()).unwrap_or_default();
        text.split_once(' ').map_or(text, |(_, credential)| credential).to_owned()
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

fn call_error(error: reqwest::Error) -> CallError {
    // Said of errors of the connector alone, which has the request only once the connection is made.
    if error.is_connect() { CallError::NotSent(describe(error)) } else { CallError::Lost(describe(error)) }
}

/// `error.type` of the call's span.
fn kind(error: &CallError) -> &'static str {
    match error {
        CallError::NotSent(_) => "not_sent",
        CallError::Lost(_) => "lost",
        CallError::TooLong => "too_long",
    }
}

/// The error with its causes, and without the address, which may carry what is nobody's business.
fn describe(error: reqwest::Error) -> String {
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
    use crate::model::{Charge, Class, Failure, Reason};

    #[tokio::test]
    async fn a_provider_out_there_names_no_address_in_here() {
        let api =
            |base: &str| Api::new("test", base.parse().unwrap(), Some(HeaderValue::from_static("Bearer x"))).unwrap();
        let out_there = api("https://api.replicate.com/v1");
        for inward in [
            "https://169.254.169.254/latest/meta-data/",
            "https://[::ffff:10.0.0.1]/video.mp4",
            "http://replicate.delivery/video.mp4",
            "file:///etc/passwd",
        ] {
            let trouble = out_there.download(inward).await.map(drop).unwrap_err();
            assert_eq!(trouble.outcome, CallOutcome::FileRefused, "{inward}");
        }
        let resolved = out_there.download("https://localhost/video.mp4").await.map(drop).unwrap_err();
        assert!(resolved.evidence.excerpt.contains("public internet"), "{resolved:?}");
        assert_eq!(
            (reach(&out_there.base), reach(&api("http://127.0.0.1:1/v1").base)),
            (Reach::Public, Reach::Anywhere)
        );
    }

    #[test]
    fn what_operators_see_of_an_answer_has_no_credential_and_users_see_none_of_it() {
        let answer = Answer {
            status: StatusCode::FORBIDDEN,
            headers: HeaderMap::new(),
            body: Bytes::from_static(br#"{"detail": "r9-hidden may not"}"#),
            credential: "r9-hidden".to_owned(),
        };
        let trouble = answer.submit_trouble(&[]);
        let excerpt = r#"{"detail": "[redacted] may not"}"#.to_owned();
        assert_eq!(trouble.evidence, Evidence { status: Some(403), excerpt });
        assert_eq!(trouble.outcome, CallOutcome::AccountRefused);
        let failure = Failure::new(Class::Final, Reason::ProviderQuota, Charge::Unknown, "").because(&trouble);
        assert_eq!(failure.reason.message(), "the provider takes no orders at present");
    }
}
