//! The audit log: what was done, by whom, and to what.

use std::collections::BTreeMap;

use domain::id::{AccountId, AuditEntryId};
use serde_json::Value;
use time::OffsetDateTime;

/// Which entries are listed.
#[derive(Clone, Debug)]
pub(crate) struct AuditFilter {
    /// Whose things they are about; `None`: anybody's, and nobody's.
    pub(crate) account: Option<AccountId>,
    /// Of this act alone, such as `key.revoke`.
    pub(crate) act: Option<String>,
}

impl AuditFilter {
    /// The listing that page tokens belong to.
    pub(crate) fn listing(&self) -> String {
        let account = self.account.map(AccountId::name).unwrap_or_default();
        format!("auditEntries {account} {}", self.act.as_deref().unwrap_or_default())
    }
}

/// One act.
#[derive(Clone, Debug)]
pub(crate) struct AuditEntry {
    pub(crate) id: AuditEntryId,
    pub(crate) create_time: OffsetDateTime,
    pub(crate) actor: String,
    pub(crate) act: String,
    pub(crate) account: Option<AccountId>,
    pub(crate) subject: String,
    /// What was set, by field.
    pub(crate) detail: BTreeMap<String, Value>,
    pub(crate) trace_id: String,
}
