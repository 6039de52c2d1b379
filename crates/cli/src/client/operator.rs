//! `rushes account …` and `rushes key …`: for operators, past the gateway, at the services' internal ports, with their keys.

use anyhow::Result;
use clap::Subcommand;
use proto::accounts::v1 as accounts;
use proto::accounts::v1::account_service_client::AccountServiceClient;
use proto::credits::v1::GrantCreditsRequest;
use proto::credits::v1::credit_service_client::CreditServiceClient;
use uuid::Uuid;

use crate::client::session::Session;
use crate::failure::Exit;
use crate::show;

/// Where the services are and what they believe, when it is not the local stack.
#[derive(Debug, clap::Args)]
pub struct Internal {
    /// The dashboard service's port for internal methods.
    #[arg(long, env = "RUSHES_DASHBOARD_INTERNAL_URL", value_name = "URL")]
    dashboard_internal_url: Option<String>,
    /// The generation-status service's port for public methods.
    #[arg(long, env = "RUSHES_GENERATION_STATUS_URL", value_name = "URL")]
    generation_status_url: Option<String>,
    /// The generation-status service's port for internal methods.
    #[arg(long, env = "RUSHES_GENERATION_STATUS_INTERNAL_URL", value_name = "URL")]
    generation_status_internal_url: Option<String>,
    /// The generation-worker service's port for internal methods.
    #[arg(long, env = "RUSHES_GENERATION_WORKER_INTERNAL_URL", value_name = "URL")]
    generation_worker_internal_url: Option<String>,
    /// The keys that the services share.
    #[arg(long, env = "RUSHES_INTERNAL_KEYS", value_name = "KEYS", hide_env_values = true)]
    internal_keys: Option<String>,
}

impl Internal {
    /// A service's port for public methods, as far as that was said.
    pub(crate) fn public_url(&self, service: &str) -> Option<&str> {
        let url = if service == "generation-status" { &self.generation_status_url } else { &None };
        url.as_deref()
    }

    /// A service's port for internal methods, as far as that was said.
    pub(crate) fn internal_url(&self, service: &str) -> Option<&str> {
        let url = match service {
            "dashboard" => &self.dashboard_internal_url,
            "generation-status" => &self.generation_status_internal_url,
            "generation-worker" => &self.generation_worker_internal_url,
            _ => &None,
        };
        url.as_deref()
    }

    /// The keys that the services share, as far as they were said.
    pub(crate) fn keys(&self) -> Option<&str> {
        self.internal_keys.as_deref()
    }
}

/// What can be done with accounts.
#[derive(Debug, Subcommand)]
pub enum Account {
    /// Create an account.
    Create {
        /// 1 to 200 characters.
        #[arg(long)]
        name: String,
        /// At most 320 characters.
        #[arg(long, default_value = "")]
        email: String,
        #[command(flatten)]
        internal: Internal,
    },
    /// Give an account credits.
    Grant {
        /// accounts/….
        #[arg(long)]
        account: String,
        /// How many, such as 12.5.
        #[arg(long, value_parser = micros)]
        credits: i64,
        /// A UUID that makes a repetition safe; without it, a new one.
        #[arg(long)]
        request_id: Option<Uuid>,
        #[command(flatten)]
        internal: Internal,
    },
}

/// What can be done with API keys.
#[derive(Debug, Subcommand)]
pub enum Key {
    /// Create a key and print it, this once.
    Create {
        /// accounts/….
        #[arg(long)]
        account: String,
        /// read, write, generate or operate; may be given several times; without it, all but operate.
        #[arg(long = "scope", value_parser = ["read", "write", "generate", "operate"])]
        scopes: Vec<String>,
        #[command(flatten)]
        internal: Internal,
    },
    /// End a key for good.
    Revoke {
        /// accounts/…/apiKeys/….
        name: String,
        #[command(flatten)]
        internal: Internal,
    },
}

impl Account {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit> {
        let failed = |status: tonic::Status| session.failed(&status);
        match self {
            Self::Create { name, email, internal } => {
                let channel = session.internal("dashboard", &internal)?;
                let account = accounts::Account { display_name: name, email, ..accounts::Account::default() };
                let request = accounts::CreateAccountRequest { account: Some(account) };
                let mut client = AccountServiceClient::new(channel);
                let answer = client.create_account(session.internal_request(request)?).await.map_err(failed)?;
                session.show("rushes.accounts.v1.Account", answer.get_ref(), |account| format!("{}\n", account.name))
            }
            Self::Grant { account, credits, request_id, internal } => {
                let channel = session.internal("generation-status", &internal)?;
                let request_id = request_id.unwrap_or_else(Uuid::now_v7).to_string();
                let request = GrantCreditsRequest { account, amount_micros: credits, request_id };
                let mut client = CreditServiceClient::new(channel);
                let answer = client.grant_credits(session.internal_request(request)?).await.map_err(failed)?;
                session.show("rushes.credits.v1.CreditAccount", answer.get_ref(), |account| {
                    format!("{} credits free\n", show::credits(account.available_micros))
                })
            }
        }
    }
}

impl Key {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit> {
        let failed = |status: tonic::Status| session.failed(&status);
        match self {
            Self::Create { account, scopes, internal } => {
                let channel = session.internal("dashboard", &internal)?;
                let request = accounts::CreateApiKeyRequest { parent: account, scopes, expire_time: None };
                let mut client = AccountServiceClient::new(channel);
                let answer = client.create_api_key(session.internal_request(request)?).await.map_err(failed)?;
                session.show("rushes.accounts.v1.CreateApiKeyResponse", answer.get_ref(), |created| {
                    let name = created.api_key.as_ref().map(|key| key.name.as_str()).unwrap_or_default();
                    format!("{}\n  {name}; it is not stored and cannot be shown again\n", created.secret)
                })
            }
            Self::Revoke { name, internal } => {
                let channel = session.internal("dashboard", &internal)?;
                let request = session.internal_request(accounts::RevokeApiKeyRequest { name })?;
                let answer = AccountServiceClient::new(channel).revoke_api_key(request).await.map_err(failed)?;
                session.show("rushes.accounts.v1.RevokeApiKeyResponse", answer.get_ref(), |revoked| {
                    format!("revoked {}\n", revoked.api_key.as_ref().map(|key| key.name.as_str()).unwrap_or_default())
                })
            }
        }
    }
}

/// Credits as micro-credits, without a detour over floating point.
pub(crate) fn micros(text: &str) -> Result<i64, String> {
    let wrong = || "an amount is a number such as 12 or 12.5, with at most six decimal places".to_owned();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 6 || !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err(wrong());
    }
    let whole: i64 = whole.parse().map_err(|_| wrong())?;
    let fraction: i64 = format!("{fraction:0<6}").parse().map_err(|_| wrong())?;
    whole.checked_mul(1_000_000).and_then(|whole| whole.checked_add(fraction)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    #[test]
    fn amounts_are_exact() {
        for (text, micros) in [("12", 12_000_000), ("12.5", 12_500_000), ("0.000001", 1)] {
            assert_eq!(super::micros(text).unwrap(), micros);
        }
        for text in ["", "-1", "1.0000001", "1e3", "1.2.3", "9999999999999999"] {
            assert!(super::micros(text).is_err(), "{text}");
        }
    }
}
