//! The handlers of GenerationService. GetGeneration and BatchGetGenerations answer with encoded bytes, from the cache where they
//! can.

use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use cache::remote::{self, Ask};
use chassis::encoded::Frames;
use chassis::fields::Fields;
use chassis::frames::{PREFIX, framed};
use chassis::request::actor::Actor;
use domain::id::{AccountId, GenerationId};
use domain::name::{GenerationParent, SceneName};
use futures::{Stream, StreamExt as _};
use prost::Message;
use proto::generations::v1 as api;
use proto::generations::v1::generation_service_server::GenerationService;
use tonic::{Request, Response, Status};

use super::fields::parse_note;
use super::filters;
use super::request::authenticated;
use super::starts::{parse_start, parse_starts};
use crate::error::{Error, Noun};
use crate::generations::Generations;
use crate::model::{Filter, JobEvent, ProviderCharge, Resolution};
use crate::pages::Pages;
use crate::presenter::{Presenter, timestamp};
use crate::watches::{Event as WatchEvent, Selection, SnapshotPart, Wanted, Watches};

/// The paths of the methods that are answered with encoded bytes.
pub(super) const GET_GENERATION: &str = "/rushes.generations.v1.GenerationService/GetGeneration";
pub(super) const WATCH_GENERATIONS: &str = "/rushes.generations.v1.GenerationService/WatchGenerations";
pub(super) const BATCH_GET_GENERATIONS: &str = "/rushes.generations.v1.GenerationService/BatchGetGenerations";
/// The field number of `BatchGetGenerationsResponse.generations`.
const GENERATIONS_FIELD: u32 = 1;
/// The field numbers of `WatchGenerationsResponse.snapshot`, of its `generations`, and of `WatchGenerationsResponse.update`.
const SNAPSHOT_FIELD: u32 = 1;
const SNAPSHOT_GENERATIONS_FIELD: u32 = 1;
const UPDATE_FIELD: u32 = 2;
/// How many names one batch may have.
const MAX_BATCH: usize = 100;
/// How large the answer to a batch may be: clients of gRPC take no larger message by default. It is refused and not shortened, since it
/// has no token by which the rest could be asked for.
const MAX_BATCH_BYTES: usize = 4 << 20;
/// How many names one watch may have.
const MAX_WATCHED: usize = 1_000;

/// The service over its rules.
#[derive(Clone)]
pub(crate) struct GenerationsApi {
    pub(crate) generations: Generations,
    pub(crate) watches: Watches,
    pub(crate) presenter: Presenter,
    pub(crate) pages: Pages,
}

impl GenerationsApi {
    /// The encoded events of a watch: between two of them a watch has no buffer of its own.
    pub(super) async fn watched(&self, request: Request<api::WatchGenerationsRequest>) -> Result<Frames, Status> {
        let (account, request) = authenticated(request)?;
        let events = self.watches.watch(parse_watch(account, request)?).await?;
        let presenter = self.presenter.clone();
        let frames = events.map(move |event| {
            let (event, resume_token) = event?;
            Ok(framed(&encode_event(&presenter, event, resume_token)))
        });
        Ok(frames.boxed())
    }

    /// The encoded generation.
    pub(super) async fn encoded(&self, request: Request<api::GetGenerationRequest>) -> Result<Response<Bytes>, Status> {
        let ask = Ask::of(request.metadata());
        let (account, request) = authenticated(request)?;
        let mut fields = Fields::default();
        let id = fields.take("name", GenerationId::from_name(&request.name));
        if request.min_version < 0 {
            fields.wrong("min_version", "must not be negative");
        }
        let id = fields.done(id)?;
        let answer = |body| Response::new(self.presenter.refresh(account, body));
        match ask {
            None => Ok(answer(self.generations.get(account, id, request.min_version).await?)),
            Some(Ask::Load) => {
                let loaded = self.generations.load_elsewhere(account, id).await?;
                let body = self.presenter.refresh(account, loaded.body.clone());
                remote::reply(&loaded, body, Error::NotFound(Noun::Generation))
            }
            Some(Ask::Answer) => {
                let (body, version) = self.generations.read(account, id, request.min_version).await?;
                let mut response = answer(body);
                if let Some(version) = version {
                    remote::write_version(version, response.metadata_mut());
                }
                Ok(response)
            }
        }
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
        let mut encoded = BytesMut::new();
        for (fits, body) in bodies.into_iter().enumerate() {
            let body = self.presenter.refresh(account, body);
            if encoded.len() + prost::encoding::bytes::encoded_len(GENERATIONS_FIELD, &body) > MAX_BATCH_BYTES {
                return Err(Error::AnswerTooLarge { fits }.into());
            }
            // On the wire a message field is its encoded bytes, so cached messages are appended without being decoded.
            prost::encoding::bytes::encode(GENERATIONS_FIELD, &body, &mut encoded);
        }
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
        let start = parse_start(&self.generations.catalogue().current(), account, &request)?;
        if request.validate_only {
            let new = self.generations.check_start(&start).await?;
            return Ok(Response::new(self.presenter.quote(&new)));
        }
        let generation = self.generations.start(&start).await?;
        Ok(Response::new(self.presenter.generation(&generation)))
    }

    async fn batch_start_generations(
        &self,
        request: Request<api::BatchStartGenerationsRequest>,
    ) -> Result<Response<api::BatchStartGenerationsResponse>, Status> {
        let (account, request) = authenticated(request)?;
        let (starts, validate_only) =
            parse_starts(&self.generations.catalogue().current(), account, &request.requests)?;
        let generations = if validate_only {
            let new = self.generations.check_start_all(&starts).await?;
            new.iter().map(|new| self.presenter.quote(new)).collect()
        } else {
            let started = self.generations.start_all(&starts).await?;
            started.iter().map(|generation| self.presenter.generation(generation)).collect()
        };
        Ok(Response::new(api::BatchStartGenerationsResponse { generations }))
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

    async fn delete_generation(&self, request: Request<api::DeleteGenerationRequest>) -> Result<Response<()>, Status> {
        let (account, request) = authenticated(request)?;
        let mut fields = Fields::default();
        let id = fields.take("name", GenerationId::from_name(&request.name));
        match self.generations.delete(account, fields.done(id)?).await {
            Err(Error::NotFound(_)) if request.allow_missing => {}
            deleted => deleted?,
        }
        Ok(Response::new(()))
    }

    async fn set_take(&self, request: Request<api::SetTakeRequest>) -> Result<Response<api::Take>, Status> {
        let (account, api::SetTakeRequest { scene, generation }) = authenticated(request)?;
        let mut fields = Fields::default();
        let name = fields.take("scene", SceneName::parse(&scene));
        let chosen = if generation.is_empty() {
            Some(None)
        } else {
            fields.take("generation", GenerationId::from_name(&generation)).map(Some)
        };
        let (name, chosen) = fields.done(name.zip(chosen))?;
        self.generations.set_take(account, name, chosen).await?;
        Ok(Response::new(api::Take {
            scene: name.to_string(),
            generation: chosen.map(GenerationId::name).unwrap_or_default(),
        }))
    }

    async fn list_generations(
        &self,
        request: Request<api::ListGenerationsRequest>,
    ) -> Result<Response<api::ListGenerationsResponse>, Status> {
        let (account, request) = authenticated(request)?;
        let mut fields = Fields::default();
        let parent = fields.take("parent", GenerationParent::parse(&request.parent));
        let filter = filters::parse(&mut fields, &request);
        let listing = match &filter {
            Some(filter) if *filter != Filter::default() => format!("generations/{}/{filter:?}", request.parent),
            _ => format!("generations/{}", request.parent),
        };
        let page = self.pages.parse(&mut fields, account, &listing, request.page_size, &request.page_token);
        let ((parent, filter), page) = fields.done(parent.zip(filter).zip(page))?;
        let (generations, next) = self.generations.list(account, parent, &filter, page).await?;
        Ok(Response::new(api::ListGenerationsResponse {
            generations: generations.iter().map(|generation| self.presenter.generation(generation)).collect(),
            next_page_token: self.pages.token(account, &listing, next),
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
        let page = self.pages.parse(&mut fields, account, &listing, request.page_size, &request.page_token);
        let (id, page) = fields.done(id.zip(page))?;
        let (events, next) = self.generations.events(account, id, page).await?;
        Ok(Response::new(api::ListGenerationEventsResponse {
            events: events.into_iter().map(event_to_proto).collect(),
            next_page_token: self.pages.token(account, &listing, next),
        }))
    }

    async fn resolve_generation(
        &self,
        request: Request<api::ResolveGenerationRequest>,
    ) -> Result<Response<api::Generation>, Status> {
        let actor = Actor::of(&request);
        let (account, id, resolution, note) = parse_resolve(request.into_inner())?;
        let generation = self.generations.resolve(account, id, &resolution, &note, None, &actor).await?;
        Ok(Response::new(self.presenter.generation(&generation)))
    }

    type WatchGenerationsStream = Pin<Box<dyn Stream<Item = Result<api::WatchGenerationsResponse, Status>> + Send>>;

    /// [`GenerationsApi::watched`] answers before this is reached; this is for a server without it.
    async fn watch_generations(
        &self,
        request: Request<api::WatchGenerationsRequest>,
    ) -> Result<Response<Self::WatchGenerationsStream>, Status> {
        let responses = self.watched(request).await?.map(|frame| decode(Response::new(frame?.slice(PREFIX..))));
        Ok(Response::new(Box::pin(responses.map(|response| response.map(Response::into_inner)))))
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

/// A [`api::WatchGenerationsResponse`]: what it has of generations is appended as it was encoded for all watchers.
fn encode_event(presenter: &Presenter, event: WatchEvent, resume_token: String) -> BytesMut {
    use api::watch_generations_response::{Event, Gap, Heartbeat, Moved, Snapshot};
    let mut encoded = BytesMut::new();
    let event = match event {
        WatchEvent::Snapshot(SnapshotPart { generations, number, more }) => {
            let mut snapshot = BytesMut::new();
            for shown in generations {
                prost::encoding::bytes::encode(SNAPSHOT_GENERATIONS_FIELD, &shown.encoded(presenter), &mut snapshot);
            }
            // The rest of its fields.
            snapshot.extend(Snapshot { generations: Vec::new(), part: number, more }.encode_to_vec());
            prost::encoding::bytes::encode(SNAPSHOT_FIELD, &snapshot.freeze(), &mut encoded);
            None
        }
        WatchEvent::Update(shown) => {
            prost::encoding::bytes::encode(UPDATE_FIELD, &shown.encoded(presenter), &mut encoded);
            None
        }
        WatchEvent::Gap => Some(Event::Gap(Gap {})),
        WatchEvent::Heartbeat => Some(Event::Heartbeat(Heartbeat {})),
        WatchEvent::Moved => Some(Event::Moved(Moved {})),
    };
    encoded.extend(api::WatchGenerationsResponse { event, resume_token }.encode_to_vec());
    encoded
}
