//! The bytes of outputs, from wherever their provider says that they lie.
//!
//! Invariant: each hop is checked like the first, since a redirect is somebody else's choice of an address; and the credential goes to
//! the provider's own API alone.

use futures::StreamExt as _;
use futures::stream;
use http::Method;
use http::header::{AUTHORIZATION, LOCATION};
use tracing::Instrument as _;
use url::Url;

use super::{Api, Operation, describe};
use crate::model::{CallOutcome, Evidence, Trouble};
use crate::provider::Pieces;
use crate::providers::outputs;

/// The redirects of an output that are followed.
const MAX_REDIRECTS: usize = 5;

impl Api {
    /// The bytes of an output. No credential goes to wherever it lies, and only a provider that is itself called at an address
    /// of this network, as in tests, may name another such address.
    pub(in crate::providers) async fn download<'a>(&self, address: &str) -> Result<Pieces<'a>, Trouble> {
        if let Some(data) = address.strip_prefix("data:") {
            let bytes = outputs::decode_data(data);
            let bytes =
                bytes.ok_or_else(|| Trouble::new(CallOutcome::FileUnusable, "the output's data: URI is none"))?;
            return Ok(stream::once(async move { Ok(bytes) }).boxed());
        }
        let mut url =
            Url::parse(address).map_err(|_| Trouble::new(CallOutcome::FileRefused, "the output's address is none"))?;
        for _ in 0..=MAX_REDIRECTS {
            match self.download_hop(url, false).await? {
                Hop::Pieces(pieces) => return Ok(pieces),
                Hop::Redirect(next) => url = next,
            }
        }
        Err(Trouble::new(CallOutcome::FileUnavailable, format!("the output is redirected over {MAX_REDIRECTS} times")))
    }

    /// The bytes of an output that the provider's own API hands out, which asks for the credential; a redirect of it is followed
    /// without.
    pub(in crate::providers) async fn download_own<'a>(&self, url: Url) -> Result<Pieces<'a>, Trouble> {
        match self.download_hop(url, true).await? {
            Hop::Pieces(pieces) => Ok(pieces),
            Hop::Redirect(next) => self.download(next.as_str()).await,
        }
    }

    /// Whether an address is the provider's own API's.
    pub(in crate::providers) fn is_own(&self, url: &Url) -> bool {
        url.origin() == self.base.origin() && url.path().starts_with(self.base.path())
    }

    /// One request for an output. Each hop is checked like the first: a redirect is somebody else's choice of an address.
    async fn download_hop<'a>(&self, url: Url, own: bool) -> Result<Hop<'a>, Trouble> {
        let call = Operation::FetchOutput.begin(self.provider, &Method::GET, &url);
        let request = self.egress.request(Method::GET, url.clone()).map_err(|refused| {
            call.failed("refused");
            Trouble::new(CallOutcome::FileRefused, format!("the output's address is not called: {refused}"))
        })?;
        let request = match self.authorization.as_ref().filter(|_| own) {
            Some(authorization) => request.header(AUTHORIZATION, authorization.clone()),
            None => request,
        };
        let response = request.send().instrument(call.span().clone()).await.map_err(|error| {
            call.failed(if error.is_timeout() { "slow" } else { "lost" });
            file_trouble(error)
        })?;
        call.answered(response.status());
        Operation::FetchOutput.count(self.provider, &self.key, response.status());
        let code = response.status().as_u16();
        if response.status().is_redirection() {
            let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
            let next = location.and_then(|location| url.join(location).ok());
            return next.map(Hop::Redirect).ok_or_else(|| file_refused(code));
        }
        if !response.status().is_success() {
            return Err(file_refused(code));
        }
        let announced = response.content_length();
        // The span lasts as long as there are pieces to come.
        let pieces = stream::try_unfold((response, call, 0_u64), move |(mut response, call, received)| async move {
            match response.chunk().await {
                Ok(Some(piece)) => {
                    let received = received + piece.len() as u64;
                    Ok(Some((piece, (response, call, received))))
                }
                Ok(None) if announced.is_some_and(|announced| announced != received) => {
                    call.failed("cut");
                    Err(Trouble::new(CallOutcome::FileCut, "the output has another length than was announced"))
                }
                Ok(None) => Ok(None),
                Err(error) => {
                    call.failed(if error.is_timeout() { "slow" } else { "cut" });
                    let trouble = file_trouble(error);
                    // What broke after it began is a file that was cut.
                    let cut = trouble.outcome == CallOutcome::FileUnavailable;
                    Err(Trouble { outcome: if cut { CallOutcome::FileCut } else { trouble.outcome }, ..trouble })
                }
            }
        });
        Ok(Hop::Pieces(pieces.boxed()))
    }
}

/// What a request for an output leads to.
enum Hop<'a> {
    Pieces(Pieces<'a>),
    Redirect(Url),
}

/// A file's server refused it, or is out of order.
fn file_refused(code: u16) -> Trouble {
    let outcome = match code {
        408 | 425 | 429 | 500.. => CallOutcome::FileUnavailable,
        _ => CallOutcome::FileRefused,
    };
    let evidence = Evidence { status: Some(code), excerpt: String::new() };
    Trouble::new(outcome, format!("the output cannot be fetched: {code}")).with_evidence(evidence)
}

/// A file's server cannot be reached, or broke off.
fn file_trouble(error: reqwest::Error) -> Trouble {
    let (outcome, detail) = if error.is_timeout() && !error.is_connect() {
        (CallOutcome::FileSlow, "the output stands still")
    } else {
        (CallOutcome::FileUnavailable, "the output cannot be fetched")
    };
    Trouble::new(outcome, detail).with_evidence(Evidence::cause(describe(error)))
}
