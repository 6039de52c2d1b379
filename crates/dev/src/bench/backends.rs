//! The CPU time of PostgreSQL's backends, each a process: what a request costs the database whatever the client does.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Result;
use sqlx::PgConnection;

use super::process;

/// The backends that serve one kind of client, and what they had used when they were listed.
#[derive(Debug)]
pub(super) struct Backends {
    application: &'static str,
    used: HashMap<u32, Duration>,
}

impl Backends {
    /// Those of the clients called `application` (a pattern of `like`), as of now.
    pub(super) async fn of(application: &'static str, connection: &mut PgConnection) -> Result<Self> {
        Ok(Self { application, used: used(application, connection).await? })
    }

    /// What they have used since then. Backends that ended meanwhile are not counted, new ones are in full.
    pub(super) async fn since(&self, connection: &mut PgConnection) -> Result<Duration> {
        let now = used(self.application, connection).await?;
        let before = |pid| self.used.get(pid).copied().unwrap_or_default();
        Ok(now.iter().map(|(pid, now)| now.saturating_sub(before(pid))).sum())
    }
}

/// The CPU time that the backend of `connection` has used so far.
pub(super) async fn own(connection: &mut PgConnection) -> Result<Duration> {
    let pid: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(connection).await?;
    process::cpu(u32::try_from(pid)?)
}

async fn used(application: &str, connection: &mut PgConnection) -> Result<HashMap<u32, Duration>> {
    let pids: Vec<i32> = sqlx::query_scalar(
        "select pid from pg_stat_activity where datname = current_database() and application_name like $1",
    )
    .bind(application)
    .fetch_all(connection)
    .await?;
    let mut used = HashMap::with_capacity(pids.len());
    for pid in pids {
        let pid = u32::try_from(pid)?;
        // One that ended since it was listed has nothing more to say.
        if let Ok(cpu) = process::cpu(pid) {
            used.insert(pid, cpu);
        }
    }
    Ok(used)
}
