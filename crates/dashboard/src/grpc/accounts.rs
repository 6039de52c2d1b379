//! AccountService: for operators and the gateway. Its internal methods come past the gateway and ask for no caller; who called is stored
//! with what they did all the same.

use bytes::Bytes;
use chassis::fields::Fields;
use chassis::request::actor::Actor;
use domain::id::AccountId;
use domain::name::ApiKeyName;
use domain::network::Network;
use domain::page::Page;
use prost::Message as _;
use prost_types::Timestamp;
use proto::accounts::v1::account_service_server::AccountService;
use proto::accounts::v1::{
    Account, ApiKey, AuthenticateApiKeyRequest, CreateAccountRequest, CreateApiKeyRequest, CreateApiKeyResponse,
    EraseAccountRequest, GetAccountRequest, GetOwnAccountRequest, GetOwnAccountResponse, ReactivateAccountRequest,
    RevokeApiKeyRequest, RevokeApiKeyResponse, SetAccountLimitsRequest, SuspendAccountRequest, UpdateApiKeyRequest,
};
use time::OffsetDateTime;
use tonic::{Request, Response, Status};

use super::limits::parse_limits;
use super::request::{MAX_EMAIL, MAX_NOTE, MAX_TITLE, unpack};
use crate::accounts::Accounts;
use crate::cache::CachedKeys;
use crate::error::Error;
use crate::model::{API_KEYS_LISTING, NewApiKey, OPERATE, Profile, SCOPES};
use crate::pages::Pages;
use crate::presenter;

/// The path of the method that is answered with encoded bytes.
pub(super) const AUTHENTICATE: &str = "/rushes.accounts.v1.AccountService/AuthenticateApiKey";
/// How many networks a key is bound to at most.
const MAX_NETWORKS: usize = 32;

/// The service over its rules.
#[derive(Clone)]
pub(crate) struct AccountsApi {
    pub(crate) accounts: Accounts,
    pub(crate) keys: CachedKeys,
    pub(crate) pages: Pages,
}

impl AccountsApi {
    /// The encoded key.
    pub(super) async fn encoded(&self, request: Request<AuthenticateApiKeyRequest>) -> Result<Response<Bytes>, Status> {
        let sha256 = parse_authenticate(request.get_ref())?;
        Ok(Response::new(self.keys.read(sha256).await?))
    }
}

#[tonic::async_trait]
impl AccountService for AccountsApi {
    async fn create_account(&self, request: Request<CreateAccountRequest>) -> Result<Response<Account>, Status> {
        let actor = Actor::of(&request);
        let profile = parse_create_account(request.into_inner())?;
        let account = self.accounts.create(profile, &actor).await?;
        Ok(Response::new(presenter::account_to_proto(account)))
    }

    async fn create_api_key(
        &self,
        request: Request<CreateApiKeyRequest>,
    ) -> Result<Response<CreateApiKeyResponse>, Status> {
        let (account, new) = parse_create_api_key(request.get_ref())?;
        let (key, secret) = self.accounts.create_key(account, new, &Actor::of(&request)).await?;
        let api_key = Some(presenter::api_key_to_proto(key));
        Ok(Response::new(CreateApiKeyResponse { api_key, secret: secret.reveal().to_owned() }))
    }

    async fn update_api_key(&self, request: Request<UpdateApiKeyRequest>) -> Result<Response<ApiKey>, Status> {
        let (name, networks) = parse_update(request.get_ref())?;
        let key = self.accounts.update_key(name, &networks, &Actor::of(&request)).await?;
        Ok(Response::new(presenter::api_key_to_proto(key)))
    }

    async fn revoke_api_key(
        &self,
        request: Request<RevokeApiKeyRequest>,
    ) -> Result<Response<RevokeApiKeyResponse>, Status> {
        let name = parse_revoke(request.get_ref())?;
        let key = self.accounts.revoke_key(name, &Actor::of(&request)).await?;
        Ok(Response::new(RevokeApiKeyResponse { api_key: Some(presenter::api_key_to_proto(key)) }))
    }

    async fn get_account(&self, request: Request<GetAccountRequest>) -> Result<Response<Account>, Status> {
        let account = self.accounts.get(parse_account(&request.get_ref().name)?).await?;
        Ok(Response::new(presenter::account_to_proto(account)))
    }

    async fn suspend_account(&self, request: Request<SuspendAccountRequest>) -> Result<Response<Account>, Status> {
        let actor = Actor::of(&request);
        let (by, request) = unpack(request)?;
        let (account, note) = parse_suspend(request)?;
        let account = self.accounts.suspend(account, &note, by, &actor).await?;
        Ok(Response::new(presenter::account_to_proto(account)))
    }

    async fn reactivate_account(
        &self,
        request: Request<ReactivateAccountRequest>,
    ) -> Result<Response<Account>, Status> {
        let account = parse_account(&request.get_ref().name)?;
        let account = self.accounts.reactivate(account, &Actor::of(&request)).await?;
        Ok(Response::new(presenter::account_to_proto(account)))
    }

    async fn set_account_limits(&self, request: Request<SetAccountLimitsRequest>) -> Result<Response<Account>, Status> {
        let (account, limits) = parse_limits(request.get_ref())?;
        let account = self.accounts.set_limits(account, limits, &Actor::of(&request)).await?;
        Ok(Response::new(presenter::account_to_proto(account)))
    }

    async fn erase_account(&self, request: Request<EraseAccountRequest>) -> Result<Response<Account>, Status> {
        let actor = Actor::of(&request);
        let (by, request) = unpack(request)?;
        let account = self.accounts.erase(parse_erase(&request)?, by, &actor).await?;
        Ok(Response::new(presenter::account_to_proto(account)))
    }

    async fn get_own_account(
        &self,
        request: Request<GetOwnAccountRequest>,
    ) -> Result<Response<GetOwnAccountResponse>, Status> {
        let (account, request) = unpack(request)?;
        let page = parse_own(&self.pages, account, &request)?;
        let (found, keys, next) = self.accounts.own(account, page).await?;
        Ok(Response::new(GetOwnAccountResponse {
            account: Some(presenter::account_to_proto(found)),
            api_keys: keys.into_iter().map(presenter::api_key_to_proto).collect(),
            next_page_token: self.pages.token(account, API_KEYS_LISTING, next),
        }))
    }

    /// [`AccountsApi::encoded`] answers before this is reached; this is for a server without it.
    async fn authenticate_api_key(
        &self,
        request: Request<AuthenticateApiKeyRequest>,
    ) -> Result<Response<ApiKey>, Status> {
        let encoded = self.encoded(request).await?.into_inner();
        let key = ApiKey::decode(encoded).map_err(chassis::status::Failure::internal)?;
        Ok(Response::new(key))
    }
}

fn parse_create_account(request: CreateAccountRequest) -> Result<Profile, Error> {
    let mut fields = Fields::default();
    let Account { display_name, email, .. } = request.account.unwrap_or_default();
    let display_name = fields.line("account.display_name", display_name, MAX_TITLE);
    // An account needs no address: operators make some for machines.
    let email = match email.is_empty() {
        true => Some(email),
        false => fields.line("account.email", email, MAX_EMAIL),
    };
    let (display_name, email) = fields.done(display_name.zip(email))?;
    Ok(Profile { display_name, email })
}

fn parse_create_api_key(request: &CreateApiKeyRequest) -> Result<(AccountId, NewApiKey), Error> {
    let mut fields = Fields::default();
    let account = fields.take("parent", AccountId::from_name(&request.parent));
    for (at, scope) in fields.bounded("scopes", &request.scopes, SCOPES.len()).iter().enumerate() {
        if !SCOPES.contains(&scope.as_str()) {
            fields.wrong(format!("scopes[{at}]"), format_args!("must be one of {}", SCOPES.join(", ")));
        }
    }
    let expire_time = request.expire_time.map(|at| fields.take("expire_time", parse_time(at)));
    let networks = parse_networks(&mut fields, &request.allowed_networks);
    let account = fields.done(account)?;
    let is_asked = |scope: &str| request.scopes.iter().any(|asked| asked == scope);
    let is_granted = |scope: &&str| is_asked(scope) || (request.scopes.is_empty() && *scope != OPERATE);
    let scopes = SCOPES.into_iter().filter(is_granted).map(str::to_owned).collect();
    Ok((account, NewApiKey { scopes, expire_time: expire_time.flatten(), networks }))
}

/// The networks of a request, those that are none left out and noted.
fn parse_networks(fields: &mut Fields, texts: &[String]) -> Vec<Network> {
    let texts = fields.bounded("allowed_networks", texts, MAX_NETWORKS).iter().enumerate();
    texts.filter_map(|(at, text)| fields.take(format!("allowed_networks[{at}]"), text.parse())).collect()
}

fn parse_update(request: &UpdateApiKeyRequest) -> Result<(ApiKeyName, Vec<Network>), Error> {
    let mut fields = Fields::default();
    let name = fields.take("name", ApiKeyName::parse(&request.name));
    let networks = parse_networks(&mut fields, &request.allowed_networks);
    Ok((fields.done(name)?, networks))
}

fn parse_account(name: &str) -> Result<AccountId, Error> {
    let mut fields = Fields::default();
    let account = fields.take("name", AccountId::from_name(name));
    Ok(fields.done(account)?)
}

fn parse_suspend(request: SuspendAccountRequest) -> Result<(AccountId, String), Error> {
    let mut fields = Fields::default();
    let account = fields.take("name", AccountId::from_name(&request.name));
    let note = fields.line("note", request.note, MAX_NOTE);
    Ok(fields.done(account.zip(note))?)
}

fn parse_erase(request: &EraseAccountRequest) -> Result<AccountId, Error> {
    let mut fields = Fields::default();
    let account = fields.take("name", AccountId::from_name(&request.name));
    if request.confirm != request.name {
        fields.wrong("confirm", "must be the account's name once more, since nothing takes an erasure back");
    }
    Ok(fields.done(account)?)
}

fn parse_own(pages: &Pages, account: AccountId, request: &GetOwnAccountRequest) -> Result<Page, Error> {
    let mut fields = Fields::default();
    let page = pages.parse(&mut fields, account, API_KEYS_LISTING, request.page_size, &request.page_token);
    Ok(fields.done(page)?)
}

fn parse_revoke(request: &RevokeApiKeyRequest) -> Result<ApiKeyName, Error> {
    let mut fields = Fields::default();
    let name = fields.take("name", ApiKeyName::parse(&request.name));
    Ok(fields.done(name)?)
}

fn parse_authenticate(request: &AuthenticateApiKeyRequest) -> Result<[u8; 32], Error> {
    let mut fields = Fields::default();
    let sha256 = request.key_sha256.as_slice().try_into().ok();
    if sha256.is_none() {
        fields.wrong("key_sha256", "must have 32 bytes");
    }
    Ok(fields.done(sha256)?)
}

/// The instant of a timestamp, if it is one of the years 1 to 9999.
fn parse_time(at: Timestamp) -> Result<OffsetDateTime, &'static str> {
    const SHOULD: &str = "must be a timestamp of the years 0001 to 9999";
    let nanos = u32::try_from(at.nanos).ok().filter(|nanos| *nanos < 1_000_000_000).ok_or(SHOULD)?;
    let second = OffsetDateTime::from_unix_timestamp(at.seconds).map_err(|_| SHOULD)?;
    second.replace_nanosecond(nanos).ok().filter(|at| at.year() > 0).ok_or(SHOULD)
}
