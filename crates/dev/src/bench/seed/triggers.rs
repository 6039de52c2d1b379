//! Triggers off while rows are copied in, and back on exactly as they were: the outbox must not be told of a million rows,
//! and the foreign keys of rows that belong together are looked at afterwards, all at once.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use sqlx::{AssertSqlSafe, PgConnection};

/// The tables that are seeded.
const TABLES: [&str; 6] = ["accounts", "credit_accounts", "notices", "projects", "scenes", "generations"];

/// The triggers as they were before.
#[must_use]
pub(super) struct Disabled {
    before: BTreeSet<(String, String, String)>,
}

/// Turns every trigger of the seeded tables off, those of foreign keys and those that always fire included.
pub(super) async fn disable(connection: &mut PgConnection) -> Result<Disabled> {
    let before = state(connection).await?;
    for table in TABLES {
        run(connection, format!("alter table {table} disable trigger all")).await?;
    }
    Ok(Disabled { before })
}

impl Disabled {
    /// Turns them on again.
    pub(super) async fn enable(self, connection: &mut PgConnection) -> Result<()> {
        for table in TABLES {
            run(connection, format!("alter table {table} enable trigger all")).await?;
        }
        // The line above makes ordinary triggers of those that always fire.
        for (table, trigger, _) in self.before.iter().filter(|(_, _, enabled)| enabled == "A") {
            run(connection, format!("alter table {table} enable always trigger {trigger}")).await?;
        }
        ensure!(state(connection).await? == self.before, "the triggers are not what they were before seeding");
        Ok(())
    }
}

/// Table, trigger and `tgenabled` of every trigger of the seeded tables, all as SQL writes them.
async fn state(connection: &mut PgConnection) -> Result<BTreeSet<(String, String, String)>> {
    let rows: Vec<(String, String, String)> = sqlx::query_as(
        "select tgrelid::regclass::text, quote_ident(tgname), tgenabled::text
           from pg_trigger
          where tgrelid = any($1::text[]::regclass[])",
    )
    .bind(TABLES.map(str::to_owned).to_vec())
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().collect())
}

/// Runs a statement made of names that stand above or come from the catalogue.
async fn run(connection: &mut PgConnection, statement: String) -> Result<()> {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await?;
    Ok(())
}
