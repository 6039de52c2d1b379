//! The data that is measured on: accounts of several shapes, copied in as rows by COPY, with every copy and rollup that the
//! services keep.
//!
//! Invariant: the same plan and seed give the same rows; and before anything is measured, the copies on scenes, projects and
//! credit accounts have been compared with the history that they sum up (see `check`). Left empty: the ledger, jobs and
//! provider calls, which no row of the benchmark reads for what was seeded.

mod check;
mod copy;
mod draw;
mod plan;
mod triggers;
mod tuple;

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use uuid::Uuid;

use self::copy::Copies;
use self::draw::Draw;
pub(super) use self::plan::{FEWEST, Plan, Shape};
use super::database::BenchDatabase;
use super::progress::say;

/// Accounts to measure with, by shape.
#[derive(Debug, Default)]
pub(super) struct Seeded {
    /// Every account, of whatever shape.
    pub(super) all: Vec<Uuid>,
    /// 8 projects of 6 scenes, about 10 generations each.
    studios: Vec<Uuid>,
    /// 30 projects of 6 scenes, about 10 generations each.
    pub(super) wide: Vec<Uuid>,
    /// 8 projects of 6 scenes, as many generations each as the plan's `takes`.
    pub(super) deep: Vec<Uuid>,
    /// 8 projects of 6 scenes, 10 generations each.
    pub(super) shallow: Vec<Uuid>,
}

impl Seeded {
    /// Studios to be asked for when no cache has them.
    pub(super) fn cold(&self) -> &[Uuid] {
        &self.studios[..self.studios.len() / 2]
    }

    /// Other studios to be asked for by many at once when no cache has them.
    pub(super) fn missed(&self) -> &[Uuid] {
        &self.studios[self.studios.len() / 2..self.studios.len() * 3 / 4]
    }

    /// Studios that may be asked for as often as one likes.
    pub(super) fn warm(&self) -> &[Uuid] {
        &self.studios[self.studios.len() * 3 / 4..]
    }
}

/// Fills the empty, migrated `database`.
pub(super) async fn fill(plan: &Plan, database: &BenchDatabase) -> Result<Seeded> {
    say(&format!("seeding {plan}"));
    let began = Instant::now();
    let mut connection = database.connect().await?;
    let triggers = triggers::disable(&mut connection).await?;
    let mut copies = Copies::open(database.url()).await?;
    let mut draw = Draw::new(plan.seed());
    let mut seeded = Seeded::default();
    for (shape, takes) in plan.accounts() {
        let account = draw.account(shape, &takes, &mut copies.rows);
        seeded.all.push(account);
        match shape {
            Shape::Studio => seeded.studios.push(account),
            Shape::Wide => seeded.wide.push(account),
            Shape::Deep => seeded.deep.push(account),
            Shape::Shallow => seeded.shallow.push(account),
            Shape::Large | Shape::Small => {}
        }
        copies.send(false).await?;
    }
    let generations = copies.finish().await?;
    ensure!(generations == plan.generations(), "{generations} generations were seeded, not {}", plan.generations());
    triggers.enable(&mut connection).await?;
    say(&format!("copied in {:.0?}; analyzing and checking", began.elapsed()));
    sqlx::query("vacuum (analyze)").execute(&mut connection).await.context("vacuuming")?;
    check::consistent(&mut connection, plan).await?;
    sqlx::query("checkpoint").execute(&mut connection).await?;
    say(&format!("seeded in {:.0?}", began.elapsed()));
    Ok(seeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails when a migration asks for a column that the copies do not give, or when a rollup is not what it sums up.
    #[tokio::test]
    async fn a_small_plan_fits_the_schema_and_is_consistent() {
        let database = BenchDatabase::start().await.unwrap();
        let seeded = fill(&Plan::of(FEWEST, 1).unwrap(), &database).await.unwrap();
        assert!(!seeded.cold().is_empty() && !seeded.missed().is_empty() && !seeded.warm().is_empty());
        let told: i64 = sqlx::query_scalar("select count(*) from outbox")
            .fetch_one(&mut database.connect().await.unwrap())
            .await
            .unwrap();
        assert_eq!(told, 0, "the triggers were on while rows were copied");
    }
}
