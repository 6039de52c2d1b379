//! `rushes account export`: all that is the account's of a key, as lines of JSON.
//!
//! Invariants: every line is `{"kind": …, "value": …}`, the value as protobuf maps it to JSON, and the last is of the kind `end` with the
//! number of those before, so that a file that was cut short shows it; and no more than a page of a listing is in memory.

use std::fs::File;
use std::io::{BufWriter, Write, stdout};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use prost::Message;
use proto::accounts::v1::account_service_client::AccountServiceClient;
use proto::accounts::v1::{Account, GetOwnAccountRequest};
use proto::assets::v1::asset_service_client::AssetServiceClient;
use proto::assets::v1::{GetStorageUseRequest, ListAssetsRequest};
use proto::credits::v1::credit_service_client::CreditServiceClient;
use proto::credits::v1::usage_query::Dimension;
use proto::credits::v1::usage_service_client::UsageServiceClient;
use proto::credits::v1::{
    GetCreditAccountRequest, GetUsageRequest, ListCreditEntriesRequest, ListEndUsersRequest, UsageQuery,
};
use proto::generations::v1::ListGenerationsRequest;
use proto::generations::v1::generation_service_client::GenerationServiceClient;
use proto::projects::v1::project_service_client::ProjectServiceClient;
use proto::projects::v1::{ListProjectsRequest, ListScenesRequest};
use proto::webhooks::v1::webhook_service_client::WebhookServiceClient;
use proto::webhooks::v1::{ListDeliveriesRequest, ListEndpointsRequest};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::client::backoff::Backoff;
use crate::client::session::Session;
use crate::failure::Exit;
use crate::{json, out};

/// The most that one page has.
const PAGE: i32 = 100;
/// The most that one page of usage has.
const USAGE_PAGE: i32 = 1_000;
/// How often a page is asked for that a limit refuses; each time after the pause that the limit names.
const MAX_LIMITED: usize = 100;
/// How long a pause is at most, whatever a gateway names.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// One page and the token of the next, or why it cannot be had.
type Page<M> = Result<Result<(Vec<M>, String), Status>>;

/// Writes an account down.
struct Export<'a> {
    session: &'a Session,
    out: Box<dyn Write + Send>,
    lines: u64,
}

/// Exports the account of the session's key to a file, or to standard output.
pub(super) async fn run(session: &Session, output: Option<PathBuf>) -> Result<Exit> {
    let open = |path: &PathBuf| File::create(path).with_context(|| format!("{} cannot be written", path.display()));
    let writer: Box<dyn Write + Send> = match &output {
        Some(path) => Box::new(BufWriter::new(open(path)?)),
        None => Box::new(BufWriter::new(stdout())),
    };
    let mut export = Export { session, out: writer, lines: 0 };
    let account = export.account().await?;
    export.projects().await?;
    export.generations_and_assets().await?;
    export.credits(&account).await?;
    export.webhooks().await?;
    let lines = export.lines;
    export.write("end", &format!("{{\"lines\":{lines}}}"))?;
    export.out.flush()?;
    if let Some(path) = output {
        out::print(format_args!("{lines} lines of {} are in {}\n", account.name, path.display()))?;
    }
    Ok(Exit::Done)
}

impl Export<'_> {
    fn write(&mut self, kind: &str, value: &str) -> Result<()> {
        writeln!(self.out, "{{\"kind\":\"{kind}\",\"value\":{value}}}")?;
        self.lines += 1;
        Ok(())
    }

    fn line(&mut self, kind: &str, name: &str, message: &impl Message) -> Result<()> {
        self.write(kind, &json::text(name, message)?)
    }

    /// The next page, asked for again where a limit or an outage refuses it for now.
    async fn page<M>(&self, mut ask: impl AsyncFnMut() -> Page<M>) -> Result<(Vec<M>, String)> {
        let (mut backoff, mut limited) = (Backoff::new(), 0);
        loop {
            let status = match ask().await? {
                Ok(page) => return Ok(page),
                Err(status) => status,
            };
            let pause = status.get_error_details().retry_info().and_then(|retry| retry.retry_delay);
            match pause.filter(|_| status.code() == Code::ResourceExhausted && limited < MAX_LIMITED) {
                Some(pause) => {
                    limited += 1;
                    tokio::time::sleep(pause.min(MAX_PAUSE)).await;
                }
                None if backoff.again(&status).await => {}
                None => return Err(self.session.failed(&status)),
            }
        }
    }

    /// Writes a listing, whose pages `ask` gets by their tokens.
    async fn list<M: Message>(
        &mut self,
        kind: &str,
        name: &str,
        mut ask: impl AsyncFnMut(String) -> Page<M>,
    ) -> Result<()> {
        let mut token = String::new();
        loop {
            let (messages, next) = self.page(async || ask(token.clone()).await).await?;
            for message in &messages {
                self.line(kind, name, message)?;
            }
            if next.is_empty() {
                return Ok(());
            }
            token = next;
        }
    }

    async fn account(&mut self) -> Result<Account> {
        let (session, client) = (self.session, AccountServiceClient::new(self.session.gateway()?));
        let mut account = None;
        self.list("apiKey", "rushes.accounts.v1.ApiKey", async |page_token| {
            let request = session.request(GetOwnAccountRequest { page_size: PAGE, page_token })?;
            let answer = client.clone().get_own_account(request).await.map(tonic::Response::into_inner);
            Ok(answer.map(|page| {
                account = page.account.or(account.take());
                (page.api_keys, page.next_page_token)
            }))
        })
        .await?;
        let account = account.context("the gateway answered without an account")?;
        self.line("account", "rushes.accounts.v1.Account", &account)?;
        Ok(account)
    }

    async fn projects(&mut self) -> Result<()> {
        let (session, client) = (self.session, ProjectServiceClient::new(self.session.gateway()?));
        let mut token = String::new();
        loop {
            let (projects, next) = self
                .page(async || {
                    let request = ListProjectsRequest { page_size: PAGE, page_token: token.clone() };
                    let answer = client.clone().list_projects(session.request(request)?).await;
                    Ok(answer.map(|page| (page.get_ref().projects.clone(), page.get_ref().next_page_token.clone())))
                })
                .await?;
            for project in &projects {
                self.line("project", "rushes.projects.v1.Project", project)?;
                self.list("scene", "rushes.projects.v1.Scene", async |page_token| {
                    let request = ListScenesRequest { parent: project.name.clone(), page_size: PAGE, page_token };
                    let answer = client.clone().list_scenes(session.request(request)?).await;
                    Ok(answer.map(tonic::Response::into_inner).map(|page| (page.scenes, page.next_page_token)))
                })
                .await?;
            }
            if next.is_empty() {
                return Ok(());
            }
            token = next;
        }
    }

    async fn generations_and_assets(&mut self) -> Result<()> {
        let (session, client) = (self.session, GenerationServiceClient::new(self.session.gateway()?));
        self.list("generation", "rushes.generations.v1.Generation", async |page_token| {
            let request = ListGenerationsRequest { page_size: PAGE, page_token, ..ListGenerationsRequest::default() };
            let answer = client.clone().list_generations(session.request(request)?).await;
            Ok(answer.map(tonic::Response::into_inner).map(|page| (page.generations, page.next_page_token)))
        })
        .await?;
        let client = AssetServiceClient::new(self.session.gateway()?);
        self.list("asset", "rushes.assets.v1.Asset", async |page_token| {
            let request = ListAssetsRequest { page_size: PAGE, page_token, ..ListAssetsRequest::default() };
            let answer = client.clone().list_assets(session.request(request)?).await;
            Ok(answer.map(tonic::Response::into_inner).map(|page| (page.assets, page.next_page_token)))
        })
        .await?;
        self.list("storageUse", "rushes.assets.v1.StorageUse", async |_| {
            let answer = client.clone().get_storage_use(session.request(GetStorageUseRequest {})?).await;
            Ok(answer.map(|used| (vec![used.into_inner()], String::new())))
        })
        .await
    }

    async fn credits(&mut self, account: &Account) -> Result<()> {
        let (session, client) = (self.session, CreditServiceClient::new(self.session.gateway()?));
        self.list("creditAccount", "rushes.credits.v1.CreditAccount", async |_| {
            let answer = client.clone().get_credit_account(session.request(GetCreditAccountRequest {})?).await;
            Ok(answer.map(|credit| (vec![credit.into_inner()], String::new())))
        })
        .await?;
        self.list("creditEntry", "rushes.credits.v1.CreditEntry", async |page_token| {
            let request = ListCreditEntriesRequest { page_size: PAGE, page_token };
            let answer = client.clone().list_credit_entries(session.request(request)?).await;
            Ok(answer.map(tonic::Response::into_inner).map(|page| (page.entries, page.next_page_token)))
        })
        .await?;
        let client = UsageServiceClient::new(self.session.gateway()?);
        self.list("endUser", "rushes.credits.v1.EndUser", async |page_token| {
            let request = ListEndUsersRequest { page_size: PAGE, page_token };
            let answer = client.clone().list_end_users(session.request(request)?).await;
            Ok(answer.map(tonic::Response::into_inner).map(|page| (page.end_users, page.next_page_token)))
        })
        .await?;
        let (first, last) = (year(account.create_time)?, year(Some(SystemTime::now().into()))?);
        for year in first..=last {
            self.list("usage", "rushes.credits.v1.Usage", async |page_token| {
                let query = UsageQuery {
                    first_day: format!("{year}-01-01"),
                    last_day: format!("{year}-12-31"),
                    group_by: [Dimension::Day, Dimension::Model, Dimension::EndUser].map(Into::into).to_vec(),
                    page_size: USAGE_PAGE,
                    page_token,
                    ..UsageQuery::default()
                };
                let answer = client.clone().get_usage(session.request(GetUsageRequest { query: Some(query) })?).await;
                Ok(answer.map(tonic::Response::into_inner).map(|page| (page.rows, page.next_page_token)))
            })
            .await?;
        }
        Ok(())
    }

    async fn webhooks(&mut self) -> Result<()> {
        let (session, client) = (self.session, WebhookServiceClient::new(self.session.gateway()?));
        // An account has at most twenty.
        let mut endpoints = Vec::new();
        self.list("webhookEndpoint", "rushes.webhooks.v1.Endpoint", async |page_token| {
            let request = ListEndpointsRequest { page_size: PAGE, page_token };
            let answer = client.clone().list_endpoints(session.request(request)?).await;
            Ok(answer.map(tonic::Response::into_inner).map(|page| {
                endpoints.extend(page.endpoints.iter().map(|endpoint| endpoint.name.clone()));
                (page.endpoints, page.next_page_token)
            }))
        })
        .await?;
        for endpoint in endpoints {
            self.list("webhookDelivery", "rushes.webhooks.v1.Delivery", async |page_token| {
                let request = ListDeliveriesRequest { parent: endpoint.clone(), page_size: PAGE, page_token };
                let answer = client.clone().list_deliveries(session.request(request)?).await;
                Ok(answer.map(tonic::Response::into_inner).map(|page| (page.deliveries, page.next_page_token)))
            })
            .await?;
        }
        Ok(())
    }
}

/// The year of a time, in UTC.
fn year(at: Option<prost_types::Timestamp>) -> Result<i32> {
    let seconds = at.context("the gateway answered without a time")?.seconds;
    Ok(time::OffsetDateTime::from_unix_timestamp(seconds)?.year())
}
