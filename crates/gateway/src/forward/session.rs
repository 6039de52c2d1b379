//! The tokens of a session's own writes, kept for clients that name a session and keep no tokens themselves.
//!
//! Invariant: a session is one account's, and every call of it that begins after another's reply carries the token of that
//! reply. It is in this process alone: a client whose calls go through several gateways sends the token itself.

use std::sync::Arc;

use chassis::request::token;
use http::{HeaderMap, HeaderValue};
use moka::future::Cache;
use uuid::Uuid;

use crate::error::Error;

/// The metadata that names a session.
pub(crate) const HEADER: &str = "rushes-session";

/// The longest name.
const MAX_NAME: usize = 64;
/// How many sessions with a fresh write are kept.
const MAX_SESSIONS: u64 = 100_000;

type Name = (Uuid, Arc<[u8]>);

/// All sessions; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Sessions(Cache<Name, Arc<[HeaderValue]>>);

/// One call's session, with the tokens that the call carries.
pub(super) struct Session {
    sessions: Sessions,
    name: Name,
    carried: Arc<[HeaderValue]>,
}

impl Sessions {
    pub(super) fn new() -> Self {
        Self(Cache::builder().max_capacity(MAX_SESSIONS).time_to_live(token::LIFETIME).build())
    }

    /// The session that these headers name; its tokens are added to them.
    pub(super) async fn attach(&self, headers: &mut HeaderMap, account: Uuid) -> Result<Option<Session>, Error> {
        let Some(name) = headers.remove(HEADER) else { return Ok(None) };
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(Error::SessionInvalid { header: HEADER, max: MAX_NAME });
        }
        let name = (account, Arc::from(name.as_bytes()));
        let carried = self.0.get(&name).await.unwrap_or_default();
        for token in &*carried {
            headers.append(token::HEADER, token.clone());
        }
        Ok(Some(Session { sessions: self.clone(), name, carried }))
    }
}

impl Session {
    /// Keeps the token of a reply. It contains the tokens that the call carried, so it replaces those; the tokens of calls
    /// that ran at the same time stay beside it.
    pub(super) async fn record(self, reply: &HeaderMap) {
        let Some(new) = reply.get(token::HEADER) else { return };
        let entry = self.sessions.0.entry(self.name);
        let upsert = entry.and_upsert_with(|kept| {
            let others = kept.map(moka::Entry::into_value).unwrap_or_default();
            let others = others.iter().filter(|token| !self.carried.contains(token));
            std::future::ready(std::iter::once(new).chain(others).take(token::MAX_PER_REQUEST).cloned().collect())
        });
        upsert.await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> HeaderMap {
        HeaderMap::from_iter([(http::HeaderName::from_static(HEADER), HeaderValue::from_str(name).unwrap())])
    }

    fn reply(token: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(http::HeaderName::from_static(token::HEADER), HeaderValue::from_static(token))])
    }

    async fn carried(sessions: &Sessions, name: &str, account: u128) -> Vec<String> {
        let mut headers = named(name);
        sessions.attach(&mut headers, Uuid::from_u128(account)).await.unwrap();
        assert!(!headers.contains_key(HEADER), "the name stays at the gateway");
        headers.get_all(token::HEADER).iter().map(|token| token.to_str().unwrap().to_owned()).collect()
    }

    #[tokio::test]
    async fn a_session_carries_the_tokens_of_its_own_replies() {
        let sessions = Sessions::new();
        let attach = async || sessions.attach(&mut named("a"), Uuid::from_u128(1)).await.unwrap().unwrap();
        let (one, other) = (attach().await, attach().await);
        one.record(&reply("one")).await;
        other.record(&reply("other")).await;
        assert_eq!(
            carried(&sessions, "a", 1).await,
            ["other", "one"],
            "concurrent calls do not lose each other's token"
        );
        attach().await.record(&HeaderMap::new()).await;
        attach().await.record(&reply("both")).await;
        assert_eq!(carried(&sessions, "a", 1).await, ["both"]);
        assert!(carried(&sessions, "b", 1).await.is_empty() && carried(&sessions, "a", 2).await.is_empty());
    }

    #[tokio::test]
    async fn a_session_name_is_short_and_not_empty() {
        let sessions = Sessions::new();
        for wrong in ["", &"x".repeat(65)] {
            assert!(sessions.attach(&mut named(wrong), Uuid::nil()).await.is_err());
        }
        assert!(sessions.attach(&mut HeaderMap::new(), Uuid::nil()).await.unwrap().is_none());
    }
}
