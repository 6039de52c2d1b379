//! Stored outputs, which thumbnail-worker registers in `assets`. They are only read here.

use chassis::postgres::statement;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Error;
use crate::model::Output;

/// An error unless the account has the output's asset in the reported size.
pub(super) async fn require_output(tx: &mut PgConnection, account: Uuid, output: &Output) -> Result<(), Error> {
    let query = sqlx::query_scalar::<_, i64>("select size_bytes from assets where account_id = $1 and sha256 = $2")
        .bind(account)
        .bind(output.sha256.to_vec());
    let stored = statement("find_output", query.fetch_optional(tx)).await?;
    output.check_stored(stored).map_err(Error::OutputMissing)
}
