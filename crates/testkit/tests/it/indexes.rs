//! The indexes: what the planner has to know to choose among them.

use sqlx::{Connection as _, PgConnection};
use testkit::Database;

/// Where an account has one row on average, all indexes that begin with it look the same, and one of them may read all that an account has.
#[tokio::test]
async fn a_table_with_several_indexes_by_account_says_that_an_account_has_many_rows() {
    let database = Database::fresh().await.unwrap();
    let mut owner = PgConnection::connect(&database.url()).await.unwrap();
    let silent: Vec<String> = sqlx::query_scalar(
        "select c.relname::text
         from pg_class c
         join pg_attribute a on a.attrelid = c.oid and a.attname = 'account_id'
         join pg_index i on i.indrelid = c.oid and i.indkey[0] = a.attnum
         where c.relnamespace = 'public'::regnamespace
           and coalesce(array_to_string(a.attoptions, ','), '') not like '%n_distinct=%'
         group by c.oid
         having count(*) > 1
            -- Of some there is one for an account.
            and not bool_or(i.indisunique and i.indpred is null and i.indnkeyatts = 1)
         order by c.relname",
    )
    .fetch_all(&mut owner)
    .await
    .unwrap();
    assert!(
        silent.is_empty(),
        "alter column account_id set (n_distinct = -0.01) is missing in the migrations of {silent:?}"
    );
}
