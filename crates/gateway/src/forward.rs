//! The way of a call: route, key, scope, session, limits, headers, and then its bytes as they are, to a service or to what the gateway
//! answers itself.

mod answers;
mod headers;
mod limit;
mod seal;
mod session;
mod watches;

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use cache::Cache;
use chassis::client::ChangesNothing;
use chassis::identity::Identities;
use chassis::keyring::InternalKeys;
use chassis::{
    drain::Drain,
    server::{Admission, Client},
};
use http::{Request, Response};
use proto::Scope;
use tonic::{Status, body::Body};
use tower::Service;
use tracing::Span;

use self::answers::{Answers, Asking, Question};
use self::limit::Begun;
use self::seal::Seal;
use self::{session::Sessions, watches::Watches};
use crate::{
    error::Error,
    keys::Keys,
    limit_service::{self, Asker, Own},
    limits::{Admitted, Limits},
    routes::Routes,
};

pub(crate) use self::session::HEADER as SESSION_HEADER;

/// Forwards calls to their services.
#[derive(Debug)]
pub(crate) struct Forward {
    routes: Routes,
    keys: Keys,
    limits: Limits,
    /// Signs who calls, for the service behind.
    identities: Identities,
    seal: Seal,
    sessions: Sessions,
    watches: Watches,
    /// What answers the methods that no service has.
    own: Own,
    /// The answers that are kept here, if any are.
    answers: Option<Answers>,
}

impl Forward {
    /// An account has at most `max_watches` open at a time. Who calls is signed with `internal_keys`, and so are the tokens of callers' own
    /// writes.
    pub(crate) fn new(
        routes: Routes,
        keys: Keys,
        limits: Limits,
        max_watches: usize,
        internal_keys: &InternalKeys,
    ) -> Self {
        let (identities, seal) = (Identities::new(internal_keys), Seal::new(internal_keys));
        let (sessions, watches) = (Sessions::new(), Watches::new(max_watches));
        let own = limit_service::own(limits.clone());
        Self { routes, keys, own, limits, identities, seal, sessions, watches, answers: None }
    }

    /// The same, which keeps answers in `cache`.
    pub(crate) fn keeping_answers(self, cache: Cache) -> Self {
        Self { answers: Some(Answers::new(cache)), ..self }
    }

    /// The same, whose watches end when `drain` begins.
    pub(crate) fn until(self, drain: Drain) -> Self {
        let limits = self.limits.until(drain.clone());
        Self { own: limit_service::own(limits.clone()), limits, watches: self.watches.until(drain), ..self }
    }

    async fn forward(&self, mut request: Request<Body>) -> Result<Response<Body>, Error> {
        let path = request.uri().path();
        let Some(route) = self.routes.find(path) else { return Err(Error::MethodNotFound(path.to_owned())) };
        let address = Client::address_of(request.extensions());
        let key = self.keys.authenticate(request.headers(), address).await?;
        Span::current().record("rushes.account", tracing::field::display(key.account()));
        key.check_scope(route.scope)?;
        let Admitted { places: taken, report } = self.limits.admit(key.caller(), route.method).await?;
        self.seal.open(request.headers_mut(), key.account());
        let session = self.sessions.attach(request.headers_mut(), key.account()).await?;
        let is_watch = route.method.max_timeout.is_none();
        let max_watches = key.own_limits().limits.and_then(|own| own.watches);
        let open = || self.watches.open(key.account(), max_watches, request.extensions());
        let places = is_watch.then(open).transpose()?;
        let unusable = is_watch.then(|| self.keys.refused(request.headers(), address));
        let admission = request.extensions_mut().remove::<Admission>();
        let token = key.token(&self.identities, route.method.upstream, route.scope);
        let Begun { request, mut refused, message } = limit::admit(request, route.method).await?;
        // Not before the message has begun: whoever opens calls and sends nothing takes no place of those who do.
        let _slot =
            admission.filter(|_| !is_watch).map(|calls| calls.admit_within(route.method.class.places())).transpose()?;
        let _turn = match is_watch {
            true => Some(self.watches.turn(key.account()).await),
            false => None,
        };
        let kept = self.answers.as_ref().and_then(|answers| {
            let question = Question::parse(route.method.path, message.as_ref()?, key.account())?;
            Some((answers, question, message.clone()?, route.channel.clone()?))
        });
        let response = match kept {
            Some((answers, question, message, channel)) => {
                let asking = Asking { channel, head: request.into_parts().0, message, identity: token };
                answers.answer(question, asking).await?
            }
            None => {
                let mut request = headers::to_upstream(request, token)?;
                if route.scope == Scope::Read {
                    request.extensions_mut().insert(ChangesNothing);
                }
                if route.channel.is_none() {
                    let watches = self.watches.usage(key.account(), max_watches);
                    request.extensions_mut().insert(Asker { key: key.clone(), watches });
                }
                let reply = async {
                    match &route.channel {
                        Some(channel) => channel.clone().call(request).await,
                        None => self.own.clone().call(request).await,
                    }
                };
                let response = tokio::select! {
                    biased;
                    Ok(error) = &mut refused => return Err(error),
                    Ok(response) = reply => response,
                };
                // A refused body breaks the call to the service as well, in the same step, and the client must read the refusal, not that.
                if let Ok(error) = refused.try_recv() {
                    return Err(error);
                }
                response
            }
        };
        if let Some(session) = session {
            session.record(response.headers()).await;
        }
        if let Some(answers) = &self.answers {
            answers.note(response.headers()).await;
        }
        let mut response = taken.hold(headers::to_client(response));
        self.seal.seal(response.headers_mut(), key.account());
        report.write(response.headers_mut());
        Ok(match places.zip(unusable) {
            Some((places, unusable)) => self.watches.reply(route.method.path, places, response, unusable),
            None => response,
        })
    }
}

/// The way that all requests take; cloning it for each costs one count.
#[derive(Clone, Debug)]
pub(crate) struct Way(Arc<Forward>);

impl From<Forward> for Way {
    fn from(forward: Forward) -> Self {
        Self(Arc::new(forward))
    }
}

impl Service<Request<Body>> for Way {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let forward = Arc::clone(&self.0);
        Box::pin(async move {
            let response = forward.forward(request).await;
            Ok(response.unwrap_or_else(|error| {
                let report = error.report().cloned();
                let mut refusal = Status::from(error).into_http();
                if let Some(report) = report {
                    report.write(refusal.headers_mut());
                }
                refusal
            }))
        })
    }
}
