//! What the role of each service may do in the database, and the statements that grant it.
//!
//! Invariants: a table has one writer, and a column that another service copies into it has that one; who writes it is said here and
//! nowhere else, and PostgreSQL holds to it. A table that does not stand here is nobody's but the owner's.

use std::fmt::Write as _;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

/// A service that uses the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// Accounts, keys, projects, scenes and notices.
    Dashboard,
    /// Generations, credits, the queue and webhooks.
    GenerationStatus,
    /// Assets and thumbnails.
    ThumbnailWorker,
}

impl Service {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Dashboard, Self::GenerationStatus, Self::ThumbnailWorker];

    /// The name of its program.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dashboard => "dashboard",
            Self::GenerationStatus => "generation-status",
            Self::ThumbnailWorker => "thumbnail-worker",
        }
    }

    /// The role with its rights. Nobody logs in as it: the user that the service connects as is a member.
    #[must_use]
    pub const fn role(self) -> &'static str {
        match self {
            Self::Dashboard => "rushes_dashboard",
            Self::GenerationStatus => "rushes_generation_status",
            Self::ThumbnailWorker => "rushes_thumbnail_worker",
        }
    }

    /// The service whose program has this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|service| service.name() == name)
    }
}

/// What one service may do with one table, as `grant` takes it.
#[derive(Clone, Copy, Debug)]
pub struct Grant {
    /// The table.
    pub table: &'static str,
    /// The service.
    pub service: Service,
    /// Such as `select, update (title)`.
    pub rights: &'static str,
}

macro_rules! grants {
    ($($table:ident { $($service:ident: $rights:literal),* $(,)? })*) => {
        /// All rights of all services, table by table.
        pub const GRANTS: &[Grant] = &[
            $($(Grant { table: stringify!($table), service: Service::$service, rights: $rights },)*)*
        ];
    };
}

// A lock (`for update`, `for key share`) takes the right to update a column, and `returning` and every condition the right to select.
// A trigger writes with the rights of whoever changed the table; a foreign key looks with those of the owner.
grants! {
    accounts {
        Dashboard: "select, insert, update",
        GenerationStatus: "select",
    }
    api_keys { Dashboard: "select, insert, update, delete" }
    // One row for each account, of which each service stamps a column.
    account_erasures {
        Dashboard: "select, insert, update (projects_time)",
        GenerationStatus: "select, update (generations_time)",
        ThumbnailWorker: "select, update (assets_time)",
    }
    // What writes it runs with the rights of its owner.
    audit_entries { Dashboard: "select" }
    projects {
        Dashboard: "select, insert, update (title, description, labels, scene_count, version, update_time, delete_time), delete",
        GenerationStatus: "select, update (completed_count, completed_cost_micros)",
    }
    scenes {
        Dashboard: "select, insert, update (title, script, labels, position, version, update_time, delete_time), delete",
        GenerationStatus: "select, update (latest_generation, latest_version, latest_state, latest_percent, latest_stage, latest_thumbnail, \
                           latest_thumbhash, take_generation, take_thumbnail, take_thumbhash)",
    }
    notices {
        Dashboard: "select, insert, update, delete",
        GenerationStatus: "insert",
    }

    generations {
        Dashboard: "select",
        GenerationStatus: "select, insert, update, delete",
        // Since when an output may be on its way.
        ThumbnailWorker: "select (state, create_time, start_time, end_time)",
    }
    generation_orders { GenerationStatus: "select, insert, update, delete" }
    generation_labels { GenerationStatus: "select, insert, delete" }
    credit_accounts {
        Dashboard: "select",
        GenerationStatus: "select, insert, update",
    }
    ledger { GenerationStatus: "select, insert" }
    usage_daily { GenerationStatus: "select, insert, update, delete" }
    end_users { GenerationStatus: "select, insert, update, delete" }
    provider_calls { GenerationStatus: "select, insert, update, delete" }
    provider_events { GenerationStatus: "select, insert, delete" }
    provider_costs { GenerationStatus: "select, insert, delete" }
    provider_cost_alarms { GenerationStatus: "select, insert, delete" }
    model_paces { GenerationStatus: "select, insert, update" }
    model_providers { GenerationStatus: "select, insert, update" }
    webhook_endpoints { GenerationStatus: "select, insert, update, delete" }
    webhook_deliveries { GenerationStatus: "select, insert, update, delete" }
    webhook_attempts { GenerationStatus: "select, insert" }

    // The right to update a generated column is the right to lock a row and to change nothing of it.
    assets {
        GenerationStatus: "select, update (kind)",
        ThumbnailWorker: "select, insert, update, delete",
    }
    thumbnails { ThumbnailWorker: "select, insert, update, delete" }
    asset_uses {
        GenerationStatus: "select, insert, delete",
        ThumbnailWorker: "select",
    }
    account_storage { ThumbnailWorker: "select, insert, update, delete" }
    storage_quotas {
        Dashboard: "select, insert, update, delete",
        ThumbnailWorker: "select",
    }
    storage_scan { ThumbnailWorker: "select, update" }

    // Each service has jobs of its own kinds; generation-status has what operators do about all of them.
    jobs {
        Dashboard: "select, insert",
        GenerationStatus: "select, insert, update, delete",
        ThumbnailWorker: "select, insert, update, delete",
    }
    job_turns {
        Dashboard: "select, insert, update",
        GenerationStatus: "select, insert, update, delete",
        ThumbnailWorker: "select, insert, update, delete",
    }
    job_events {
        Dashboard: "insert",
        GenerationStatus: "select, insert, delete",
        ThumbnailWorker: "select, insert, delete",
    }
    job_accounts {
        Dashboard: "select",
        GenerationStatus: "select, insert, update, delete",
        ThumbnailWorker: "select",
    }
    job_pauses {
        GenerationStatus: "select, insert, update, delete",
        ThumbnailWorker: "select",
    }
    job_queues { GenerationStatus: "select, insert, update" }
    job_pools { GenerationStatus: "select, insert, update" }
    job_breakers { GenerationStatus: "select, insert, update, delete" }
    job_keys { GenerationStatus: "select, insert, update, delete" }
    job_servers { GenerationStatus: "select, insert, update" }

    // The relay runs in each of the two that have a cache.
    outbox {
        Dashboard: "select, insert, delete",
        GenerationStatus: "select, insert, delete",
    }
    cache_key {
        Dashboard: "select, insert, update, delete",
        GenerationStatus: "select, insert, update, delete",
    }
    cache_clock {
        Dashboard: "select, update",
        GenerationStatus: "select, update",
    }
}

/// What came of the roles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    /// Those that are not there, since whoever migrates may create none. Without them all services connect as the owner.
    pub missing: Vec<&'static str>,
}

/// Creates the roles that are missing, where the connection's user may, and gives each that is there the rights of [`GRANTS`] and no
/// others.
pub(crate) async fn apply(connection: &mut PgConnection) -> Result<Roles, sqlx::Error> {
    let mut roles = Roles::default();
    let mut grants = String::new();
    for service in Service::ALL {
        let role = service.role();
        if !exists(connection, role).await? && !create(connection, role).await? {
            roles.missing.push(role);
            continue;
        }
        // Formatting into a string cannot fail.
        let _ = write!(
            grants,
            "grant usage on schema public to {role}; revoke all on all tables in schema public from {role};"
        );
        for grant in GRANTS.iter().filter(|grant| grant.service == service) {
            let _ = write!(grants, "grant {} on {} to {role};", grant.rights, grant.table);
        }
    }
    let mut transaction = connection.begin().await?;
    // Of two at once the second would find the rows of the catalogue changed under it.
    sqlx::query("select pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *transaction).await?;
    sqlx::raw_sql(AssertSqlSafe(grants)).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(roles)
}

/// The letters of "grants" as a number.
const LOCK: i64 = 0x6772_616e_7473;

async fn exists(connection: &mut PgConnection, role: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select exists (select from pg_roles where rolname = $1)").bind(role).fetch_one(connection).await
}

/// Creates a role, and says whether it is there now. Roles are the whole server's, and another database's migration may be faster.
async fn create(connection: &mut PgConnection, role: &str) -> Result<bool, sqlx::Error> {
    match sqlx::raw_sql(AssertSqlSafe(format!("create role {role} nologin"))).execute(&mut *connection).await {
        Ok(_) => Ok(true),
        Err(sqlx::Error::Database(refusal)) => match refusal.code().as_deref() {
            // Insufficient privilege.
            Some("42501") => Ok(false),
            // A duplicate, by name or, of two at the same moment, by the catalogue's index.
            Some("42710" | "23505") => Ok(true),
            _ => Err(sqlx::Error::Database(refusal)),
        },
        Err(error) => Err(error),
    }
}
