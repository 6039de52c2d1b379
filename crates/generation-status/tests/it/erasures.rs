//! Accounts that are erased: what is under way is cancelled, what is over goes in batches, and the books stay.

use std::time::Duration;

use generation_status::erasures;
use proto::generations::v1::{Input, StartGenerationRequest, State};
use proto::work::v1::FailureClass;
use sqlx::AssertSqlSafe;
use testkit::{ACCOUNT_TABLES, Erased, eventually};
use uuid::Uuid;

use crate::cluster::{Cluster, Node, PRICE, User};
use crate::worker::Worker;

/// Stands in every text that is the user's.
const MARK: &str = "heliotrope";
/// The longest that a crowded machine may take.
const LONG: Duration = Duration::from_secs(30);
/// Whose rows this service erases.
const OWN: [&str; 12] = [
    "asset_uses",
    "end_users",
    "generation_labels",
    "generation_orders",
    "generations",
    "job_accounts",
    "job_turns",
    "jobs",
    "provider_calls",
    "webhook_attempts",
    "webhook_deliveries",
    "webhook_endpoints",
];

fn erases(batch: u32) -> erasures::Settings {
    erasures::Settings { interval: Duration::from_millis(50), batch }
}

fn marked(user: &User) -> StartGenerationRequest {
    StartGenerationRequest {
        input: Some(Input { prompt: format!("A {MARK}"), seed: Some(7), ..Input::default() }),
        labels: [(MARK.to_owned(), MARK.to_owned())].into(),
        end_user: format!("{MARK}@example.com"),
        ..user.start_request()
    }
}

impl Cluster {
    /// Decides that an account is erased, as dashboard does, so long after it was suspended.
    async fn erase(&self, user: &User, after: &str) {
        let mut tx = self.pool.begin().await.unwrap();
        let sql =
            format!("update accounts set suspend_time = now() - interval '{after}', erase_time = now() where id = $1");
        sqlx::query(AssertSqlSafe(sql)).bind(user.account).execute(&mut *tx).await.unwrap();
        sqlx::query("insert into account_erasures (account_id) values ($1)")
            .bind(user.account)
            .execute(&mut *tx)
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }

    async fn count(&self, table: &str, user: &User) -> i64 {
        let sql = format!("select count(*) from {table} where account_id = $1");
        sqlx::query_scalar(AssertSqlSafe(sql)).bind(user.account).fetch_one(&self.pool).await.unwrap()
    }

    /// The tables of this service that still have something of a user.
    async fn left(&self, user: &User) -> Vec<&'static str> {
        let mut left = Vec::new();
        for table in OWN {
            if self.count(table, user).await > 0 {
                left.push(table);
            }
        }
        left
    }

    async fn is_erased(&self, user: &User) -> bool {
        let query = "select generations_time is not null from account_erasures where account_id = $1";
        sqlx::query_scalar(query).bind(user.account).fetch_one(&self.pool).await.unwrap()
    }

    async fn until_erased(&self, user: &User) {
        let erased = async || self.is_erased(user).await.then_some(());
        eventually("the end of the erasure", LONG, erased).await.unwrap();
    }

    /// What the books say of a user: the balance, the ledger's entries, and usage by day and model.
    async fn books(&self, user: &User) -> (String, String, String) {
        sqlx::query_as(
            "select (select c::text from credit_accounts c where account_id = $1),
                    (select string_agg(l::text, e'\\n' order by id, book) from ledger l where account_id = $1),
                    (select string_agg(u::text, e'\\n') from (
                        select day, model, sum(started), sum(completed), sum(cancelled), sum(captured_micros), sum(provider_cost_micros)
                        from usage_daily where account_id = $1 group by day, model order by day, model) u)",
        )
        .bind(user.account)
        .fetch_one(&self.pool)
        .await
        .unwrap()
    }

    async fn marked_endpoint(&self, user: &User) {
        sqlx::query(
            "insert into webhook_endpoints (id, account_id, url, event_types, secret)
             values ($1, $2, $3, array['generation.queued', 'generation.cancelled'], decode(repeat('00', 32), 'hex'))",
        )
        .bind(Uuid::now_v7())
        .bind(user.account)
        .bind(format!("https://{MARK}.invalid/"))
        .execute(&self.pool)
        .await
        .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_is_cancelled_and_all_but_the_books_is_gone() {
    let cluster = Cluster::with(|config| config.erasures = erases(3)).await;
    let (user, stranger) = (cluster.user(20).await, cluster.user(5).await);
    for of in [&user, &stranger] {
        cluster.marked_endpoint(of).await;
    }
    let mut worker = Worker::new(&cluster, 1).await;
    cluster.start(&user, marked(&user)).await.unwrap();
    let work = worker.next().await;
    worker.carry_out(&work).await;
    worker.free(1).await;
    let running = cluster.start(&user, marked(&user)).await.unwrap().name;
    let running_work = worker.next().await;
    worker.submitted(&running_work).await.unwrap();
    cluster.started_many(&user, &marked(&user), 7).await;
    let theirs = cluster.start(&stranger, marked(&stranger)).await.unwrap().name;
    assert_eq!(cluster.count("webhook_deliveries", &user).await, 9);

    cluster.erase(&user, "1 hour").await;
    let cancelling = async || {
        let state = cluster.get(&user, &running).await.unwrap().state();
        let alone = cluster.count("generations", &user).await == 1;
        (alone && state == State::Cancelling).then_some(())
    };
    eventually("all that is over is gone", LONG, cancelling).await.unwrap();
    assert!(!cluster.is_erased(&user).await, "an order lives at its provider");
    let credit = cluster.credit(&user).await;
    assert_eq!((credit.available_micros, credit.held_micros), (18 * PRICE, PRICE));
    worker.fail(&running_work, FailureClass::Cancelled).await.unwrap();
    cluster.until_erased(&user).await;
    assert_eq!(cluster.left(&user).await, [""; 0]);

    let (balance, ledger, usage) = cluster.books(&user).await;
    assert!(balance.contains(&format!("{},0,{PRICE}", 19 * PRICE)), "{balance}");
    // A grant of two lines; a hold and what settles it, of two each, for each of nine.
    assert_eq!(ledger.lines().count(), 2 + 9 * 4);
    assert!(usage.ends_with(&format!("9,1,8,{PRICE},0)")), "{usage}");
    let end_users = "select string_agg(distinct end_user, '+') from usage_daily where account_id = $1";
    let end_users: String = sqlx::query_scalar(end_users).bind(user.account).fetch_one(&cluster.pool).await.unwrap();
    assert_eq!(end_users, "", "sums of end users are part of the day's");
    for row in ACCOUNT_TABLES.iter().filter(|row| matches!(row.erased, Erased::Kept(_)) && row.table != "accounts") {
        let sql = format!("select count(*) from {} t where account_id = $1 and t::text like '%{MARK}%'", row.table);
        let found: i64 =
            sqlx::query_scalar(AssertSqlSafe(sql)).bind(user.account).fetch_one(&cluster.pool).await.unwrap();
        assert_eq!(found, 0, "{}", row.table);
    }
    let events = "select count(*) from job_events e where not exists (select from jobs j where j.id = e.job_id)";
    assert_eq!(
        sqlx::query_scalar::<_, i64>(events).fetch_one(&cluster.pool).await.unwrap(),
        0,
        "histories went with them"
    );

    assert_eq!(cluster.get(&stranger, &theirs).await.unwrap().state(), State::Queued, "nobody else's");
    let others: Vec<_> =
        OWN.into_iter().filter(|table| !["asset_uses", "job_accounts", "provider_calls"].contains(table)).collect();
    let left = cluster.left(&stranger).await;
    assert!(left.len() + 2 >= others.len(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_goes_on_after_it_was_cut_off_in_the_middle_of_a_batch() {
    // The first process finds nothing to do before it ends.
    let mut cluster = Cluster::new().await;
    let user = cluster.user(12).await;
    cluster.marked_endpoint(&user).await;
    let names = cluster.started_many(&user, &marked(&user), 12).await;
    cluster.cancel_many(&user, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let books = cluster.books(&user).await;
    cluster.node.drain();

    // The fifth generation is in the middle of the third batch of two.
    let mut lock = cluster.pool.begin().await.unwrap();
    let query = "select id from generations where account_id = $1 order by id offset 4 limit 1";
    let fifth: Uuid = sqlx::query_scalar(query).bind(user.account).fetch_one(&mut *lock).await.unwrap();
    sqlx::query("select from generations where id = $1 for update").bind(fifth).execute(&mut *lock).await.unwrap();
    cluster.erase(&user, "1 hour").await;
    cluster.config.erasures = erases(2);
    let node = Node::start(&cluster.config).await;
    let waiting = async || {
        let query = "select pid from pg_stat_activity
                      where datname = current_database() and wait_event_type = 'Lock' and query like 'delete from generations %'";
        sqlx::query_scalar::<_, i32>(query).fetch_optional(&cluster.pool).await.unwrap()
    };
    let pid = eventually("a batch that waits for the lock", LONG, waiting).await.unwrap();
    assert_eq!(cluster.count("generations", &user).await, 8, "two batches are committed, and the third is under way");
    assert_eq!(cluster.count("generation_orders", &user).await, 8, "what it has deleted is not");
    node.drain();
    sqlx::query("select pg_terminate_backend($1)").bind(pid).execute(&cluster.pool).await.unwrap();
    lock.rollback().await.unwrap();

    // Two at once, of which one has a batch.
    cluster.node = Node::start(&cluster.config).await;
    let _other = Node::start(&cluster.config).await;
    cluster.until_erased(&user).await;
    assert_eq!(cluster.left(&user).await, [""; 0]);
    assert_eq!(cluster.books(&user).await, books);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_ends_once_no_call_of_before_the_suspension_is_left() {
    let cluster = Cluster::with(|config| config.erasures = erases(100)).await;
    let (user, other) = (cluster.user(2).await, cluster.user(2).await);
    cluster.started(&user).await;
    cluster.erase(&user, "1 minute").await;
    let gone = async || (cluster.count("generations", &user).await == 0).then_some(());
    eventually("the first pass", LONG, gone).await.unwrap();
    // A start that was on its way since before.
    let late = cluster.started(&user).await.name;
    // What comes later in the same round is over, so this account was looked at again.
    cluster.erase(&other, "1 hour").await;
    cluster.until_erased(&other).await;
    let gone = async || cluster.get(&user, &late).await.is_err().then_some(());
    eventually("the late one goes too", LONG, gone).await.unwrap();
    assert!(!cluster.is_erased(&user).await, "another may come");
    let later = "update accounts set suspend_time = now() - interval '16 minutes' where id = $1";
    sqlx::query(later).bind(user.account).execute(&cluster.pool).await.unwrap();
    cluster.until_erased(&user).await;
    assert_eq!(cluster.left(&user).await, [""; 0]);
}
