//! The caches of this service: each account's first dashboard page, and the account of each API key, both as encoded answers.
//!
//! Invariant: an entry is whole and of one snapshot. A dashboard that was read section by section is answered to those who
//! wait for it and then forgotten, and so is an error.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cache::{Asof, Cache, Key, Lifetime, Loaded};
use domain::id::AccountId;
use domain::page::Page;
use prost::Message as _;

use crate::dashboards::Dashboards;
use crate::error::{Error, Noun};
use crate::presenter::{self, Presenter};
use crate::store::Store;

/// How long a known key is kept. Its expiry is in the answer, and its revocation reaches the cache as a change.
const KEY_LIFETIME: Lifetime = Lifetime { l1: Duration::from_secs(30), l2: Duration::from_secs(600) };

/// The result of a load that leaves no entry.
#[derive(Clone, Debug)]
enum Uncached {
    /// An answer whose sections were read one by one.
    Partial(Bytes),
    /// No answer.
    Failed(Error),
}

/// The first part of a dashboard's cache key.
pub(crate) const DASHBOARD_KIND: &str = "dash";

/// An account's first page in the default size.
pub(crate) struct CachedPage {
    /// Encoded.
    pub(crate) body: Bytes,
    /// The version of the body; without meaning unless that is whole.
    pub(crate) version: i64,
    /// Whether it is of one snapshot, with no section missing.
    pub(crate) whole: bool,
}

/// Encoded dashboards, the first page of each through the cache; clones share everything, since each read takes one along for a load that
/// it may need.
#[derive(Clone)]
pub(crate) struct CachedDashboards {
    shared: Arc<Shared>,
}

struct Shared {
    cache: Cache,
    dashboards: Dashboards,
    presenter: Presenter,
}

impl CachedDashboards {
    pub(crate) fn new(cache: Cache, dashboards: Dashboards, presenter: Presenter) -> Self {
        Self { shared: Arc::new(Shared { cache, dashboards, presenter }) }
    }

    /// A page. The first one in the default size comes through the cache.
    pub(crate) async fn read(&self, account: AccountId, page: Page) -> Result<Bytes, Error> {
        match page.is_usual() {
            true => self.read_first(account).await.map(|(body, _)| body),
            false => self.load(account, page).await,
        }
    }

    /// The first page in the default size, with its version if it is whole and fresh: while PostgreSQL cannot be read a stale one is
    /// returned to a caller who takes it.
    pub(crate) async fn read_first(&self, account: AccountId) -> Result<(Bytes, Option<i64>), Error> {
        match self.first_page(account, None).await {
            Err(error) if error.is_outage() => match self.shared.cache.last_known(&key(account), None).await {
                Some(hit) if !hit.is_absent() => Ok((hit.body, None)),
                _ => Err(error),
            },
            page => page.map(|page| (page.body, page.whole.then_some(page.version))),
        }
    }

    /// The first page in the default size, of `min_version` or a later one if there is such a version.
    pub(crate) async fn first_page(&self, account: AccountId, min_version: Option<i64>) -> Result<CachedPage, Error> {
        let this = self.clone();
        match self.shared.cache.get(&key(account), min_version, move || async move { this.fill(account).await }).await {
            Ok(hit) if hit.is_absent() => Err(Error::NotFound(Noun::Account)),
            Ok(hit) => Ok(CachedPage { body: hit.body, version: hit.version, whole: true }),
            Err(Uncached::Partial(body)) => Ok(CachedPage { body, version: 0, whole: false }),
            Err(Uncached::Failed(error)) => Err(error),
        }
    }

    /// The first page in the default size from PostgreSQL, for a process that caches it without having one. Nothing of a page of several
    /// snapshots is to be kept; it is its body alone.
    pub(crate) async fn load_first(&self, account: AccountId) -> Result<Result<Loaded, Bytes>, Error> {
        match self.fill(account).await {
            Ok(loaded) => Ok(Ok(loaded)),
            Err(Uncached::Partial(body)) => Ok(Err(body)),
            Err(Uncached::Failed(error)) => Err(error),
        }
    }

    /// Another page, which is not cached.
    async fn load(&self, account: AccountId, page: Page) -> Result<Bytes, Error> {
        let contents = self.shared.dashboards.read(account, page).await?;
        if contents.is_of_nobody() {
            return Err(Error::NotFound(Noun::Account));
        }
        Ok(self.shared.presenter.dashboard(account, contents))
    }

    /// Tells the cache, after a commit and before the reply, that this process changed something in an account's dashboard.
    pub(crate) async fn wrote(&self, account: AccountId) {
        self.shared.cache.touched(&key(account)).await;
    }

    async fn fill(&self, account: AccountId) -> Result<Loaded, Uncached> {
        let contents = self.shared.dashboards.read(account, Page::FIRST).await.map_err(Uncached::Failed)?;
        let (snapshot, nobody, settled) = (contents.snapshot, contents.is_of_nobody(), contents.is_settled());
        let body = self.shared.presenter.dashboard(account, contents);
        let Some(snapshot) = snapshot else { return Err(Uncached::Partial(body)) };
        let asof = Asof { epoch: snapshot.epoch, seq: snapshot.seq };
        if nobody {
            return Ok(Loaded { version: 0, asof, body: Bytes::new(), lifetime: Lifetime::ABSENT });
        }
        let lifetime = if settled { Lifetime::TERMINAL } else { Lifetime::IN_PROGRESS };
        Ok(Loaded { version: snapshot.version, asof, body, lifetime })
    }
}

fn key(account: AccountId) -> Key {
    Key::aggregate(DASHBOARD_KIND, account.0)
}

/// Encoded API keys by their hash, through the cache; that nobody has a key is cached too.
#[derive(Clone)]
pub(crate) struct CachedKeys {
    cache: Cache,
    store: Store,
}

impl CachedKeys {
    pub(crate) fn new(cache: Cache, store: Store) -> Self {
        Self { cache, store }
    }

    /// The encoded key with this hash, ended or not.
    pub(crate) async fn read(&self, sha256: [u8; 32]) -> Result<Bytes, Error> {
        let store = self.store.clone();
        let load = move || async move {
            let (asof, found) = store.api_key(sha256).await?;
            Ok::<_, Error>(match found {
                None => Loaded { version: 0, asof, body: Bytes::new(), lifetime: Lifetime::ABSENT },
                Some(key) => {
                    let version = key.key.version;
                    let body = presenter::key_with_account_to_proto(key).encode_to_vec().into();
                    Loaded { version, asof, body, lifetime: KEY_LIFETIME }
                }
            })
        };
        let hit = self.cache.get(&Key::global("key", hex::encode(sha256)), None, load).await?;
        if hit.is_absent() { Err(Error::NotFound(Noun::ApiKey)) } else { Ok(hit.body) }
    }

    /// Tells the cache, after a commit and before the reply, that this process changed a key.
    pub(crate) async fn wrote(&self, sha256: &[u8], version: i64) {
        self.cache.wrote(&Key::global("key", hex::encode(sha256)), version).await;
    }
}
