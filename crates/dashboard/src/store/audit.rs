//! Statements on the audit log, which nothing but triggers writes.

use std::collections::BTreeMap;

use domain::id::{AccountId, AuditEntryId};
use domain::page::Page;
use serde_json::Value;
use sqlx::FromRow;
use sqlx::types::Json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::Store;
use crate::error::Error;
use crate::model::{AuditEntry, AuditFilter};

#[derive(FromRow)]
struct Row {
    id: Uuid,
    create_time: OffsetDateTime,
    actor: String,
    act: String,
    account_id: Option<Uuid>,
    subject: String,
    detail: Json<BTreeMap<String, Value>>,
    trace_id: String,
}

impl From<Row> for AuditEntry {
    fn from(row: Row) -> Self {
        Self {
            id: AuditEntryId(row.id),
            create_time: row.create_time,
            actor: row.actor,
            act: row.act,
            account: row.account_id.map(AccountId),
            subject: row.subject,
            detail: row.detail.0,
            trace_id: row.trace_id,
        }
    }
}

impl Store {
    /// The entries of a page and one more, from new to old. Those of all accounts are for operators alone, as the method's scope has it.
    pub(crate) async fn audit_entries(&self, filter: &AuditFilter, page: Page) -> Result<Vec<AuditEntry>, Error> {
        let query = match filter.account {
            Some(account) => sqlx::query_as::<_, Row>(
                "select id, create_time, actor, act, account_id, subject, detail, trace_id
                   from audit_entries
                  where account_id = $4 and ($1::text is null or act = $1) and id < $2
                  order by id desc
                  limit $3",
            )
            .bind(&filter.act)
            .bind(page.below())
            .bind(page.rows())
            .bind(account.0),
            None => sqlx::query_as::<_, Row>(
                "select id, create_time, actor, act, account_id, subject, detail, trace_id
                   from audit_entries
                  where ($1::text is null or act = $1) and id < $2
                  order by id desc
                  limit $3",
            )
            .bind(&filter.act)
            .bind(page.below())
            .bind(page.rows()),
        };
        let rows = self.read.run("list_audit_entries", async |connection| query.fetch_all(connection).await);
        Ok(rows.await?.into_iter().map(AuditEntry::from).collect())
    }
}
