//! Which generations an operator's filter chooses, across accounts. What is done about each is in the modules of its transition.

use std::time::Duration;

use chassis::postgres::statement;
use domain::generation::State;
use domain::id::{AccountId, GenerationId};
use sqlx::{FromRow, PgConnection};
use time::OffsetDateTime;
use uuid::Uuid;

use super::Store;
use crate::error::Error;
use crate::model::{BulkFilter, Chosen, GENERATION_JOBS, OrderPhase, Stuck};

#[derive(FromRow)]
struct Row {
    id: Uuid,
    account_id: Uuid,
    model: String,
    provider: String,
    update_time: OffsetDateTime,
    version: i64,
}

impl Store {
    /// The time so long ago, by the database's clock.
    pub(crate) async fn time_ago(&self, age: Duration) -> Result<OffsetDateTime, Error> {
        let query = sqlx::query_scalar("select now() - make_interval(secs => $1)").bind(age.as_secs_f64());
        let run = async |connection: &mut PgConnection| query.fetch_one(connection).await;
        Ok(self.pools.read.run("read_clock", run).await?)
    }

    /// Up to `limit` dead letters, newest first.
    pub(crate) async fn choose_dead_letters(
        &self,
        filter: &jobs::LetterFilter,
        limit: i64,
    ) -> Result<Vec<Chosen>, Error> {
        let run =
            async |tx: &mut PgConnection| Ok::<_, Error>(jobs::dead_letters(tx, GENERATION_JOBS, filter, limit).await?);
        let letters = self.pools.read.without_transaction("choose_dead_letters", run).await?;
        let chosen = |letter: jobs::DeadLetter| Chosen {
            id: GenerationId(letter.job),
            account: AccountId(letter.account),
            model: letter.queue,
            provider: String::new(),
            reason: letter.cause.unwrap_or_default(),
            since: letter.finished_at.unwrap_or(letter.created_at),
            // What has ended never changes.
            version: 0,
        };
        Ok(letters.into_iter().map(chosen).collect())
    }

    /// Up to `limit` generations that wait at their provider for `stuck`, oldest first: those after the id `after`, and of which
    /// nothing changed since `before`.
    pub(crate) async fn choose_stuck(
        &self,
        filter: &BulkFilter,
        stuck: Stuck,
        before: OffsetDateTime,
        after: Option<Uuid>,
        limit: i64,
    ) -> Result<Vec<Chosen>, Error> {
        let run = async |connection: &mut PgConnection| {
            let query = sqlx::query_as::<_, Row>(
                "select g.id, g.account_id, g.model, p.provider, g.update_time, g.version
                 from jobs j
                 join generations g on g.account_id = j.account_id and g.id = j.id
                 join provider_calls p on p.account_id = g.account_id and p.generation_id = g.id and p.phase <> 'over'
                 where j.kind = $1 and j.state = 'waiting' and g.end_time is null and g.wait_reason = $2
                   and (p.phase = $3 or $3 is null)
                   -- To be stopped already: its provider's answer, or the grace for one, ends it.
                   and g.state <> $4
                   and (j.queue = $5 or $5 is null) and (p.provider = $6 or $6 is null)
                   and (j.account_id = $7 or $7 is null) and g.update_time < $8 and j.id > $9
                 order by j.id limit $10",
            )
            .bind(GENERATION_JOBS)
            .bind(stuck.wait_reason() as i16)
            .bind((stuck == Stuck::Unconfirmed).then_some(OrderPhase::Intent.as_str()))
            .bind(State::Cancelling.number())
            .bind(&filter.model)
            .bind(&filter.provider)
            .bind(filter.account.map(|account| account.0))
            .bind(before)
            .bind(after.unwrap_or_default())
            .bind(limit);
            query.fetch_all(connection).await
        };
        let rows = self.pools.read.run("choose_stuck_generations", run).await?;
        let chosen = |row: Row| Chosen {
            id: GenerationId(row.id),
            account: AccountId(row.account_id),
            model: row.model,
            provider: row.provider,
            reason: stuck.as_str().to_owned(),
            since: row.update_time,
            version: row.version,
        };
        Ok(rows.into_iter().map(chosen).collect())
    }
}

/// The version of a generation that is locked.
pub(super) async fn locked_version(tx: &mut PgConnection, account: Uuid, id: Uuid) -> Result<Option<i64>, Error> {
    let query = sqlx::query_scalar("select version from generations where account_id = $1 and id = $2");
    Ok(statement("read_version", query.bind(account).bind(id).fetch_optional(tx)).await?)
}
