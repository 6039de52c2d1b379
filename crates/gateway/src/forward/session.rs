//! The tokens of a session's own writes, kept for clients that name a session and keep no tokens themselves.
//!
//! Invariant: a session is one account's, and every call of it which begins after another's reply carries what that reply told.
//! It is this process's alone: a client whose calls go through several gateways sends the token itself.

use std::sync::Arc;

use chassis::{status::Failure, token};
use http::{HeaderMap, HeaderValue};
use moka::future::Cache;
use uuid::Uuid;

/// The metadata that names a session.
pub(crate) const HEADER: &str = "rushes-session";

/// The longest name.
const LONGEST: usize = 64;
/// The most sessions with a fresh write.
const SESSIONS: u64 = 100_000;

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
        Self(Cache::builder().max_capacity(SESSIONS).time_to_live(token::USEFUL).build())
    }

    /// The session that these headers name, after its tokens were added to them.
    pub(super) async fn enter(&self, headers: &mut HeaderMap, account: Uuid) -> Result<Option<Session>, Failure> {
        let Some(name) = headers.remove(HEADER) else { return Ok(None) };
        if name.is_empty() || name.len() > LONGEST {
            let should = format!("must be a name of 1 to {LONGEST} characters that the client made up");
            return Err(Failure::invalid(HEADER, "SESSION_INVALID", should));
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
    /// Keeps what a reply tells: it demands all that its call carried, and takes that's place beside what others were told.
    pub(super) async fn leave(self, reply: &HeaderMap) {
        let Some(told) = reply.get(token::HEADER) else { return };
        let place = self.sessions.0.entry(self.name);
        let kept = place.and_upsert_with(|kept| {
            let others = kept.map(moka::Entry::into_value).unwrap_or_default();
            let others = others.iter().filter(|token| !self.carried.contains(token));
            std::future::ready(std::iter::once(told).chain(others).take(token::MOST).cloned().collect())
        });
        kept.await;
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
        sessions.enter(&mut headers, Uuid::from_u128(account)).await.unwrap();
        assert!(!headers.contains_key(HEADER), "its name stays here");
        headers.get_all(token::HEADER).iter().map(|token| token.to_str().unwrap().to_owned()).collect()
    }

    #[tokio::test]
    async fn a_session_carries_what_its_replies_told_and_no_other_does() {
        let sessions = Sessions::new();
        let enter = async || sessions.enter(&mut named("a"), Uuid::from_u128(1)).await.unwrap().unwrap();
        let (one, other) = (enter().await, enter().await);
        one.leave(&reply("one")).await;
        other.leave(&reply("other")).await;
        assert_eq!(carried(&sessions, "a", 1).await, ["other", "one"], "two calls at once lose nothing of each other");
        enter().await.leave(&HeaderMap::new()).await;
        enter().await.leave(&reply("both")).await;
        assert_eq!(carried(&sessions, "a", 1).await, ["both"]);
        assert!(carried(&sessions, "b", 1).await.is_empty() && carried(&sessions, "a", 2).await.is_empty());
    }

    #[tokio::test]
    async fn a_name_is_short_and_not_empty() {
        let sessions = Sessions::new();
        for wrong in ["", &"x".repeat(65)] {
            assert!(sessions.enter(&mut named(wrong), Uuid::nil()).await.is_err());
        }
        assert!(sessions.enter(&mut HeaderMap::new(), Uuid::nil()).await.unwrap().is_none());
    }
}
