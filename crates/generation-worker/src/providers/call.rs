//! What a call to a provider is for, and its span.

use chassis::egress::Call;
use chassis::telemetry::attributes;
use chassis::telemetry::metric::Value;
use http::{Method, StatusCode};
use url::Url;

use crate::metrics;

/// What a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Upload,
    Submit,
    Poll,
    FetchOutput,
    Cancel,
    FetchKeys,
    FetchPrice,
    Probe,
}

impl Operation {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Upload => "upload",
            Self::Submit => "submit",
            Self::Poll => "poll",
            Self::Cancel => "cancel",
            Self::FetchOutput => "fetch",
            Self::FetchKeys => "keys",
            Self::FetchPrice => "price",
            Self::Probe => "probe",
        }
    }

    /// Opens the span of a request to `url` at `provider`.
    pub(super) fn begin(self, provider: &'static str, method: &Method, url: &Url) -> Call {
        Call::begin(&self.span_name(provider), method, url).with(attributes::PROVIDER, provider)
    }

    /// Counts an answer.
    pub(super) fn count(self, provider: &'static str, key: &str, status: StatusCode) {
        let labels =
            [provider.into(), key.to_owned().into(), self.as_str().into(), status_label(status).into()] as [Value; 4];
        metrics::CALLS.with(labels).increment(1);
    }

    fn span_name(self, provider: &str) -> String {
        match self {
            Self::Upload => format!("upload {provider}"),
            Self::Submit => format!("submit {provider}"),
            Self::Poll => format!("poll {provider}"),
            Self::Cancel => format!("cancel {provider}"),
            Self::FetchOutput => "fetch output".to_owned(),
            Self::FetchKeys => "fetch keys".to_owned(),
            Self::FetchPrice => "fetch price".to_owned(),
            Self::Probe => format!("probe {provider}"),
        }
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
