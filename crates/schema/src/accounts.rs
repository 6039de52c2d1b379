//! Which tables have what is an account's, what an export has of each, and what an erasure leaves of it.
//!
//! Invariant: every table with an `account_id` stands here, which a test holds the schema to; and an erasure is complete when each table
//! that does not say `Kept` has no row of the account.

/// What an export of an account has of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exported {
    /// Lines of this kind.
    As(&'static str),
    /// Nothing, for this reason.
    Not(&'static str),
}

/// What an erasure leaves of an account's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Erased {
    /// No row.
    Gone,
    /// Rows with this, and no text that was the account's.
    Kept(&'static str),
}

/// A table with rows that are an account's.
#[derive(Clone, Copy, Debug)]
pub struct AccountTable {
    /// Its name.
    pub table: &'static str,
    /// What an export has of it.
    pub exported: Exported,
    /// What an erasure leaves of it.
    pub erased: Erased,
}

const fn row(table: &'static str, exported: Exported, erased: Erased) -> AccountTable {
    AccountTable { table, exported, erased }
}

use Erased::{Gone, Kept};
use Exported::{As, Not};

/// Every table with rows that are an account's.
pub const ACCOUNT_TABLES: &[AccountTable] = &[
    row("accounts", As("account"), Kept("its id, its times, and the note of its suspension, which an operator wrote")),
    row("account_erasures", Not("of an account that is erased"), Kept("when each service had nothing left")),
    row("account_storage", As("storageUse"), Gone),
    row("api_keys", As("apiKey"), Gone),
    row("asset_uses", Not("generations name their assets"), Gone),
    row("assets", As("asset"), Gone),
    row(
        "audit_entries",
        Not("the operators' log"),
        Kept("who did what and when, with operators' notes; the account's name and its keys' networks are taken out"),
    ),
    row("credit_accounts", As("creditAccount"), Kept("the balance, which the ledger adds up to")),
    row("end_users", As("endUser"), Gone),
    row("generation_labels", Not("an index of the labels that generations have"), Gone),
    row("generation_orders", Not("what providers are sent of an input, and their prices"), Gone),
    row("generations", As("generation"), Gone),
    row("job_accounts", Not("shares of the queue that operators set"), Gone),
    row("job_turns", Not("places in the queue"), Gone),
    row("jobs", Not("work of the queue"), Gone),
    row(
        "ledger",
        As("creditEntry"),
        Kept(
            "entries with their amounts, dates, priced lines, ids of generations and requests, and operators' reasons",
        ),
    ),
    row("notices", Not("what Rushes told the account; unread ones are in its dashboard"), Gone),
    row("projects", As("project"), Gone),
    row("provider_calls", Not("orders at providers"), Gone),
    row("scenes", As("scene"), Gone),
    row("storage_quotas", As("storageUse"), Gone),
    row("thumbnails", Not("drawn from assets, which name the default one"), Gone),
    row("usage_daily", As("usage"), Kept("sums by day and model, without end users")),
    row("webhook_attempts", As("webhookDelivery"), Gone),
    row("webhook_deliveries", As("webhookDelivery"), Gone),
    row("webhook_endpoints", As("webhookEndpoint"), Gone),
];
