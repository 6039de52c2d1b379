//! The handlers of GenerationService. GetGeneration and BatchGetGenerations answer with encoded bytes, from the cache where they
//! can.

use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use chassis::fields::Fields;
use domain::id::{AccountId, GenerationId};
use domain::name::{self, GenerationParent, SceneName};
use domain::page;
use futures::{Stream, StreamExt as _};
use prost::Message;
use proto::generations::v1 as api;
use proto::generations::v1::generation_service_server::GenerationService;
use sha2::{Digest, Sha256};
use tonic::{Request, Response, Status};

use super::fields::{parse_note, parse_page};
use super::request::authenticated;
use crate::catalogue::Catalogue;
use crate::error::Error;
use crate::generations::Generations;
use crate::model::{JobEvent, MAX_PROMPT_CHARACTERS, Model, NewGeneration, ProviderCharge, Resolution};
use crate::presenter::{Presenter, model_name, timestamp};
use crate::watches::{Event as WatchEvent, Selection, SnapshotPart, Wanted, Watches};

/// The paths of the methods that are answered with encoded bytes.
pub(super) const GET_GENERATION: &str = "/rushes.generations.v1.GenerationService/GetGeneration";
pub(super) const BATCH_GET_GENERATIONS: &str = "/rushes.generations.v1.GenerationService/BatchGetGenerations";
/// The field number of `BatchGetGenerationsResponse.generations`.
const GENERATIONS_FIELD: u32 = 1;
/// How many names one batch may have.
const MAX_BATCH: usize = 100;
/// How many names one watch may have.
const MAX_WATCHED: usize = 1_000;
/// The range of seeds that we choose: every JSON reader can hold them.
const CHOSEN_SEEDS: std::ops::Range<i64> = 0..1 << 32;

/// The service over its rules.
#[derive(Clone)]
pub(crate) struct GenerationsApi {
    pub(crate) generations: Generations,
    pub(crate) watches: Watches,
    pub(crate) presenter: Presenter,
}

impl GenerationsApi {
    /// The encoded generation.
    pub(super) async fn encoded(&self, request: Request<api::GetGenerationRequest>) -> Result<Response<Bytes>, Status> {
        let (account, request) = authenticated(request)?;
        let mut fields = Fields::default();
        let id = fields.take("name", GenerationId::from_name(&request.name));
        if request.min_version < 0 {
            fields.wrong("min_version", "must not be negative");
        }
        let id = fields.done(id)?;
        let encoded = self.generations.get(account, id, request.min_version).await?;
        Ok(Response::new(self.presenter.refresh(account, encoded)))
    }

    /// The encoded answer to a batch: its generations, each as it is cached.
    pub(super) async fn batch_encoded(
        &self,
        request: Request<api::BatchGetGenerationsRequest>,
    ) -> Result<Response<Bytes>, Status> {
        let (account, request) = authenticated(request)?;
        let mut fields = Fields::default();
        let ids = fields.each("names", &request.names, 1, MAX_BATCH, |name| GenerationId::from_name(name));
        let bodies = self.generations.batch(account, &fields.done(ids)?).await?;
        let bodies: Vec<_> = bodies.into_iter().map(|body| self.presenter.refresh(account, body)).collect();
        let mut encoded = BytesMut::new();
        // On the wire a message field is its encoded bytes, so cached messages are appended without being decoded.
        prost::encoding::bytes::encode_repeated(GENERATIONS_FIELD, &bodies, &mut encoded);
        Ok(Response::new(encoded.freeze()))
    }
}

#[tonic::async_trait]
impl GenerationService for GenerationsApi {
    async fn start_generation(
        &self,
        request: Request<api::StartGenerationRequest>,
    ) -> Result<Response<api::Generation>, Status> {
        let (account, request) = authenticated(request)?;
        let new = parse_start(self.generations.catalogue(), account, &request)?;
        if request.validate_only {
            self.generations.check_start(&new).await?;
            return Ok(Response::new(price_to_proto(request, &new)));
        }
        let generation = self.generations.start(&new).await?;
        Ok(Response::new(self.presenter.generation(&generation)))
    }

    /// Reached only by a server that is built without the route of [`GenerationsApi::encoded`].
    async fn get_generation(
        &self,
        request: Request<api::GetGenerationRequest>,
    ) -> Result<Response<api::Generation>, Status> {
        decode(self.encoded(request).await?)
    }

    async fn batch_get_generations(
        &self,
        request: Request<api::BatchGetGenerationsRequest>,
    ) -> Result<Response<api::BatchGetGenerationsResponse>, Status> {
        decode(self.batch_encoded(request).await?)
    }

    async fn list_generations(
        &self,
        request: Request<api::ListGenerationsRequest>,
    ) -> Result<Response<api::ListGenerationsResponse>, Status> {
        let (account, request) = authenticated(request)?;
        let listing = format!("generations/{}", request.parent);
        let mut fields = Fields::default();
        let parent = fields.take("parent", GenerationParent::parse(&request.parent));
        let page = parse_page(&mut fields, account, &listing, request.page_size, &request.page_token);
        let (parent, page) = fields.done(parent.zip(page))?;
        let (generations, next) = self.generations.list(account, parent, page).await?;
        Ok(Response::new(api::ListGenerationsResponse {
            generations: generations.iter().map(|generation| self.presenter.generation(generation)).collect(),
            next_page_token: next.map(|cursor| page::token(account, &listing, cursor)).unwrap_or_default(),
        }))
    }

    async fn cancel_generation(
        &self,
        request: Request<api::CancelGenerationRequest>,
    ) -> Result<Response<api::Generation>, Status> {
        let (account, request) = authenticated(request)?;
        let mut fields = Fields::default();
        let id = fields.take("name", GenerationId::from_name(&request.name));
        let generation = self.generations.cancel(account, fields.done(id)?).await?;
        Ok(Response::new(self.presenter.generation(&generation)))
    }

    async fn retry_generation(
        &self,
        request: Request<api::RetryGenerationRequest>,
    ) -> Result<Response<api::Generation>, Status> {
        let (account, request) = authenticated(request)?;
        let mut fields = Fields::default();
        let id = fields.take("name", GenerationId::from_name(&request.name));
        let request_id = fields.required_request_id(&request.request_id);
        let (id, request_id) = fields.done(id.zip(request_id))?;
        let generation = self.generations.retry(account, id, request_id).await?;
        Ok(Response::new(self.presenter.generation(&generation)))
    }

    async fn list_generation_events(
        &self,
        request: Request<api::ListGenerationEventsRequest>,
    ) -> Result<Response<api::ListGenerationEventsResponse>, Status> {
        let (account, request) = authenticated(request)?;
        let listing = format!("events/{}", request.name);
        let mut fields = Fields::default();
        let id = fields.take("name", GenerationId::from_name(&request.name));
        let page = parse_page(&mut fields, account, &listing, request.page_size, &request.page_token);
        let (id, page) = fields.done(id.zip(page))?;
        let (events, next) = self.generations.events(account, id, page).await?;
        Ok(Response::new(api::ListGenerationEventsResponse {
            events: events.into_iter().map(event_to_proto).collect(),
            next_page_token: next.map(|cursor| page::token(account, &listing, cursor)).unwrap_or_default(),
        }))
    }

    async fn resolve_generation(
        &self,
        request: Request<api::ResolveGenerationRequest>,
    ) -> Result<Response<api::Generation>, Status> {
        let (account, id, resolution, note) = parse_resolve(request.into_inner())?;
        let generation = self.generations.resolve(account, id, &resolution, &note, None).await?;
        Ok(Response::new(self.presenter.generation(&generation)))
    }

    type WatchGenerationsStream = Pin<Box<dyn Stream<Item = Result<api::WatchGenerationsResponse, Status>> + Send>>;

    async fn watch_generations(
        &self,
        request: Request<api::WatchGenerationsRequest>,
    ) -> Result<Response<Self::WatchGenerationsStream>, Status> {
        let (account, request) = authenticated(request)?;
        let events = self.watches.watch(parse_watch(account, request)?).await?;
        let presenter = self.presenter.clone();
        let responses = events.map(move |event| {
            let (event, resume_token) = event?;
            Ok(api::WatchGenerationsResponse { event: Some(watch_event_to_proto(&presenter, event)), resume_token })
        });
        Ok(Response::new(Box::pin(responses)))
    }
}

fn event_to_proto(event: JobEvent) -> api::GenerationEvent {
    api::GenerationEvent {
        time: Some(timestamp(event.time)),
        from_state: event.from_state,
        to_state: event.to_state,
        attempt: event.attempt,
        cause: event.cause,
    }
}

fn parse_resolve(
    request: api::ResolveGenerationRequest,
) -> Result<(AccountId, GenerationId, Resolution, String), Error> {
    let mut fields = Fields::default();
    let account = fields.take("account", AccountId::from_name(&request.account));
    let id = fields.take("name", GenerationId::from_name(&request.name));
    let note = parse_note(&mut fields, &request.note);
    let resolution = request.resolution.and_then(parse_resolution);
    if resolution.is_none() {
        fields.wrong("resolution", "must be a provider_reference, failed with a provider_charge, or requeue");
    }
    let (((account, id), resolution), note) = fields.done(account.zip(id).zip(resolution).zip(note))?;
    Ok((account, id, resolution, note))
}

pub(super) fn parse_resolution(resolution: api::resolve_generation_request::Resolution) -> Option<Resolution> {
    use api::charge::ProviderCharge as Charge;
    use api::resolve_generation_request::Resolution as Wanted;
    match resolution {
        Wanted::ProviderReference(reference) if !reference.is_empty() => Some(Resolution::Reference(reference)),
        Wanted::Failed(charge) => match Charge::try_from(charge) {
            Ok(Charge::NotCharged) => Some(Resolution::Failed(ProviderCharge::NotCharged)),
            Ok(Charge::Charged) => Some(Resolution::Failed(ProviderCharge::Charged)),
            Ok(Charge::Unknown) => Some(Resolution::Failed(ProviderCharge::Unknown)),
            _ => None,
        },
        Wanted::Requeue(true) => Some(Resolution::Requeue),
        _ => None,
    }
}

fn parse_start(
    catalogue: &Catalogue,
    account: AccountId,
    request: &api::StartGenerationRequest,
) -> Result<NewGeneration, Error> {
    let mut fields = Fields::default();
    let input = request.input.clone().unwrap_or_default();
    let scene = fields.take("scene", SceneName::parse(&request.scene));
    let model = catalogue.find(&request.model).cloned();
    if model.is_none() {
        let known: Vec<_> = catalogue.all().iter().map(|model| model_name(&model.id)).collect();
        fields.wrong("model", format_args!("must be one of {}, or empty", known.join(", ")));
    }
    let max_characters = model.as_ref().map_or(MAX_PROMPT_CHARACTERS, |model| model.prompt_characters);
    let prompt = fields.filled_text("input.prompt", input.prompt.clone(), max_characters);
    let assets = parse_reference_assets(&mut fields, model.as_deref(), &input.reference_assets);
    if input.seed.is_some() && model.as_ref().is_some_and(|model| !model.seed) {
        fields.wrong("input.seed", "must be unset, since this model takes no seed");
    }
    // A check starts nothing, so a repetition of it needs no id.
    let request_id = match request.request_id.as_str() {
        "" if request.validate_only => Some(uuid::Uuid::nil()),
        text => fields.required_request_id(text),
    };
    if api::start_generation_request::Priority::try_from(request.priority).is_err() {
        fields.wrong("priority", "must be NORMAL, BACKGROUND, or unset");
    }
    let read = scene.zip(model).zip(prompt).zip(assets).zip(request_id);
    let ((((scene, model), prompt), reference_assets), request_id) = fields.done(read)?;
    let background = request.priority() == api::start_generation_request::Priority::Background;
    let request_sha256 = hash_request(scene, &model, &input, background);
    let seed = model.seed.then(|| input.seed.unwrap_or_else(|| fastrand::i64(CHOSEN_SEEDS)));
    Ok(NewGeneration {
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

fn parse_reference_assets(fields: &mut Fields, model: Option<&Model>, names: &[String]) -> Option<Vec<[u8; 32]>> {
    let max = model.map_or(MAX_BATCH, |model| model.reference_assets);
    let asked = fields.bounded("input.reference_assets", names, max);
    let mut assets = Vec::with_capacity(asked.len());
    for (at, text) in asked.iter().enumerate() {
        let field = format!("input.reference_assets[{at}]");
        match name::asset(text) {
            Ok(sha256) if assets.contains(&sha256) => fields.wrong(field, "must not be named twice"),
            read => assets.extend(fields.take(field, read)),
        }
    }
    (assets.len() == names.len()).then_some(assets)
}

/// The hash of all that a start asks for. Each part comes with its length, so that no two requests have the same bytes.
fn hash_request(scene: SceneName, model: &Model, input: &api::Input, background: bool) -> [u8; 32] {
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

/// The answer to a request with `validate_only`.
fn price_to_proto(request: api::StartGenerationRequest, new: &NewGeneration) -> api::Generation {
    api::Generation {
        scene: request.scene,
        model: model_name(&new.model.id),
        input: request.input,
        charge: Some(api::Charge { held_micros: new.model.price.get(), ..api::Charge::default() }),
        ..api::Generation::default()
    }
}

fn decode<M: Message + Default>(encoded: Response<Bytes>) -> Result<Response<M>, Status> {
    Ok(Response::new(M::decode(encoded.into_inner()).map_err(chassis::status::Failure::internal)?))
}

fn parse_watch(account: AccountId, request: api::WatchGenerationsRequest) -> Result<Wanted, Error> {
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
        let ids = fields.each("names", &request.names, 1, MAX_WATCHED, |name| GenerationId::from_name(name));
        ids.map(|mut ids| {
            ids.sort_unstable();
            ids.dedup();
            Selection::Named(ids.into())
        })
    };
    let selection = fields.done(selection)?;
    let api::WatchGenerationsRequest { until_terminal, resume_token, .. } = request;
    Ok(Wanted { account, selection, until_terminal, resume_token })
}

fn watch_event_to_proto(presenter: &Presenter, event: WatchEvent) -> api::watch_generations_response::Event {
    use api::watch_generations_response as sent;
    match event {
        WatchEvent::Snapshot(SnapshotPart { generations, number, more }) => {
            let generations = generations.iter().map(|generation| presenter.generation(generation)).collect();
            sent::Event::Snapshot(sent::Snapshot { generations, part: number, more })
        }
        WatchEvent::Update(generation) => sent::Event::Update(presenter.generation(&generation)),
        WatchEvent::Gap => sent::Event::Gap(sent::Gap {}),
        WatchEvent::Heartbeat => sent::Event::Heartbeat(sent::Heartbeat {}),
        WatchEvent::Moved => sent::Event::Moved(sent::Moved {}),
    }
}
