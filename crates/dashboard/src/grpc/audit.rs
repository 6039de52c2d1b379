//! AuditService, for operators.

use chassis::fields::Fields;
use domain::id::AccountId;
use domain::page::Page;
use proto::audit::v1::audit_service_server::AuditService;
use proto::audit::v1::{ListAuditEntriesRequest, ListAuditEntriesResponse};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::audit::Audit;
use crate::error::Error;
use crate::model::AuditFilter;
use crate::pages::Pages;
use crate::presenter::audit_entry_to_proto;

/// The log of all accounts belongs to none.
const NO_ACCOUNT: AccountId = AccountId(Uuid::nil());
/// The longest name of an act, in characters.
const MAX_ACT: usize = 60;

/// The service over its rules.
#[derive(Clone)]
pub(crate) struct AuditApi {
    pub(crate) audit: Audit,
    pub(crate) pages: Pages,
}

#[tonic::async_trait]
impl AuditService for AuditApi {
    async fn list_audit_entries(
        &self,
        request: Request<ListAuditEntriesRequest>,
    ) -> Result<Response<ListAuditEntriesResponse>, Status> {
        let (filter, page) = parse_list(&self.pages, request.into_inner())?;
        let (entries, next) = self.audit.list(&filter, page).await?;
        Ok(Response::new(ListAuditEntriesResponse {
            entries: entries.into_iter().map(audit_entry_to_proto).collect(),
            next_page_token: self.pages.token(NO_ACCOUNT, &filter.listing(), next),
        }))
    }
}

fn parse_list(pages: &Pages, request: ListAuditEntriesRequest) -> Result<(AuditFilter, Page), Error> {
    let mut fields = Fields::default();
    let account = match request.account.as_str() {
        "" => None,
        name => fields.take("account", AccountId::from_name(name)),
    };
    let act = match request.act.is_empty() {
        true => None,
        false => fields.line("act", request.act, MAX_ACT),
    };
    let filter = AuditFilter { account, act };
    let page = pages.parse(&mut fields, NO_ACCOUNT, &filter.listing(), request.page_size, &request.page_token);
    Ok((filter, fields.done(page)?))
}
