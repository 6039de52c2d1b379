//! The table of what is an account's beside the schema.

use std::collections::BTreeSet;

use schema::ACCOUNT_TABLES;
use testkit::Database;

#[tokio::test]
async fn every_table_with_accounts_rows_says_how_it_is_exported_and_erased() {
    let database = Database::fresh().await.unwrap();
    let pool = sqlx::PgPool::connect(&database.url()).await.unwrap();
    let found = sqlx::query_scalar::<_, String>(
        "select c.table_name::text from information_schema.columns c
         join information_schema.tables t on t.table_schema = c.table_schema and t.table_name = c.table_name
         where c.table_schema = 'public' and c.column_name = 'account_id' and t.table_type = 'BASE TABLE'",
    );
    let mut found: BTreeSet<String> = found.fetch_all(&pool).await.unwrap().into_iter().collect();
    found.insert("accounts".to_owned());
    let named: BTreeSet<String> = ACCOUNT_TABLES.iter().map(|row| row.table.to_owned()).collect();
    assert_eq!(named.len(), ACCOUNT_TABLES.len(), "each once");
    assert_eq!(found, named, "schema::ACCOUNT_TABLES has a row for each");
}
