//! The span of one call to an address that others chose: kind client, with the attributes of OpenTelemetry's HTTP conventions.
//!
//! Invariant: no address is an attribute, since a query may hold a signature or a key; host and port are enough.

use std::sync::atomic::{AtomicBool, Ordering};

use http::{Method, StatusCode};
use opentelemetry::Value;
use tracing::field::Empty;
use tracing::{Span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use url::Url;

use crate::telemetry::attributes;

/// One call; its span ends when it is dropped.
#[derive(Debug)]
pub struct Call {
    span: Span,
    failed: AtomicBool,
}

impl Call {
    /// Opens the span `name` of a request to `url`.
    #[must_use]
    pub fn begin(name: &str, method: &Method, url: &Url) -> Self {
        let span = info_span!(
            "call",
            otel.name = name,
            otel.kind = "client",
            otel.status_code = Empty,
            otel.status_description = Empty,
            { attributes::HTTP_REQUEST_METHOD } = method.as_str(),
            { attributes::SERVER_ADDRESS } = url.host_str(),
            { attributes::SERVER_PORT } = url.port_or_known_default(),
            { attributes::HTTP_RESPONSE_STATUS_CODE } = Empty,
            { attributes::ERROR_TYPE } = Empty,
        );
        Self { span, failed: AtomicBool::new(false) }
    }

    /// The same call with one more attribute.
    #[must_use]
    pub fn with(self, key: &'static str, value: impl Into<Value>) -> Self {
        self.span.set_attribute(key, value);
        self
    }

    /// The span, to run the call in.
    #[must_use]
    pub fn span(&self) -> &Span {
        &self.span
    }

    /// Records the answer's status. A client counts every refusal as its error.
    pub fn answered(&self, status: StatusCode) {
        self.span.record(attributes::HTTP_RESPONSE_STATUS_CODE, status.as_u16());
        if status.is_client_error() || status.is_server_error() {
            self.failed(status.as_str());
        }
    }

    /// Records that the call failed, and of what: the status, or what broke.
    pub fn failed(&self, kind: &str) {
        // An attribute that is recorded twice is exported twice; what came first is why.
        if self.failed.swap(true, Ordering::Relaxed) {
            return;
        }
        self.span.record(attributes::ERROR_TYPE, kind);
        self.span.record("otel.status_code", "ERROR");
        self.span.record("otel.status_description", kind);
    }
}
