//! GenerationService. GetGeneration and BatchGetGenerations answer with encoded bytes, from the cache where they can.

use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use domain::id::{AccountId, GenerationId};
use domain::name::{self, GenerationParent, SceneName};
use domain::page;
use futures::{Stream, StreamExt as _};
use prost::Message;
use proto::generations::v1::charge::ProviderCharge;
use proto::generations::v1::generation_service_server::GenerationService;
use proto::generations::v1::resolve_generation_request::Resolution as Found;
use proto::generations::v1::start_generation_request::Priority;
use proto::generations::v1::watch_generations_response as sent;
use proto::generations::v1::{
    BatchGetGenerationsRequest, BatchGetGenerationsResponse, CancelGenerationRequest, Charge, Generation,
    GenerationEvent, GetGenerationRequest, Input, ListGenerationEventsRequest, ListGenerationEventsResponse,
    ListGenerationsRequest, ListGenerationsResponse, ResolveGenerationRequest, RetryGenerationRequest,
    StartGenerationRequest, WatchGenerationsRequest, WatchGenerationsResponse,
};
use sha2::{Digest, Sha256};
use tonic::{Request, Response, Status};

use super::split;
use crate::error::Error;
use crate::fields::{Fields, PROMPT};
use crate::generations::Generations;
use crate::models::{Catalogue, Model};
use crate::record;
use crate::store::{Draft, Event, Resolution};
use crate::watches::{Event as News, Selection, Wanted, Watches};
use crate::wire::{Face, model_name, timestamp};

/// The paths of the methods that are answered with encoded bytes.
pub(super) const GET_GENERATION: &str = "/rushes.generations.v1.GenerationService/GetGeneration";
pub(super) const BATCH_GET_GENERATIONS: &str = "/rushes.generations.v1.GenerationService/BatchGetGenerations";
/// The number of `BatchGetGenerationsResponse.generations`.
const GENERATIONS: u32 = 1;
/// The most names in one batch.
const BATCH: usize = 100;
/// The most names in one watch.
const WATCHED: usize = 1_000;
/// Seeds that we choose are small enough for every JSON reader.
const SEEDS: std::ops::Range<i64> = 0..1 << 32;

/// The service over its rules.
#[derive(Clone)]
pub(crate) struct GenerationsApi {
    pub(crate) generations: Generations,
    pub(crate) watches: Watches,
    pub(crate) face: Face,
}

impl GenerationsApi {
    /// The encoded generation.
    pub(super) async fn encoded(&self, request: Request<GetGenerationRequest>) -> Result<Response<Bytes>, Status> {
        let (account, request) = split(request)?;
        let mut fields = Fields::default();
        let id = fields.take("name", GenerationId::from_name(&request.name));
        if request.min_version < 0 {
            fields.wrong("min_version", "must not be negative");
        }
        let id = fields.done(id)?;
        let encoded = self.generations.get(account, id, request.min_version).await?;
        Ok(Response::new(self.face.retold(account, encoded)))
    }

    /// The encoded answer to a batch: its generations, each as it is cached.
    pub(super) async fn batch_encoded(
        &self,
        request: Request<BatchGetGenerationsRequest>,
    ) -> Result<Response<Bytes>, Status> {
        let (account, request) = split(request)?;
        let mut fields = Fields::default();
        let ids = fields.generations("names", &request.names, 1, BATCH);
        let bodies = self.generations.batch(account, &fields.done(ids)?).await?;
        let bodies: Vec<_> = bodies.into_iter().map(|body| self.face.retold(account, body)).collect();
        let mut encoded = BytesMut::new();
        // On the wire a message in a field is its bytes.
        prost::encoding::bytes::encode_repeated(GENERATIONS, &bodies, &mut encoded);
        Ok(Response::new(encoded.freeze()))
    }
}

#[tonic::async_trait]
impl GenerationService for GenerationsApi {
    async fn start_generation(&self, request: Request<StartGenerationRequest>) -> Result<Response<Generation>, Status> {
        let (account, request) = split(request)?;
        let draft = draft(self.generations.models(), account, &request)?;
        if request.validate_only {
            self.generations.price(&draft).await?;
            return Ok(Response::new(priced(request, &draft)));
        }
        let record = self.generations.start(&draft).await?;
        Ok(Response::new(self.face.generation(&record)))
    }

    /// What [`GenerationsApi::encoded`] answers before this is reached, for a server that is put up without it.
    async fn get_generation(&self, request: Request<GetGenerationRequest>) -> Result<Response<Generation>, Status> {
        decoded(self.encoded(request).await?)
    }

    async fn batch_get_generations(
        &self,
        request: Request<BatchGetGenerationsRequest>,
    ) -> Result<Response<BatchGetGenerationsResponse>, Status> {
        decoded(self.batch_encoded(request).await?)
    }

    async fn list_generations(
        &self,
        request: Request<ListGenerationsRequest>,
    ) -> Result<Response<ListGenerationsResponse>, Status> {
        let (account, request) = split(request)?;
        let listing = format!("generations/{}", request.parent);
        let mut fields = Fields::default();
        let parent = fields.take("parent", GenerationParent::parse(&request.parent));
        let page = fields.page(account, &listing, request.page_size, &request.page_token);
        let (parent, page) = fields.done(parent.zip(page))?;
        let (records, next) = self.generations.list(account, parent, page).await?;
        Ok(Response::new(ListGenerationsResponse {
            generations: records.iter().map(|record| self.face.generation(record)).collect(),
            next_page_token: next.map(|cursor| page::token(account, &listing, cursor)).unwrap_or_default(),
        }))
    }

    async fn cancel_generation(
        &self,
        request: Request<CancelGenerationRequest>,
    ) -> Result<Response<Generation>, Status> {
        let (account, request) = split(request)?;
        let mut fields = Fields::default();
        let id = fields.take("name", GenerationId::from_name(&request.name));
        let record = self.generations.cancel(account, fields.done(id)?).await?;
        Ok(Response::new(self.face.generation(&record)))
    }

    async fn retry_generation(&self, request: Request<RetryGenerationRequest>) -> Result<Response<Generation>, Status> {
        let (account, request) = split(request)?;
        let mut fields = Fields::default();
        let id = fields.take("name", GenerationId::from_name(&request.name));
        let request_id = fields.request_id(&request.request_id);
        let (id, request_id) = fields.done(id.zip(request_id))?;
        let record = self.generations.retry(account, id, request_id).await?;
        Ok(Response::new(self.face.generation(&record)))
    }

    async fn list_generation_events(
        &self,
        request: Request<ListGenerationEventsRequest>,
    ) -> Result<Response<ListGenerationEventsResponse>, Status> {
        let (account, request) = split(request)?;
        let listing = format!("events/{}", request.name);
        let mut fields = Fields::default();
        let id = fields.take("name", GenerationId::from_name(&request.name));
        let page = fields.page(account, &listing, request.page_size, &request.page_token);
        let (id, page) = fields.done(id.zip(page))?;
        let (events, next) = self.generations.history(account, id, page).await?;
        Ok(Response::new(ListGenerationEventsResponse {
            events: events.into_iter().map(event).collect(),
            next_page_token: next.map(|cursor| page::token(account, &listing, cursor)).unwrap_or_default(),
        }))
    }

    async fn resolve_generation(
        &self,
        request: Request<ResolveGenerationRequest>,
    ) -> Result<Response<Generation>, Status> {
        let (account, id, resolution, note) = resolved(request.into_inner())?;
        let record = self.generations.resolve(account, id, &resolution, &note).await?;
        Ok(Response::new(self.face.generation(&record)))
    }

    type WatchGenerationsStream = Pin<Box<dyn Stream<Item = Result<WatchGenerationsResponse, Status>> + Send>>;

    async fn watch_generations(
        &self,
        request: Request<WatchGenerationsRequest>,
    ) -> Result<Response<Self::WatchGenerationsStream>, Status> {
        let (account, request) = split(request)?;
        let events = self.watches.watch(wanted(account, request)?).await?;
        let face = self.face.clone();
        let responses = events.map(move |event| {
            let (event, resume_token) = event?;
            Ok(WatchGenerationsResponse { event: Some(shown(&face, event)), resume_token })
        });
        Ok(Response::new(Box::pin(responses)))
    }
}

fn event(event: Event) -> GenerationEvent {
    GenerationEvent {
        time: Some(timestamp(event.at)),
        from_state: event.from_state,
        to_state: event.to_state,
        attempt: event.attempt,
        cause: event.cause,
    }
}

/// What an operator decides, about which generation.
fn resolved(request: ResolveGenerationRequest) -> Result<(AccountId, GenerationId, Resolution, String), Error> {
    let mut fields = Fields::default();
    let account = fields.take("account", AccountId::from_name(&request.account));
    let id = fields.take("name", GenerationId::from_name(&request.name));
    let note = fields.note(&request.note);
    let resolution = match request.resolution {
        Some(Found::ProviderReference(reference)) if !reference.is_empty() => Some(Resolution::Reference(reference)),
        Some(Found::Failed(provider_charge)) => match ProviderCharge::try_from(provider_charge) {
            Ok(ProviderCharge::NotCharged) => Some(Resolution::Failed(record::ProviderCharge::NotCharged)),
            Ok(ProviderCharge::Charged) => Some(Resolution::Failed(record::ProviderCharge::Charged)),
            Ok(ProviderCharge::Unknown) => Some(Resolution::Failed(record::ProviderCharge::Unknown)),
            _ => None,
        },
        Some(Found::Requeue(true)) => Some(Resolution::Requeue),
        _ => None,
    };
    if resolution.is_none() {
        fields.wrong("resolution", "must be a provider_reference, failed with a provider_charge, or requeue");
    }
    let (((account, id), resolution), note) = fields.done(account.zip(id).zip(resolution).zip(note))?;
    Ok((account, id, resolution, note))
}

fn draft(models: &Catalogue, account: AccountId, request: &StartGenerationRequest) -> Result<Draft, Error> {
    let mut fields = Fields::default();
    let input = request.input.clone().unwrap_or_default();
    let scene = fields.take("scene", SceneName::parse(&request.scene));
    let model = models.find(&request.model).cloned();
    if model.is_none() {
        let known: Vec<_> = models.all().iter().map(|model| model_name(&model.id)).collect();
        fields.wrong("model", format_args!("must be one of {}, or empty", known.join(", ")));
    }
    let prompt =
        fields.prompt("input.prompt", &input.prompt, model.as_ref().map_or(PROMPT, |model| model.prompt_characters));
    let assets = reference_assets(&mut fields, model.as_deref(), &input.reference_assets);
    // Without one, a check starts nothing that could be repeated.
    let request_id = match request.request_id.as_str() {
        "" if request.validate_only => Some(uuid::Uuid::nil()),
        text => fields.request_id(text),
    };
    if Priority::try_from(request.priority).is_err() {
        fields.wrong("priority", "must be NORMAL, BACKGROUND, or unset");
    }
    let read = scene.zip(model).zip(prompt).zip(assets).zip(request_id);
    let ((((scene, model), prompt), reference_assets), request_id) = fields.done(read)?;
    let background = request.priority() == Priority::Background;
    let request_sha256 = hash(scene, &model, &input, background);
    let seed = input.seed.unwrap_or_else(|| fastrand::i64(SEEDS));
    Ok(Draft {
        account,
        scene,
        model,
        prompt,
        seed,
        reference_assets,
        request_id,
        request_sha256,
        retried_from: None,
        background,
    })
}

fn reference_assets(fields: &mut Fields, model: Option<&Model>, names: &[String]) -> Option<Vec<[u8; 32]>> {
    let most = model.map_or(usize::MAX, |model| model.reference_assets);
    if names.len() > most {
        fields
            .wrong("input.reference_assets", format_args!("must hold at most {most} names; it holds {}", names.len()));
        return None;
    }
    let mut assets = Vec::with_capacity(names.len());
    for (at, text) in names.iter().enumerate() {
        let field = format!("input.reference_assets[{at}]");
        match name::asset(text) {
            Ok(sha256) if assets.contains(&sha256) => fields.wrong(field, "must not be named twice"),
            read => assets.extend(fields.take(field, read)),
        }
    }
    (assets.len() == names.len()).then_some(assets)
}

/// Over all that the request asks for, in order, each part with its length.
fn hash(scene: SceneName, model: &Model, input: &Input, background: bool) -> [u8; 32] {
    let (scene, seed) = (scene.to_string(), input.seed.map(|seed| seed.to_string()).unwrap_or_default());
    let fixed = [scene.as_str(), model.id.as_str(), input.prompt.as_str(), seed.as_str()];
    let mut digest = Sha256::new();
    for part in fixed.into_iter().chain(input.reference_assets.iter().map(String::as_str)) {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    if background {
        digest.update(b"background");
    }
    digest.finalize().into()
}

/// The answer to a request that is only checked.
fn priced(request: StartGenerationRequest, draft: &Draft) -> Generation {
    Generation {
        scene: request.scene,
        model: model_name(&draft.model.id),
        input: request.input,
        charge: Some(Charge { held_micros: draft.model.price.get(), ..Charge::default() }),
        ..Generation::default()
    }
}

fn decoded<M: Message + Default>(encoded: Response<Bytes>) -> Result<Response<M>, Status> {
    Ok(Response::new(M::decode(encoded.into_inner()).map_err(chassis::status::Failure::internal)?))
}

fn wanted(account: AccountId, request: WatchGenerationsRequest) -> Result<Wanted, Error> {
    let mut fields = Fields::default();
    let selection = if request.names.is_empty() {
        if request.until_terminal {
            fields.wrong("until_terminal", "needs names");
        }
        fields.take("parent", GenerationParent::parse(&request.parent)).map(Selection::Of)
    } else {
        if !request.parent.is_empty() {
            fields.wrong("parent", "must be empty where names are given");
        }
        let ids = fields.generations("names", &request.names, 1, WATCHED);
        ids.map(|mut ids| {
            ids.sort_unstable();
            ids.dedup();
            Selection::Named(ids.into())
        })
    };
    let selection = fields.done(selection)?;
    let WatchGenerationsRequest { until_terminal, resume_token, .. } = request;
    Ok(Wanted { account, selection, until_terminal, resume_token })
}

fn shown(face: &Face, event: News) -> sent::Event {
    match event {
        News::Snapshot(records) => {
            let generations = records.iter().map(|record| face.generation(record)).collect();
            sent::Event::Snapshot(sent::Snapshot { generations })
        }
        News::Update(record) => sent::Event::Update(face.generation(&record)),
        News::Gap => sent::Event::Gap(sent::Gap {}),
        News::Heartbeat => sent::Event::Heartbeat(sent::Heartbeat {}),
        News::Moved => sent::Event::Moved(sent::Moved {}),
    }
}
