//! A client of one service's two doors, past the gateway: what tests and the laboratory call services through.
//!
//! Invariant: each call goes to the door that its method is at, as one who may call it; a request is on the account's behalf that
//! `Caller::attach` named. What must be refused is therefore sent otherwise.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use chassis::client::{self, Channel};
use chassis::identity::OPERATOR;
use chassis::keyring::InternalKeys;
use http::{Request, Response, Uri};
use tonic::body::Body;
use tower::Service;
use uuid::Uuid;

/// The internal keys of tests.
pub const INTERNAL_KEYS: &str = "test-test-test-test-test-test-test";
/// The id of the API key that calls of tests are made with.
pub const KEY: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0009);
/// Everything that a key may have.
const SCOPES: &str = "read+write+generate+operate";
/// All who call internal methods.
const CALLERS: [&str; 3] = ["gateway", "generation-worker", OPERATOR];

/// A lazy channel to a service's two doors; cheap to clone.
#[derive(Clone, Debug)]
pub struct Doors {
    public: Channel,
    internal: Vec<(&'static str, Channel)>,
}

impl Doors {
    /// The doors of `service` at these addresses, which believes what is signed with `keys`.
    #[must_use]
    pub fn at(service: &'static str, public: &Uri, internal: &Uri, keys: &InternalKeys) -> Self {
        let inside = client::connect(service, internal);
        Self {
            public: client::connect(service, public).as_key(KEY, SCOPES, keys),
            internal: CALLERS.into_iter().map(|name| (name, inside.clone().as_service(name, keys))).collect(),
        }
    }

    /// The doors of `service` at these addresses, `host:port`, with the [keys of tests](INTERNAL_KEYS).
    ///
    /// # Panics
    /// When one is no address.
    #[must_use]
    pub fn of(service: &'static str, public: impl std::fmt::Display, internal: impl std::fmt::Display) -> Self {
        let uri = |address: String| address.parse().expect("an address");
        let keys = InternalKeys::parse(INTERNAL_KEYS).expect("keys");
        Self::at(service, &uri(format!("http://{public}")), &uri(format!("http://{internal}")), &keys)
    }
}

impl Service<Request<Body>> for Doors {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let callers = proto::method(request.uri().path()).map(|method| method.callers).unwrap_or_default();
        let inside = self.internal.iter_mut().find(|(name, _)| callers.contains(name));
        inside.map_or(&mut self.public, |(_, channel)| channel).call(request)
    }
}
