//! Starting a generation: one statement checks the scene and the assets, takes the price, and writes the generation, the
//! ledger and the scene's copy; the job follows in the same transaction.

use std::sync::Arc;

use chassis::postgres::{self, statement};
use domain::id::{AccountId, GenerationId, LedgerId};
use domain::name::SceneName;
use jobs::{Enqueued, NewJob};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection, Row};
use uuid::Uuid;

use super::Store;
use super::row::columns;
use crate::error::{Error, Noun};
use crate::models::Model;
use crate::record::Record;

/// The kind of a generation's job.
pub(crate) const KIND: &str = "generation";

/// The priority of what goes after all that is ordinary.
const BACKGROUND: i16 = 200;

/// A generation to be started, checked as far as that goes without the database.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) account: AccountId,
    pub(crate) scene: SceneName,
    pub(crate) model: Arc<Model>,
    pub(crate) prompt: String,
    pub(crate) seed: i64,
    pub(crate) reference_assets: Vec<[u8; 32]>,
    pub(crate) request_id: Uuid,
    pub(crate) request_sha256: [u8; 32],
    /// The generation that this one repeats.
    pub(crate) retried_from: Option<GenerationId>,
    /// After all that is not.
    pub(crate) background: bool,
}

/// What came of starting.
pub(crate) enum Started {
    /// It is new.
    New(Box<Record>),
    /// The same request started it before.
    Before(Box<Record>),
}

impl Store {
    /// Starts a generation, or finds the one that the same request started.
    pub(crate) async fn start(&self, draft: &Draft) -> Result<Started, Error> {
        // Two calls at once may both see that there is none: the slower one runs into the constraint and polls again.
        match self.try_start(draft).await {
            Err(Error::Database(error)) if error.constraint() == Some("generations_request") => {
                self.try_start(draft).await
            }
            result => result,
        }
    }

    async fn try_start(&self, draft: &Draft) -> Result<Started, Error> {
        let id = GenerationId::new();
        let run = async |tx: &mut PgConnection| begin(tx, id, draft, self.account.open).await;
        self.pools.write.transaction("start", run).await
    }

    /// Whether [`Store::start`] would succeed now.
    pub(crate) async fn could_start(&self, draft: &Draft) -> Result<(), Error> {
        let query = sqlx::query_as::<_, (bool, bool, bool, bool)>(
            "select exists (
                 select from scenes s join projects p on p.account_id = s.account_id and p.id = s.project_id
                 where s.account_id = $1 and s.project_id = $2 and s.id = $3
                   and s.delete_time is null and p.delete_time is null
             ), (
                 select count(*) from assets where account_id = $1 and sha256 = any ($4::bytea[])
             ) = cardinality($4), exists (
                 select from credit_accounts where account_id = $1 and available_micros >= $5
             ), exists (
                 select from credit_accounts where account_id = $1 and open_count >= $6
             )",
        )
        .bind(draft.account.0)
        .bind(draft.scene.project.0)
        .bind(draft.scene.scene.0)
        .bind(&draft.reference_assets)
        .bind(draft.model.price.get())
        .bind(self.account.open);
        let run = async |connection: &mut PgConnection| query.fetch_one(connection).await;
        let (scene, assets, credit, full) = self.pools.read.run("could_start_generation", run).await?;
        if scene && assets && credit && !full {
            return Ok(());
        }
        Err(refusal(draft, scene, assets, full.then_some(self.account.open)))
    }
}

/// Starts a generation in the caller's transaction, or finds the one that the same request started.
pub(super) async fn begin(tx: &mut PgConnection, id: GenerationId, draft: &Draft, most: i32) -> Result<Started, Error> {
    let row = statement("start_generation", start(id, draft, most).fetch_one(&mut *tx)).await?;
    let started = read(&row, draft, most)?;
    if let Started::New(_) = started {
        match jobs::enqueue(tx, &job(id, draft)).await? {
            Enqueued::Created(_) => {}
            // Its generation is gone, but the request was used: nothing may be held for what will never run.
            Enqueued::Duplicate(_) | Enqueued::Conflict(_) => return Err(Error::RequestIdReused),
        }
    }
    Ok(started)
}

/// Why a draft cannot be started, given what was found of its scene, its assets, and how many the account may have.
fn refusal(draft: &Draft, scene: bool, assets: bool, full: Option<i32>) -> Error {
    match (scene, assets, full) {
        (false, _, _) => Error::Missing(Noun::Scene),
        (true, false, _) => Error::Missing(Noun::Asset),
        (true, true, Some(most)) => Error::AccountConcurrency { most },
        (true, true, None) => Error::InsufficientCredit { price: draft.model.price },
    }
}

fn job(id: GenerationId, draft: &Draft) -> NewJob {
    NewJob {
        // One id for both: whatever names the job names the generation.
        id: id.0,
        queue: draft.model.id.clone(),
        priority: if draft.background { BACKGROUND } else { jobs::NORMAL_PRIORITY },
        request_hash: draft.request_sha256.to_vec(),
        max_attempts: draft.model.max_attempts,
        deadline: Some(draft.model.start_deadline),
        ..NewJob::new(draft.account.0, KIND, draft.request_id.to_string())
    }
}

type Query = sqlx::query::Query<'static, sqlx::Postgres, sqlx::postgres::PgArguments>;

fn start(id: GenerationId, draft: &Draft, most: i32) -> Query {
    let assets: Vec<String> = draft.reference_assets.iter().map(domain::name::asset_name).collect();
    sqlx::query(concat!(
        "with prior as (
             select * from generations where account_id = $1 and request_id = $2
         ),
         scene as (
             select s.id from scenes s join projects p on p.account_id = s.account_id and p.id = s.project_id
             where s.account_id = $1 and s.project_id = $4 and s.id = $5
               and s.delete_time is null and p.delete_time is null
               and not exists (select from prior)
         ),
         missing as (
             select cardinality($6::bytea[]) - count(*) as assets
             from assets where account_id = $1 and sha256 = any ($6::bytea[])
         ),
         hold as (
             update credit_accounts
             set available_micros = available_micros - $11, held_micros = held_micros + $11
             where account_id = $1 and available_micros >= $11 and open_count < $18
               and exists (select from scene) and (select assets from missing) = 0
             returning account_id
         ),
         started as (
             insert into generations (id, account_id, project_id, scene_id, model, prompt, seed, reference_assets,
                                      wait_reason, held_micros, request_id, request_sha256, traceparent, start_deadline,
                                      total_deadline, retried_from)
             select $3, hold.account_id, $4, scene.id, $7, $8, $9, $10, 1, $11, $2, $12,
                    current_setting('rushes.traceparent'), now() + make_interval(secs => $15),
                    now() + make_interval(secs => $16), $17
             from hold cross join scene
             returning *
         ),
         entered as (
             insert into ledger (id, account_id, generation_id, entry, book, amount_micros)
             select line.id, g.account_id, g.id, 'hold', line.book, line.amount
             from started g
             cross join (values ($13::uuid, 'available', -$11), ($14::uuid, 'held', $11)) as line (id, book, amount)
         ),
         shown as (
             update scenes s
             set latest_generation = g.id, latest_version = g.version, latest_state = g.state,
                 latest_percent = g.percent, latest_stage = g.stage, latest_thumbnail = null
             from started g
             where s.account_id = g.account_id and s.id = g.scene_id
         )
         select exists (select from scene) as scene, (select assets from missing) = 0 as assets,
                exists (select from credit_accounts where account_id = $1 and open_count >= $18) as full,
                g.fresh, g.request_sha256, ",
        columns!(),
        " from (select 1) as always
         left join (select true as fresh, * from started union all select false, * from prior) as g on true"
    ))
    .bind(draft.account.0)
    .bind(draft.request_id)
    .bind(id.0)
    .bind(draft.scene.project.0)
    .bind(draft.scene.scene.0)
    .bind(draft.reference_assets.clone())
    .bind(draft.model.id.clone())
    .bind(draft.prompt.clone())
    .bind(draft.seed)
    .bind(assets)
    .bind(draft.model.price.get())
    .bind(draft.request_sha256.to_vec())
    .bind(LedgerId::new().0)
    .bind(LedgerId::new().0)
    .bind(draft.model.start_deadline.as_secs_f64())
    .bind(draft.model.total_deadline.as_secs_f64())
    .bind(draft.retried_from.map(|id| id.0))
    .bind(most)
}

fn read(row: &PgRow, draft: &Draft, most: i32) -> Result<Started, Error> {
    let read = || -> sqlx::Result<_> {
        Ok((row.try_get("fresh")?, row.try_get("scene")?, row.try_get("assets")?, row.try_get("full")?))
    };
    let (fresh, scene, assets, full): (Option<bool>, bool, bool, bool) = read().map_err(postgres::Error::from)?;
    let Some(fresh) = fresh else {
        return Err(refusal(draft, scene, assets, full.then_some(most)));
    };
    let record = Box::new(Record::from_row(row).map_err(postgres::Error::from)?);
    if fresh {
        return Ok(Started::New(record));
    }
    let sha256: Vec<u8> = row.try_get("request_sha256").map_err(postgres::Error::from)?;
    if sha256 == draft.request_sha256 { Ok(Started::Before(record)) } else { Err(Error::RequestIdReused) }
}
