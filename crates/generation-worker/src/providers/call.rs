//! What a call to a provider is for, and its span.

use chassis::egress::Call;
use chassis::telemetry::attributes;
use http::Method;
use url::Url;

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
    /// Opens the span of a request to `url` at `provider`.
    pub(super) fn begin(self, provider: &'static str, method: &Method, url: &Url) -> Call {
        Call::begin(&self.span_name(provider), method, url).with(attributes::PROVIDER, provider)
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
