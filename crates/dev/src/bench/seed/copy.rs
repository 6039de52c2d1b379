//! One COPY for each table that is seeded, all under way at once, each on a connection of its own.

use anyhow::{Context, Result};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgCopyIn, PgPoolCopyExt, PgPoolOptions};
use sqlx::{PgPool, Postgres};

use super::tuple::{HEADER, TRAILER};

/// Rows are sent in portions of about this many bytes.
const PORTION: usize = 1 << 20;

/// Rows not sent yet, by table.
#[derive(Default)]
pub(super) struct Rows {
    pub(super) accounts: Vec<u8>,
    pub(super) credits: Vec<u8>,
    pub(super) notices: Vec<u8>,
    pub(super) projects: Vec<u8>,
    pub(super) scenes: Vec<u8>,
    pub(super) generations: Vec<u8>,
}

/// The COPYs under way.
pub(super) struct Copies {
    pub(super) rows: Rows,
    pool: PgPool,
    accounts: Copy,
    credits: Copy,
    notices: Copy,
    projects: Copy,
    scenes: Copy,
    generations: Copy,
}

type Copy = PgCopyIn<PoolConnection<Postgres>>;

impl Copies {
    pub(super) async fn open(url: &str) -> Result<Self> {
        let pool = PgPoolOptions::new().max_connections(6).connect(url).await?;
        Ok(Self {
            rows: Rows::default(),
            accounts: open(&pool, "copy accounts (id, display_name, email, create_time) from stdin (format binary)").await?,
            credits: open(
                &pool,
                "copy credit_accounts (account_id, available_micros, held_micros, spent_micros) from stdin (format binary)",
            )
            .await?,
            notices: open(
                &pool,
                "copy notices (id, account_id, title, body, create_time) from stdin (format binary)",
            )
            .await?,
            projects: open(
                &pool,
                "copy projects (id, account_id, title, scene_count, completed_count, completed_cost_micros, create_time,
                                update_time)
                 from stdin (format binary)",
            )
            .await?,
            scenes: open(
                &pool,
                "copy scenes (id, account_id, project_id, title, position, create_time, update_time, latest_generation,
                              latest_version, latest_state, latest_percent, latest_stage, latest_thumbnail)
                 from stdin (format binary)",
            )
            .await?,
            generations: open(
                &pool,
                "copy generations (id, account_id, project_id, scene_id, version, state, model, prompt, seed,
                                   percent, basis, stage, outputs, thumbnail, error_code, error_reason,
                                   error_message, held_micros, captured_micros, released_micros, attempt_count,
                                   request_id, request_sha256, create_time, submit_time, start_time, end_time, update_time)
                 from stdin (format binary)",
            )
            .await?,
            pool,
        })
    }

    /// Sends the rows of tables that have a portion together, or with `all` every row.
    pub(super) async fn send(&mut self, all: bool) -> Result<()> {
        let Self { rows, accounts, credits, notices, projects, scenes, generations, .. } = self;
        for (rows, copy) in [
            (&mut rows.accounts, accounts),
            (&mut rows.credits, credits),
            (&mut rows.notices, notices),
            (&mut rows.projects, projects),
            (&mut rows.scenes, scenes),
            (&mut rows.generations, generations),
        ] {
            if all || rows.len() >= PORTION {
                copy.send(rows.as_slice()).await?;
                rows.clear();
            }
        }
        Ok(())
    }

    /// Sends what is left and ends every COPY; returns how many generations there are.
    pub(super) async fn finish(mut self) -> Result<u64> {
        self.send(true).await?;
        for copy in [self.accounts, self.credits, self.notices, self.projects, self.scenes] {
            close(copy).await?;
        }
        let generations = close(self.generations).await?;
        self.pool.close().await;
        Ok(generations)
    }
}

async fn open(pool: &PgPool, statement: &str) -> Result<Copy> {
    let mut copy = pool.copy_in_raw(statement).await.with_context(|| statement.to_owned())?;
    copy.send(HEADER).await?;
    Ok(copy)
}

async fn close(mut copy: Copy) -> Result<u64> {
    copy.send(TRAILER).await?;
    copy.finish().await.context("ending a copy")
}
