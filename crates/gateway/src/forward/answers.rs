//! Answers that the gateway keeps by itself, so that a hot read costs no second hop: an account's dashboard, and single generations.
//!
//! Invariants: an answer is given from here under the same proof as in the services, and loaded from the primary through them; while
//! there is no proof the services answer from their own tiers, and nothing older than what went out is served afterwards. What
//! is asked in another way than the usual one goes to its service.

use std::sync::Arc;

use bytes::Bytes;
use cache::remote::{self, Ask};
use cache::{Cache, Key, Loaded, Token, WrittenThrough};
use chassis::client::{ChangesNothing, Channel};
use chassis::encoded;
use chassis::frames::PREFIX;
use chassis::request::token;
use domain::id::GenerationId;
use http::{HeaderMap, HeaderValue, Request, Response, Version, request::Parts};
use http_body_util::{BodyExt as _, Full};
use prost::Message as _;
use proto::dashboard::v1::GetDashboardRequest;
use proto::generations::v1::GetGenerationRequest;
use tonic::{Code, body::Body};
use tower::Service as _;
use uuid::Uuid;

use super::headers;
use crate::error::Error;

const GET_DASHBOARD: &str = "/rushes.dashboard.v1.DashboardService/GetDashboard";
const GET_GENERATION: &str = "/rushes.generations.v1.GenerationService/GetGeneration";

/// The kinds of the services' own cache keys, which their changes name.
const DASHBOARD: &str = "dash";
const GENERATION: &str = "gen";

/// All answers that are kept; clones share them.
#[derive(Clone)]
pub(super) struct Answers {
    cache: Cache,
    written: WrittenThrough,
}

impl std::fmt::Debug for Answers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answers").finish_non_exhaustive()
    }
}

/// A question whose answer may be kept.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Question {
    key: Key,
    min_version: Option<i64>,
}

/// How its service is asked, if it must be.
pub(super) struct Asking {
    pub(super) channel: Channel,
    pub(super) head: Parts,
    /// The message with its prefix.
    pub(super) message: Bytes,
    pub(super) identity: HeaderValue,
}

/// What a load gives that leaves no entry.
#[derive(Clone, Debug)]
enum Unkept {
    /// An answer that is nobody else's later on.
    Answer(Bytes),
    /// The headers of a refusal.
    Refused(Arc<HeaderMap>),
    /// The question cannot be sent.
    Failed(Error),
}

impl Question {
    /// What `message` asks of `account`'s data, if its answer may be kept.
    pub(super) fn parse(path: &str, message: &[u8], account: Uuid) -> Option<Self> {
        // A compressed message is as rare as it is small.
        let message = message.get(PREFIX..).filter(|_| message[0] == 0)?;
        match path {
            GET_DASHBOARD => {
                let is_usual = message.is_empty() || GetDashboardRequest::decode(message).ok()? == Default::default();
                is_usual.then(|| Self { key: Key::aggregate(DASHBOARD, account), min_version: None })
            }
            GET_GENERATION => {
                let GetGenerationRequest { name, min_version } = GetGenerationRequest::decode(message).ok()?;
                let id = GenerationId::from_name(&name).ok().filter(|_| min_version >= 0)?;
                let min_version = Some(min_version).filter(|version| *version > 0);
                Some(Self { key: Key::row(GENERATION, account, id), min_version })
            }
            _ => None,
        }
    }
}

impl Answers {
    pub(super) fn new(cache: Cache) -> Self {
        Self { cache, written: WrittenThrough::default() }
    }

    /// Takes note of what a reply with these headers says was written, before it goes on.
    pub(super) async fn note(&self, headers: &HeaderMap) {
        for token in token::read(headers) {
            self.written.note(&token).await;
        }
    }

    /// The answer, from here if it can be.
    pub(super) async fn answer(&self, question: Question, asking: Asking) -> Result<Response<Body>, Error> {
        let Question { key, min_version } = question;
        let tokens = token::read(&asking.head.headers);
        let min_version = min_version.max(cache::required(&tokens, &key)).max(self.written.version(&key).await);
        // That something does not exist no token says: what was answered so is loaded again, with or without a proof.
        if !self.cache.is_proving()
            && let Some(required) = self.cache.token(&key, min_version)
        {
            return self.pass(&key, &asking, &required).await;
        }
        let asking = Arc::new(asking);
        let load = {
            let asking = Arc::clone(&asking);
            move || async move { asking.load().await }
        };
        match self.cache.get(&key, min_version, load).await {
            Ok(hit) if hit.is_absent() && key.kind() == GENERATION => Err(Error::GenerationNotFound),
            // There is no account, or no such version yet: what is told of that is the service's business.
            Ok(hit) if hit.is_absent() || hit.version < min_version.unwrap_or(0) => {
                self.pass(&key, &asking, &Token::default()).await
            }
            Ok(hit) => Ok(encoded::whole(hit.body, &asking.head.headers).await),
            Err(Unkept::Answer(body)) => {
                self.cache.passed_on(&key, None).await;
                Ok(encoded::whole(body, &asking.head.headers).await)
            }
            Err(Unkept::Refused(headers)) if is_outage(&headers) => {
                match self.cache.last_known(&key, min_version).await {
                    Some(hit) if !hit.is_absent() => Ok(encoded::whole(hit.body, &asking.head.headers).await),
                    // Its service may have an older answer, for who takes one.
                    _ => match self.cache.token(&key, min_version) {
                        Some(required) => self.pass(&key, &asking, &required).await,
                        None => Ok(encoded::refused(&headers)),
                    },
                }
            }
            Err(Unkept::Refused(headers)) => Ok(encoded::refused(&headers)),
            Err(Unkept::Failed(error)) => Err(error),
        }
    }

    /// The answer of the service's own tiers, which is passed on as it is.
    async fn pass(&self, key: &Key, asking: &Asking, required: &Token) -> Result<Response<Body>, Error> {
        let mut request = asking.request()?;
        Ask::Answer.write(request.headers_mut());
        if !required.is_empty() {
            token::append(request.headers_mut(), &required.encode());
        }
        let response = asking.send(request).await;
        match encoded::code(response.headers()) {
            // Nothing was said of the key that a later answer could contradict.
            Some(code) if code != Code::Ok && code != Code::NotFound => {}
            _ => self.cache.passed_on(key, remote::version(response.headers()).filter(|version| *version > 0)).await,
        }
        Ok(response)
    }
}

impl Asking {
    async fn load(&self) -> Result<Loaded, Unkept> {
        let mut request = self.request().map_err(Unkept::Failed)?;
        Ask::Load.write(request.headers_mut());
        // It is kept for all, whatever each of them takes.
        encoded::ask_plain(request.headers_mut());
        let (head, body) = self.send(request).await.into_parts();
        let refused = |headers| Unkept::Refused(Arc::new(headers));
        if encoded::code(&head.headers).is_some_and(|code| code != Code::Ok) {
            // That it does not exist is a load like any other.
            return remote::loaded(&head.headers, Bytes::new()).ok_or_else(|| refused(head.headers));
        }
        let body = match body.collect().await {
            Ok(body) => body,
            Err(status) => return Err(refused(status.into_http::<Body>().into_parts().0.headers)),
        };
        if let Some(trailers) = body.trailers()
            && encoded::code(trailers) != Some(Code::Ok)
        {
            return Err(refused(trailers.clone()));
        }
        let body = body.to_bytes();
        remote::loaded(&head.headers, body.clone()).ok_or(Unkept::Answer(body))
    }

    fn request(&self) -> Result<Request<Body>, Error> {
        let mut request = Request::new(Body::new(Full::new(self.message.clone()).map_err(|never| match never {})));
        *request.method_mut() = self.head.method.clone();
        *request.uri_mut() = self.head.uri.clone();
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = headers::upstream(&self.head.headers, self.identity.clone())?;
        request.extensions_mut().insert(ChangesNothing);
        Ok(request)
    }

    async fn send(&self, request: Request<Body>) -> Response<Body> {
        match self.channel.clone().call(request).await {
            Ok(response) => response,
        }
    }
}

/// Whether a refusal with these headers says only that somebody is away.
fn is_outage(headers: &HeaderMap) -> bool {
    matches!(encoded::code(headers), Some(Code::Unavailable | Code::DeadlineExceeded))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNT: Uuid = Uuid::from_u128(7);

    fn framed(message: &impl prost::Message) -> Bytes {
        chassis::frames::framed(&message.encode_to_vec())
    }

    fn generation(name: &str, min_version: i64) -> Option<Question> {
        let message = GetGenerationRequest { name: name.to_owned(), min_version };
        Question::parse(GET_GENERATION, &framed(&message), ACCOUNT)
    }

    #[test]
    fn only_the_usual_questions_are_kept() {
        let dashboard = |page_size| {
            let message = GetDashboardRequest { page_size, ..GetDashboardRequest::default() };
            Question::parse(GET_DASHBOARD, &framed(&message), ACCOUNT)
        };
        let key = Key::aggregate("dash", ACCOUNT);
        assert_eq!(dashboard(0), Some(Question { key, min_version: None }));
        assert_eq!(dashboard(5), None);

        let id = Uuid::now_v7();
        let key = Key::row("gen", ACCOUNT, id);
        assert_eq!(generation(&format!("generations/{id}"), 0), Some(Question { key: key.clone(), min_version: None }));
        assert_eq!(generation(&format!("generations/{id}"), 3), Some(Question { key, min_version: Some(3) }));
        // What its service would refuse, it does.
        assert_eq!(generation(&format!("generations/{id}"), -1), None);
        assert_eq!(generation("generations/none", 0), None);

        let mut compressed = framed(&GetDashboardRequest::default()).to_vec();
        compressed[0] = 1;
        for (path, message) in [
            (GET_DASHBOARD, compressed.as_slice()),
            (GET_DASHBOARD, b""),
            (GET_DASHBOARD, b"\0\0\0\0\x01\xff"),
            ("/rushes.projects.v1.ProjectService/GetProject", b"\0\0\0\0\0"),
        ] {
            assert_eq!(Question::parse(path, message, ACCOUNT), None, "{path} {message:?}");
        }
    }
}
