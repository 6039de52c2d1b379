//! The rules of generations, for users and operators: start, read, list, cancel, retry, choose as a take, resolve.
//!
//! Invariants: a generation is seen only by its account; a start holds its price or leaves no trace; and caches and watches
//! hear of a change after its commit, never before.

use bytes::Bytes;
use cache::Loaded;
use catalogue::{Decimal, SettingName};
use chassis::crash;
use chassis::fields::Fields;
use chassis::request::actor::Actor;
use domain::generation::State;
use domain::id::{AccountId, GenerationId};
use domain::name::{GenerationParent, SceneName};
use domain::page::{Cursor, Page};
use jobs::Notifier;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::cache::CachedGenerations;
use crate::crash_points;
use crate::error::{Error, Noun};
use crate::events;
use crate::live_catalogue::LiveCatalogue;
use crate::margins::Margins;
use crate::model::{Filter, Generation, JobEvent, Listed, NewGeneration, Resolution, StartRequest, Started};
use crate::pages::{MAX_PAGE_BYTES, fitting};
use crate::presenter::model_name;
use crate::starts::Starts;
use crate::store::Store;
use crate::watches::GenerationHub;

/// How often a cancel reads the generation anew when it changed between the read and the write.
const MAX_CANCEL_TRIES: usize = 8;

/// Starts, reads and stops generations; cheap to clone.
#[derive(Clone)]
pub(crate) struct Generations {
    catalogue: LiveCatalogue,
    starts: Starts,
    margins: Margins,
    store: Store,
    cached: CachedGenerations,
    hub: GenerationHub,
    notifier: Notifier,
}

impl Generations {
    pub(crate) fn new(
        catalogue: LiveCatalogue,
        margins: Margins,
        store: Store,
        cached: CachedGenerations,
        hub: GenerationHub,
        notifier: Notifier,
    ) -> Self {
        Self { starts: Starts::new(store.clone()), catalogue, margins, store, cached, hub, notifier }
    }

    /// The models that can be asked for.
    pub(crate) fn catalogue(&self) -> &LiveCatalogue {
        &self.catalogue
    }

    /// Starts a generation and holds its price, or returns the one that the same request started.
    pub(crate) async fn start(&self, request: &StartRequest) -> Result<Generation, Error> {
        let mut margin = self.margins.seen(request.account);
        loop {
            match self.try_start(request, margin).await {
                Ok(started) => return self.publish_started(started).await,
                Err(refused) => margin = self.margins.after(request.account, margin, refused).await?,
            }
        }
    }

    async fn try_start(&self, request: &StartRequest, margin: Decimal) -> Result<Started, Error> {
        match self.starts.prepare(request, margin).await {
            Ok(new) => self.store.start(&new).await,
            // The catalogue may have changed since: a repetition still finds what the first request started.
            Err(error) => match self.store.find_started(request).await? {
                Some(generation) => Ok(Started::Existing(Box::new(generation))),
                None => Err(error),
            },
        }
    }

    /// Starts all of these or none. Each is found again by its own request. All are of one caller.
    pub(crate) async fn start_all(&self, requests: &[StartRequest]) -> Result<Vec<Generation>, Error> {
        let Some(StartRequest { account, .. }) = requests.first() else { return Ok(Vec::new()) };
        let mut margin = self.margins.seen(*account);
        let started = loop {
            match self.try_start_all(requests, margin).await {
                Ok(started) => break started,
                Err(refused) => margin = self.margins.after(*account, margin, refused).await?,
            }
        };
        let mut generations = Vec::with_capacity(started.len());
        for started in started {
            generations.push(self.publish_started(started).await?);
        }
        Ok(generations)
    }

    async fn try_start_all(&self, requests: &[StartRequest], margin: Decimal) -> Result<Vec<Started>, Error> {
        match self.prepare_all(requests, margin).await {
            Ok(new) => self.store.start_all(&new).await,
            // The catalogue may have changed since: a repetition still finds what the first request started.
            Err(error) => {
                let mut found = Vec::with_capacity(requests.len());
                for request in requests {
                    match self.store.find_started(request).await? {
                        Some(generation) => found.push(Started::Existing(Box::new(generation))),
                        None => return Err(error),
                    }
                }
                Ok(found)
            }
        }
    }

    async fn prepare_all(&self, requests: &[StartRequest], margin: Decimal) -> Result<Vec<NewGeneration>, Error> {
        let mut prepared = Vec::with_capacity(requests.len());
        for (at, request) in requests.iter().enumerate() {
            let new = self.starts.prepare(request, margin).await;
            prepared.push(new.map_err(|error| error.within(format_args!("requests[{at}].")))?);
        }
        Ok(prepared)
    }

    /// What a start of all of these would hold and resolve to, if each alone would succeed now; nothing is stored.
    pub(crate) async fn check_start_all(&self, requests: &[StartRequest]) -> Result<Vec<NewGeneration>, Error> {
        let Some(StartRequest { account, .. }) = requests.first() else { return Ok(Vec::new()) };
        let mut margin = self.margins.seen(*account);
        loop {
            match self.try_check_all(requests, margin).await {
                Ok(new) => return Ok(new),
                Err(refused) => margin = self.margins.after(*account, margin, refused).await?,
            }
        }
    }

    async fn try_check_all(&self, requests: &[StartRequest], margin: Decimal) -> Result<Vec<NewGeneration>, Error> {
        let new = self.prepare_all(requests, margin).await?;
        for one in &new {
            self.store.check_start(one).await?;
        }
        Ok(new)
    }

    /// Starts a generation that replaces a dead letter's, and closes the letter; `note` says who asked for it and why.
    pub(crate) async fn requeue_dead_letter(
        &self,
        id: GenerationId,
        request_id: Uuid,
        note: &str,
        actor: &Actor,
    ) -> Result<Generation, Error> {
        let origin = self.store.dead_letter(id).await?.ok_or(Error::NotFound(Noun::DeadLetter))?;
        let request = self.repetition_of(&origin, request_id).await?;
        let mut margin = self.margins.seen(request.account);
        let started = loop {
            let new = self.starts.prepare(&request, margin).await?;
            match self.store.requeue_dead_letter(&new, id, note, actor).await {
                Ok(started) => break started,
                Err(refused) => margin = self.margins.after(request.account, margin, refused).await?,
            }
        };
        if let Started::New(generation) = &started {
            events::dead_letter_requeued(generation, note);
        }
        self.publish_started(started).await
    }

    async fn publish_started(&self, started: Started) -> Result<Generation, Error> {
        match started {
            Started::Existing(generation) => {
                // The first request's reply may be lost, and with it the token for reading one's own write, so this reply carries
                // one. Watches were told by the first request.
                self.cached.wrote(&generation).await;
                Ok(*generation)
            }
            Started::New(generation) => {
                crash::point(crash_points::START_COMMITTED);
                events::generation_started(&generation);
                self.publish(&generation).await;
                self.notifier.notify().await;
                Ok(*generation)
            }
        }
    }

    /// What a start would hold and resolve to, if it would succeed now; nothing is stored.
    pub(crate) async fn check_start(&self, request: &StartRequest) -> Result<NewGeneration, Error> {
        let mut margin = self.margins.seen(request.account);
        loop {
            match self.try_check(request, margin).await {
                Ok(new) => return Ok(new),
                Err(refused) => margin = self.margins.after(request.account, margin, refused).await?,
            }
        }
    }

    async fn try_check(&self, request: &StartRequest, margin: Decimal) -> Result<NewGeneration, Error> {
        let new = self.starts.prepare(request, margin).await?;
        self.store.check_start(&new).await?;
        Ok(new)
    }

    /// The encoded generation, of version `min_version` or later.
    pub(crate) async fn get(&self, account: AccountId, id: GenerationId, min_version: i64) -> Result<Bytes, Error> {
        self.cached.get(account, id, min_version).await
    }

    /// The same with its version, if it is fresh.
    pub(crate) async fn read(
        &self,
        account: AccountId,
        id: GenerationId,
        min_version: i64,
    ) -> Result<(Bytes, Option<i64>), Error> {
        self.cached.read(account, id, min_version).await
    }

    /// An encoded generation from PostgreSQL, for a process that caches it without having one.
    pub(crate) async fn load_elsewhere(&self, account: AccountId, id: GenerationId) -> Result<Loaded, Error> {
        self.cached.load_elsewhere(account, id).await
    }

    /// Several encoded generations in the order asked for; one that does not exist fails the call.
    pub(crate) async fn batch(&self, account: AccountId, ids: &[GenerationId]) -> Result<Vec<Bytes>, Error> {
        self.cached.batch(account, ids).await
    }

    /// A page of generations, newest first, and the cursor of the next.
    pub(crate) async fn list(
        &self,
        account: AccountId,
        parent: GenerationParent,
        filter: &Filter,
        page: Page,
    ) -> Result<(Vec<Generation>, Option<Cursor>), Error> {
        let at = |id: GenerationId| Cursor { position: 0, id: id.0 };
        let (mut generations, mut next) = if *filter == Filter::default() {
            let after = page.after.map(|cursor| GenerationId(cursor.id));
            let mut generations = self.store.list(account, parent, after, None, page.rows()).await?;
            let next = page.cut(&mut generations, |generation| at(generation.id));
            (generations, next)
        } else {
            let Listed { generations, next } = self.store.list_filtered(account, parent, filter, page).await?;
            (generations, next.map(at))
        };
        if generations.is_empty() {
            self.store.parent_exists(account, parent).await?;
        }
        // Long inputs make a page shorter: no answer is larger than what clients take by default.
        let fits = fitting(generations.iter().map(Generation::max_bytes), MAX_PAGE_BYTES);
        if fits < generations.len() {
            generations.truncate(fits);
            next = generations.last().map(|last| at(last.id));
        }
        Ok((generations, next))
    }

    /// Starts a generation with the scene, model and input of one that has ended.
    pub(crate) async fn retry(
        &self,
        account: AccountId,
        id: GenerationId,
        request_id: Uuid,
    ) -> Result<Generation, Error> {
        let origin = self.find(account, id).await?;
        if !origin.state.is_terminal() {
            return Err(Error::NotTerminal);
        }
        self.start(&self.repetition_of(&origin, request_id).await?).await
    }

    /// Settles an unconfirmed submission as an operator says.
    pub(crate) async fn resolve(
        &self,
        account: AccountId,
        id: GenerationId,
        resolution: &Resolution,
        note: &str,
        version: Option<i64>,
        actor: &Actor,
    ) -> Result<Generation, Error> {
        let generation = self.store.resolve(account, id, resolution, note, version, actor).await?;
        crash::point(crash_points::RESOLUTION_COMMITTED);
        events::generation_resolved(&generation, resolution, note);
        self.publish(&generation).await;
        if !generation.state.is_terminal() {
            self.notifier.notify().await;
        }
        Ok(generation)
    }

    /// A page of the history of a generation's job, oldest first, and the cursor of the next.
    pub(crate) async fn events(
        &self,
        account: AccountId,
        id: GenerationId,
        page: Page,
    ) -> Result<(Vec<JobEvent>, Option<Cursor>), Error> {
        let after = page.after.map_or(0, |cursor| i64::try_from(cursor.id.as_u128()).unwrap_or(i64::MAX));
        let mut events = self.store.job_events(account, id, after, page.rows()).await?;
        if events.is_empty() {
            self.find(account, id).await?;
        }
        // The page token carries a UUID; a line's number fits into one.
        let next =
            page.cut(&mut events, |event| Cursor { position: 0, id: Uuid::from_u128(event.id.unsigned_abs().into()) });
        Ok((events, next))
    }

    /// Ends a generation that waits, asks for one at work to be stopped, and leaves one that is finished as it is.
    pub(crate) async fn cancel(&self, account: AccountId, id: GenerationId) -> Result<Generation, Error> {
        // The generation may change between the read and the write, which then changes nothing. Each change brings it nearer to
        // its end, so a few tries suffice.
        for _ in 0..MAX_CANCEL_TRIES {
            let generation = self.find(account, id).await?;
            let changed = match generation.state {
                State::Queued => self.store.cancel_queued(&generation).await?,
                State::Submitting | State::Processing => self.store.request_stop(&generation).await?,
                // CANCELLING was asked before; FINALIZING is delivered; the rest has ended.
                _ => return Ok(generation),
            };
            if let Some(generation) = changed {
                crash::point(crash_points::CANCEL_COMMITTED);
                self.publish(&generation).await;
                if generation.state == State::Cancelling {
                    events::generation_cancelling(&generation, "user");
                    // Where no worker has it, one must claim it to tell the provider.
                    self.notifier.notify().await;
                }
                return Ok(generation);
            }
        }
        self.find(account, id).await
    }

    /// Deletes a generation that has ended.
    pub(crate) async fn delete(&self, account: AccountId, id: GenerationId) -> Result<(), Error> {
        let version = self.store.delete(account, id).await?;
        events::generation_deleted(account, id);
        // Watchers hear nothing: they have its end.
        self.cached.deleted(account, id, version).await;
        Ok(())
    }

    /// Chooses the take of a scene, or takes the choice back.
    pub(crate) async fn set_take(
        &self,
        account: AccountId,
        scene: SceneName,
        chosen: Option<GenerationId>,
    ) -> Result<(), Error> {
        self.store.set_take(account, scene, chosen).await?;
        // Also for a repetition, whose client may never have got the first reply.
        self.cached.invalidate_dashboard(account).await;
        Ok(())
    }

    /// The generation as the database has it now.
    async fn find(&self, account: AccountId, id: GenerationId) -> Result<Generation, Error> {
        self.store.find(account, &[id]).await?.pop().ok_or(Error::NotFound(Noun::Generation))
    }

    /// Tells caches and watches of a committed change, and reports an end: every change passes here, so none can be forgotten.
    pub(crate) async fn publish(&self, generation: &Generation) {
        if generation.state.is_terminal() {
            events::generation_ended(generation);
        }
        self.hub.publish(generation.clone().into());
        self.cached.wrote(generation).await;
    }

    /// A request with the input of `origin`. Its hash covers the origin's id, so that a start and a retry never share a request id.
    async fn repetition_of(&self, origin: &Generation, request_id: Uuid) -> Result<StartRequest, Error> {
        let mut fields = Fields::default();
        let model = self.catalogue.current().find(&model_name(&origin.model)).cloned();
        if model.is_none() {
            fields.wrong("name", "must be of a model that is still offered");
        }
        let model = fields.done(model)?;
        let mut digest = Sha256::new();
        digest.update(b"retry");
        digest.update(origin.id.0.as_bytes());
        // A seed that was drawn is drawn again, as the same: where the model or its provider takes it no more, that is no user's fault.
        // The catalogue may also have learnt since that the model takes none.
        let unasked = self.store.unasked(origin.account, origin.id).await?;
        let (drawn_seed, seed) = match model.setting(SettingName::Seed) {
            Some(setting) if setting.is_of(&unasked) => (origin.seed, None),
            Some(_) => (None, origin.seed),
            None => (None, None),
        };
        Ok(StartRequest {
            account: origin.account,
            scene: SceneName { project: origin.project, scene: origin.scene },
            seed,
            drawn_seed,
            model: Ok(model),
            prompt: origin.prompt.clone(),
            input: origin.input.clone(),
            max_price: None,
            labels: origin.labels.clone(),
            end_user: origin.end_user.clone(),
            request_id,
            request_sha256: digest.finalize().into(),
            retried_from: Some(origin.id),
            background: false,
        })
    }
}
