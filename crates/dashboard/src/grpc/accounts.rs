//! AccountService: for operators and the gateway. The gateway does not route to it, so it asks for no caller.

use bytes::Bytes;
use domain::id::AccountId;
use domain::name::ApiKeyName;
use prost::Message as _;
use proto::accounts::v1::account_service_server::AccountService;
use proto::accounts::v1::{
    Account, ApiKey, AuthenticateApiKeyRequest, CreateAccountRequest, CreateApiKeyRequest, CreateApiKeyResponse,
    RevokeApiKeyRequest, RevokeApiKeyResponse,
};
use tonic::{Request, Response, Status};

use crate::accounts::{Accounts, KeyDraft, OPERATE, Profile, SCOPES};
use crate::cache::Keys;
use crate::error::Error;
use crate::fields::{EMAIL, Fields, TITLE};
use crate::wire;

/// The path of the method that is answered with encoded bytes.
pub(super) const AUTHENTICATE: &str = "/rushes.accounts.v1.AccountService/AuthenticateApiKey";

/// The service over its rules.
#[derive(Clone)]
pub(crate) struct AccountsApi {
    pub(crate) accounts: Accounts,
    pub(crate) keys: Keys,
}

impl AccountsApi {
    /// The encoded key.
    pub(super) async fn encoded(&self, request: Request<AuthenticateApiKeyRequest>) -> Result<Response<Bytes>, Status> {
        let mut fields = Fields::default();
        let sha256: Option<[u8; 32]> = request.get_ref().key_sha256.as_slice().try_into().ok();
        if sha256.is_none() {
            fields.wrong("key_sha256", "must have 32 bytes");
        }
        Ok(Response::new(self.keys.read(fields.done(sha256)?).await?))
    }
}

#[tonic::async_trait]
impl AccountService for AccountsApi {
    async fn create_account(&self, request: Request<CreateAccountRequest>) -> Result<Response<Account>, Status> {
        let profile = profile(request.into_inner())?;
        let account = self.accounts.create(profile).await?;
        Ok(Response::new(wire::account(account)))
    }

    async fn create_api_key(
        &self,
        request: Request<CreateApiKeyRequest>,
    ) -> Result<Response<CreateApiKeyResponse>, Status> {
        let (account, draft) = drafted(request.get_ref())?;
        let (key, secret) = self.accounts.create_key(account, draft).await?;
        let api_key = Some(wire::api_key(key));
        Ok(Response::new(CreateApiKeyResponse { api_key, secret: secret.reveal().to_owned() }))
    }

    async fn revoke_api_key(
        &self,
        request: Request<RevokeApiKeyRequest>,
    ) -> Result<Response<RevokeApiKeyResponse>, Status> {
        let mut fields = Fields::default();
        let name = fields.take("name", ApiKeyName::parse(&request.get_ref().name));
        let key = self.accounts.revoke_key(fields.done(name)?).await?;
        Ok(Response::new(RevokeApiKeyResponse { api_key: Some(wire::api_key(key)) }))
    }

    /// What [`AccountsApi::encoded`] answers before this is reached, for a server that is put up without it.
    async fn authenticate_api_key(
        &self,
        request: Request<AuthenticateApiKeyRequest>,
    ) -> Result<Response<ApiKey>, Status> {
        let encoded = self.encoded(request).await?.into_inner();
        let key = ApiKey::decode(encoded).map_err(chassis::status::Failure::internal)?;
        Ok(Response::new(key))
    }
}

fn profile(request: CreateAccountRequest) -> Result<Profile, Error> {
    let mut fields = Fields::default();
    let Account { display_name, email, .. } = request.account.unwrap_or_default();
    let display_name = fields.line("account.display_name", display_name, TITLE);
    let email = match email.is_empty() {
        true => Some(email),
        false => fields.line("account.email", email, EMAIL),
    };
    let (display_name, email) = fields.done(display_name.zip(email))?;
    Ok(Profile { display_name, email })
}

fn drafted(request: &CreateApiKeyRequest) -> Result<(AccountId, KeyDraft), Error> {
    let mut fields = Fields::default();
    let account = fields.take("parent", AccountId::from_name(&request.parent));
    for (at, scope) in request.scopes.iter().enumerate() {
        if !SCOPES.contains(&scope.as_str()) {
            fields.wrong(format!("scopes[{at}]"), format_args!("must be one of {}", SCOPES.join(", ")));
        }
    }
    let expire_time = request.expire_time.map(|at| fields.take("expire_time", wire::time(at)));
    let account = fields.done(account)?;
    let asked = |scope: &str| request.scopes.iter().any(|asked| asked == scope);
    let wanted = |scope: &&str| asked(scope) || (request.scopes.is_empty() && *scope != OPERATE);
    let scopes = SCOPES.into_iter().filter(wanted).map(str::to_owned).collect();
    Ok((account, KeyDraft { scopes, expire_time: expire_time.flatten() }))
}
