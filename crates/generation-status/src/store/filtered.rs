//! Listings of generations that are restricted.
//!
//! Invariant: a page reads at most [`WINDOW`] rows, however many generations there are and however few of them match. It reads them
//! in the order of the one index that leaves the fewest, and keeps those that match; where the window ends first, the page ends
//! with it, and the next one goes on from there. Tombstones of deleted generations are stepped over, and not counted.

use domain::generation::State;
use domain::id::{AccountId, GenerationId};
use domain::name::GenerationParent;
use domain::page::Page;
use sqlx::types::Json;
use sqlx::{FromRow as _, PgConnection, Row as _};
use time::OffsetDateTime;
use uuid::Uuid;

use super::Store;
use super::rows::columns;
use crate::error::Error;
use crate::model::{Filter, Generation, Listed};

/// How many rows one page reads at most.
const WINDOW: i64 = 500;
/// How far the clock in an id may be from the database's. The id bounds what is read; the time of record decides.
const CLOCK_MILLISECONDS: i128 = 300_000;

/// The generations that an index has in the order of their ids, which is all that is read; then those of them that match. Each is a
/// statement of its own, since the plan of one with alternatives would go by another index.
macro_rules! filtered {
    // A value and the id are compared as one row, and not the value alone: PostgreSQL then has no way but the index of both. Left
    // the choice, it takes any index that has the account's ids in order, and reads all of the account.
    ($column:literal, $value:literal, $where:literal) => {
        filtered!(concat!(
            "select g.* from generations g where g.account_id = $1 and (",
            $column,
            ", g.id) < (",
            $value,
            ", $2) and (",
            $column,
            ", g.id) > (",
            $value,
            ", $3)",
            $where,
            " and g.delete_time is null order by ",
            $column,
            " desc, g.id desc limit $4"
        ))
    };
    ($where:literal) => {
        filtered!(concat!(
            "select g.* from generations g where g.account_id = $1 and g.id < $2 and g.id > $3",
            $where,
            " and g.delete_time is null order by g.id desc limit $4"
        ))
    };
    ($scanned:expr) => {
        concat!(
            "with scanned as (",
            $scanned,
            ")
             select scanned.count, scanned.last, ",
            columns!(),
            " from (select count(*) as count, (select id from scanned order by id limit 1) as last from scanned) scanned
             left join lateral (
                 select * from scanned
                 where ($5::smallint[] is null or state = any ($5)) and ($6::text is null or model = $6)
                   and ($7::text is null or end_user = $7) and ($8::jsonb is null or labels @> $8)
                   and ($9::uuid is null or project_id = $9) and ($10::uuid is null or scene_id = $10)
                   and create_time >= coalesce($11, '-infinity'::timestamptz)
                   and create_time < coalesce($12, 'infinity'::timestamptz)
                   and ($16::smallint is null or end_state = $16)
                   and ($13::text is null or $14::text is null or true)
                 order by id desc limit $15
             ) g on true
             order by g.id desc"
        )
    };
}

/// The indexes by which a listing is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Index {
    Label,
    EndUser,
    Scene,
    /// How they ended, or that they did not.
    EndState,
    Model,
    Project,
    Account,
}

impl Index {
    /// The one that leaves the fewest rows, as a rule, and whether it leaves only those that match.
    fn of(parent: GenerationParent, filter: &Filter) -> (Self, bool) {
        let index = match parent {
            _ if !filter.labels.is_empty() => Self::Label,
            _ if filter.end_user.is_some() => Self::EndUser,
            GenerationParent::Scene(_) => Self::Scene,
            _ if filter.end_state().is_some() => Self::EndState,
            _ if filter.model.is_some() => Self::Model,
            GenerationParent::Project(_) => Self::Project,
            GenerationParent::Account => Self::Account,
        };
        let restrictions = [
            filter.labels.len(),
            usize::from(filter.end_user.is_some()),
            usize::from(parent != GenerationParent::Account),
            usize::from(!filter.states.is_empty()),
            usize::from(filter.model.is_some()),
            // A time is one restriction, whose rows lie together but for the clocks' difference.
            usize::from(filter.from.is_some() || filter.until.is_some()),
        ];
        let left = restrictions.iter().sum::<usize>() - usize::from(index != Self::Account);
        // Of the open ones the index has all, in whatever state.
        (index, left == 0 && filter.end_state() != Some(0))
    }

    const fn sql(self) -> &'static str {
        match self {
            Self::Label => filtered!(concat!(
                "select g.*
                 from (
                     select account_id, generation_id from generation_labels
                     where account_id = $1 and key = $13 and value = $14 and generation_id < $2 and generation_id > $3
                     order by generation_id desc limit $4
                 ) l
                 join generations g on g.account_id = l.account_id and g.id = l.generation_id"
            )),
            Self::EndUser => filtered!("g.end_user", "$7", " and g.end_user <> ''"),
            Self::EndState => filtered!("g.end_state", "$16", ""),
            Self::Model => filtered!("g.model", "$6", ""),
            Self::Scene => filtered!("g.scene_id", "$10", ""),
            Self::Project => filtered!("g.project_id", "$9", ""),
            Self::Account => filtered!(""),
        }
    }
}

impl Store {
    /// A page of the generations of `parent` that match, newest first.
    pub(crate) async fn list_filtered(
        &self,
        account: AccountId,
        parent: GenerationParent,
        filter: &Filter,
        page: Page,
    ) -> Result<Listed, Error> {
        let (index, exact) = Index::of(parent, filter);
        let (project, scene) = match parent {
            GenerationParent::Account => (None, None),
            GenerationParent::Project(project) => (Some(project.0), None),
            GenerationParent::Scene(name) => (Some(name.project.0), Some(name.scene.0)),
        };
        let until = filter.until.map_or(Uuid::max(), |until| id_at(until, CLOCK_MILLISECONDS));
        let from = filter.from.map_or(Uuid::nil(), |from| id_at(from, -CLOCK_MILLISECONDS));
        let window = if exact { page.rows() } else { WINDOW };
        let states: Vec<i16> = filter.states.iter().map(|state| State::number(*state)).collect();
        let label = filter.labels.first_key_value();
        let query = sqlx::query(index.sql())
            .bind(account.0)
            .bind(page.below().min(until))
            .bind(from)
            .bind(window)
            .bind((!states.is_empty()).then_some(states))
            .bind(filter.model.as_deref())
            .bind(filter.end_user.as_deref())
            .bind((!filter.labels.is_empty()).then_some(Json(&filter.labels)))
            .bind(project)
            .bind(scene)
            .bind(filter.from)
            .bind(filter.until)
            .bind(label.map(|(key, _)| key.as_str()))
            .bind(label.map(|(_, value)| value.as_str()))
            .bind(page.rows())
            .bind(filter.end_state());
        let run = async |connection: &mut PgConnection| {
            let rows = query.fetch_all(connection).await?;
            let mut listed = Listed { generations: Vec::with_capacity(rows.len()), next: None };
            let (mut count, mut last) = (0_i64, None::<Uuid>);
            for row in &rows {
                (count, last) = (row.try_get("count")?, row.try_get("last")?);
                if row.try_get::<Option<Uuid>, _>("id")?.is_some() {
                    listed.generations.push(Generation::from_row(row)?);
                }
            }
            let key = |generation: &Generation| domain::page::Cursor { position: 0, id: generation.id.0 };
            listed.next = match page.cut(&mut listed.generations, key) {
                Some(cursor) => Some(GenerationId(cursor.id)),
                None => last.filter(|_| count == WINDOW && !exact).map(GenerationId),
            };
            Ok(listed)
        };
        Ok(self.pools.read.run("list_filtered_generations", run).await?)
    }
}

/// The least id that is made so many milliseconds after a time.
fn id_at(time: OffsetDateTime, after: i128) -> Uuid {
    let milliseconds = (time.unix_timestamp_nanos() / 1_000_000 + after).clamp(0, (1 << 48) - 1);
    Uuid::from_u128(milliseconds.unsigned_abs() << 80)
}

#[cfg(test)]
mod tests {
    use domain::id::ProjectId;

    use super::*;

    #[test]
    fn a_listing_reads_the_index_that_leaves_the_fewest() {
        let project = GenerationParent::Project(ProjectId::new());
        let failed = Filter { states: vec![State::Failed], ..Filter::default() };
        let open = Filter { states: vec![State::Queued, State::Processing], ..Filter::default() };
        let ended = Filter { states: vec![State::Failed, State::Expired], ..Filter::default() };
        let model = Filter { model: Some("sketch".to_owned()), ..Filter::default() };
        let both = Filter { end_user: Some("ada".to_owned()), ..failed.clone() };
        let label = Filter { labels: [("shot".to_owned(), "12".to_owned())].into(), ..both.clone() };
        for (parent, filter, expected) in [
            (GenerationParent::Account, &failed, (Index::EndState, true)),
            (GenerationParent::Account, &open, (Index::EndState, false)),
            (GenerationParent::Account, &ended, (Index::Account, false)),
            (GenerationParent::Account, &model, (Index::Model, true)),
            (GenerationParent::Account, &both, (Index::EndUser, false)),
            (GenerationParent::Account, &label, (Index::Label, false)),
            (project, &failed, (Index::EndState, false)),
            (project, &ended, (Index::Project, false)),
            (project, &Filter::default(), (Index::Project, true)),
        ] {
            assert_eq!(Index::of(parent, filter), expected, "{filter:?}");
        }
    }

    #[test]
    fn an_id_bounds_a_time() {
        let time = OffsetDateTime::from_unix_timestamp(1_764_331_200).unwrap();
        let id = Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, 1_764_331_200, 5_000_000));
        assert!(id_at(time, 0) < id && id < id_at(time, 6) && id_at(time, -1) < id_at(time, 0));
    }
}
