//! The cached generations: encoded messages by account and id, and the news of changes that feeds the watches.
//!
//! Invariant: a body is made of one row in one snapshot, so the row's version determines it.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use cache::{Asof, Cache, Changes, Key, Lifetime, Loaded};
use domain::id::{AccountId, GenerationId};
use prost::Message as _;

use crate::error::{Error, Noun};
use crate::record::Record;
use crate::store::Store;
use crate::wire::Face;

/// The kind of a generation's key.
pub(crate) const KIND: &str = "gen";

/// Encoded generations; cheap to clone.
#[derive(Clone)]
pub(crate) struct Generations {
    cache: Cache,
    store: Store,
    face: Face,
}

impl Generations {
    pub(crate) fn new(cache: Cache, store: Store, face: Face) -> Self {
        Self { cache, store, face }
    }

    /// The encoded generation, of version `least` or a later one.
    pub(crate) async fn get(&self, account: AccountId, id: GenerationId, least: i64) -> Result<Bytes, Error> {
        let load = {
            let this = self.clone();
            move || async move { this.load(account, &[id]).await.map(|mut loaded| loaded.remove(0)) }
        };
        let wanted = Some(least).filter(|least| *least > 0);
        let hit = match self.cache.get(&key(account, id), wanted, load).await {
            Err(error) if error.is_outage() => self.cache.last_known(&key(account, id), wanted).await.ok_or(error)?,
            read => read?,
        };
        if hit.is_absent() {
            return Err(Error::Missing(Noun::Generation));
        }
        if hit.version < least {
            return Err(Error::VersionAhead { asked: least, newest: hit.version });
        }
        Ok(hit.body)
    }

    /// The encoded generations in the order asked for; what no tier holds comes by one statement.
    pub(crate) async fn batch(&self, account: AccountId, ids: &[GenerationId]) -> Result<Vec<Bytes>, Error> {
        let wanted: Vec<_> = ids.iter().map(|id| (key(account, *id), None)).collect();
        let load = {
            let (this, ids) = (self.clone(), Arc::<[GenerationId]>::from(ids));
            move |places: Vec<usize>| {
                let (this, ids) = (this.clone(), Arc::clone(&ids));
                async move {
                    let missed: Vec<_> = places.into_iter().map(|place| ids[place]).collect();
                    this.load(account, &missed).await
                }
            }
        };
        let hits = match self.cache.get_many(&wanted, load).await {
            Err(error) if error.is_outage() => {
                let mut known = Vec::with_capacity(wanted.len());
                for (key, least) in &wanted {
                    known.push(self.cache.last_known(key, *least).await.ok_or_else(|| error.clone())?);
                }
                known
            }
            read => read?,
        };
        hits.into_iter()
            .map(|hit| if hit.is_absent() { Err(Error::Missing(Noun::Generation)) } else { Ok(hit.body) })
            .collect()
    }

    /// A value for each id, in that order.
    async fn load(&self, account: AccountId, ids: &[GenerationId]) -> Result<Vec<Loaded>, Error> {
        let loaded = self.store.load(account, ids).await?;
        let asof = Asof { epoch: loaded.epoch, seq: loaded.seq };
        let found: HashMap<_, _> = loaded.records.iter().map(|record| (record.id, record)).collect();
        let value = |id| match found.get(id) {
            Some(record) => Loaded {
                version: record.version,
                asof,
                body: self.face.generation(record).encode_to_vec().into(),
                lifetime: if record.state.is_terminal() { Lifetime::TERMINAL } else { Lifetime::IN_PROGRESS },
            },
            None => Loaded { version: 0, asof, body: Bytes::new(), lifetime: Lifetime::ABSENT },
        };
        Ok(ids.iter().map(value).collect())
    }

    /// Tells every cache of a change that this process committed.
    pub(crate) async fn wrote(&self, record: &Record) {
        self.cache.wrote(&key(record.account, record.id), record.version).await;
    }

    /// Tells every cache that what the account's dashboard shows changed.
    pub(crate) async fn touched_dashboard(&self, account: AccountId) {
        self.cache.touched(&Key::aggregate("dash", account.0)).await;
    }

    /// The news of all changes, of this process and of others.
    pub(crate) fn changes(&self) -> Changes {
        self.cache.changes()
    }

    /// Ends the cache's own tasks.
    pub(crate) async fn close(&self) {
        self.cache.close().await;
    }
}

fn key(account: AccountId, id: GenerationId) -> Key {
    Key::row(KIND, account.0, id)
}
