//! The text of each section of the dashboard, and of the one statement that is all of them.
//!
//! Invariant: every section gives the same nineteen columns, named and typed by the clock, which comes first. A column that
//! a section does not use is null. What a column holds, by section:
//!
//! | section | id | parent | other | title | body | blob | hash | take | take_blob | take_hash | labels | place | count | amount | mark | at |
//! |---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
//! | clock | | | | | | | | | | | | | version | epoch | seq | |
//! | profile | | | | display name | e-mail | | | | | | | | | | | |
//! | credits | | | | | | | | | | | | | available | held | | |
//! | project | project | | | title | | | | | | | labels | scenes | completed | cost | | created |
//! | scene | scene | project | latest generation | title | stage | thumbnail | ThumbHash | take | its thumbnail | its ThumbHash | labels | position | version | | | |
//! | recent | generation | project | scene | prompt | stage | thumbnail | ThumbHash | | | | | | | cost | | created |
//! | notice | notice | | | title | body | | | | | | | | | | | created |
//! | unread | | | | | | | | | | | | | notices | | | |

use std::collections::BTreeMap;

use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{FromRow, Row as _};
use time::OffsetDateTime;
use uuid::Uuid;

/// The version of the whole, and the position of the snapshot for the cache.
pub(super) const CLOCK_ROW: i16 = 0;
/// The account's profile.
pub(super) const PROFILE_ROW: i16 = 1;
/// The account's credits.
pub(super) const CREDITS_ROW: i16 = 2;
/// A project of the page, or the first one after it.
pub(super) const PROJECT_ROW: i16 = 3;
/// One of the first twelve scenes of a project of the page.
pub(super) const SCENE_ROW: i16 = 4;
/// One of the ten latest generations.
pub(super) const RECENT_ROW: i16 = 5;
/// One of the ten latest unread notices.
pub(super) const NOTICE_ROW: i16 = 6;
/// How many notices are unread.
pub(super) const UNREAD_ROW: i16 = 7;

/// A row of any section.
pub(super) struct Row {
    pub(super) section: i16,
    pub(super) id: Option<Uuid>,
    pub(super) parent: Option<Uuid>,
    pub(super) other: Option<Uuid>,
    pub(super) title: Option<String>,
    pub(super) body: Option<String>,
    pub(super) blob: Option<String>,
    pub(super) hash: Option<Vec<u8>>,
    pub(super) take: Option<Uuid>,
    pub(super) take_blob: Option<String>,
    pub(super) take_hash: Option<Vec<u8>>,
    pub(super) labels: Option<Json<Option<BTreeMap<String, String>>>>,
    pub(super) state: Option<i16>,
    pub(super) percent: Option<i16>,
    pub(super) place: Option<i32>,
    pub(super) count: Option<i64>,
    pub(super) amount: Option<i64>,
    pub(super) mark: Option<i64>,
    pub(super) at: Option<OffsetDateTime>,
}

// By place and not by name: of a hundred rows each of nineteen columns would be looked up in a table of names.
impl FromRow<'_, PgRow> for Row {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            section: row.try_get(0)?,
            id: row.try_get(1)?,
            parent: row.try_get(2)?,
            other: row.try_get(3)?,
            title: row.try_get(4)?,
            body: row.try_get(5)?,
            blob: row.try_get(6)?,
            hash: row.try_get(7)?,
            take: row.try_get(8)?,
            take_blob: row.try_get(9)?,
            take_hash: row.try_get(10)?,
            labels: row.try_get(11)?,
            state: row.try_get(12)?,
            percent: row.try_get(13)?,
            place: row.try_get(14)?,
            count: row.try_get(15)?,
            amount: row.try_get(16)?,
            mark: row.try_get(17)?,
            at: row.try_get(18)?,
        })
    }
}

// Spelled out rather than by cache_version(), which PostgreSQL cannot inline: calling it costs as much as a section.
macro_rules! clock {
    () => {
        "(select 0::smallint as section, null::uuid as id, null::uuid as parent, null::uuid as other, null::text as title,
                 null::text as body, null::text as blob, null::bytea as hash, null::uuid as take, null::text as take_blob,
                 null::bytea as take_hash, null::jsonb as labels,
                 null::smallint as state, null::smallint as percent, null::integer as place,
                 coalesce((select k.ver from cache_key k where k.key = 'dash:' || $1::uuid), 0)
                 + (select count(*) from outbox o where o.key = 'dash:' || $1::uuid) as count,
                 c.epoch as amount, c.seq as mark, null::timestamptz as at
            from cache_clock c
           where c.part = 0)"
    };
}

macro_rules! profile {
    () => {
        "(select 1::smallint as section, null::uuid as id, null::uuid as parent, null::uuid as other,
                 a.display_name as title, a.email as body, null::text as blob, null::bytea as hash, null::uuid as take,
                 null::text as take_blob, null::bytea as take_hash, null::jsonb as labels, null::smallint as state,
                 null::smallint as percent, null::integer as place, null::bigint as count, null::bigint as amount,
                 null::bigint as mark, null::timestamptz as at
            from accounts a
           where a.id = $1)"
    };
}

macro_rules! credits {
    () => {
        "(select 2::smallint as section, null::uuid as id, null::uuid as parent, null::uuid as other, null::text as title,
                 null::text as body, null::text as blob, null::bytea as hash, null::uuid as take, null::text as take_blob,
                 null::bytea as take_hash, null::jsonb as labels,
                 null::smallint as state, null::smallint as percent, null::integer as place, c.available_micros as count,
                 c.held_micros as amount, null::bigint as mark,
                 null::timestamptz as at
            from credit_accounts c
           where c.account_id = $1)"
    };
}

// Labels of thousands of bytes on each of hundreds of cards would be more than a client takes in one message.
macro_rules! labels {
    ($table:literal) => {
        concat!(
            "case when ",
            $table,
            ".labels = '{}' then null when octet_length(",
            $table,
            ".labels::text) > 1024 then 'null'::jsonb else ",
            $table,
            ".labels end"
        )
    };
}

// $2 is the id that the page comes before, $3 its size; one project more says whether another page follows. The scenes are
// the account's because their projects are (the constraint scenes_project holds that). A condition on the scenes' account
// would make the planner leave the index that has them in order for one by account.
macro_rules! projects {
    () => {
        concat!("(with page as materialized (
            select p.id, p.title, p.labels, p.scene_count, p.completed_count, p.completed_cost_micros, p.create_time
              from projects p
             where p.account_id = $1 and p.delete_time is null and p.id < $2
             order by p.id desc
             limit $3 + 1
          )
          select 3::smallint as section, p.id, null::uuid as parent, null::uuid as other, p.title, null::text as body,
                 null::text as blob, null::bytea as hash, null::uuid as take, null::text as take_blob,
                 null::bytea as take_hash,
                 ", labels!("p"), " as labels, null::smallint as state, null::smallint as percent, p.scene_count as place,
                 p.completed_count as count, p.completed_cost_micros as amount, null::bigint as mark, p.create_time as at
            from page p
           union all
          select 4::smallint, s.id, s.project_id, s.latest_generation, s.title, s.latest_stage, s.latest_thumbnail,
                 s.latest_thumbhash,
                 s.take_generation, s.take_thumbnail, s.take_thumbhash, ", labels!("s"), ", s.latest_state,
                 s.latest_percent, s.position, s.latest_version, null, null, null
            from (select id from page order by id desc limit $3) p
           cross join lateral (
                select * from scenes s
                 where s.project_id = p.id and s.delete_time is null
                 order by s.position, s.id
                 limit 12) s)")
    };
}

macro_rules! recent {
    () => {
        "(select 5::smallint as section, g.id, g.project_id as parent, g.scene_id as other, left(g.prompt, 200) as title,
                 g.stage as body, g.thumbnail as blob, g.thumbhash as hash, null::uuid as take, null::text as take_blob,
                 null::bytea as take_hash, null::jsonb as labels, g.state, g.percent, null::integer as place,
                 null::bigint as count,
                 g.captured_micros as amount, null::bigint as mark, g.create_time as at
            from generations g
           where g.account_id = $1 and g.delete_time is null
           order by g.id desc
           limit 10)"
    };
}

macro_rules! notices {
    () => {
        "((select 6::smallint as section, n.id, null::uuid as parent, null::uuid as other, n.title, n.body,
                  null::text as blob, null::bytea as hash, null::uuid as take, null::text as take_blob,
                  null::bytea as take_hash, null::jsonb as labels, null::smallint as state,
                  null::smallint as percent, null::integer as place, null::bigint as count, null::bigint as amount,
                  null::bigint as mark, n.create_time as at
             from notices n
            where n.account_id = $1 and n.read_time is null
            order by n.id desc
            limit 10)
           union all
          select 7::smallint, null, null, null, null, null, null, null, null, null, null, null, null, null, null, count(*),
                 null, null, null
            from (select from notices n where n.account_id = $1 and n.read_time is null limit 1000) n)"
    };
}

/// All of the dashboard: account, the id that the page comes before, the page's size.
pub(super) const WHOLE: &str = concat!(
    clock!(),
    "\nunion all\n",
    profile!(),
    "\nunion all\n",
    credits!(),
    "\nunion all\n",
    projects!(),
    "\nunion all\n",
    recent!(),
    "\nunion all\n",
    notices!()
);
/// The profile alone: account.
pub(super) const PROFILE: &str = profile!();
/// The credits alone: account.
pub(super) const CREDITS: &str = credits!();
/// A page of projects alone: account, the id that the page comes before, the page's size.
pub(super) const PROJECTS: &str = projects!();
/// The latest generations alone: account.
pub(super) const RECENT: &str = recent!();
/// The notices alone: account.
pub(super) const NOTICES: &str = notices!();
