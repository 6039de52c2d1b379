//! The keys that one order may be asked about with: the one that it was sent with first, and others of its provider where that one is
//! refused or no longer in the settings.
//!
//! Invariants: another key brings good news only, since it may be another account's, which does not know the order; and an order whose
//! key is not here is never sent again under another, whose account would make a second one.

use std::sync::Arc;

use crate::model::{Abilities, CallOutcome, Order, OrderStatus, Reference, Stopping, Trouble};
use crate::provider::Provider;
use crate::providers::Registry;

/// A provider with the keys for one order.
#[derive(Clone)]
pub(crate) struct OrderKeys {
    own: Arc<dyn Provider>,
    others: Vec<Arc<dyn Provider>>,
    /// The key that the order was sent with is not here, or nobody knows which it was: `own` is only the first to be tried.
    lost: bool,
}

impl OrderKeys {
    /// The keys at `provider` for an order that is to be sent, or was, with the one of this public name; empty: nobody knows which.
    pub(crate) fn find(providers: &Registry, provider: &str, key: &str) -> Option<Self> {
        let mut each = providers.each_named(provider).to_vec();
        let known = match each.as_slice() {
            [_] if key.is_empty() => Some(0),
            each => each.iter().position(|provider| provider.key() == key),
        };
        let own = (!each.is_empty()).then(|| each.remove(known.unwrap_or_default()))?;
        Some(Self { own, others: each, lost: known.is_none() })
    }

    /// The provider with the order's own key, or with the first that is here.
    pub(crate) fn own(&self) -> &dyn Provider {
        &*self.own
    }

    /// Whether the key that the order was sent with is not here.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost
    }

    /// What the provider can do for this order.
    pub(crate) fn abilities(&self) -> Abilities {
        let abilities = self.own.abilities();
        Abilities { idempotent_submit: abilities.idempotent_submit && !self.lost, ..abilities }
    }

    /// Asks how an order is, and returns the provider with the key that knew it.
    pub(crate) async fn poll(
        &self,
        order: &Order,
        reference: &Reference,
    ) -> (&dyn Provider, Result<OrderStatus, Trouble>) {
        let mut found = match self.own.poll(order, reference).await {
            Err(trouble) if self.asks_others(&trouble) => trouble,
            news => return (&*self.own, news),
        };
        for other in &self.others {
            match other.poll(order, reference).await {
                Err(trouble) if !trouble.outcome.shows_order() => {
                    // Not known is what all that can be asked have to say.
                    if self.lost && found.outcome == CallOutcome::NotFound {
                        found = trouble;
                    }
                }
                news => return (&**other, news),
            }
        }
        (&*self.own, Err(found))
    }

    /// Asks to stop an order, with every key that may be its own.
    pub(crate) async fn cancel(&self, order: &Order, reference: &Reference) -> Result<Stopping, Trouble> {
        let mut asked = self.own.cancel(order, reference).await;
        let refused = matches!(&asked, Err(trouble) if trouble.outcome == CallOutcome::AccountRefused);
        for other in self.others.iter().filter(|_| self.lost || refused) {
            asked = other.cancel(order, reference).await.or(asked);
        }
        asked
    }

    /// Whether another key may know what this one does not say.
    fn asks_others(&self, trouble: &Trouble) -> bool {
        trouble.outcome == CallOutcome::AccountRefused || (self.lost && !trouble.outcome.shows_order())
    }
}
