//! AccountService: for operators and the gateway. The gateway does not route to it, so it asks for no caller.

use bytes::Bytes;
use chassis::fields::Fields;
use domain::id::AccountId;
use domain::name::ApiKeyName;
use prost::Message as _;
use prost_types::Timestamp;
use proto::accounts::v1::account_service_server::AccountService;
use proto::accounts::v1::{
    Account, ApiKey, AuthenticateApiKeyRequest, CreateAccountRequest, CreateApiKeyRequest, CreateApiKeyResponse,
    RevokeApiKeyRequest, RevokeApiKeyResponse,
};
use time::OffsetDateTime;
use tonic::{Request, Response, Status};

use super::request::{MAX_EMAIL, MAX_TITLE};
use crate::accounts::Accounts;
use crate::cache::CachedKeys;
use crate::error::Error;
use crate::model::{NewApiKey, OPERATE, Profile, SCOPES};
use crate::presenter;

/// The path of the method that is answered with encoded bytes.
pub(super) const AUTHENTICATE: &str = "/rushes.accounts.v1.AccountService/AuthenticateApiKey";

/// The service over its rules.
#[derive(Clone)]
pub(crate) struct AccountsApi {
    pub(crate) accounts: Accounts,
    pub(crate) keys: CachedKeys,
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
        let profile = parse_create_account(request.into_inner())?;
        let account = self.accounts.create(profile).await?;
        Ok(Response::new(presenter::account_to_proto(account)))
    }

    async fn create_api_key(
        &self,
        request: Request<CreateApiKeyRequest>,
    ) -> Result<Response<CreateApiKeyResponse>, Status> {
        let (account, new) = parse_create_api_key(request.get_ref())?;
        let (key, secret) = self.accounts.create_key(account, new).await?;
        let api_key = Some(presenter::api_key_to_proto(key));
        Ok(Response::new(CreateApiKeyResponse { api_key, secret: secret.reveal().to_owned() }))
    }

    async fn revoke_api_key(
        &self,
        request: Request<RevokeApiKeyRequest>,
    ) -> Result<Response<RevokeApiKeyResponse>, Status> {
        let name = parse_revoke(request.get_ref())?;
        let key = self.accounts.revoke_key(name).await?;
        Ok(Response::new(RevokeApiKeyResponse { api_key: Some(presenter::api_key_to_proto(key)) }))
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
    let account = fields.done(account)?;
    let is_asked = |scope: &str| request.scopes.iter().any(|asked| asked == scope);
    let is_granted = |scope: &&str| is_asked(scope) || (request.scopes.is_empty() && *scope != OPERATE);
    let scopes = SCOPES.into_iter().filter(is_granted).map(str::to_owned).collect();
    Ok((account, NewApiKey { scopes, expire_time: expire_time.flatten() }))
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
