//! Generations at the hub of watches, which [`cache::watch`] has once for all services: how a generation is watched, and how the
//! rows of changes made elsewhere are read.

use cache::watch::{Filter, Hub, Watchable};
use cache::{Change, Changes};
use domain::id::{AccountId, GenerationId};

use super::selection::Selection;
use crate::cache::KEY_KIND;
use crate::model::Generation;
use crate::store::Store;

/// Everyone who watches generations in this process; cheap to clone.
pub(crate) type GenerationHub = Hub<Generation, Selection>;

impl Watchable for Generation {
    type Group = AccountId;
    type Key = GenerationId;

    fn group(&self) -> AccountId {
        self.account
    }

    fn key(&self) -> GenerationId {
        self.id
    }

    fn version(&self) -> i64 {
        self.version
    }

    fn is_final(&self) -> bool {
        self.state.is_terminal()
    }
}

impl Filter<Generation> for Selection {
    fn matches(&self, generation: &Generation) -> bool {
        self.includes(generation)
    }

    fn may_match(&self, id: GenerationId) -> bool {
        self.may_include(id)
    }
}

/// Feeds all watchers of this process from the cache's changes, until the cache is closed.
pub(crate) async fn feed(hub: GenerationHub, changes: Changes, store: Store) {
    let read = |keys: Vec<(AccountId, GenerationId)>| {
        let store = store.clone();
        async move { store.find_across_accounts(&keys).await }
    };
    hub.feed(changes, changed_generation, read).await;
}

/// The account and the id of the generation that a change is about.
fn changed_generation(change: &Change) -> Option<(AccountId, GenerationId)> {
    if change.kind() != KEY_KIND {
        return None;
    }
    Some((AccountId(change.account()?), GenerationId(change.id()?.parse().ok()?)))
}
