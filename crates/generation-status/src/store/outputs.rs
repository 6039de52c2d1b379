//! Stored outputs, which thumbnail-worker registers in `assets`. They are only read here.

use std::collections::HashMap;

use chassis::postgres::statement;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Error;
use crate::model::Output;

/// An error unless the account has the asset of each output in the reported size, and keeps it until this transaction has ended.
pub(super) async fn require_outputs(tx: &mut PgConnection, account: Uuid, outputs: &[Output]) -> Result<(), Error> {
    let hashes: Vec<Vec<u8>> = outputs.iter().map(|output| output.sha256.to_vec()).collect();
    let query = sqlx::query_as::<_, (Vec<u8>, i64)>(
        "select sha256, size_bytes from assets where account_id = $1 and sha256 = any ($2)
         order by sha256 for key share",
    )
    .bind(account)
    .bind(hashes);
    let stored: HashMap<Vec<u8>, i64> = statement("find_outputs", query.fetch_all(tx)).await?.into_iter().collect();
    let check = |output: &Output| output.check_stored(stored.get(output.sha256.as_slice()).copied());
    outputs.iter().try_for_each(check).map_err(Error::OutputMissing)
}
