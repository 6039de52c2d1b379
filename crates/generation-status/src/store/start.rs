//! The start of a generation: one statement checks the scene, holds the price, and writes the generation, its order, the
//! ledger, the scene's copy and the job.

use std::time::Duration;

use catalogue::Resolved;
use chassis::postgres::{self, statement};
use chassis::server::Share;
use domain::id::{AccountId, GenerationId, LedgerId};
use jobs::NORMAL_PRIORITY;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection, Row};
use tokio::time::timeout;
use uuid::Uuid;

use super::Store;
use super::change::scene_copy;
use super::end_users::LIMIT;
use super::rows::columns;
use crate::error::{Error, Noun};
use crate::model::{GENERATION_JOBS, Generation, InputDetails, NewGeneration, StartRequest, Started, WaitReason};

/// The job priority of background generations, which comes after all normal ones.
const BACKGROUND: i16 = 200;

/// How long a start waits for others of its account.
const MAX_WAIT: Duration = Duration::from_secs(1);

impl Store {
    /// Starts a generation, or finds the one that the same request started.
    pub(crate) async fn start(&self, new: &NewGeneration) -> Result<Started, Error> {
        // Two concurrent calls may both find no prior generation: the slower one violates the constraint, and then finds it.
        match self.try_start(new).await {
            Err(Error::Database(error)) if error.constraint() == Some("generations_request") => {
                self.try_start(new).await
            }
            Err(error) => Err(self.explain_limit(new.account, &new.end_user, error).await),
            started => started,
        }
    }

    /// Starts all of these in one transaction, or none; one that was started before is found.
    pub(crate) async fn start_all(&self, new: &[NewGeneration]) -> Result<Vec<Started>, Error> {
        match self.try_start_all(new).await {
            Err(Error::Database(error)) if error.constraint() == Some("generations_request") => {
                self.try_start_all(new).await
            }
            Err(error) => match new.first() {
                Some(one) => Err(self.explain_limit(one.account, &one.end_user, error).await),
                None => Err(error),
            },
            started => started,
        }
    }

    async fn try_start_all(&self, new: &[NewGeneration]) -> Result<Vec<Started>, Error> {
        let run = async |tx: &mut PgConnection| {
            let mut started = Vec::with_capacity(new.len());
            for one in new {
                started.push(begin(tx, GenerationId::new(), one, self.limits.open).await?);
            }
            Ok(started)
        };
        // All are of one caller: one of another account would be refused.
        match new.first() {
            Some(first) => {
                let _turn = self.turn(first.account).await?;
                self.pools.write.transaction_of(first.account.0, "start_all", run).await
            }
            None => Ok(Vec::new()),
        }
    }

    async fn try_start(&self, new: &NewGeneration) -> Result<Started, Error> {
        let id = GenerationId::new();
        let run = async |tx: &mut PgConnection| begin(tx, id, new, self.limits.open).await;
        let _turn = self.turn(new.account).await?;
        self.pools.write.transaction_of(new.account.0, "start", run).await
    }

    /// Waits until no other start of the account is under way in this process. They all change the account's row: in PostgreSQL each
    /// would wait for it with a connection, and then evaluate its statement again.
    async fn turn(&self, account: AccountId) -> Result<Share<Uuid>, Error> {
        let mut turn = self.starts.of(account.0, 1);
        match timeout(MAX_WAIT, turn.take()).await {
            Ok(()) => Ok(turn),
            Err(_) => Err(postgres::Error::Busy("write").into()),
        }
    }

    /// What the same request started before, however much has changed since.
    pub(crate) async fn find_started(&self, request: &StartRequest) -> Result<Option<Generation>, Error> {
        let query = sqlx::query_as(concat!(
            "select ",
            columns!(),
            " from generations g where g.account_id = $1 and g.request_id = $2 and g.request_sha256 = $3
                 and g.delete_time is null"
        ))
        .bind(request.account.0)
        .bind(request.request_id)
        .bind(request.request_sha256.to_vec());
        let run = async |connection: &mut PgConnection| query.fetch_optional(connection).await;
        Ok(self.pools.read.run("find_started_generation", run).await?)
    }

    /// Whether [`Store::start`] would succeed now.
    pub(crate) async fn check_start(&self, new: &NewGeneration) -> Result<(), Error> {
        let query = sqlx::query_as::<_, (bool, bool, bool, bool)>(
            "select exists (
                 select from scenes s join projects p on p.account_id = s.account_id and p.id = s.project_id
                 where s.account_id = $1 and s.project_id = $2 and s.id = $3
                   and s.delete_time is null and p.delete_time is null
             ), exists (
                 select from credit_accounts where account_id = $1 and available_micros >= $4
             ), exists (
                 select from credit_accounts where account_id = $1 and open_count >= $5
             ), coalesce((select margin from credit_accounts where account_id = $1), 1) = $6::numeric",
        )
        .bind(new.account.0)
        .bind(new.scene.project.0)
        .bind(new.scene.scene.0)
        .bind(new.price.total.get())
        .bind(self.limits.open)
        .bind(new.margin.to_string());
        let run = async |connection: &mut PgConnection| query.fetch_one(connection).await;
        let (scene, credit, full, priced) = self.pools.read.run("check_start", run).await?;
        if scene && credit && !full && priced {
            return self.check_end_user(new.account, &new.end_user, new.price.total).await;
        }
        Err(refusal(new, scene, full.then_some(self.limits.open), priced))
    }
}

/// Starts a generation in the caller's transaction, or finds the one that the same request started.
pub(super) async fn begin(
    tx: &mut PgConnection,
    id: GenerationId,
    new: &NewGeneration,
    max_open: i32,
) -> Result<Started, Error> {
    let row = match statement("start_generation", start(id, new, max_open).fetch_one(&mut *tx)).await {
        Err(error) if error.constraint() == Some(LIMIT) => {
            return Err(Error::EndUserLimit { price: new.price.total, left: None });
        }
        // An asset of the input was deleted since it was looked for.
        Err(error) if error.constraint() == Some("asset_uses_asset") => return Err(Error::NotFound(Noun::Asset)),
        row => row?,
    };
    parse_row(&row, new, max_open)
}

/// Why a generation cannot be started, by what was found of its scene, the account's limit and its margin.
fn refusal(new: &NewGeneration, scene: bool, full: Option<i32>, priced: bool) -> Error {
    match (scene, full, priced) {
        (false, ..) => Error::NotFound(Noun::Scene),
        (true, Some(max), _) => Error::AccountConcurrency { max },
        (true, None, false) => Error::OtherMargin { price: new.price.total },
        (true, None, true) => Error::InsufficientCredit { price: new.price.total },
    }
}

type Query = sqlx::query::Query<'static, sqlx::Postgres, sqlx::postgres::PgArguments>;

/// One statement, so that a start costs one round trip and all its checks see one snapshot. `hold` is the step that decides: it
/// updates the account's row only when scene, credit, margin and limit allow it, and everything after it follows from its row.
/// The row lock also makes concurrent starts of one account wait, so that neither credit nor limit is spent twice.
/// `locked` checks scene and project once more, under their locks; where they were deleted meanwhile, the caller rolls back.
///
/// It always returns one row: `fresh` is null when nothing was started and nothing was found, and then `scene`, `full` and `priced` say why.
fn start(id: GenerationId, new: &NewGeneration, max_open: i32) -> Query {
    let Resolved { input, order, terms } = &new.resolved;
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
         hold as (
             update credit_accounts
             set available_micros = available_micros - $11, held_micros = held_micros + $11
             where account_id = $1 and available_micros >= $11 and margin = $25::numeric and open_count < $18
               and exists (select from scene)
             returning account_id
         ),
         locked as (
             -- After the account's row, in the order of all transactions. A deletion locks its row for update, and waits for this
             -- lock as this one waits for it; one that came first shows here, where the snapshot did not have it.
             select s.id
             from hold
             join scenes s on s.account_id = hold.account_id
             join projects p on p.account_id = s.account_id and p.id = s.project_id
             where s.project_id = $4 and s.id = $5 and s.delete_time is null and p.delete_time is null
             for key share of s, p
         ),
         started as (
             insert into generations (id, account_id, project_id, scene_id, model, prompt, seed, input, lines, labels, end_user,
                                      wait_reason, held_micros, request_id, request_sha256, traceparent, start_deadline,
                                      total_deadline, retried_from)
             select $3, hold.account_id, $4, locked.id, $7, $8, $9, $10, $20, $21, $22, $19, $11, $2, $12,
                    current_setting('rushes.traceparent'), now() + make_interval(secs => $15),
                    now() + make_interval(secs => $16), $17
             from hold cross join locked
             returning *
         ),
         entered as (
             insert into ledger (id, account_id, generation_id, entry, book, amount_micros, lines)
             select line.id, g.account_id, g.id, 'hold', line.book, line.amount, line.lines
             from started g
             cross join (
                 values ($13::uuid, 'available', -$11, null), ($14::uuid, 'held', $11, $20)
             ) as line (id, book, amount, lines)
         ),
         ordered as (
             insert into generation_orders (generation_id, account_id, work_order, terms, entry_sha256)
             select g.id, g.account_id, $6, $23, $24 from started g
         ),
         shown as (",
        scene_copy!(started, "started g"),
        "), job as (
             -- Job and generation share one id, so whatever names one names the other.
             select id, account_id, $26::text as kind, model as queue, $27::smallint = $28 as takes_turn, request_id::text as idem_key,
                    request_sha256 as request_hash, ''::bytea as payload, $27::smallint as priority, 1::double precision as cost,
                    $29::integer as max_attempts, now() as run_at, start_deadline as deadline_at,
                    nullif(traceparent, '') as traceparent
             from started
         ), ",
        jobs::enqueue_steps!("job"),
        " select exists (select from scene) and exists (select from hold) = exists (select from locked) as scene,
                exists (select from credit_accounts where account_id = $1 and open_count >= $18) as full,
                coalesce((select margin from credit_accounts where account_id = $1), 1) = $25::numeric as priced,
                exists (select from enqueued) as enqueued, g.fresh, g.request_sha256, g.delete_time is not null as deleted, ",
        columns!(),
        " from (select 1) as always
         left join (select true as fresh, * from started union all select false, * from prior) as g on true"
    ))
    .bind(new.account.0)
    .bind(new.request_id)
    .bind(id.0)
    .bind(new.scene.project.0)
    .bind(new.scene.scene.0)
    .bind(Json(order.clone()))
    .bind(new.model.id.clone())
    .bind(input.prompt.clone())
    .bind(input.seed)
    .bind(Json(InputDetails::from(input)))
    .bind(new.price.total.get())
    .bind(new.request_sha256.to_vec())
    .bind(LedgerId::new().0)
    .bind(LedgerId::new().0)
    .bind(new.model.start_deadline.as_secs_f64())
    .bind(new.model.total_deadline.as_secs_f64())
    .bind(new.retried_from.map(|id| id.0))
    .bind(max_open)
    .bind(WaitReason::Capacity as i16)
    .bind(Json(new.price.lines.clone()))
    .bind(Json(new.labels.clone()))
    .bind(new.end_user.clone())
    .bind(Json(terms.clone()))
    .bind(new.model.entry_sha256.to_vec())
    .bind(new.margin.to_string())
    .bind(GENERATION_JOBS)
    .bind(if new.background { BACKGROUND } else { NORMAL_PRIORITY })
    .bind(NORMAL_PRIORITY)
    .bind(new.model.max_attempts)
}

fn parse_row(row: &PgRow, new: &NewGeneration, max_open: i32) -> Result<Started, Error> {
    let read = || -> sqlx::Result<_> {
        Ok((row.try_get("fresh")?, row.try_get("scene")?, row.try_get("full")?, row.try_get("priced")?))
    };
    let (fresh, scene, full, priced): (Option<bool>, bool, bool, bool) = read().map_err(postgres::Error::from)?;
    let Some(fresh) = fresh else {
        return Err(refusal(new, scene, full.then_some(max_open), priced));
    };
    let generation = Box::new(Generation::from_row(row).map_err(postgres::Error::from)?);
    if fresh {
        // The generation of that job is gone, but its request id was used: nothing may be held for work that would never run.
        let enqueued: bool = row.try_get("enqueued").map_err(postgres::Error::from)?;
        return if enqueued { Ok(Started::New(generation)) } else { Err(Error::RequestIdReused) };
    }
    let sha256: Vec<u8> = row.try_get("request_sha256").map_err(postgres::Error::from)?;
    if row.try_get::<bool, _>("deleted").map_err(postgres::Error::from)? {
        return Err(Error::NotFound(Noun::Generation));
    }
    if sha256 == new.request_sha256 { Ok(Started::Existing(generation)) } else { Err(Error::RequestIdReused) }
}
