//! Whose key a request shows. A key is a secret of 256 random bits; only its SHA-256 leaves this file, and dashboard says
//! whose it is.
//!
//! Invariant: a key that was revoked opens nothing once the lifetime of an answer (1 s) has passed, whether or not the
//! change was heard of, except while dashboard cannot be asked: then the last answer holds, for at most 30 s. What is
//! kept here never goes into Redis: dashboard may have answered from its own cache, and only a load from the database
//! may be shared.

mod heard;
mod key;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use cache::Cache;
use chassis::{client::Channel, status::Failure};
use http::{HeaderMap, header::AUTHORIZATION};
use proto::accounts::v1::{AuthenticateApiKeyRequest, account_service_client::AccountServiceClient};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;
use tonic::Code;

pub(crate) use key::Key;

/// How long the last answer holds while dashboard cannot be asked.
const GRACE: Duration = Duration::from_secs(30);

/// How long it is remembered that nobody has a key.
const UNKNOWN: Duration = Duration::from_secs(10);

/// How many answers of each sort are kept.
const MOST: u64 = 100_000;

/// How many keys may be asked about at a time.
const ASKING: usize = 64;

type Hash = [u8; 32];

/// Who has which key; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    accounts: AccountServiceClient<Channel>,
    known: Known,
    asking: Arc<Semaphore>,
    listening: Option<Arc<AbortOnDropHandle<()>>>,
}

/// What dashboard has answered lately.
#[derive(Clone, Debug)]
struct Known {
    /// Answers to act on without asking; joins those who ask about the same key.
    fresh: moka::future::Cache<Hash, Arc<Key>>,
    /// The last answers, for when there are no new ones.
    last: moka::future::Cache<Hash, Arc<Key>>,
    /// Keys that nobody has, apart from the others so that a flood of them pushes none of those out.
    refused: moka::future::Cache<Hash, Failure>,
}

impl Known {
    fn new(lifetime: Duration) -> Self {
        let cache = |lifetime| moka::future::Cache::builder().max_capacity(MOST).time_to_live(lifetime).build();
        Self {
            fresh: cache(lifetime),
            last: cache(GRACE.max(lifetime)),
            refused: moka::future::Cache::builder().max_capacity(MOST).time_to_live(UNKNOWN).build(),
        }
    }

    async fn forget(&self, hash: &Hash) {
        self.fresh.invalidate(hash).await;
        self.last.invalidate(hash).await;
        self.refused.invalidate(hash).await;
    }
}

impl Keys {
    pub(crate) fn new(dashboard: Channel, lifetime: Duration) -> Self {
        Self {
            accounts: AccountServiceClient::new(dashboard),
            known: Known::new(lifetime),
            asking: Arc::new(Semaphore::new(ASKING)),
            listening: None,
        }
    }

    /// Forgets keys as soon as their changes are heard of over NATS, until the last clone is gone.
    ///
    /// # Errors
    /// When the cache that listens cannot start.
    pub(crate) fn listen(&mut self, settings: cache::Settings, nats: async_nats::Client) -> Result<(), cache::Error> {
        let settings = cache::Settings { redis_url: None, relay: false, ..settings };
        let cache = Cache::start(settings, None, Some(nats))?;
        self.listening = Some(Arc::new(heard::forget(cache, self.known.clone())));
        Ok(())
    }

    /// The key in the headers of a request.
    pub(crate) async fn authenticate(&self, headers: &HeaderMap) -> Result<Arc<Key>, Failure> {
        let hash = shown(headers)?;
        if let Some(failure) = self.known.refused.get(&hash).await {
            count("refused");
            return Err(failure);
        }
        let mut asked = false;
        let key = self.known.fresh.try_get_with(hash, async {
            asked = true;
            self.ask(hash).await
        });
        let key = key.await.map_err(|failure| Failure::clone(&failure));
        count(if asked { "asked" } else { "cached" });
        let key = key?;
        key.alive(SystemTime::now())?;
        Ok(key)
    }

    async fn ask(&self, hash: Hash) -> Result<Arc<Key>, Failure> {
        let Ok(_permit) = self.asking.try_acquire() else {
            let message = "too many keys are being looked up";
            return Err(Failure::exhausted("OVERLOADED", message, Duration::from_millis(250)));
        };
        let request = AuthenticateApiKeyRequest { key_sha256: hash.to_vec() };
        let failure = match self.accounts.clone().authenticate_api_key(request).await {
            Ok(reply) => {
                let key = Arc::new(Key::read(reply.into_inner())?);
                self.known.last.insert(hash, key.clone()).await;
                return Ok(key);
            }
            Err(status) if status.code() == Code::NotFound => unknown("nobody has this API key"),
            Err(status) => Failure::upstream(status),
        };
        match failure.code() {
            Code::Unauthenticated => {
                self.known.last.invalidate(&hash).await;
                self.known.refused.insert(hash, failure.clone()).await;
                Err(failure)
            }
            Code::Unavailable | Code::DeadlineExceeded => self.known.last.get(&hash).await.ok_or(failure),
            _ => Err(failure),
        }
    }
}

/// The hash of the key that the headers show, in `authorization: Bearer …` or `x-api-key`.
fn shown(headers: &HeaderMap) -> Result<Hash, Failure> {
    let bearer = |text: &str| {
        let (scheme, key) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim().to_owned())
    };
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let key = match (headers.get(AUTHORIZATION), text("x-api-key")) {
        (Some(_), _) => text(AUTHORIZATION.as_str()).and_then(bearer),
        (None, key) => key.map(str::to_owned),
    };
    let Some(key) = key else {
        return Err(unknown("send an API key as `authorization: Bearer rsk_…`"));
    };
    // Anything else cannot be a key of ours, and need not be asked about.
    let random = key.strip_prefix("rsk_").and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    if random.is_none_or(|bytes| bytes.len() != 32) {
        return Err(unknown("this is not an API key; one is rsk_ and 43 characters"));
    }
    Ok(Sha256::digest(key.as_bytes()).into())
}

fn unknown(message: &str) -> Failure {
    Failure::unauthenticated("KEY_UNKNOWN", message)
}

fn count(how: &'static str) {
    metrics::counter!("rushes_gateway_keys_total", "how" => how).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "rsk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    fn check(headers: &[(&'static str, &str)], good: bool) {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        let headers: HeaderMap = headers.collect();
        match shown(&headers) {
            Ok(hash) => assert!(good && hash == <Hash>::from(Sha256::digest(KEY)), "{headers:?}"),
            Err(failure) => assert!(!good && failure.reason() == "KEY_UNKNOWN", "{headers:?}"),
        }
    }

    #[test]
    fn a_key_is_read_from_either_header_and_only_in_its_form() {
        check(&[("authorization", &format!("Bearer {KEY}"))], true);
        check(&[("authorization", &format!("bearer {KEY}"))], true);
        check(&[("x-api-key", KEY)], true);
        check(&[], false);
        check(&[("authorization", KEY)], false);
        check(&[("authorization", &format!("Basic {KEY}"))], false);
        check(&[("authorization", "Bearer rsk_short"), ("x-api-key", KEY)], false);
        check(&[("x-api-key", &KEY[4..])], false);
        check(&[("x-api-key", &format!("{KEY}A"))], false);
        check(&[("x-api-key", &KEY.replace('A', "!"))], false);
    }
}
