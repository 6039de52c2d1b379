//! What a server is: the one that takes writes, one that takes none for now, or a standby.

use sqlx::{PgConnection, Row as _};

/// What a server says that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It takes writes.
    Primary,
    /// It takes none now, since somebody set it so; its reads are current.
    ReadOnly,
    /// It follows another server, as one does that was demoted in a failover: its reads may be old.
    Standby,
}

impl Role {
    /// Asks the server, in one round trip.
    pub(super) async fn of(connection: &mut PgConnection) -> Result<Self, sqlx::Error> {
        // The simple protocol: nothing is prepared for a question that is asked every second.
        let question = sqlx::raw_sql("select pg_is_in_recovery()::text, current_setting('transaction_read_only')");
        let row = question.fetch_one(connection).await?;
        let (standby, read_only) = (row.try_get::<String, _>(0)? == "true", row.try_get::<String, _>(1)? == "on");
        Ok(match (standby, read_only) {
            (true, _) => Self::Standby,
            (false, true) => Self::ReadOnly,
            (false, false) => Self::Primary,
        })
    }
}
