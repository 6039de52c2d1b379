//! The API key of a call. Only a key's SHA-256 leaves `credential`, and dashboard knows the account of each hash.
//!
//! Invariant: a key that was revoked, or whose account was suspended, is refused once the lifetime of an answer (1 s) has passed, whether or not a message of
//! the change arrived, except while dashboard cannot be asked or is too busy: then the last answer holds, for at most 30 s. And no
//! number of invented keys keeps a known one from being looked up. Answers kept here
//! never go into Redis: dashboard may have answered from its own cache, and only a load from the database may be shared.

mod credential;
mod invalidation;
mod key;
mod known;
mod watched;

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use cache::Cache;
use chassis::{
    client::Channel,
    request::{deadline, in_current_trace},
    server::ByAddress,
    status::Failure,
};
use http::HeaderMap;
use proto::accounts::v1::{AuthenticateApiKeyRequest, account_service_client::AccountServiceClient};
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::task::AbortOnDropHandle;
use tonic::Code;

use self::known::{Hash, KnownKeys};
use self::watched::WatchedKeys;
use crate::error::{Error, Refusal};
use crate::{events, metrics};

pub(crate) use self::key::Key;

/// How many keys may be looked up at once of which no answer is known: a flood of invented keys must not become a flood of calls
/// to dashboard.
const MAX_NEW_LOOKUPS: usize = 64;
/// How many of them are from one address.
const MAX_NEW_LOOKUPS_PER_ADDRESS: usize = 16;
/// How long such a key waits for its turn.
const LOOKUP_WAIT: Duration = Duration::from_millis(500);
/// How many keys of which an answer is known may be looked up again at once. They have places of their own, which invented keys
/// cannot take.
const MAX_KNOWN_LOOKUPS: usize = 256;
/// How long a lookup may take. It is its own time and not that of the call that began it, since others wait for it too.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Authenticates calls; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    accounts: AccountServiceClient<Channel>,
    known: KnownKeys,
    watched: WatchedKeys,
    new_lookups: ByAddress,
    known_lookups: Arc<Semaphore>,
    invalidation: Option<Arc<AbortOnDropHandle<()>>>,
}

impl Keys {
    pub(crate) fn new(dashboard: Channel, lifetime: Duration) -> Self {
        Self {
            accounts: AccountServiceClient::new(dashboard),
            known: KnownKeys::new(lifetime),
            watched: WatchedKeys::default(),
            new_lookups: ByAddress::new("key_lookup", MAX_NEW_LOOKUPS, MAX_NEW_LOOKUPS_PER_ADDRESS),
            known_lookups: Arc::new(Semaphore::new(MAX_KNOWN_LOOKUPS)),
            invalidation: None,
        }
    }

    /// Forgets a key as soon as `cache` hears of its change, until the last clone is dropped.
    pub(crate) fn invalidate_on_change(&mut self, cache: Cache) {
        self.invalidation = Some(Arc::new(invalidation::spawn(cache, self.known.clone())));
    }

    /// The key in the headers of a request from `address`, if it is one that may be used now.
    pub(crate) async fn authenticate(&self, headers: &HeaderMap, address: IpAddr) -> Result<Arc<Key>, Error> {
        let key = self.find(headers, address).await.inspect_err(|error| {
            if let Error::KeyRefused(refusal) = error {
                events::authentication_refused(*refusal, None, address);
            }
        })?;
        key.check_usable(SystemTime::now(), address).map_err(|refusal| {
            events::authentication_refused(refusal, Some(key.name()), address);
            Error::KeyRefused(refusal)
        })?;
        Ok(key)
    }

    /// Ends when the key of `headers`, which was good, is one that may no longer be used: it was revoked, has expired, or was bound to other
    /// networks, or its account was suspended. While dashboard cannot be asked, the last answer holds, as for calls.
    pub(crate) fn refused(
        &self,
        headers: &HeaderMap,
        address: IpAddr,
    ) -> impl Future<Output = Refusal> + Send + 'static {
        let refused = credential::parse(headers).map(|hash| {
            let keys = self.clone();
            self.watched.refused((hash, address), move |(hash, address)| {
                let keys = keys.clone();
                async move {
                    match keys.find_by(hash, address).await {
                        Ok(key) => key.check_usable(SystemTime::now(), address).err(),
                        Err(Error::KeyRefused(refusal)) => Some(refusal),
                        // Nobody knows better than the last answer.
                        Err(_) => None,
                    }
                }
            })
        });
        async move {
            match refused {
                Ok(refused) => refused.await,
                Err(refusal) => refusal,
            }
        }
    }

    async fn find(&self, headers: &HeaderMap, address: IpAddr) -> Result<Arc<Key>, Error> {
        self.find_by(credential::parse(headers).map_err(Error::KeyRefused)?, address).await
    }

    async fn find_by(&self, hash: Hash, address: IpAddr) -> Result<Arc<Key>, Error> {
        if let Some(key) = self.known.fresh(&hash).await {
            metrics::KEY_LOOKUPS.with(["memory"]).increment(1);
            return Ok(key);
        }
        if self.known.is_unknown(&hash).await {
            metrics::KEY_LOOKUPS.with(["unknown"]).increment(1);
            return Err(Error::KeyRefused(Refusal::Unknown));
        }
        let mut asked = false;
        let key = self.known.get_or_look_up(hash, async {
            asked = true;
            let (keys, until) = (self.clone(), Instant::now() + LOOKUP_TIMEOUT);
            let lookup = deadline::within(until, async move { keys.look_up(hash, address).await });
            // A task outside of this call's request, so that its deadline does not become that of all who wait.
            tokio::spawn(in_current_trace(lookup)).await.unwrap_or_else(|error| Err(Failure::internal(error).into()))
        });
        let key = key.await;
        metrics::KEY_LOOKUPS.with([if asked { "dashboard" } else { "memory" }]).increment(1);
        key
    }

    /// Asks dashboard for the key with this hash; while it cannot be asked, the last answer holds.
    async fn look_up(&self, hash: Hash, address: IpAddr) -> Result<Arc<Key>, Error> {
        let last = self.known.last(&hash).await;
        let (_known, _new);
        match &last {
            Some(last) => match self.known_lookups.try_acquire() {
                Ok(permit) => _known = permit,
                Err(_) => return Ok(Arc::clone(last)),
            },
            None => match self.new_lookups.take_within(address, LOOKUP_WAIT).await {
                Ok(place) => _new = place,
                Err(_) => return Err(Error::LookupsExhausted),
            },
        }
        let request = AuthenticateApiKeyRequest { key_sha256: hash.to_vec() };
        let status = match self.accounts.clone().authenticate_api_key(request).await {
            Ok(reply) => {
                let key = Arc::new(Key::parse(reply.into_inner())?);
                self.known.record(hash, Arc::clone(&key)).await;
                return Ok(key);
            }
            Err(status) => status,
        };
        if status.code() == Code::NotFound {
            self.known.record_unknown(hash).await;
            return Err(Error::KeyRefused(Refusal::Unknown));
        }
        let failure = Failure::upstream(status);
        match failure.code() {
            // A dashboard that is full cannot be asked either.
            Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted => last.ok_or(failure.into()),
            _ => Err(failure.into()),
        }
    }
}
