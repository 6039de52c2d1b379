//! `rushes account …` and `rushes key …`: for operators. What makes accounts, keys and credits goes past the gateway, to the services'
//! internal ports and with their keys; what is done to an account that there is needs a key with the scope `operate`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;
use proto::accounts::v1 as accounts;
use proto::accounts::v1::account_service_client::AccountServiceClient;
use proto::credits::v1::credit_service_client::CreditServiceClient;
use proto::credits::v1::{GetMarginRequest, GrantCreditsRequest, SetMarginRequest};
use uuid::Uuid;

use crate::client::export;
use crate::client::internal::Internal;
use crate::client::session::Session;
use crate::failure::Exit;
use crate::show;

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
    /// Show an account with what operators have set for it.
    Show {
        /// accounts/….
        account: String,
    },
    /// Refuse every call of an account until it is reactivated; what was started goes on.
    Suspend {
        /// accounts/….
        account: String,
        /// Why, 1 to 500 characters.
        #[arg(long)]
        note: String,
    },
    /// End a suspension.
    Reactivate {
        /// accounts/….
        account: String,
    },
    /// Erase an account that is suspended, for good.
    Erase {
        /// accounts/….
        account: String,
        /// The same name once more.
        #[arg(long, value_name = "ACCOUNT")]
        confirm: String,
    },
    /// Show or set what the catalogue's prices are multiplied by for an account; what was started keeps its price.
    Margin {
        /// accounts/….
        account: String,
        /// 1.15 for 15 % more than the catalogue has, 0.9 for a tenth less, 1 for its prices; without it, the margin is shown.
        margin: Option<String>,
    },
    /// Write down all that is the account's of the key, as lines of JSON.
    Export {
        /// Where to; without it, standard output.
        #[arg(long)]
        output: Option<PathBuf>,
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
        /// A network that calls with it may come from, such as 203.0.113.0/24; may be given several times; without it, from anywhere.
        #[arg(long = "network", value_name = "CIDR")]
        networks: Vec<String>,
        #[command(flatten)]
        internal: Internal,
    },
    /// Bind a key to other networks than before.
    Bind {
        /// accounts/…/apiKeys/….
        name: String,
        /// A network that calls with it may come from, such as 203.0.113.0/24; may be given several times; without it, from anywhere.
        #[arg(long = "network", value_name = "CIDR")]
        networks: Vec<String>,
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
            Self::Show { account } => {
                let request = session.request(accounts::GetAccountRequest { name: account })?;
                let answer =
                    AccountServiceClient::new(session.gateway()?).get_account(request).await.map_err(failed)?;
                session.show("rushes.accounts.v1.Account", answer.get_ref(), described)
            }
            Self::Suspend { account, note } => {
                let request = session.request(accounts::SuspendAccountRequest { name: account, note })?;
                let mut client = AccountServiceClient::new(session.gateway()?);
                let answer = client.suspend_account(request).await.map_err(failed)?;
                session.show("rushes.accounts.v1.Account", answer.get_ref(), described)
            }
            Self::Reactivate { account } => {
                let request = session.request(accounts::ReactivateAccountRequest { name: account })?;
                let mut client = AccountServiceClient::new(session.gateway()?);
                let answer = client.reactivate_account(request).await.map_err(failed)?;
                session.show("rushes.accounts.v1.Account", answer.get_ref(), described)
            }
            Self::Erase { account, confirm } => {
                let request = session.request(accounts::EraseAccountRequest { name: account, confirm })?;
                let mut client = AccountServiceClient::new(session.gateway()?);
                let answer = client.erase_account(request).await.map_err(failed)?;
                session.show("rushes.accounts.v1.Account", answer.get_ref(), described)
            }
            Self::Margin { account, margin } => {
                let mut client = CreditServiceClient::new(session.gateway()?);
                let answer = match margin {
                    Some(margin) => client.set_margin(session.request(SetMarginRequest { account, margin })?).await,
                    None => client.get_margin(session.request(GetMarginRequest { account })?).await,
                };
                session.show("rushes.credits.v1.Margin", answer.map_err(failed)?.get_ref(), |margin| {
                    format!("{} pays {} times the catalogue's prices\n", margin.account, margin.margin)
                })
            }
            Self::Export { output } => export::run(session, output).await,
        }
    }
}

impl Key {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit> {
        let failed = |status: tonic::Status| session.failed(&status);
        match self {
            Self::Create { account, scopes, networks, internal } => {
                let channel = session.internal("dashboard", &internal)?;
                let request = accounts::CreateApiKeyRequest {
                    parent: account,
                    scopes,
                    expire_time: None,
                    allowed_networks: networks,
                };
                let mut client = AccountServiceClient::new(channel);
                let answer = client.create_api_key(session.internal_request(request)?).await.map_err(failed)?;
                session.show("rushes.accounts.v1.CreateApiKeyResponse", answer.get_ref(), |created| {
                    let name = created.api_key.as_ref().map(|key| key.name.as_str()).unwrap_or_default();
                    format!("{}\n  {name}; it is not stored and cannot be shown again\n", created.secret)
                })
            }
            Self::Bind { name, networks, internal } => {
                let channel = session.internal("dashboard", &internal)?;
                let request = accounts::UpdateApiKeyRequest { name, allowed_networks: networks };
                let request = session.internal_request(request)?;
                let answer = AccountServiceClient::new(channel).update_api_key(request).await.map_err(failed)?;
                session.show("rushes.accounts.v1.ApiKey", answer.get_ref(), |key| match key.allowed_networks.len() {
                    0 => format!("{} may be used from anywhere\n", key.name),
                    _ => format!("{} may be used from {}\n", key.name, key.allowed_networks.join(", ")),
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

/// An account as people read it.
fn described(account: &accounts::Account) -> String {
    let accounts::Account { name, display_name, email, .. } = account;
    let state = match &account.suspend_time {
        _ if account.erase_end_time.is_some() => "erased".to_owned(),
        _ if account.erase_time.is_some() => "being erased; its keys are gone".to_owned(),
        Some(since) => format!("suspended since {since}: {}", account.suspend_note),
        None => "active".to_owned(),
    };
    let limits = if account.limits.is_some() { ", with limits of its own" } else { "" };
    format!("{name}  {display_name}  {email}\n  {state}{limits}\n")
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
