//! `rushes limits …`: what the account of a key may ask of the gateways, and what operators set for an account.

use anyhow::Result;
use clap::Subcommand;
use proto::accounts::v1::account_service_client::AccountServiceClient;
use proto::accounts::v1::{Account, GetAccountRequest, SetAccountLimitsRequest};
use proto::assets::v1::asset_service_client::AssetServiceClient;
use proto::assets::v1::{GetStorageUseRequest, StorageUse};
use proto::limits::v1::limit_service_client::LimitServiceClient;
use proto::limits::v1::{GetLimitsRequest, GetLimitsResponse, Limits, Rate};

use crate::client::session::Session;
use crate::failure::Exit;
use crate::{json, out};

/// What can be done with limits.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the limits of the key and its account, and what is left of them; with an account, what was set for it (for operators).
    Show {
        /// accounts/….
        #[arg(long)]
        account: Option<String>,
    },
    /// For operators: set what an account may ask for, in place of all that was set for it before.
    Set(Box<Set>),
}

/// The limits of an account; what is not given is as every account's.
#[derive(Debug, clap::Args)]
pub struct Set {
    /// accounts/….
    account: String,
    /// Calls that somebody waits for, a second and at once after a pause, such as 1000/4000.
    #[arg(long, value_name = "RATE/BURST", value_parser = rate)]
    people: Option<Rate>,
    /// Calls that are asked again and again.
    #[arg(long, value_name = "RATE/BURST", value_parser = rate)]
    polls: Option<Rate>,
    /// Calls that nobody waits for.
    #[arg(long, value_name = "RATE/BURST", value_parser = rate)]
    background: Option<Rate>,
    /// Tests of webhook endpoints.
    #[arg(long, value_name = "RATE/BURST", value_parser = rate)]
    endpoint_tests: Option<Rate>,
    /// Calls at a time.
    #[arg(long)]
    calls: Option<u32>,
    /// Uploads at a time.
    #[arg(long)]
    uploads: Option<u32>,
    /// Watches at a time through one gateway.
    #[arg(long)]
    watches: Option<u32>,
    /// Bytes of all assets in storage.
    #[arg(long)]
    storage_bytes: Option<u64>,
    /// Assets in storage.
    #[arg(long)]
    assets: Option<u64>,
}

impl Command {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit> {
        let failed = |status: tonic::Status| session.failed(&status);
        match self {
            Self::Show { account: None } => {
                let request = session.request(GetLimitsRequest {})?;
                let answer = LimitServiceClient::new(session.gateway()?).get_limits(request).await.map_err(failed)?;
                let request = session.request(GetStorageUseRequest {})?;
                let used =
                    AssetServiceClient::new(session.gateway()?).get_storage_use(request).await.map_err(failed)?;
                if session.json() {
                    let mut all = json::value("rushes.limits.v1.GetLimitsResponse", answer.get_ref())?;
                    all["storage"] = json::value("rushes.assets.v1.StorageUse", used.get_ref())?;
                    json::print_value(&all)?;
                } else {
                    out::print(uses(answer.get_ref()) + &stored(used.get_ref()))?;
                }
                Ok(Exit::Done)
            }
            Self::Show { account: Some(name) } => {
                let request = session.request(GetAccountRequest { name })?;
                let answer =
                    AccountServiceClient::new(session.gateway()?).get_account(request).await.map_err(failed)?;
                session.show("rushes.accounts.v1.Account", answer.get_ref(), own)
            }
            Self::Set(set) => {
                let (name, limits) = set.limits();
                let request = session.request(SetAccountLimitsRequest { name, limits: Some(limits) })?;
                let mut client = AccountServiceClient::new(session.gateway()?);
                let answer = client.set_account_limits(request).await.map_err(failed)?;
                session.show("rushes.accounts.v1.Account", answer.get_ref(), own)
            }
        }
    }
}

impl Set {
    fn limits(self) -> (String, Limits) {
        let Self { account, people, polls, background, endpoint_tests, calls, uploads, watches, .. } = self;
        let (storage_bytes, assets) = (self.storage_bytes, self.assets);
        let limits =
            Limits { people, polls, background, endpoint_tests, calls, uploads, watches, storage_bytes, assets };
        (account, limits)
    }
}

/// `100/400`: 100 a second, 400 at once.
fn rate(text: &str) -> Result<Rate, String> {
    let number = |text: &str| text.parse().ok().filter(|number: &u32| *number > 0);
    let parts = text.split_once('/').and_then(|(rate, burst)| number(rate).zip(number(burst)));
    let (per_second, burst) = parts.ok_or("a rate is two numbers above 0, such as 1000/4000")?;
    Ok(Rate { per_second, burst })
}

/// Limits with what is left of them, a line each.
fn uses(answer: &GetLimitsResponse) -> String {
    let rates = answer.rates.iter().map(|of| {
        let Rate { per_second, burst } = of.rate.unwrap_or_default();
        let left = format!("{} left here, all in {} s", of.remaining, of.reset_seconds);
        format!("{:<8} {:<15} {:>12}  {left}\n", of.of, of.limit, format!("{per_second}/{burst}"))
    });
    let places = answer.places.iter().map(|of| {
        format!("{:<8} {:<15} {:>12}  {} in use\n", of.of, of.limit, format!("{} at once", of.max), of.in_use)
    });
    rates.chain(places).chain([format!("shared by {} gateways\n", answer.gateways)]).collect()
}

/// What the account has in storage, two lines.
fn stored(used: &StorageUse) -> String {
    let line = |limit, max: u64, now: u64| format!("{:<8} {limit:<15} {max:>12}  {now} in storage\n", "account");
    line("storage-bytes", used.max_bytes, used.bytes) + &line("assets", used.max_assets, used.assets)
}

/// What was set for an account.
fn own(account: &Account) -> String {
    let Some(limits) = &account.limits else { return format!("{}: as every account\n", account.name) };
    let rates = [
        ("people", limits.people),
        ("polls", limits.polls),
        ("background", limits.background),
        ("endpoint-tests", limits.endpoint_tests),
    ];
    let rates = rates.into_iter().filter_map(|(name, rate)| Some((name, rate?)));
    let rates = rates.map(|(name, Rate { per_second, burst })| format!("  {name:<15} {per_second}/{burst}\n"));
    let places = [("calls", limits.calls), ("uploads", limits.uploads), ("watches", limits.watches)];
    let places = places.into_iter().filter_map(|(name, max)| Some(format!("  {name:<15} {} at once\n", max?)));
    let quotas = [("storage-bytes", limits.storage_bytes), ("assets", limits.assets)];
    let quotas = quotas.into_iter().filter_map(|(name, max)| Some(format!("  {name:<15} {} in storage\n", max?)));
    [format!("{}\n", account.name)].into_iter().chain(rates).chain(places).chain(quotas).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_two_numbers_above_zero() {
        assert_eq!(rate("100/400"), Ok(Rate { per_second: 100, burst: 400 }));
        for text in ["", "100", "0/1", "1/0", "1/2/3", "-1/2", "a/b"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_what_was_set_is_shown_of_an_account() {
        let name = "accounts/a".to_owned();
        assert_eq!(own(&Account { name: name.clone(), ..Account::default() }), "accounts/a: as every account\n");
        let limits = Limits {
            polls: Some(Rate { per_second: 1, burst: 2 }),
            calls: Some(3),
            assets: Some(4),
            ..Limits::default()
        };
        let account = Account { name, limits: Some(limits), ..Account::default() };
        assert_eq!(
            own(&account),
            "accounts/a\n  polls           1/2\n  calls           3 at once\n  assets          4 in storage\n"
        );
    }
}
