//! The secrets of webhooks as they are stored, and their sealing anew when there is another key.
//!
//! Invariant: a secret that changes while it is sealed anew stays as it was changed: a row is written only if it still has what was read.

use chassis::postgres::statement;
use chassis::status::Failure;
use domain::id::AccountId;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::Store;
use crate::error::Error;
use crate::model::Secret;

/// How many endpoints are sealed anew in one transaction.
const BATCH: i64 = 100;

/// What came of one batch.
#[derive(Debug)]
pub(crate) struct Resealed {
    /// The endpoint after which the next batch begins; `None`: there is none.
    pub(crate) next: Option<Uuid>,
    /// How many endpoints are stored under the first key now, and were not before.
    pub(crate) sealed: usize,
    /// How many have a secret that no key opens.
    pub(crate) unreadable: usize,
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    account_id: Uuid,
    secret: Vec<u8>,
    previous_secret: Option<Vec<u8>>,
}

impl Store {
    /// A secret as it is stored for this endpoint.
    pub(super) fn seal(&self, account: AccountId, endpoint: Uuid, secret: Secret) -> Result<Vec<u8>, Error> {
        self.secrets.seal(account.0, endpoint, secret).map_err(|error| Error::Failed(Failure::internal(error)))
    }

    /// Seals the secrets after the endpoint `after` that are in the clear, or of another key than the first. Goes across accounts: it is
    /// about rows, and tells nobody of them.
    pub(crate) async fn reseal_secrets(&self, after: Uuid) -> Result<Resealed, Error> {
        let id = self.secrets.sealing_id();
        let run = async |tx: &mut PgConnection| {
            let query = sqlx::query_as::<_, Row>(
                "select id, account_id, secret, previous_secret from webhook_endpoints
                 where id > $1
                   and (substring(secret from 2 for 4) is distinct from $2 or octet_length(secret) = 32
                        or previous_secret is not null
                           and (substring(previous_secret from 2 for 4) is distinct from $2 or octet_length(previous_secret) = 32))
                 order by id limit $3",
            )
            .bind(after)
            .bind(id.map(|id| id.to_vec()))
            .bind(BATCH)
            .fetch_all(&mut *tx);
            let rows = statement("read_secrets", query).await?;
            let next = rows.last().filter(|_| i64::try_from(rows.len()) == Ok(BATCH)).map(|row| row.id);
            let mut resealed = Resealed { next, sealed: 0, unreadable: 0 };
            for row in rows {
                let open = |stored: &[u8]| self.secrets.open(row.account_id, row.id, stored);
                let previous = row.previous_secret.as_deref().map(open);
                let (Some(secret), false) = (open(&row.secret), matches!(previous, Some(None))) else {
                    resealed.unreadable += 1;
                    continue;
                };
                if id.is_none() {
                    continue;
                }
                let account = AccountId(row.account_id);
                let previous = previous.flatten().map(|secret| self.seal(account, row.id, secret)).transpose()?;
                let query = sqlx::query(
                    "update webhook_endpoints set secret = $3, previous_secret = $4
                     where account_id = $1 and id = $2 and secret = $5 and previous_secret is not distinct from $6",
                )
                .bind(account.0)
                .bind(row.id)
                .bind(self.seal(account, row.id, secret)?)
                .bind(previous)
                .bind(&row.secret)
                .bind(&row.previous_secret);
                let written = statement("reseal_secret", query.execute(&mut *tx)).await?.rows_affected();
                resealed.sealed += usize::from(written == 1);
            }
            Ok(resealed)
        };
        self.pools.reaper.transaction("reseal_secrets", run).await
    }
}
