//! Generations at the hub of watches, which [`cache::watch`] has once for all services: how a generation is watched, and how the
//! rows of changes made elsewhere are read.

use cache::watch::{Filter, Hub, Watchable};
use cache::{Change, Changes};
use domain::id::{AccountId, GenerationId};

use super::selection::Selection;
use super::shown::Shown;
use crate::cache::KEY_KIND;
use crate::error::Error;
use crate::store::Store;

/// Everyone who watches generations in this process; cheap to clone.
pub(crate) type GenerationHub = Hub<Shown, Selection>;

impl Watchable for Shown {
    type Group = AccountId;
    type Key = GenerationId;

    fn group(&self) -> AccountId {
        self.generation.account
    }

    fn key(&self) -> GenerationId {
        self.generation.id
    }

    fn version(&self) -> i64 {
        self.generation.version
    }

    fn is_final(&self) -> bool {
        self.generation.state.is_terminal()
    }
}

impl Filter<Shown> for Selection {
    fn matches(&self, shown: &Shown) -> bool {
        self.includes(&shown.generation)
    }

    fn may_match(&self, id: GenerationId) -> bool {
        self.may_include(id)
    }
}

/// Feeds all watchers of this process from the cache's changes, until the cache is closed.
pub(crate) async fn feed(hub: GenerationHub, changes: Changes, store: Store) {
    let read = |keys: Vec<(AccountId, GenerationId)>| {
        let store = store.clone();
        async move { Ok::<_, Error>(store.find_across_accounts(&keys).await?.into_iter().map(Shown::from).collect()) }
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
