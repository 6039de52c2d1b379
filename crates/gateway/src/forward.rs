//! A call on its way through: route, key, scope, limits, headers, and then the bytes as they are.

mod envelope;
mod limit;
mod meter;
mod session;

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use chassis::status::Failure;
use http::{Request, Response};
use tonic::{Status, body::Body};
use tower::Service;
use tracing::Span;

use self::session::Sessions;
use crate::{keys::Keys, routes::Routes};

pub(crate) use self::session::HEADER as SESSION;

/// The gateway's side of every call; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Forward {
    routes: Routes,
    keys: Keys,
    sessions: Sessions,
}

impl Forward {
    pub(crate) fn new(routes: Routes, keys: Keys) -> Self {
        Self { routes, keys, sessions: Sessions::new() }
    }

    async fn forward(&self, mut request: Request<Body>) -> Result<Response<Body>, Failure> {
        let path = request.uri().path();
        let Some(route) = self.routes.find(path) else {
            return Err(Failure::unimplemented(format!("there is no method {path}")));
        };
        let key = self.keys.authenticate(request.headers()).await?;
        Span::current().record("rushes.account", tracing::field::display(key.account()));
        key.check(route.scope)?;
        let session = self.sessions.enter(request.headers_mut(), key.account()).await?;
        let request = envelope::seal(request, &key);
        let (request, refused) = limit::admit(request, route.method).await?;
        let answer = route.channel.clone().call(request);
        let response = tokio::select! {
            // A refused body breaks the call as well; the refusal is what the client must read.
            biased;
            Ok(failure) = refused => return Err(failure),
            Ok(response) = answer => response,
        };
        if let Some(session) = session {
            session.leave(response.headers()).await;
        }
        Ok(envelope::open(response))
    }
}

impl Service<Request<Body>> for Forward {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let forward = self.clone();
        Box::pin(async move {
            let answer = forward.forward(request).await;
            Ok(answer.unwrap_or_else(|failure| Status::from(failure).into_http()))
        })
    }
}
