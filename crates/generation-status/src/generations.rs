//! Generations as their users know them: what each request does.
//!
//! Invariants: a generation is seen only by its account; a start takes its price or leaves no trace; and every change is
//! told to caches and watches after its commit, never before.

use bytes::Bytes;
use chassis::crash;
use domain::generation::State;
use domain::id::{AccountId, GenerationId};
use domain::name::{GenerationParent, SceneName};
use domain::page::Cursor;
use jobs::Notifier;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::cache;
use crate::crash_points;
use crate::error::{Error, Noun};
use crate::fields::{Fields, Page};
use crate::models::Catalogue;
use crate::record::Record;
use crate::store::{Draft, Event, Resolution, Started, Store};
use crate::watches::Hub;

/// How often a cancel polls again when the generation moves on under its hands.
const CANCEL_TRIES: usize = 8;

/// What can be done with generations; cheap to clone.
#[derive(Clone)]
pub(crate) struct Generations {
    models: Catalogue,
    store: Store,
    cached: cache::Generations,
    hub: Hub,
    notifier: Notifier,
}

impl Generations {
    pub(crate) fn new(
        models: Catalogue,
        store: Store,
        cached: cache::Generations,
        hub: Hub,
        notifier: Notifier,
    ) -> Self {
        Self { models, store, cached, hub, notifier }
    }

    /// What can be asked for.
    pub(crate) fn models(&self) -> &Catalogue {
        &self.models
    }

    /// Starts a generation and holds its price, or returns the one that the same request started.
    pub(crate) async fn start(&self, draft: &Draft) -> Result<Record, Error> {
        let started = self.store.start(draft).await?;
        self.began(draft, started).await
    }

    /// Starts what stands in the place of a dead letter, and is done with that; `note` says who wanted it and why.
    pub(crate) async fn requeue_dead(&self, id: GenerationId, request_id: Uuid, note: &str) -> Result<Record, Error> {
        let origin = self.store.dead_letter(id).await?.ok_or(Error::Missing(Noun::DeadLetter))?;
        let draft = draft(&self.models, &origin, request_id)?;
        let started = self.store.requeue_dead(&draft, id, note).await?;
        tracing::info!(generation = %id.0, account = %origin.account.0, note, "a dead letter was requeued");
        self.began(&draft, started).await
    }

    async fn began(&self, draft: &Draft, started: Started) -> Result<Record, Error> {
        match started {
            Started::Before(record) => {
                // The reply to the first request may be lost, and with it the token; watches heard of it long ago.
                self.cached.wrote(&record).await;
                self.cached.touched_dashboard(record.account).await;
                Ok(*record)
            }
            Started::New(record) => {
                crash::point(crash_points::START_COMMITTED);
                metrics::counter!("rushes_generations_started_total", "model" => draft.model.id.clone()).increment(1);
                self.tell(&record).await;
                self.notifier.notify().await;
                Ok(*record)
            }
        }
    }

    /// Whether a start would succeed now; nothing is stored.
    pub(crate) async fn price(&self, draft: &Draft) -> Result<(), Error> {
        self.store.could_start(draft).await
    }

    /// The encoded generation, of version `least` or a later one.
    pub(crate) async fn get(&self, account: AccountId, id: GenerationId, least: i64) -> Result<Bytes, Error> {
        self.cached.get(account, id, least).await
    }

    /// Several encoded generations in the order asked for, each of which must be there.
    pub(crate) async fn batch(&self, account: AccountId, ids: &[GenerationId]) -> Result<Vec<Bytes>, Error> {
        self.cached.batch(account, ids).await
    }

    /// A page of generations from new to old, and where the next one begins.
    pub(crate) async fn list(
        &self,
        account: AccountId,
        parent: GenerationParent,
        page: Page,
    ) -> Result<(Vec<Record>, Option<Cursor>), Error> {
        let mut records = self.store.list(account, parent, page.before(), None, page.size + 1).await?;
        if records.is_empty() {
            self.store.parent_exists(account, parent).await?;
        }
        let next = page.cut(&mut records, |record| record.id.0);
        Ok((records, next))
    }

    /// Starts a generation that is over anew: the same scene, model and input.
    pub(crate) async fn retry(&self, account: AccountId, id: GenerationId, request_id: Uuid) -> Result<Record, Error> {
        let origin = self.find(account, id).await?;
        if !origin.state.is_terminal() {
            return Err(Error::NotOver);
        }
        self.start(&draft(&self.models, &origin, request_id)?).await
    }

    /// Settles a unconfirmed submission as an operator says.
    pub(crate) async fn resolve(
        &self,
        account: AccountId,
        id: GenerationId,
        resolution: &Resolution,
        note: &str,
    ) -> Result<Record, Error> {
        let record = self.store.resolve(account, id, resolution, note).await?;
        crash::point(crash_points::RESOLUTION_COMMITTED);
        tracing::info!(generation = %id.0, account = %account.0, note, "a unconfirmed generation was resolved");
        self.tell(&record).await;
        if !record.state.is_terminal() {
            self.notifier.notify().await;
        }
        Ok(record)
    }

    /// A page of what happened to a generation's job, oldest first.
    pub(crate) async fn history(
        &self,
        account: AccountId,
        id: GenerationId,
        page: Page,
    ) -> Result<(Vec<Event>, Option<Cursor>), Error> {
        let after = page.after.map_or(0, |cursor| i64::try_from(cursor.id.as_u128()).unwrap_or(i64::MAX));
        let mut events = self.store.history(account, id, after, page.size + 1).await?;
        if events.is_empty() {
            self.find(account, id).await?;
        }
        // A line's number in the place of an id, which is as wide.
        let next = page.cut(&mut events, |event| Uuid::from_u128(event.id.unsigned_abs().into()));
        Ok((events, next))
    }

    /// Stops a generation that waits, asks for one at work to be stopped, and leaves one that is done as it is.
    pub(crate) async fn cancel(&self, account: AccountId, id: GenerationId) -> Result<Record, Error> {
        // It may move on between the poll and the write, which then changes nothing; each move brings it nearer its end.
        for _ in 0..CANCEL_TRIES {
            let record = self.find(account, id).await?;
            let changed = match record.state {
                State::Queued => self.store.withdraw(&record).await?,
                State::Submitting | State::Processing => self.store.ask_to_stop(&record).await?,
                // Asked before; or done, and then it is delivered; or over.
                _ => return Ok(record),
            };
            if let Some(record) = changed {
                crash::point(crash_points::CANCEL_COMMITTED);
                self.tell(&record).await;
                if record.state == State::Cancelling {
                    // Where no worker has it, one must take it up to tell the provider.
                    self.notifier.notify().await;
                }
                return Ok(record);
            }
        }
        self.find(account, id).await
    }

    /// The generation as the database has it now.
    async fn find(&self, account: AccountId, id: GenerationId) -> Result<Record, Error> {
        self.store.find(account, &[id]).await?.pop().ok_or(Error::Missing(Noun::Generation))
    }

    /// Tells caches and watches of a change that was committed.
    pub(crate) async fn tell(&self, record: &Record) {
        self.hub.changed(record.clone());
        self.cached.wrote(record).await;
        self.cached.touched_dashboard(record.account).await;
    }
}

/// What is asked for when a generation is tried again. Its hash names the origin, so that a request id of a start is not taken
/// for one of a retry.
fn draft(models: &Catalogue, origin: &Record, request_id: Uuid) -> Result<Draft, Error> {
    let mut fields = Fields::default();
    let model = models.find(&format!("models/{}", origin.model)).cloned();
    if model.is_none() {
        fields.wrong("name", "must be of a model that is still offered");
    }
    let assets = origin.reference_assets.iter().map(|text| domain::name::asset(text)).collect::<Result<_, _>>();
    let assets = fields.take("name", assets);
    let (model, reference_assets) = fields.done(model.zip(assets))?;
    let mut digest = Sha256::new();
    digest.update(b"retry");
    digest.update(origin.id.0.as_bytes());
    Ok(Draft {
        account: origin.account,
        scene: SceneName { project: origin.project, scene: origin.scene },
        model,
        prompt: origin.prompt.clone(),
        seed: origin.seed,
        reference_assets,
        request_id,
        request_sha256: digest.finalize().into(),
        retried_from: Some(origin.id),
        background: false,
    })
}
