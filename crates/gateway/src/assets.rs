//! `GET /assets/{sha256}.{ext}`: the bytes of our own storage over plain HTTP, for `<img>` and `<video>` and for any CDN; and
//! `GET /fetch/…`, links to single objects that run out, for models' providers.
//!
//! Invariant: a URL's content never changes, so an answer may be kept for ever, but for a link's, which nobody keeps; an object is
//! streamed, never held in memory whole, to a client that takes it; and no answer is a redirect.

mod conditions;
mod range;
mod sending;

use std::time::{Duration, SystemTime};

use chassis::blobs::{Error, Name, Store};
use chassis::keyring::InternalKeys;
use chassis::links::{ASSETS, AssetAccess, FETCH, Refused, verify_fetch};
use chassis::server::{ByAddress, Client, Place};
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{
        ACCEPT_RANGES, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
        ETAG, HeaderName, RETRY_AFTER,
    },
};
use http_body_util::Full;
use moka::future::Cache;
use tonic::body::Body;

use self::{range::RequestedRange, sending::Sending};
use crate::http_call;

const CACHE_FOREVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
const NO_ASSET: &str = "no asset has this address; it has to be whole, as the API gave it";
const SANDBOX: HeaderValue = HeaderValue::from_static("default-src 'none'; sandbox");
/// How long a request waits for a place.
const PLACE_WAIT: Duration = Duration::from_secs(5);
const CACHE_NEVER: HeaderValue = HeaderValue::from_static("no-store");

/// Serves assets; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Assets {
    store: Store,
    /// Sizes by name. They never change, and each one known saves a call to the storage.
    sizes: Cache<Name, u64>,
    /// What is asked of an asset's address.
    access: AssetAccess,
    /// What links are signed with.
    links: InternalKeys,
    /// For answers that are being sent.
    places: ByAddress,
    /// How long a client may take nothing of an answer.
    timeout: Duration,
}

impl Assets {
    /// Answers take one of `places` until they have been sent, and are cut off when nothing of them is taken for `timeout`.
    pub(crate) fn new(
        store: Store,
        access: AssetAccess,
        links: InternalKeys,
        places: ByAddress,
        timeout: Duration,
    ) -> Self {
        Self { store, sizes: Cache::new(100_000), access, links, places, timeout }
    }

    /// Answers any HTTP request that is not gRPC.
    pub(crate) async fn answer(&self, request: Request<()>) -> Response<Body> {
        let is_link = request.uri().path().starts_with(FETCH);
        let route = if is_link { "/fetch/{expires}/{key}/{mac}/{name}" } else { "/assets/{name}" };
        http_call::traced(request, route, async |request| self.respond(&request).await).await
    }

    /// What of a link's path is behind its beginning, and the key that it has to be signed with.
    fn link<'a>(&self, request: &'a Request<()>) -> Option<(&'a str, &InternalKeys)> {
        Some((request.uri().path().strip_prefix(FETCH)?, &self.links))
    }

    async fn respond(&self, request: &Request<()>) -> Response<Body> {
        if let Some((path, key)) = self.link(request) {
            let mut response = match verify_fetch(key, path, SystemTime::now()) {
                Ok(name) => self.serve(request, &name).await,
                Err(Refused::Forged) => problem(StatusCode::NOT_FOUND, "NOT_FOUND", "there is nothing here"),
                Err(Refused::Expired) => expired(),
            };
            response.headers_mut().insert(CACHE_CONTROL, CACHE_NEVER);
            return response;
        }
        let Some(name) = request.uri().path().strip_prefix(ASSETS) else {
            return problem(StatusCode::NOT_FOUND, "NOT_FOUND", "there is nothing here; assets are at /assets/");
        };
        let query = request.uri().query().unwrap_or_default();
        match self.access.verify(name, query, SystemTime::now()) {
            Ok((name, None)) => self.serve(request, &name).await,
            Ok((name, Some(left))) => {
                let mut response = self.serve(request, &name).await;
                if response.headers().get(CACHE_CONTROL) == Some(&CACHE_FOREVER) {
                    // A shared cache would give it to whoever has an address that has run out, or none.
                    set(&mut response, CACHE_CONTROL, &format!("private, max-age={}, immutable", left.as_secs()));
                }
                response
            }
            Err(_) if !is_read(request) => not_allowed(),
            Err(Refused::Expired) => expired(),
            // The same as for an asset that does not exist: a hash alone is to tell nothing.
            Err(Refused::Forged) => problem(StatusCode::NOT_FOUND, "ASSET_NOT_FOUND", NO_ASSET),
        }
    }

    async fn serve(&self, request: &Request<()>, name: &Name) -> Response<Body> {
        if !is_read(request) {
            return not_allowed();
        }
        // Whoever shows many pictures at once waits a little for the first ones rather than see some of them missing.
        let place = self.places.take_within(Client::address_of(request.extensions()), PLACE_WAIT).await;
        let Ok(place) = place else {
            let message = "too many assets are being sent at once, try again shortly";
            return retry_after(problem(StatusCode::SERVICE_UNAVAILABLE, "OVERLOADED", message));
        };
        match self.read(request, name, place).await {
            Ok(response) => response,
            Err(Error::Missing(_)) => problem(StatusCode::NOT_FOUND, "ASSET_NOT_FOUND", NO_ASSET),
            Err(error) => {
                tracing::warn!(%name, error = &error as &dyn std::error::Error, "an asset cannot be read");
                let message = "the object storage does not answer, try again shortly";
                retry_after(problem(StatusCode::SERVICE_UNAVAILABLE, "DEPENDENCY_DOWN", message))
            }
        }
    }

    async fn read(&self, request: &Request<()>, name: &Name, place: Place) -> Result<Response<Body>, Error> {
        let etag = HeaderValue::try_from(format!("\"{}\"", digits(name))).map_err(|_| Error::Missing(name.clone()))?;
        if conditions::not_modified(request.headers(), &etag) {
            // The name is the content's hash, so a client that has any answer under this name has this one.
            return Ok(success(StatusCode::NOT_MODIFIED, name, etag, Body::empty()));
        }
        let size = self.size(name).await?;
        // Only now: of an asset that does not exist a cache must keep nothing.
        if conditions::unless_any(request.headers()) {
            return Ok(success(StatusCode::NOT_MODIFIED, name, etag, Body::empty()));
        }
        let requested = match conditions::range_applies(request.headers(), &etag) {
            true => range::parse(request.headers(), size),
            false => RequestedRange::All,
        };
        let (status, part) = match requested {
            RequestedRange::All => (StatusCode::OK, 0..size),
            RequestedRange::Part(part) => (StatusCode::PARTIAL_CONTENT, part),
            RequestedRange::Outside => {
                let message = format!("the asset has {size} bytes");
                let mut response = problem(StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_OUTSIDE_ASSET", &message);
                set(&mut response, CONTENT_RANGE, &format!("bytes */{size}"));
                return Ok(response);
            }
        };
        let body = if request.method() == Method::HEAD || part.is_empty() {
            Body::empty()
        } else {
            let range = (status == StatusCode::PARTIAL_CONTENT).then(|| part.clone());
            let chunks = self.store.stream(name, range).await?;
            let length = part.end - part.start;
            let stream = request.extensions().get::<Client>().map(|client| client.stream().clone());
            Body::new(Sending::new(chunks, length, place, self.timeout, stream.unwrap_or_default()))
        };
        let mut response = success(status, name, etag, body);
        set(&mut response, CONTENT_LENGTH, &(part.end - part.start).to_string());
        if status == StatusCode::PARTIAL_CONTENT {
            set(&mut response, CONTENT_RANGE, &format!("bytes {}-{}/{size}", part.start, part.end - 1));
        }
        Ok(response)
    }

    async fn size(&self, name: &Name) -> Result<u64, Error> {
        if let Some(size) = self.sizes.get(name).await {
            return Ok(size);
        }
        let size = self.store.head(name).await?.ok_or_else(|| Error::Missing(name.clone()))?.bytes;
        self.sizes.insert(name.clone(), size).await;
        Ok(size)
    }
}

fn expired() -> Response<Body> {
    let message = "the address has run out; read what named it again";
    problem(StatusCode::FORBIDDEN, "LINK_EXPIRED", message)
}

fn retry_after(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

fn is_read(request: &Request<()>) -> bool {
    request.method() == Method::GET || request.method() == Method::HEAD
}

fn not_allowed() -> Response<Body> {
    let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "only GET and HEAD");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}

fn digits(name: &Name) -> String {
    let text = name.to_string();
    text.split_once('.').map_or(text.clone(), |(digits, _)| digits.to_owned())
}

/// A successful answer about an asset, with the headers that all of them have.
fn success(status: StatusCode, name: &Name, etag: HeaderValue, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(ETAG, etag);
    headers.insert(CACHE_CONTROL, CACHE_FOREVER);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(name.content_type()));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let header = HeaderName::from_static;
    // The type is from our own list, and a browser must not guess another. Any page may fetch an asset, so any may embed it.
    headers.insert(header("x-content-type-options"), HeaderValue::from_static("nosniff"));
    // Opened as a page of its own it runs nothing and asks for nothing.
    headers.insert(CONTENT_SECURITY_POLICY, SANDBOX);
    headers.insert(header("cross-origin-resource-policy"), HeaderValue::from_static("cross-origin"));
    response
}

/// An error as a small JSON object, which no cache keeps.
fn problem(status: StatusCode, reason: &str, message: &str) -> Response<Body> {
    let mut error = serde_json::json!({ "code": status.as_u16(), "reason": reason, "message": message });
    if let Some(trace) = chassis::telemetry::trace_id() {
        error["trace_id"] = trace.into();
    }
    let body = serde_json::json!({ "error": error }).to_string();
    let mut response = Response::new(Body::new(Full::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_SECURITY_POLICY, SANDBOX);
    headers.insert(CACHE_CONTROL, CACHE_NEVER);
    response
}

fn set(response: &mut Response<Body>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::try_from(value) {
        response.headers_mut().insert(name, value);
    }
}
