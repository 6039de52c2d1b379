//! Listings of an account's assets.
//!
//! Invariant: a page reads at most [`WINDOW`] rows, in the order of an index that has the account's, or those of one kind: where times
//! leave fewer than the page has, it ends with the window.

use domain::id::AccountId;
use domain::page::{Cursor, Page};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::Store;
use super::assets::{Row, columns};
use crate::error::Error;
use crate::model::{Filter, Listed, Spec, StoredAsset};

/// How many rows one page reads at most where it is restricted to a time.
const WINDOW: i64 = 500;
/// How far the clock in an id may be from the time of record. The id bounds what is read; the time decides.
const CLOCK_MILLISECONDS: i128 = 300_000;

#[derive(sqlx::FromRow)]
struct ListedRow {
    id: Uuid,
    sha256: Vec<u8>,
    matches: bool,
    #[sqlx(flatten)]
    row: Row,
}

/// Two statements instead of one with an alternative, so that each is read in the order of an index of its own.
macro_rules! list {
    ($kind:literal) => {
        concat!(
            "select a.id, a.sha256,
                    a.create_time >= coalesce($8, '-infinity'::timestamptz)
                    and a.create_time < coalesce($9, 'infinity'::timestamptz) as matches, ",
            columns!(),
            " from (
                 select * from assets
                 where account_id = $1 and ",
            $kind,
            " and id < $3 and id > $4
                 order by id desc limit $10
             ) a
             left join thumbnails t on t.account_id = a.account_id and t.asset_sha256 = a.sha256
                  and t.width = $5 and t.height = $6 and t.quality = $7
             order by a.id desc"
        )
    };
}

impl Store {
    /// A page of the account's assets that match, newest first.
    ///
    /// # Errors
    /// When PostgreSQL fails.
    pub(crate) async fn list(&self, account: AccountId, filter: &Filter, page: Page) -> Result<Listed, Error> {
        let spec = Spec::default();
        let until = filter.until.map_or(Uuid::max(), |until| id_at(until, CLOCK_MILLISECONDS));
        let from = filter.from.map_or(Uuid::nil(), |from| id_at(from, -CLOCK_MILLISECONDS));
        let window = if filter.from.is_some() || filter.until.is_some() { WINDOW } else { page.rows() };
        let sql = if filter.kind.is_some() { list!("kind = $2") } else { list!("$2::smallint is null") };
        let query = sqlx::query_as::<_, ListedRow>(sql)
            .bind(account.0)
            .bind(filter.kind)
            .bind(page.below().min(until))
            .bind(from)
            .bind(spec.width.cast_signed())
            .bind(spec.height.cast_signed())
            .bind(i32::from(spec.quality))
            .bind(filter.from)
            .bind(filter.until)
            .bind(window);
        let run = async |connection: &mut PgConnection| query.fetch_all(connection).await;
        let rows = self.pool.run("list_assets", run).await?;
        let is_full = i64::try_from(rows.len()).is_ok_and(|count| count == WINDOW);
        let last = rows.last().filter(|_| is_full).map(|row| row.id);
        let mut matching: Vec<_> = rows.into_iter().filter(|row| row.matches).collect();
        let cut = page.cut(&mut matching, |row| Cursor { position: 0, id: row.id });
        let assets = matching.into_iter().map(read).collect::<Result<_, _>>()?;
        Ok(Listed { assets, next: cut.map(|cursor| cursor.id).or(last) })
    }
}

fn read(listed: ListedRow) -> Result<StoredAsset, Error> {
    let sha256 = listed.sha256.try_into().map_err(|_| sqlx::Error::Decode("an asset's hash has 32 bytes".into()));
    listed.row.read(sha256.map_err(chassis::postgres::Error::from)?)
}

/// The least id that is made so many milliseconds after a time.
fn id_at(time: OffsetDateTime, after: i128) -> Uuid {
    let milliseconds = (time.unix_timestamp_nanos() / 1_000_000 + after).clamp(0, (1 << 48) - 1);
    Uuid::from_u128(milliseconds.unsigned_abs() << 80)
}
