//! The audit log, for operators. It is only read here: triggers write it in the transaction of each act.

use domain::page::{Cursor, Page};

use crate::error::Error;
use crate::model::{AuditEntry, AuditFilter};
use crate::store::Store;

/// Reads the audit log.
#[derive(Clone)]
pub(crate) struct Audit {
    store: Store,
}

impl Audit {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// A page of entries, newest first, and the cursor of the next.
    pub(crate) async fn list(
        &self,
        filter: &AuditFilter,
        page: Page,
    ) -> Result<(Vec<AuditEntry>, Option<Cursor>), Error> {
        let mut entries = self.store.audit_entries(filter, page).await?;
        let next = page.cut(&mut entries, |entry| Cursor { position: 0, id: entry.id.0 });
        Ok((entries, next))
    }
}
