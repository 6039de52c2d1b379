//! The cache of generations: encoded messages by account and id, and the stream of changes that feeds the watches.
//!
//! Invariant: a body is made of one row in one snapshot, so the row's version determines it.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use cache::{Asof, Cache, Changes, Key, Lifetime, Loaded};
use domain::generation::State;
use domain::id::{AccountId, GenerationId};

use crate::error::{Error, Noun};
use crate::model::Generation;
use crate::presenter::Presenter;
use crate::store::Store;

/// The kind in a generation's cache key.
pub(crate) const KEY_KIND: &str = "gen";

/// Encoded generations; clones share everything, since each read takes one along for a load that it may need.
#[derive(Clone)]
pub(crate) struct CachedGenerations {
    shared: Arc<Shared>,
}

struct Shared {
    cache: Cache,
    store: Store,
    presenter: Presenter,
}

impl CachedGenerations {
    pub(crate) fn new(cache: Cache, store: Store, presenter: Presenter) -> Self {
        Self { shared: Arc::new(Shared { cache, store, presenter }) }
    }

    /// The encoded generation, of version `min_version` or later.
    pub(crate) async fn get(&self, account: AccountId, id: GenerationId, min_version: i64) -> Result<Bytes, Error> {
        self.read(account, id, min_version).await.map(|(body, _)| body)
    }

    /// The same with its version, if it is fresh.
    pub(crate) async fn read(
        &self,
        account: AccountId,
        id: GenerationId,
        min_version: i64,
    ) -> Result<(Bytes, Option<i64>), Error> {
        let load = {
            let this = self.clone();
            move || async move { this.load_one(account, id).await }
        };
        let wanted = Some(min_version).filter(|version| *version > 0);
        let (hit, fresh) = match self.shared.cache.get(&key(account, id), wanted, load).await {
            Err(error) if error.is_outage() => {
                (self.shared.cache.last_known(&key(account, id), wanted).await.ok_or(error)?, false)
            }
            read => (read?, true),
        };
        if hit.is_absent() {
            return Err(Error::NotFound(Noun::Generation));
        }
        if hit.version < min_version {
            return Err(Error::VersionAhead { asked: min_version, newest: hit.version });
        }
        Ok((hit.body, fresh.then_some(hit.version)))
    }

    /// One generation from PostgreSQL, past all caches, for a process that caches it without having one. What may be shown with another
    /// reason to wait than its version has is answered there and not kept.
    pub(crate) async fn load_elsewhere(&self, account: AccountId, id: GenerationId) -> Result<Loaded, Error> {
        let loaded = self.shared.store.load(account, &[id]).await?;
        let asof = Asof { epoch: loaded.epoch, seq: loaded.seq };
        let found = loaded.generations.first();
        let value = self.value(asof, found);
        let is_queued = found.is_some_and(|generation| generation.state == State::Queued);
        Ok(Loaded { lifetime: if is_queued { Lifetime::NONE } else { value.lifetime }, ..value })
    }

    async fn load_one(&self, account: AccountId, id: GenerationId) -> Result<Loaded, Error> {
        self.load(account, &[id]).await.map(|mut loaded| loaded.remove(0))
    }

    /// The encoded generations in the order asked for. One statement loads all that no tier holds.
    pub(crate) async fn batch(&self, account: AccountId, ids: &[GenerationId]) -> Result<Vec<Bytes>, Error> {
        let wanted: Vec<_> = ids.iter().map(|id| (key(account, *id), None)).collect();
        let load = {
            let (this, ids) = (self.clone(), Arc::<[GenerationId]>::from(ids));
            move |missed: Vec<usize>| {
                let (this, ids) = (this.clone(), Arc::clone(&ids));
                async move {
                    let missed: Vec<_> = missed.into_iter().map(|index| ids[index]).collect();
                    this.load(account, &missed).await
                }
            }
        };
        let hits = match self.shared.cache.get_many(&wanted, load).await {
            Err(error) if error.is_outage() => {
                let mut known = Vec::with_capacity(wanted.len());
                for (key, version) in &wanted {
                    known.push(self.shared.cache.last_known(key, *version).await.ok_or_else(|| error.clone())?);
                }
                known
            }
            read => read?,
        };
        hits.into_iter()
            .map(|hit| if hit.is_absent() { Err(Error::NotFound(Noun::Generation)) } else { Ok(hit.body) })
            .collect()
    }

    /// A value for each id, in that order.
    async fn load(&self, account: AccountId, ids: &[GenerationId]) -> Result<Vec<Loaded>, Error> {
        let loaded = self.shared.store.load(account, ids).await?;
        let asof = Asof { epoch: loaded.epoch, seq: loaded.seq };
        let found: HashMap<_, _> = loaded.generations.iter().map(|generation| (generation.id, generation)).collect();
        Ok(ids.iter().map(|id| self.value(asof, found.get(id).copied())).collect())
    }

    fn value(&self, asof: Asof, generation: Option<&Generation>) -> Loaded {
        match generation {
            Some(generation) => Loaded {
                version: generation.version,
                asof,
                body: self.shared.presenter.encoded(generation),
                lifetime: if generation.state.is_terminal() { Lifetime::TERMINAL } else { Lifetime::IN_PROGRESS },
            },
            None => Loaded { version: 0, asof, body: Bytes::new(), lifetime: Lifetime::ABSENT },
        }
    }

    /// Tells every cache that this process committed a change of a generation, and so of its account's dashboard.
    pub(crate) async fn wrote(&self, generation: &Generation) {
        let Generation { account, id, version, .. } = *generation;
        self.shared.cache.wrote_part(&key(account, id), version, &dashboard(account)).await;
    }

    /// The same of one that this process deleted, whose tombstone has this version.
    pub(crate) async fn deleted(&self, account: AccountId, id: GenerationId, version: i64) {
        self.shared.cache.wrote_part(&key(account, id), version, &dashboard(account)).await;
    }

    /// Tells every cache that the account's dashboard changed.
    pub(crate) async fn invalidate_dashboard(&self, account: AccountId) {
        self.shared.cache.touched(&dashboard(account)).await;
    }

    /// The changes that this process and others committed.
    pub(crate) fn changes(&self) -> Changes {
        self.shared.cache.changes()
    }

    /// Ends the cache's own tasks.
    pub(crate) async fn close(&self) {
        self.shared.cache.close().await;
    }
}

fn dashboard(account: AccountId) -> Key {
    Key::aggregate("dash", account.0)
}

fn key(account: AccountId, id: GenerationId) -> Key {
    Key::row(KEY_KIND, account.0, id)
}
