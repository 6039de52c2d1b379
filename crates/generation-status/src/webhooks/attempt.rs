//! One attempt at a delivery: the signed request, and what came of it.
//!
//! Invariant: an attempt ends within its timeout, whatever the endpoint does: a body that drips or never ends included.

use std::time::{Duration, Instant};

use chassis::egress::{Call, Egress};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, Method, StatusCode};
use tracing::Instrument as _;
use url::Url;

use super::message;
use crate::model::{AttemptResult, ClaimedDelivery, TIMEOUT};

/// The reason of an attempt at an address that is not on the public internet.
const ADDRESS_REFUSED: &str = "ADDRESS_REFUSED";
/// How much of an answer is kept, in bytes.
const MAX_EXCERPT_BYTES: usize = 1_024;
/// How long the beginning of the body is read. The status decides already; what is late is left.
const BODY_TIMEOUT: Duration = Duration::from_millis(500);
/// The longest pause that an endpoint's Retry-After may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// Sends `body` to the delivery's endpoint, and waits for the answer no longer than `timeout`.
pub(super) async fn send(
    egress: &Egress,
    delivery: &ClaimedDelivery,
    body: Vec<u8>,
    timeout: Duration,
) -> AttemptResult {
    let began = Instant::now();
    let result = |http_status, reason, retry_after| AttemptResult {
        http_status,
        latency: began.elapsed(),
        reason,
        excerpt: String::new(),
        retry_after,
    };
    let no_answer = |reason| result(0, reason, Duration::ZERO);
    let id = delivery.name.delivery.0;
    let time = delivery.now.unix_timestamp();
    let signatures = message::sign(&delivery.secrets, id, time, &body);
    let Ok(url) = Url::parse(&delivery.url) else { return no_answer(ADDRESS_REFUSED) };
    let call = Call::begin("send webhook", &Method::POST, &url);
    let no_answer = |reason| {
        call.failed(reason);
        no_answer(reason)
    };
    let Ok(request) = egress.request(Method::POST, url) else { return no_answer(ADDRESS_REFUSED) };
    let request = request
        .header(CONTENT_TYPE, "application/json")
        .header("webhook-id", id.to_string())
        .header("webhook-timestamp", time.to_string())
        .header("webhook-signature", signatures)
        .body(body);
    let mut answer = match tokio::time::timeout(timeout, request.send()).instrument(call.span().clone()).await {
        Err(_) => return no_answer(TIMEOUT),
        Ok(Err(error)) if error.is_timeout() => return no_answer(TIMEOUT),
        Ok(Err(error)) if error.is_connect() => return no_answer("UNREACHABLE"),
        Ok(Err(_)) => return no_answer("BROKEN_ANSWER"),
        Ok(Ok(answer)) => answer,
    };
    let status = answer.status();
    call.answered(status);
    let retry_after = match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => retry_after(answer.headers()),
        _ => Duration::ZERO,
    };
    let mut answered = result(status.as_u16(), "", retry_after);
    let mut bytes = Vec::new();
    let read = async {
        while bytes.len() < MAX_EXCERPT_BYTES
            && let Ok(Some(chunk)) = answer.chunk().await
        {
            bytes.extend_from_slice(&chunk);
        }
    };
    let _ = tokio::time::timeout(timeout.saturating_sub(began.elapsed()).min(BODY_TIMEOUT), read).await;
    answered.excerpt = excerpt(&bytes);
    answered
}

/// What an answer's Retry-After asks for, where that is a number of seconds.
fn retry_after(headers: &HeaderMap) -> Duration {
    let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    Duration::from_secs(seconds.unwrap_or_default()).min(MAX_RETRY_AFTER)
}

/// The part of an answer that is shown: text without control characters, since PostgreSQL refuses NUL and a terminal would
/// obey the others.
fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_EXCERPT_BYTES)]);
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_short_printable_text() {
        assert_eq!(excerpt(b"no\0 \x1b[31mred\xff\n"), "no   [31mred\u{fffd}");
        assert_eq!(excerpt(&[b'a'; 5_000]).len(), MAX_EXCERPT_BYTES);
        let asked = |text| retry_after(&HeaderMap::from_iter([(RETRY_AFTER, http::HeaderValue::from_static(text))]));
        assert_eq!(asked("7"), Duration::from_secs(7));
        assert_eq!(asked("999999999"), MAX_RETRY_AFTER);
        assert_eq!(asked("soon"), Duration::ZERO);
    }
}
