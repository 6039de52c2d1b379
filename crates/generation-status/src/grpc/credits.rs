//! The handlers of CreditService.

use std::ops::RangeInclusive;

use catalogue::Decimal;
use chassis::fields::Fields;
use chassis::request::actor::Actor;
use domain::id::{AccountId, GenerationId};
use domain::money::Micros;
use proto::credits::v1 as api;
use proto::credits::v1::credit_service_server::CreditService;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::fields::parse_reason;
use super::request::authenticated;
use crate::credits::Credits;
use crate::error::Error;
use crate::margins::Margins;
use crate::model::{Balance, Entry, EntryKind, Issue};
use crate::pages::Pages;
use crate::presenter::{line, timestamp};

/// How much one grant or adjustment may move at most: a billion credits.
const MAX_ISSUE_MICROS: i64 = 1_000_000_000_000_000;
/// What prices may be multiplied by; the table has the same limits.
const MARGINS: RangeInclusive<Decimal> = Decimal::thousandths(1)..=Decimal::whole(1000);
/// The listing that page tokens of entries belong to.
const ENTRIES: &str = "creditAccount/entries";

/// The service over its rules.
#[derive(Clone)]
pub(crate) struct CreditsApi {
    pub(crate) credits: Credits,
    pub(crate) margins: Margins,
    pub(crate) pages: Pages,
}

#[tonic::async_trait]
impl CreditService for CreditsApi {
    async fn get_credit_account(
        &self,
        request: Request<api::GetCreditAccountRequest>,
    ) -> Result<Response<api::CreditAccount>, Status> {
        let (account, _) = authenticated(request)?;
        Ok(Response::new(to_proto(self.credits.get(account).await?)))
    }

    async fn list_credit_entries(
        &self,
        request: Request<api::ListCreditEntriesRequest>,
    ) -> Result<Response<api::ListCreditEntriesResponse>, Status> {
        let (account, request) = authenticated(request)?;
        let mut fields = Fields::default();
        let page = self.pages.parse(&mut fields, account, ENTRIES, request.page_size, &request.page_token);
        let (entries, next) = self.credits.entries(account, fields.done(page)?).await?;
        Ok(Response::new(api::ListCreditEntriesResponse {
            entries: entries.into_iter().map(entry_to_proto).collect(),
            next_page_token: self.pages.token(account, ENTRIES, next),
        }))
    }

    async fn grant_credits(
        &self,
        request: Request<api::GrantCreditsRequest>,
    ) -> Result<Response<api::CreditAccount>, Status> {
        let (account, grant, request_id) = parse_grant(request.get_ref())?;
        let balance = self.credits.issue(account, grant, request_id, &Actor::of(&request)).await?;
        Ok(Response::new(to_proto(balance)))
    }

    async fn adjust_credits(
        &self,
        request: Request<api::AdjustCreditsRequest>,
    ) -> Result<Response<api::CreditAccount>, Status> {
        let (account, adjustment, request_id) = parse_adjustment(request.get_ref())?;
        let balance = self.credits.issue(account, adjustment, request_id, &Actor::of(&request)).await?;
        Ok(Response::new(to_proto(balance)))
    }

    async fn get_margin(&self, request: Request<api::GetMarginRequest>) -> Result<Response<api::Margin>, Status> {
        let mut fields = Fields::default();
        let account = fields.take("account", AccountId::from_name(&request.get_ref().account));
        let account = fields.done(account)?;
        Ok(Response::new(margin_to_proto(account, self.margins.get(account).await?)))
    }

    async fn set_margin(&self, request: Request<api::SetMarginRequest>) -> Result<Response<api::Margin>, Status> {
        let (account, margin) = parse_margin(request.get_ref())?;
        self.margins.set(account, margin, &Actor::of(&request)).await?;
        Ok(Response::new(margin_to_proto(account, margin)))
    }
}

fn parse_margin(request: &api::SetMarginRequest) -> Result<(AccountId, Decimal), Error> {
    let mut fields = Fields::default();
    let account = fields.take("account", AccountId::from_name(&request.account));
    let margin = fields.take("margin", request.margin.parse::<Decimal>());
    if margin.is_some_and(|margin| !MARGINS.contains(&margin)) {
        fields.wrong("margin", format_args!("must be {} to {}", MARGINS.start(), MARGINS.end()));
    }
    Ok(fields.done(account.zip(margin))?)
}

fn margin_to_proto(account: AccountId, margin: Decimal) -> api::Margin {
    api::Margin { account: account.name(), margin: margin.to_string() }
}

fn parse_grant(request: &api::GrantCreditsRequest) -> Result<(AccountId, Issue, Uuid), Error> {
    let mut fields = Fields::default();
    let account = fields.take("account", AccountId::from_name(&request.account));
    let request_id = fields.required_request_id(&request.request_id);
    if !(1..=MAX_ISSUE_MICROS).contains(&request.amount_micros) {
        fields.wrong("amount_micros", format_args!("must be 1 to {MAX_ISSUE_MICROS}"));
    }
    let (account, request_id) = fields.done(account.zip(request_id))?;
    Ok((account, Issue { amount: Micros::new(request.amount_micros), reason: None }, request_id))
}

fn parse_adjustment(request: &api::AdjustCreditsRequest) -> Result<(AccountId, Issue, Uuid), Error> {
    let mut fields = Fields::default();
    let account = fields.take("account", AccountId::from_name(&request.account));
    let request_id = fields.required_request_id(&request.request_id);
    let reason = parse_reason(&mut fields, &request.reason);
    if request.amount_micros == 0 || !(-MAX_ISSUE_MICROS..=MAX_ISSUE_MICROS).contains(&request.amount_micros) {
        fields.wrong("amount_micros", format_args!("must be -{MAX_ISSUE_MICROS} to {MAX_ISSUE_MICROS}, and not 0"));
    }
    let ((account, request_id), reason) = fields.done(account.zip(request_id).zip(reason))?;
    Ok((account, Issue { amount: Micros::new(request.amount_micros), reason: Some(reason) }, request_id))
}

fn to_proto(balance: Balance) -> api::CreditAccount {
    api::CreditAccount {
        name: "creditAccount".to_owned(),
        available_micros: balance.available.get(),
        held_micros: balance.held.get(),
        spent_micros: balance.spent.get(),
    }
}

fn entry_to_proto(entry: Entry) -> api::CreditEntry {
    let amount = if entry.kind == EntryKind::Capture { -entry.spent.get() } else { entry.available.get() };
    api::CreditEntry {
        name: format!("{ENTRIES}/{}", entry.id),
        kind: kind_to_proto(entry.kind).into(),
        generation: entry.generation.map(GenerationId::name).unwrap_or_default(),
        amount_micros: amount,
        available_change_micros: entry.available.get(),
        reason: entry.reason.unwrap_or_default(),
        create_time: Some(timestamp(entry.create_time)),
        lines: entry.lines.iter().map(line).collect(),
    }
}

const fn kind_to_proto(kind: EntryKind) -> api::credit_entry::Kind {
    match kind {
        EntryKind::Hold => api::credit_entry::Kind::Hold,
        EntryKind::Capture => api::credit_entry::Kind::Capture,
        EntryKind::Release => api::credit_entry::Kind::Release,
        EntryKind::Grant => api::credit_entry::Kind::Grant,
        EntryKind::Adjust => api::credit_entry::Kind::Adjust,
    }
}
