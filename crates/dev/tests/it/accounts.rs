//! What becomes of an account: suspended and taken back, exported whole, and erased, with every service killed in the middle of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use proto::accounts::v1::account_service_client::AccountServiceClient;
use proto::accounts::v1::{Account, CreateAccountRequest, CreateApiKeyRequest};
use proto::assets::v1::upload_asset_request::Part;
use proto::assets::v1::{ListAssetsRequest, UploadAssetRequest, UploadMetadata};
use proto::generations::v1::{GetGenerationRequest, StartGenerationRequest, State, WatchGenerationsRequest};
use proto::webhooks::v1::{CreateEndpointRequest, Endpoint};
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool};
use testkit::{ACCOUNT_TABLES, Erased, Exported, eventually};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::client::{Client, order};
use crate::cluster::{Cluster, Options};
use crate::commands::rushes;

/// Stands in every text that is the account's.
const MARK: &str = "heliotrope";
const TIMEOUT: Duration = Duration::from_secs(60);

/// A folder for the command line's state.
fn folder() -> PathBuf {
    std::env::temp_dir().join(format!("rushes-state-{}", Uuid::now_v7().simple()))
}

impl Cluster {
    /// A client with a key that reaches across accounts.
    async fn operator(&self) -> Result<Client> {
        let mut accounts = AccountServiceClient::new(self.doors("dashboard"));
        let account = Account { display_name: "Operators".into(), ..Account::default() };
        let account = accounts.create_account(CreateAccountRequest { account: Some(account) }).await?.into_inner();
        let key = CreateApiKeyRequest {
            parent: account.name,
            scopes: vec!["operate".into(), "read".into()],
            ..CreateApiKeyRequest::default()
        };
        let key = accounts.create_api_key(key).await?.into_inner();
        Ok(Client::new(self.channel("gateway"), self.address("gateway"), &key.secret))
    }

    async fn pool(&self) -> Result<PgPool> {
        Ok(PgPool::connect(&self.database.url()).await?)
    }
}

fn reason(status: &Status) -> (Code, String) {
    let details = status.get_error_details();
    (status.code(), details.error_info().map(|info| info.reason.clone()).unwrap_or_default())
}

async fn own_name(client: &Client, state: &Path) -> Result<String> {
    let said = rushes(client, state, &["account", "export"]).await?;
    let lines = said.out.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
    let account = lines.iter().find(|line| line["kind"] == "account").context("a line of the account")?;
    Ok(account["value"]["name"].as_str().context("its name")?.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_account_is_refused_while_its_generation_comes_home_and_is_taken_back() -> Result<()> {
    let cluster = Cluster::start(Options { pace: "4", ..Options::default() }).await?;
    let (client, operator, state) = (cluster.client(10).await?, cluster.operator().await?, folder());
    let account = own_name(&client, &state).await?;
    let scene = client.scene(&client.project("P").await?, "S").await?;
    let running = client.start(&scene, "a slow boat").await?.name;
    let queued = client.start(&scene, "another").await?.name;
    let request = WatchGenerationsRequest { names: vec![running.clone()], ..Default::default() };
    let mut watch = client.generations().watch_generations(request).await?.into_inner();
    watch.message().await?.context("its first event")?;

    rushes(&operator, &state, &["account", "suspend", &account, "--note", "unpaid"]).await?;
    let suspended = (Code::PermissionDenied, "ACCOUNT_SUSPENDED".to_owned());
    let get = async |name: &str| {
        let request = GetGenerationRequest { name: name.to_owned(), ..Default::default() };
        client.generations().get_generation(request).await.map(tonic::Response::into_inner)
    };
    let refused = async || get(&running).await.err();
    let refusal = eventually("a read is refused", Duration::from_secs(3), refused).await?;
    assert_eq!(reason(&refusal), suspended);
    let refusal = client.generations().start_generation(order(&scene.name, "more")).await.expect_err("no start");
    assert_eq!(reason(&refusal), suspended);
    let end = async {
        loop {
            match watch.message().await {
                Ok(Some(_)) => {}
                Ok(None) => anyhow::bail!("the watch ended as if nothing were"),
                Err(status) => return Ok(status),
            }
        }
    };
    let end = tokio::time::timeout(Duration::from_secs(5), end).await.context("an open watch ends")??;
    assert_eq!(reason(&end), suspended);
    let said = rushes(&operator, &state, &["account", "show", &account]).await?;
    assert!(said.out.contains("suspended since") && said.out.contains("unpaid"), "{}", said.out);

    // What was started is carried out and paid for.
    let pool = cluster.pool().await?;
    let home = async || {
        let query = "select count(*) from generations where state = 6 and captured_micros > 0";
        (sqlx::query_scalar::<_, i64>(query).fetch_one(&pool).await.ok()? == 2).then_some(())
    };
    eventually("both videos are there", TIMEOUT, home).await?;
    assert_eq!(reason(&get(&running).await.expect_err("it is suspended still")), suspended);

    rushes(&operator, &state, &["account", "reactivate", &account]).await?;
    let back = async || get(&queued).await.ok();
    assert_eq!(eventually("a read is answered", Duration::from_secs(3), back).await?.state(), State::Completed);
    let shown = get(&running).await?;
    assert_eq!((shown.state(), shown.outputs.len()), (State::Completed, 1));
    let after = client.start(&scene, "and on").await?;
    assert_eq!(client.outcome(&after.name).await?.state(), State::Completed);
    let _ = std::fs::remove_dir_all(state);
    pool.close().await;
    cluster.end().await
}

fn picture(side: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, side, side);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&vec![90; (side * side * 3) as usize]).unwrap();
    writer.finish().unwrap();
    bytes
}

async fn upload(client: &Client, bytes: &[u8]) -> Result<()> {
    let metadata = UploadMetadata { file_name: format!("{MARK}.png"), ..UploadMetadata::default() };
    let chunk = Part::Chunk(bytes.to_vec().into());
    let messages = [Part::Metadata(metadata), chunk].map(|part| UploadAssetRequest { part: Some(part) });
    client.assets().upload_asset(tokio_stream::iter(messages)).await?;
    Ok(())
}

/// Gives an account something of everything; its generations are over.
async fn fill(client: &Client) -> Result<()> {
    let endpoint = Endpoint {
        url: format!("http://127.0.0.1:1/{MARK}"),
        description: MARK.into(),
        event_types: vec!["generation.completed".into()],
        ..Endpoint::default()
    };
    client.webhooks().create_endpoint(CreateEndpointRequest { endpoint: Some(endpoint), ..Default::default() }).await?;
    for title in ["One", "Two"] {
        let project = client.project(&format!("{MARK} {title}")).await?;
        for scene in ["one", "two"] {
            let scene = client.scene(&project, &format!("{MARK} {scene}")).await?;
            let order = StartGenerationRequest {
                labels: [(MARK.to_owned(), MARK.to_owned())].into(),
                end_user: format!("{MARK}@example.com"),
                ..order(&scene.name, &format!("A {MARK} in bloom"))
            };
            let started = client.generations().start_generation(order).await?.into_inner();
            client.outcome(&started.name).await?;
        }
    }
    for side in [20, 21, 22] {
        upload(client, &picture(side)).await?;
    }
    Ok(())
}

fn options() -> Options {
    let more = vec![("RUSHES_WEBHOOK_REACH", "anywhere".to_owned()), ("RUSHES_ERASURE_INTERVAL", "100ms".to_owned())];
    Options { more, ..Options::default() }
}

/// The values of an export by their kinds.
fn kinds(text: &str) -> Result<BTreeMap<String, Vec<Value>>> {
    let mut kinds = BTreeMap::<_, Vec<_>>::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line)?;
        kinds.entry(line["kind"].as_str().context("a kind")?.to_owned()).or_default().push(line["value"].clone());
    }
    Ok(kinds)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_has_all_that_is_an_accounts_and_nothing_else() -> Result<()> {
    let cluster = Cluster::start(options()).await?;
    let (client, other, state) = (cluster.client(10).await?, cluster.client(10).await?, folder());
    fill(&client).await?;
    other.scene(&other.project("Somebody else's").await?, "Somebody else's").await?;
    let account = own_name(&client, &state).await?;
    // More than a page of them.
    let pool = cluster.pool().await?;
    sqlx::query(
        "insert into projects (id, account_id, title)
         select rushes_uuid_v7(), $1, 'Many ' || n from generate_series(1, 205) n",
    )
    .bind(account.trim_start_matches("accounts/").parse::<Uuid>()?)
    .execute(&pool)
    .await?;

    let file = state.join("export.jsonl");
    std::fs::create_dir_all(&state)?;
    let said = rushes(&client, &state, &["account", "export", "--output", file.to_str().context("a path")?]).await?;
    let text = std::fs::read_to_string(&file)?;
    let kinds = kinds(&text)?;
    assert!(said.out.contains(&format!("{} lines of {account}", text.lines().count() - 1)), "{}", said.out);
    let last: Value = serde_json::from_str(text.lines().last().context("a line")?)?;
    assert_eq!(last, serde_json::json!({"kind": "end", "value": {"lines": text.lines().count() - 1}}));

    let exported: BTreeSet<&str> = ACCOUNT_TABLES
        .iter()
        .filter_map(|row| match row.exported {
            Exported::As(kind) => Some(kind),
            Exported::Not(_) => None,
        })
        .chain(["end"])
        .collect();
    assert_eq!(kinds.keys().map(String::as_str).collect::<BTreeSet<_>>(), exported);
    let counts = |kind: &str| kinds[kind].len();
    assert_eq!(counts("project"), 207);
    assert_eq!(["scene", "generation", "webhookEndpoint", "webhookDelivery"].map(counts), [4, 4, 1, 4]);
    // A grant, and a hold and a charge of each.
    assert_eq!(["apiKey", "creditEntry", "endUser", "usage"].map(counts), [1, 9, 1, 1]);
    let generation = &kinds["generation"][0];
    assert_eq!(generation["input"]["prompt"], format!("A {MARK} in bloom"));
    assert_eq!(generation["labels"][MARK], MARK);
    let url = generation["outputs"][0]["url"].as_str().context("the address of an output")?;
    assert_eq!(client.fetch(url, &[]).await?.status, 200, "what is exported can be fetched");
    for asset in &kinds["asset"] {
        let url = asset["url"].as_str().context("the address of an asset")?;
        assert_eq!(client.fetch(url, &[]).await?.status, 200, "{asset}");
    }
    for secret in [client.key(), "whsec_", "Somebody else's"] {
        assert!(!text.contains(secret), "{secret}");
    }
    let _ = std::fs::remove_dir_all(state);
    pool.close().await;
    cluster.end().await
}

/// Waits until a statement waits for a lock of ours, and kills its service there.
async fn kill_at(cluster: &mut Cluster, pool: &PgPool, service: &str, statement: &str) -> Result<()> {
    let waits = async || {
        let query = "select count(*) from pg_stat_activity
                      where datname = current_database() and wait_event_type = 'Lock' and query like $1";
        let count: i64 = sqlx::query_scalar(query).bind(format!("{statement}%")).fetch_one(pool).await.ok()?;
        (count > 0).then_some(())
    };
    eventually("a batch that waits for the lock", TIMEOUT, waits).await.with_context(|| statement.to_owned())?;
    cluster.kill(service);
    Ok(())
}

/// Every table that has the mark of an account in some row, or its id where none is to be left.
async fn remains(pool: &PgPool, account: Uuid) -> Result<Vec<String>> {
    let tables =
        "select tablename::text from pg_tables where schemaname = 'public' and tablename <> '_sqlx_migrations'";
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(pool).await?;
    let mut remains = Vec::new();
    for table in tables {
        // Bytes are written as hexadecimal digits.
        let sql = format!(
            "select count(*) from {table} t where t::text ilike any (array['%{MARK}%', '%{}%'])",
            hex::encode(MARK)
        );
        if sqlx::query_scalar::<_, i64>(AssertSqlSafe(sql)).fetch_one(pool).await? > 0 {
            remains.push(format!("{table}: a text"));
        }
    }
    for row in ACCOUNT_TABLES.iter().filter(|row| row.erased == Erased::Gone) {
        let sql = format!("select count(*) from {} where account_id = $1", row.table);
        let left: i64 = sqlx::query_scalar(AssertSqlSafe(sql)).bind(account).fetch_one(pool).await?;
        if left > 0 {
            remains.push(format!("{}: {left} rows", row.table));
        }
    }
    Ok(remains)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_account_leaves_its_books_whoever_is_killed_meanwhile() -> Result<()> {
    let mut cluster = Cluster::start(options()).await?;
    let (client, other, operator) = (cluster.client(10).await?, cluster.client(10).await?, cluster.operator().await?);
    let state = folder();
    fill(&client).await?;
    let addresses = async |client: &Client| -> Result<Vec<String>> {
        let listed = client.assets().list_assets(ListAssetsRequest::default()).await?.into_inner();
        Ok(listed.assets.into_iter().map(|asset| asset.url).collect())
    };
    // One picture is of both.
    upload(&other, &picture(20)).await?;
    let (own, theirs) = (addresses(&client).await?, addresses(&other).await?);
    assert_eq!((own.len() > 3, theirs.len()), (true, 1));
    let account = own_name(&client, &state).await?;
    let id: Uuid = account.trim_start_matches("accounts/").parse()?;
    let pool = cluster.pool().await?;
    let books = async || -> Result<(String, String, i64)> {
        let query = "select (select c::text from credit_accounts c where account_id = $1),
                            (select string_agg(l::text, '+' order by id, book) from ledger l where account_id = $1),
                            (select sum(captured_micros)::bigint from usage_daily where account_id = $1)";
        Ok(sqlx::query_as(query).bind(id).fetch_one(&pool).await?)
    };
    let before = books().await?;

    rushes(&operator, &state, &["account", "suspend", &account, "--note", "asked for"]).await?;
    let refused = rushes(&operator, &state, &["account", "erase", &account, "--confirm", "yes"]).await;
    assert!(refused.err().context("it is not confirmed")?.to_string().contains("exit status: 2"));
    // As after a quarter of an hour: no call of before is under way.
    sqlx::query("update accounts set suspend_time = now() - interval '1 hour' where id = $1")
        .bind(id)
        .execute(&pool)
        .await?;

    let lock = async |sql: &'static str| -> Result<_> {
        let mut lock = pool.begin().await?;
        ensure!(sqlx::query(sql).bind(id).fetch_optional(&mut *lock).await?.is_some(), "nothing to lock: {sql}");
        Ok(lock)
    };
    let generation =
        lock("select from generations where account_id = $1 order by id offset 2 limit 1 for update").await?;
    let asset = lock("select from assets where account_id = $1 order by id offset 2 limit 1 for update").await?;
    let project = lock("select from projects where account_id = $1 order by id offset 1 limit 1 for update").await?;
    rushes(&operator, &state, &["account", "erase", &account, "--confirm", &account]).await?;
    let gone = async || client.dashboard().await.err();
    let refusal = eventually("the key is gone", Duration::from_secs(3), gone).await?;
    let refusal = refusal.downcast::<Status>()?;
    assert_eq!(refusal.code(), Code::Unauthenticated, "{refusal}");

    let steps = [
        ("generation-status", "delete from generations ", generation),
        ("thumbnail-worker", "select from assets ", asset),
        ("dashboard", "delete from projects ", project),
    ];
    for (service, statement, lock) in steps {
        kill_at(&mut cluster, &pool, service, statement).await?;
        lock.rollback().await?;
        assert_ne!(remains(&pool, id).await?, [""; 0], "{service} was in the middle of it");
        cluster.run(service)?;
        cluster.ready(service).await?;
    }
    let erased = async || {
        let said = rushes(&operator, &state, &["account", "show", &account]).await.ok()?;
        said.out.contains("\n  erased").then_some(())
    };
    eventually("the end of the erasure", TIMEOUT, erased).await?;

    assert_eq!(remains(&pool, id).await?, [""; 0]);
    for row in ACCOUNT_TABLES {
        let column = if row.table == "accounts" { "id" } else { "account_id" };
        let sql = format!(
            "select count(*) from {} t where {column} = $1 and t::text ~ '{MARK}|{}|example.com|Ada'",
            row.table,
            hex::encode(MARK)
        );
        let found: i64 = sqlx::query_scalar(AssertSqlSafe(sql)).bind(id).fetch_one(&pool).await?;
        assert_eq!(found, 0, "{}", row.table);
    }
    assert_eq!(books().await?, before, "to the last line");

    let status = async |url: &str| -> Result<u16> { Ok(other.fetch(url, &[]).await?.status) };
    assert_eq!(status(&theirs[0]).await?, 200, "bytes that are another's too stay");
    let name = |url: &str| url.split('?').next().and_then(|url| url.rsplit('/').next()).unwrap_or_default().to_owned();
    for url in &own {
        let wanted = if name(url) == name(&theirs[0]) { 200 } else { 404 };
        assert_eq!(status(url).await?, wanted, "{url}");
    }
    let _ = std::fs::remove_dir_all(state);
    pool.close().await;
    cluster.end().await
}
