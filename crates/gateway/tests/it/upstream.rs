//! The services behind the gateway, as small as a test needs them: they record what reached them.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use chassis::{
    drain::Drain,
    identity::{self, By, Identities, Identity},
    keyring::InternalKeys,
    request::{deadline, token},
    server,
    server::Server,
};
use futures::{Stream, StreamExt as _};
use http::HeaderMap;
use proto::{
    accounts::v1::{
        Account, ApiKey, AuthenticateApiKeyRequest, CreateAccountRequest, CreateApiKeyRequest, CreateApiKeyResponse,
        EraseAccountRequest, GetAccountRequest, GetOwnAccountRequest, GetOwnAccountResponse, ReactivateAccountRequest,
        RevokeApiKeyRequest, RevokeApiKeyResponse, SetAccountLimitsRequest, SuspendAccountRequest, UpdateApiKeyRequest,
        account_service_server,
    },
    assets::v1::{
        Asset, DeleteAssetRequest, GetAssetRequest, GetStorageUseRequest, ListAssetsRequest, ListAssetsResponse,
        RegisterOutputRequest, RegisterOutputResponse, RenderThumbnailRequest, StorageUse, Thumbnail,
        UploadAssetRequest, asset_service_server, upload_asset_request::Part,
    },
    generations::v1::watch_generations_response::{Event, Heartbeat},
    generations::v1::{self as generations, generation_service_server},
    work::v1::{ReceiveHookRequest, ReceiveHookResponse, hook_service_server},
};
use testkit::INTERNAL_KEYS;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, codec::CompressionEncoding, service::Routes};
use uuid::Uuid;

/// The calls that the services got, and the answers that they give.
#[derive(Debug, Default)]
pub(crate) struct Upstream {
    /// By SHA-256.
    pub(crate) keys: Mutex<HashMap<Vec<u8>, ApiKey>>,
    pub(crate) authentications: AtomicUsize,
    pub(crate) dashboard: Mutex<DashboardMood>,
    /// The metadata of each call but authentications, in order.
    pub(crate) calls: Mutex<Vec<HeaderMap>>,
    /// What a reply carries as the token of the caller's writes, in the place of those of the call.
    pub(crate) token: Mutex<Option<Vec<u8>>>,
    pub(crate) hooks: Mutex<Vec<ReceiveHookRequest>>,
    /// Lets a watch send its second event.
    pub(crate) next: Notify,
    /// How many watches with the token `slow` are being opened; each of them waits for `answer`.
    pub(crate) opening: AtomicUsize,
    /// Lets those watches open, and those calls end that wait for it.
    pub(crate) answer: CancellationToken,
    /// How many events of a kilobyte the watch with the token `endless` has given away, which sends them for as long as they are taken.
    pub(crate) taken: AtomicUsize,
}

/// How dashboard answers about keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum DashboardMood {
    #[default]
    Well,
    /// It never answers about a key that it does not have.
    HangsOnUnknown,
    /// It refuses, since it has too much to do.
    Full,
    /// Each answer takes this many milliseconds.
    Slow(u64),
}

#[derive(Clone, Debug)]
pub(crate) struct Services(pub(crate) Arc<Upstream>);

impl Services {
    /// Serves all of them on one port until `drain`.
    pub(crate) async fn serve(&self, drain: Drain) -> http::Uri {
        let settings = server::Settings::FREE;
        let streams = proto::METHODS.iter().filter(|method| method.client_streaming || method.server_streaming);
        let server = Server::new("upstream", &settings)
            .describe(proto::DESCRIPTOR_SET)
            .streaming(streams.map(|method| method.path));
        let bound = server.bind().await.unwrap();
        let uri = format!("http://{}", bound.addr()).parse().unwrap();
        let gzip = CompressionEncoding::Gzip;
        let assets = asset_service_server::AssetServiceServer::new(self.clone());
        let generations = generation_service_server::GenerationServiceServer::new(self.clone());
        let routes = Routes::new(account_service_server::AccountServiceServer::new(self.clone()))
            .add_service(assets.accept_compressed(gzip).send_compressed(gzip))
            .add_service(generations.send_compressed(gzip))
            .add_service(hook_service_server::HookServiceServer::new(self.clone()));
        tokio::spawn(async move { bound.serve(routes, drain).await.unwrap() });
        uri
    }

    /// The account on whose behalf the gateway says that it calls.
    fn record<T>(&self, request: &Request<T>) -> Result<Uuid, Status> {
        let headers = request.metadata().clone().into_headers();
        let account = account(&headers);
        self.0.calls.lock().unwrap().push(headers);
        account
    }
}

/// What the token in these headers says to the service that it is for; one that holds for none, nothing.
pub(crate) fn identity(headers: &HeaderMap) -> Option<(&'static str, Identity<'_>)> {
    let token = headers.get(identity::HEADER)?;
    let identities = Identities::new(&InternalKeys::parse(INTERNAL_KEYS).unwrap());
    let now = std::time::SystemTime::now();
    let services = ["dashboard", "generation-status", "thumbnail-worker", "generation-worker"];
    services.into_iter().find_map(|service| Some((service, identities.verify(token, service, now).ok()?)))
}

fn assert_called_by_gateway<T>(request: &Request<T>, service: &str) {
    let headers = request.metadata().as_ref();
    let by_gateway = Identity { account: None, by: By::Service("gateway") };
    assert_eq!(identity(headers), Some((service, by_gateway)), "{headers:?}");
}

fn account(headers: &HeaderMap) -> Result<Uuid, Status> {
    let account = match identity(headers) {
        Some((_, Identity { account, by: By::Key { .. } })) => account,
        _ => None,
    };
    account.ok_or_else(|| Status::unauthenticated("the gateway has shown no key"))
}

#[tonic::async_trait]
impl account_service_server::AccountService for Services {
    async fn create_account(&self, _: Request<CreateAccountRequest>) -> Result<Response<Account>, Status> {
        Err(Status::internal("the gateway let an internal method through"))
    }

    async fn create_api_key(&self, _: Request<CreateApiKeyRequest>) -> Result<Response<CreateApiKeyResponse>, Status> {
        Err(Status::internal("the gateway let an internal method through"))
    }

    async fn revoke_api_key(&self, _: Request<RevokeApiKeyRequest>) -> Result<Response<RevokeApiKeyResponse>, Status> {
        Err(Status::internal("the gateway let an internal method through"))
    }

    async fn update_api_key(&self, _: Request<UpdateApiKeyRequest>) -> Result<Response<ApiKey>, Status> {
        Err(Status::internal("the gateway let an internal method through"))
    }

    /// Records the call, so that tests see who calls, as a service has it.
    async fn get_account(&self, request: Request<GetAccountRequest>) -> Result<Response<Account>, Status> {
        self.record(&request)?;
        let display_name = match identity(request.metadata().as_ref()) {
            Some((_, Identity { account: Some(account), by: By::Key { id, .. } })) => {
                format!("accounts/{account}/apiKeys/{id}")
            }
            _ => String::new(),
        };
        Ok(Response::new(Account { display_name, ..Account::default() }))
    }

    async fn suspend_account(&self, _: Request<SuspendAccountRequest>) -> Result<Response<Account>, Status> {
        Err(Status::unimplemented("not in these tests"))
    }

    async fn reactivate_account(&self, _: Request<ReactivateAccountRequest>) -> Result<Response<Account>, Status> {
        Err(Status::unimplemented("not in these tests"))
    }

    async fn set_account_limits(&self, _: Request<SetAccountLimitsRequest>) -> Result<Response<Account>, Status> {
        Err(Status::unimplemented("not in these tests"))
    }

    async fn erase_account(&self, _: Request<EraseAccountRequest>) -> Result<Response<Account>, Status> {
        Err(Status::unimplemented("not in these tests"))
    }

    async fn get_own_account(
        &self,
        _: Request<GetOwnAccountRequest>,
    ) -> Result<Response<GetOwnAccountResponse>, Status> {
        Err(Status::unimplemented("not in these tests"))
    }

    async fn authenticate_api_key(
        &self,
        request: Request<AuthenticateApiKeyRequest>,
    ) -> Result<Response<ApiKey>, Status> {
        assert_called_by_gateway(&request, "dashboard");
        self.0.authentications.fetch_add(1, Ordering::SeqCst);
        let hash = request.into_inner().key_sha256;
        let key = self.0.keys.lock().unwrap().get(&hash).cloned();
        let mood = *self.0.dashboard.lock().unwrap();
        match mood {
            DashboardMood::HangsOnUnknown if key.is_none() => std::future::pending::<()>().await,
            DashboardMood::Full => return Err(Status::resource_exhausted("too many calls at once")),
            DashboardMood::Slow(ms) => tokio::time::sleep(std::time::Duration::from_millis(ms)).await,
            DashboardMood::HangsOnUnknown | DashboardMood::Well => {}
        }
        key.map(Response::new).ok_or_else(|| Status::not_found("no such key"))
    }
}

#[tonic::async_trait]
impl asset_service_server::AssetService for Services {
    /// Returns how many bytes came.
    async fn upload_asset(
        &self,
        request: Request<tonic::Streaming<UploadAssetRequest>>,
    ) -> Result<Response<Asset>, Status> {
        self.record(&request)?;
        let mut parts = request.into_inner();
        let mut size_bytes = 0;
        while let Some(message) = parts.message().await? {
            if let Some(Part::Chunk(chunk)) = message.part {
                size_bytes += i64::try_from(chunk.len()).unwrap();
            }
        }
        Ok(Response::new(Asset { size_bytes, ..Asset::default() }))
    }

    /// Echoes the name, the account as type, and the milliseconds left as size; `assets/slow` never answers.
    async fn get_asset(&self, request: Request<GetAssetRequest>) -> Result<Response<Asset>, Status> {
        let account = self.record(&request)?;
        let name = request.into_inner().name;
        if name == "assets/slow" {
            std::future::pending::<()>().await;
        }
        let left = deadline::remaining().expect("a deadline");
        // As a write does, the reply returns the tokens of the call.
        for presented in token::presented() {
            token::update_reply(|_| presented.to_vec());
        }
        if let Some(token) = self.0.token.lock().unwrap().clone() {
            token::update_reply(|_| token);
        }
        Ok(Response::new(Asset {
            name,
            mime_type: account.to_string(),
            size_bytes: i64::try_from(left.as_millis()).unwrap(),
            ..Asset::default()
        }))
    }

    async fn list_assets(&self, request: Request<ListAssetsRequest>) -> Result<Response<ListAssetsResponse>, Status> {
        self.record(&request)?;
        Ok(Response::new(ListAssetsResponse::default()))
    }

    async fn delete_asset(&self, request: Request<DeleteAssetRequest>) -> Result<Response<()>, Status> {
        self.record(&request)?;
        Ok(Response::new(()))
    }

    async fn get_storage_use(&self, request: Request<GetStorageUseRequest>) -> Result<Response<StorageUse>, Status> {
        self.record(&request)?;
        Ok(Response::new(StorageUse::default()))
    }

    async fn render_thumbnail(&self, request: Request<RenderThumbnailRequest>) -> Result<Response<Thumbnail>, Status> {
        self.record(&request)?;
        Ok(Response::new(Thumbnail::default()))
    }

    async fn register_output(
        &self,
        _: Request<RegisterOutputRequest>,
    ) -> Result<Response<RegisterOutputResponse>, Status> {
        Err(Status::internal("the gateway let an internal method through"))
    }
}

type Watch = std::pin::Pin<Box<dyn Stream<Item = Result<generations::WatchGenerationsResponse, Status>> + Send>>;

#[tonic::async_trait]
impl generation_service_server::GenerationService for Services {
    type WatchGenerationsStream = Watch;

    /// One event at once, another when [`Upstream::next`] says so, and then no more.
    async fn watch_generations(
        &self,
        request: Request<generations::WatchGenerationsRequest>,
    ) -> Result<Response<Watch>, Status> {
        self.record(&request)?;
        if request.get_ref().resume_token == "slow" {
            self.0.opening.fetch_add(1, Ordering::SeqCst);
            self.0.answer.cancelled().await;
            self.0.opening.fetch_sub(1, Ordering::SeqCst);
        }
        let upstream = self.0.clone();
        let event = |token: &str| generations::WatchGenerationsResponse {
            event: Some(Event::Heartbeat(Heartbeat {})),
            resume_token: token.to_owned(),
        };
        if request.get_ref().resume_token == "endless" {
            let endless = futures::stream::repeat_with(move || {
                upstream.taken.fetch_add(1, Ordering::SeqCst);
                Ok(event(&"x".repeat(1 << 10)))
            });
            return Ok(Response::new(endless.boxed()));
        }
        let first = futures::stream::once(async move { Ok(event("first")) });
        let second = futures::stream::once(async move {
            upstream.next.notified().await;
            Ok(event("second"))
        });
        Ok(Response::new(first.chain(second).boxed()))
    }

    async fn start_generation(
        &self,
        _: Request<generations::StartGenerationRequest>,
    ) -> Result<Response<generations::Generation>, Status> {
        Err(Status::unimplemented("not in these tests"))
    }

    async fn batch_start_generations(
        &self,
        _: Request<generations::BatchStartGenerationsRequest>,
    ) -> Result<Response<generations::BatchStartGenerationsResponse>, Status> {
        Err(Status::unimplemented("not in these tests"))
    }

    /// Waits for [`Upstream::answer`].
    async fn get_generation(
        &self,
        request: Request<generations::GetGenerationRequest>,
    ) -> Result<Response<generations::Generation>, Status> {
        self.record(&request)?;
        self.0.answer.cancelled().await;
        Ok(Response::new(generations::Generation::default()))
    }

    async fn batch_get_generations(
        &self,
        _: Request<generations::BatchGetGenerationsRequest>,
    ) -> Result<Response<generations::BatchGetGenerationsResponse>, Status> {
        Err(Status::unimplemented("not in these tests"))
    }

    async fn list_generations(
        &self,
        _: Request<generations::ListGenerationsRequest>,
    ) -> Result<Response<generations::ListGenerationsResponse>, Status> {
        Err(Status::unimplemented("not in these tests"))
    }

    /// Waits for [`Upstream::answer`].
    async fn cancel_generation(
        &self,
        request: Request<generations::CancelGenerationRequest>,
    ) -> Result<Response<generations::Generation>, Status> {
        self.record(&request)?;
        self.0.answer.cancelled().await;
        Ok(Response::new(generations::Generation::default()))
    }

    async fn delete_generation(
        &self,
        _: Request<generations::DeleteGenerationRequest>,
    ) -> Result<Response<()>, Status> {
        Err(Status::unimplemented("not in these tests"))
    }

    async fn set_take(&self, _: Request<generations::SetTakeRequest>) -> Result<Response<generations::Take>, Status> {
        Err(Status::unimplemented("not in these tests"))
    }

    async fn retry_generation(
        &self,
        _: Request<generations::RetryGenerationRequest>,
    ) -> Result<Response<generations::Generation>, Status> {
        Err(Status::unimplemented("not in these tests"))
    }

    async fn list_generation_events(
        &self,
        _: Request<generations::ListGenerationEventsRequest>,
    ) -> Result<Response<generations::ListGenerationEventsResponse>, Status> {
        Err(Status::unimplemented("not in these tests"))
    }

    async fn resolve_generation(
        &self,
        _: Request<generations::ResolveGenerationRequest>,
    ) -> Result<Response<generations::Generation>, Status> {
        Err(Status::unimplemented("not in these tests"))
    }
}

#[tonic::async_trait]
impl hook_service_server::HookService for Services {
    /// Accepts `known`, is unavailable for `away`, refuses all others, and records every hook.
    async fn receive_hook(
        &self,
        request: Request<ReceiveHookRequest>,
    ) -> Result<Response<ReceiveHookResponse>, Status> {
        assert_called_by_gateway(&request, "generation-worker");
        let hook = request.into_inner();
        let answer = match hook.provider.as_str() {
            "known" => Ok(Response::new(ReceiveHookResponse {})),
            "away" => Err(Status::unavailable("restarting")),
            _ => Err(Status::unauthenticated("not verified")),
        };
        self.0.hooks.lock().unwrap().push(hook);
        answer
    }
}
