//! What this service caches: each account's first dashboard page, and whose an API key is, both as encoded answers.
//!
//! Invariant: what is kept is whole and of one snapshot. A dashboard that was read section by section is answered to those who
//! wait for it and then forgotten, and so is an error.

use std::time::Duration;

use bytes::Bytes;
use cache::{Asof, Cache, Key, Lifetime, Loaded};
use domain::id::AccountId;
use domain::page;
use prost::Message as _;

use crate::dashboards::Dashboards;
use crate::error::{Error, Noun};
use crate::fields::Page;
use crate::store::Store;
use crate::wire::{self, Face};

/// The page that is cached: the first one, in its usual size.
const USUAL: Page = Page { size: page::DEFAULT_SIZE as i64, after: None };

/// A known key's stay. Its end by time is in the answer, and a revocation reaches the cache as an event.
const KEY: Lifetime = Lifetime { l1: Duration::from_secs(30), l2: Duration::from_secs(600) };

/// What ends a load without an entry.
#[derive(Clone, Debug)]
enum Unkept {
    /// An answer whose sections were read one by one.
    Apart(Bytes),
    /// No answer.
    Failed(Error),
}

/// The kind of a dashboard's key.
pub(crate) const DASH: &str = "dash";

/// An account's first page in its usual size.
pub(crate) struct Shown {
    /// Encoded.
    pub(crate) body: Bytes,
    /// That of the body; of no meaning where that is not whole.
    pub(crate) version: i64,
    /// Whether it is of one snapshot, with no section missing.
    pub(crate) whole: bool,
}

/// Encoded dashboards, the first page of each through the cache.
#[derive(Clone)]
pub(crate) struct Dashes {
    cache: Cache,
    dashboards: Dashboards,
    face: Face,
}

impl Dashes {
    pub(crate) fn new(cache: Cache, dashboards: Dashboards, face: Face) -> Self {
        Self { cache, dashboards, face }
    }

    /// The first page in its usual size; a stale one, for a caller who takes that, when there is no other.
    pub(crate) async fn read(&self, account: AccountId) -> Result<Bytes, Error> {
        match self.show(account, None).await {
            Err(error) if error.is_outage() => match self.cache.last_known(&key(account), None).await {
                Some(hit) if !hit.is_absent() => Ok(hit.body),
                _ => Err(error),
            },
            shown => shown.map(|shown| shown.body),
        }
    }

    /// The first page in its usual size, of version `least` or a later one if there is such a version.
    pub(crate) async fn show(&self, account: AccountId, least: Option<i64>) -> Result<Shown, Error> {
        let this = self.clone();
        match self.cache.get(&key(account), least, move || async move { this.fill(account).await }).await {
            Ok(hit) if hit.is_absent() => Err(Error::Missing(Noun::Account)),
            Ok(hit) => Ok(Shown { body: hit.body, version: hit.version, whole: true }),
            Err(Unkept::Apart(body)) => Ok(Shown { body, version: 0, whole: false }),
            Err(Unkept::Failed(error)) => Err(error),
        }
    }

    /// Another page, which is not kept.
    pub(crate) async fn load(&self, account: AccountId, page: Page) -> Result<Bytes, Error> {
        let contents = self.dashboards.read(account, page).await?;
        if contents.is_of_nobody() {
            return Err(Error::Missing(Noun::Account));
        }
        Ok(self.face.dashboard(account, contents))
    }

    /// Tells the cache, after a commit and before the reply, that this process changed something in an account's dashboard.
    pub(crate) async fn wrote(&self, account: AccountId) {
        self.cache.touched(&key(account)).await;
    }

    async fn fill(&self, account: AccountId) -> Result<Loaded, Unkept> {
        let contents = self.dashboards.read(account, USUAL).await.map_err(Unkept::Failed)?;
        let (snapshot, nobody, settled) = (contents.snapshot, contents.is_of_nobody(), contents.is_settled());
        let encoded = self.face.dashboard(account, contents);
        let Some(snapshot) = snapshot else { return Err(Unkept::Apart(encoded)) };
        let asof = Asof { epoch: snapshot.epoch, seq: snapshot.seq };
        if nobody {
            return Ok(Loaded { version: 0, asof, body: Bytes::new(), lifetime: Lifetime::ABSENT });
        }
        let lifetime = if settled { Lifetime::TERMINAL } else { Lifetime::IN_PROGRESS };
        Ok(Loaded { version: snapshot.version, asof, body: encoded, lifetime })
    }
}

fn key(account: AccountId) -> Key {
    Key::aggregate(DASH, account.0)
}

/// Encoded API keys by their hash, through the cache; that nobody has a key is remembered too.
#[derive(Clone)]
pub(crate) struct Keys {
    cache: Cache,
    store: Store,
}

impl Keys {
    pub(crate) fn new(cache: Cache, store: Store) -> Self {
        Self { cache, store }
    }

    /// What is known of the key with this hash.
    pub(crate) async fn read(&self, sha256: [u8; 32]) -> Result<Bytes, Error> {
        let store = self.store.clone();
        let load = move || async move {
            let (asof, found) = store.api_key(sha256).await?;
            Ok::<_, Error>(match found {
                None => Loaded { version: 0, asof, body: Bytes::new(), lifetime: Lifetime::ABSENT },
                Some(key) => {
                    let version = key.version;
                    Loaded { version, asof, body: wire::api_key(key).encode_to_vec().into(), lifetime: KEY }
                }
            })
        };
        let hit = self.cache.get(&Key::global("key", hex::encode(sha256)), None, load).await?;
        if hit.is_absent() { Err(Error::Missing(Noun::ApiKey)) } else { Ok(hit.body) }
    }

    /// Tells the cache, after a commit and before the reply, that this process changed a key.
    pub(crate) async fn wrote(&self, sha256: &[u8], version: i64) {
        self.cache.wrote(&Key::global("key", hex::encode(sha256)), version).await;
    }
}
