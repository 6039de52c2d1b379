//! The roles of the services: what each may do in the database, and what becomes of them where they cannot be made.

use schema::Service;
use sqlx::{AssertSqlSafe, Connection as _, Error, PgConnection};
use testkit::{Database, Postgres};

/// Insufficient privilege.
const REFUSED: &str = "42501";

async fn run(url: &str, statement: &str) -> Result<(), Error> {
    let mut connection = PgConnection::connect(url).await?;
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut connection).await?;
    connection.close().await
}

fn code(result: Result<(), Error>) -> Option<String> {
    result.err().map(|error| error.as_database_error().unwrap().code().unwrap().into_owned())
}

#[tokio::test]
async fn a_service_cannot_write_what_is_anothers() {
    let database = Database::fresh().await.unwrap();
    for (service, statement) in [
        (Service::Dashboard, "update generations set state = 6 where false"),
        (Service::Dashboard, "update scenes set latest_state = 6 where false"),
        (Service::Dashboard, "update projects set completed_cost_micros = 0 where false"),
        (Service::Dashboard, "update credit_accounts set available_micros = 0 where false"),
        (Service::Dashboard, "insert into ledger (id) select id from accounts where false"),
        (Service::Dashboard, "delete from jobs where false"),
        (Service::Dashboard, "select secret from webhook_endpoints"),
        (Service::GenerationStatus, "update scenes set title = '' where false"),
        (Service::GenerationStatus, "update accounts set email = '' where false"),
        (Service::GenerationStatus, "select key_sha256 from api_keys"),
        (Service::GenerationStatus, "insert into assets (account_id) select id from accounts where false"),
        (Service::GenerationStatus, "update ledger set amount_micros = 0 where false"),
        (Service::ThumbnailWorker, "select email from accounts"),
        (Service::ThumbnailWorker, "select prompt from generations"),
        (Service::ThumbnailWorker, "update credit_accounts set available_micros = 0 where false"),
        (Service::ThumbnailWorker, "insert into outbox (key) values ('dash:x')"),
        (Service::ThumbnailWorker, "truncate thumbnails"),
        (Service::ThumbnailWorker, "create table of_its_own ()"),
    ] {
        let role = service.role();
        assert_eq!(
            code(run(&database.url_of(service), statement).await).as_deref(),
            Some(REFUSED),
            "{role}: {statement}"
        );
        // Nothing but the role stands in the way: the ledger's triggers alone hold for the owner too.
        if !statement.contains("update ledger") {
            assert_eq!(code(run(&database.url(), statement).await), None, "the owner: {statement}");
        }
    }
}

#[tokio::test]
async fn a_table_without_a_row_of_grants_is_the_owners() {
    let database = Database::fresh().await.unwrap();
    let mut owner = PgConnection::connect(&database.url()).await.unwrap();
    let tables: Vec<String> = sqlx::query_scalar(
        "select relname::text from pg_class
         where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and relname <> '_sqlx_migrations'",
    )
    .fetch_all(&mut owner)
    .await
    .unwrap();
    for table in &tables {
        assert!(
            schema::GRANTS.iter().any(|grant| grant.table == table),
            "nobody may use {table}: give it a row of grants"
        );
    }
    for grant in schema::GRANTS {
        assert!(tables.iter().any(|table| grant.table == table), "there is no table {}", grant.table);
    }
    sqlx::raw_sql("create table added ()").execute(&mut owner).await.unwrap();
    for service in Service::ALL {
        for table in ["added", "_sqlx_migrations"] {
            let read = run(&database.url_of(service), &format!("select from {table}")).await;
            assert_eq!(code(read).as_deref(), Some(REFUSED), "{} {table}", service.role());
        }
    }
    // Rights that were given by hand are taken back by the next migration.
    sqlx::raw_sql(
        "grant all on ledger to rushes_dashboard; grant update (email) on accounts to rushes_generation_status",
    )
    .execute(&mut owner)
    .await
    .unwrap();
    assert_eq!(schema::migrate(&database.url()).await.unwrap(), schema::Roles::default());
    for (service, statement) in [
        (Service::Dashboard, "select from ledger"),
        (Service::GenerationStatus, "update accounts set email = '' where false"),
    ] {
        assert_eq!(code(run(&database.url_of(service), statement).await).as_deref(), Some(REFUSED), "{statement}");
    }
}

#[tokio::test]
async fn who_may_create_no_roles_migrates_all_the_same() {
    let postgres = Postgres::launch().await.unwrap();
    let server = postgres.url();
    for statement in ["create role plain login", "create database plain owner plain"] {
        run(&server, statement).await.unwrap();
    }
    let url = server.replace("rushes@", "plain@").replace("/postgres", "/plain");
    let roles: Vec<_> = Service::ALL.iter().map(|service| service.role()).collect();
    assert_eq!(schema::migrate(&url).await.unwrap().missing, roles);
    // The simple form: all services connect as the owner.
    run(&url, "insert into accounts (id, display_name) values (gen_random_uuid(), 'Ada')").await.unwrap();

    for role in &roles {
        run(&server, &format!("create role {role}")).await.unwrap();
    }
    assert!(schema::migrate(&url).await.unwrap().missing.is_empty());
    run(&server, "create role ours login in role rushes_dashboard").await.unwrap();
    let ours = url.replace("plain@", "ours@");
    run(&ours, "select from accounts").await.unwrap();
    assert_eq!(code(run(&ours, "select from ledger").await).as_deref(), Some(REFUSED));
}

#[tokio::test]
async fn two_databases_of_one_server_are_migrated_at_once() {
    let postgres = Postgres::launch().await.unwrap();
    let server = postgres.url();
    let mut urls = Vec::new();
    for name in ["one", "two"] {
        run(&server, &format!("create database {name}")).await.unwrap();
        urls.push(server.replace("/postgres", &format!("/{name}")));
    }
    let (one, again, two) =
        tokio::join!(schema::migrate(&urls[0]), schema::migrate(&urls[0]), schema::migrate(&urls[1]));
    for roles in [one, again, two] {
        assert!(roles.unwrap().missing.is_empty());
    }
}

#[tokio::test]
async fn tables_with_accounts_ids_are_guarded() {
    let database = Database::fresh().await.unwrap();
    let mut owner = PgConnection::connect(&database.url()).await.unwrap();
    let open: Vec<String> = sqlx::query_scalar(
        "select c.relname::text from pg_class c
         where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and c.relname !~ '^jobs?(_|$)'
           and (c.relname = 'accounts' or exists (select from pg_attribute where attrelid = c.oid and attname = 'account_id'))
           and (not c.relrowsecurity or 4 <> (select count(*) from pg_policy where polrelid = c.oid))",
    )
    .fetch_all(&mut owner)
    .await
    .unwrap();
    assert!(open.is_empty(), "select guard_rows(…, 'account_id') is missing in the migrations of {open:?}");
}

#[tokio::test]
async fn a_statement_without_its_account_touches_nobody_elses_rows() {
    let database = Database::fresh().await.unwrap();
    let mut owner = PgConnection::connect(&database.url()).await.unwrap();
    let seed = "insert into accounts (id, display_name) select md5(n)::uuid, n from unnest(array['ada', 'bob']) n;
                insert into projects (id, account_id, title) select gen_random_uuid(), id, 'P' from accounts;";
    sqlx::raw_sql(seed).execute(&mut owner).await.unwrap();
    let ada = "set local rushes.account = '8c8d357b-5e87-2bba-cd45-197626bd5759';";
    let mut service = PgConnection::connect(&database.url_of(Service::Dashboard)).await.unwrap();
    let touched = async |connection: &mut PgConnection, of: &str, statement: &str| {
        let mut transaction = connection.begin().await?;
        sqlx::raw_sql(AssertSqlSafe(of.to_owned())).execute(&mut *transaction).await?;
        let done = sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut *transaction).await;
        // Now, and not with what the connection does next: its locks would keep the other one waiting.
        transaction.rollback().await?;
        Ok::<_, Error>(done?.rows_affected())
    };
    for statement in
        ["update projects set title = 'mine'", "select from projects for update", "update accounts set email = 'a@b'"]
    {
        assert_eq!(touched(&mut service, ada, statement).await.unwrap(), 1, "{statement}");
        assert_eq!(
            touched(&mut service, "set local rushes.account = 'any';", statement).await.unwrap(),
            2,
            "{statement}"
        );
        // Whoever does not say whose it is may write nothing: a guard that is forgotten is not open.
        assert_eq!(touched(&mut service, "", statement).await.unwrap(), 0, "{statement}");
        // It is the policy that keeps them apart: of the owner nothing is asked.
        assert_eq!(touched(&mut owner, ada, statement).await.unwrap(), 2, "{statement}");
    }
    let foreign = "insert into projects (id, account_id, title) select gen_random_uuid(), id, 'P' from accounts";
    let refused = touched(&mut service, ada, foreign).await.unwrap_err();
    assert_eq!(refused.as_database_error().unwrap().code().unwrap(), REFUSED);
    assert_eq!(touched(&mut service, ada, "select from projects").await.unwrap(), 2, "reads are not guarded");
}
