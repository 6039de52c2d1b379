//! The rules of the queue, for operators: statistics, pauses, dead letters, and the shares of accounts.
//!
//! Invariant: an operator's change is committed together with who made it and why, and is logged.

use chassis::request::actor::Actor;
use domain::id::{AccountId, GenerationId};
use domain::page::{Cursor, Page};
use jobs::{DeadLetter, Notifier};
use uuid::Uuid;

use crate::error::Error;
use crate::events;
use crate::generations::Generations;
use crate::model::{Generation, QueueStats};
use crate::store::Store;

/// Reads and steers the queue; cheap to clone.
#[derive(Clone)]
pub(crate) struct Queues {
    store: Store,
    generations: Generations,
    notifier: Notifier,
}

impl Queues {
    pub(crate) fn new(store: Store, generations: Generations, notifier: Notifier) -> Self {
        Self { store, generations, notifier }
    }

    /// The statistics, with those of up to `accounts` accounts.
    pub(crate) async fn stats(&self, accounts: i64) -> Result<QueueStats, Error> {
        self.store.queue_stats(accounts).await
    }

    /// Stops a model's work, or with an empty name all work, from being given out.
    pub(crate) async fn pause(&self, model: &str, note: &str, actor: &Actor) -> Result<(), Error> {
        self.store.pause(model, note, actor).await?;
        events::queue_paused(model, note);
        Ok(())
    }

    /// Ends a pause; returns whether there was one.
    pub(crate) async fn resume(&self, model: &str, actor: &Actor) -> Result<bool, Error> {
        let resumed = self.store.resume(model, actor).await?;
        if resumed {
            events::queue_resumed(model);
            self.notifier.notify().await;
        }
        Ok(resumed)
    }

    /// A page of dead letters, newest first, and the cursor of the next.
    pub(crate) async fn dead_letters(&self, page: Page) -> Result<(Vec<DeadLetter>, Option<Cursor>), Error> {
        let before = page.after.map(|cursor| cursor.id);
        let mut letters = self.store.dead_letters(before, page.rows()).await?;
        let next = page.cut(&mut letters, |letter| Cursor { position: 0, id: letter.job });
        Ok((letters, next))
    }

    /// Starts a new generation in place of a dead letter's.
    pub(crate) async fn requeue(
        &self,
        id: GenerationId,
        request_id: Uuid,
        note: &str,
        actor: &Actor,
    ) -> Result<Generation, Error> {
        self.generations.requeue_dead_letter(id, request_id, note, actor).await
    }

    /// Sets an account's share of the turns.
    pub(crate) async fn set_weight(&self, account: AccountId, weight: f64, actor: &Actor) -> Result<(), Error> {
        self.store.set_weight(account, weight, actor).await?;
        events::account_weight_set(account, weight);
        Ok(())
    }

    /// Sets how many generations of an account may run at once; `None`: the service's default.
    pub(crate) async fn set_running_limit(
        &self,
        account: AccountId,
        limit: Option<i32>,
        actor: &Actor,
    ) -> Result<(), Error> {
        self.store.set_running_limit(account, limit, actor).await?;
        events::account_running_limit_set(account, limit);
        self.notifier.notify().await;
        Ok(())
    }
}
