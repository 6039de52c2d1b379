//! The span of one call to a provider: kind client, with the attributes of OpenTelemetry's HTTP conventions.
//!
//! Invariant: no address is an attribute, since those of outputs are signed in their query; host and port are enough.

use std::sync::atomic::{AtomicBool, Ordering};

use chassis::telemetry::attributes;
use http::{Method, StatusCode};
use tracing::field::Empty;
use tracing::{Span, info_span};
use url::Url;

use crate::metrics;

/// What a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Submit,
    Poll,
    FetchOutput,
    Cancel,
    FetchKeys,
}

impl Operation {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Poll => "poll",
            Self::Cancel => "cancel",
            Self::FetchOutput => "fetch",
            Self::FetchKeys => "keys",
        }
    }

    fn span_name(self, provider: &str) -> String {
        match self {
            Self::Submit => format!("submit {provider}"),
            Self::Poll => format!("poll {provider}"),
            Self::Cancel => format!("cancel {provider}"),
            Self::FetchOutput => "fetch output".to_owned(),
            Self::FetchKeys => "fetch keys".to_owned(),
        }
    }
}

/// One call; its span ends when it is dropped.
#[derive(Debug)]
pub(super) struct Call {
    provider: &'static str,
    operation: Operation,
    span: Span,
    failed: AtomicBool,
}

impl Call {
    /// Opens the span of a request to `url`.
    pub(super) fn begin(operation: Operation, provider: &'static str, method: &Method, url: &Url) -> Self {
        let span = info_span!(
            "provider call",
            otel.name = operation.span_name(provider),
            otel.kind = "client",
            otel.status_code = Empty,
            { attributes::HTTP_REQUEST_METHOD } = method.as_str(),
            { attributes::SERVER_ADDRESS } = url.host_str(),
            { attributes::SERVER_PORT } = url.port_or_known_default(),
            { attributes::HTTP_RESPONSE_STATUS_CODE } = Empty,
            { attributes::ERROR_TYPE } = Empty,
            { attributes::PROVIDER } = provider,
        );
        Self { provider, operation, span, failed: AtomicBool::new(false) }
    }

    /// The span, to run the call in.
    pub(super) fn span(&self) -> &Span {
        &self.span
    }

    /// Records the answer's status. A client counts every refusal as its error.
    pub(super) fn answered(&self, status: StatusCode) {
        self.span.record(attributes::HTTP_RESPONSE_STATUS_CODE, status.as_u16());
        metrics::CALLS.with([self.provider, self.operation.as_str(), status_label(status)]).increment(1);
        if status.is_client_error() || status.is_server_error() {
            self.failed(status.as_str());
        }
    }

    /// Records that the call failed, and of what: the status, or what broke.
    pub(super) fn failed(&self, kind: &str) {
        // An attribute that is recorded twice is exported twice; what came first is why.
        if self.failed.swap(true, Ordering::Relaxed) {
            return;
        }
        self.span.record(attributes::ERROR_TYPE, kind);
        self.span.record("otel.status_code", "ERROR");
    }
}

/// The label of a status: a provider may answer with any number, and only those that HTTP names are labels.
fn status_label(status: StatusCode) -> &'static str {
    const NAMED: [&str; 24] = [
        "200", "201", "202", "204", "206", "301", "302", "303", "307", "308", "400", "401", "402", "403", "404", "408",
        "410", "413", "422", "429", "500", "502", "503", "504",
    ];
    NAMED.into_iter().find(|named| *named == status.as_str()).unwrap_or("other")
}
