//! CreditService.

use domain::id::{AccountId, GenerationId};
use domain::money::Micros;
use domain::page;
use proto::credits::v1::credit_entry::Kind as Shown;
use proto::credits::v1::credit_service_server::CreditService;
use proto::credits::v1::{
    AdjustCreditsRequest, CreditAccount, CreditEntry, GetCreditAccountRequest, GrantCreditsRequest,
    ListCreditEntriesRequest, ListCreditEntriesResponse,
};
use tonic::{Request, Response, Status};

use super::split;
use crate::credits::{Balance, Credits, Entry, Issue, Kind};
use crate::fields::Fields;
use crate::wire::timestamp;

/// The most that one grant may give and one correction may move: a billion credits.
const MOST: i64 = 1_000_000_000_000_000;
/// What page tokens of entries are for.
const ENTRIES: &str = "creditAccount/entries";

/// The service over its rules.
#[derive(Clone)]
pub(crate) struct CreditsApi {
    pub(crate) credits: Credits,
}

#[tonic::async_trait]
impl CreditService for CreditsApi {
    async fn get_credit_account(
        &self,
        request: Request<GetCreditAccountRequest>,
    ) -> Result<Response<CreditAccount>, Status> {
        let (account, _) = split(request)?;
        Ok(Response::new(shown(self.credits.get(account).await?)))
    }

    async fn list_credit_entries(
        &self,
        request: Request<ListCreditEntriesRequest>,
    ) -> Result<Response<ListCreditEntriesResponse>, Status> {
        let (account, request) = split(request)?;
        let mut fields = Fields::default();
        let page = fields.page(account, ENTRIES, request.page_size, &request.page_token);
        let (entries, next) = self.credits.entries(account, fields.done(page)?).await?;
        Ok(Response::new(ListCreditEntriesResponse {
            entries: entries.into_iter().map(booked).collect(),
            next_page_token: next.map(|cursor| page::token(account, ENTRIES, cursor)).unwrap_or_default(),
        }))
    }

    async fn grant_credits(&self, request: Request<GrantCreditsRequest>) -> Result<Response<CreditAccount>, Status> {
        let request = request.into_inner();
        let mut fields = Fields::default();
        let account = fields.take("account", AccountId::from_name(&request.account));
        let request_id = fields.request_id(&request.request_id);
        if !(1..=MOST).contains(&request.amount_micros) {
            fields.wrong("amount_micros", format_args!("must be 1 to {MOST}"));
        }
        let (account, request_id) = fields.done(account.zip(request_id))?;
        let grant = Issue { amount: Micros::new(request.amount_micros), reason: None };
        Ok(Response::new(shown(self.credits.issue(account, grant, request_id).await?)))
    }

    async fn adjust_credits(&self, request: Request<AdjustCreditsRequest>) -> Result<Response<CreditAccount>, Status> {
        let request = request.into_inner();
        let mut fields = Fields::default();
        let account = fields.take("account", AccountId::from_name(&request.account));
        let request_id = fields.request_id(&request.request_id);
        let reason = fields.reason(&request.reason);
        if request.amount_micros == 0 || !(-MOST..=MOST).contains(&request.amount_micros) {
            fields.wrong("amount_micros", format_args!("must be -{MOST} to {MOST}, and not 0"));
        }
        let ((account, request_id), reason) = fields.done(account.zip(request_id).zip(reason))?;
        let adjustment = Issue { amount: Micros::new(request.amount_micros), reason: Some(reason) };
        Ok(Response::new(shown(self.credits.issue(account, adjustment, request_id).await?)))
    }
}

fn shown(balance: Balance) -> CreditAccount {
    CreditAccount {
        name: "creditAccount".to_owned(),
        available_micros: balance.available.get(),
        held_micros: balance.held.get(),
        spent_micros: balance.spent.get(),
    }
}

fn booked(entry: Entry) -> CreditEntry {
    let amount = if entry.kind == Kind::Capture { -entry.spent.get() } else { entry.available.get() };
    CreditEntry {
        name: format!("{ENTRIES}/{}", entry.id),
        kind: kind(entry.kind).into(),
        generation: entry.generation.map(GenerationId::name).unwrap_or_default(),
        amount_micros: amount,
        available_change_micros: entry.available.get(),
        reason: entry.reason.unwrap_or_default(),
        create_time: Some(timestamp(entry.create_time)),
    }
}

const fn kind(kind: Kind) -> Shown {
    match kind {
        Kind::Hold => Shown::Hold,
        Kind::Capture => Shown::Capture,
        Kind::Release => Shown::Release,
        Kind::Grant => Shown::Grant,
        Kind::Adjust => Shown::Adjust,
    }
}
