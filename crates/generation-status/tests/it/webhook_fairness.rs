//! Webhooks to users: what one endpoint, or one event, costs the others.

use std::time::{Duration, Instant};

use chassis::egress::Reach;
use proto::webhooks::v1::delivery::State as Sent;
use testkit::eventually;
use tonic::Code;

use crate::cluster::{Cluster, User, refusal};
use crate::receiver::{Receiver, Reply};
use crate::webhooks::{all_events, cluster, webhook_id};

/// The longest that a crowded machine may take.
const LONG: Duration = Duration::from_secs(30);
/// More than a process has slots for.
const SLOW_ENDPOINTS: usize = 40;
const EACH: i64 = 20;

impl Cluster {
    /// Has so many events sent to an endpoint, as a burst of changes would.
    async fn burst(&self, endpoint: &str, count: i64) {
        sqlx::query(
            "insert into webhook_deliveries (id, account_id, endpoint_id, event_type)
             select rushes_uuid_v7(), account_id, id, 'generation.queued'
             from webhook_endpoints, generate_series(1, $2) where id = $1",
        )
        .bind(id_of(endpoint))
        .bind(count)
        .execute(&self.pool)
        .await
        .unwrap();
    }

    /// How many attempts at deliveries to other endpoints than this one have ended.
    async fn attempts_elsewhere(&self, endpoint: &str) -> i64 {
        sqlx::query_scalar(
            "select count(*) from webhook_attempts join webhook_deliveries d on d.id = delivery_id
             where d.endpoint_id <> $1",
        )
        .bind(id_of(endpoint))
        .fetch_one(&self.pool)
        .await
        .unwrap()
    }

    /// The median time in seconds from an event to its delivery at this endpoint, once all of the last so many are delivered.
    async fn median(&self, endpoint: &str, last: i64) -> f64 {
        let read = async || {
            let (count, median) = sqlx::query_as::<_, (i64, Option<f64>)>(
                "select count(*),
                        percentile_cont(0.5) within group (order by extract(epoch from end_time - create_time)::float8)
                 from (select * from webhook_deliveries where endpoint_id = $1 order by id desc limit $2) d
                 where state = 2",
            )
            .bind(id_of(endpoint))
            .bind(last)
            .fetch_one(&self.pool)
            .await
            .unwrap();
            median.filter(|_| count == last)
        };
        eventually("all delivered", LONG, read).await.unwrap()
    }
}

fn id_of(endpoint: &str) -> uuid::Uuid {
    endpoint.rsplit('/').next().unwrap().parse().unwrap()
}

/// A slow endpoint of an account of its own, so many times.
async fn slow_endpoints(cluster: &Cluster, receiver: &Receiver, count: usize) -> Vec<(User, String)> {
    let mut endpoints = Vec::new();
    for _ in 0..count {
        let user = cluster.user(0).await;
        let endpoint = cluster.endpoint(&user, &receiver.url, all_events()).await.unwrap();
        endpoints.push((user, endpoint.name));
    }
    endpoints
}

#[tokio::test]
async fn slow_endpoints_cost_others_nothing() {
    let cluster = Cluster::with(|config| {
        config.webhooks.reach = Reach::Anywhere;
        config.webhooks.timeout = Duration::from_secs(25);
    })
    .await;
    let (slow, fast) = (Receiver::open().await, Receiver::open().await);
    slow.plan(&vec![Reply::Never; SLOW_ENDPOINTS * EACH as usize]);
    let user = cluster.user(0).await;
    let endpoint = cluster.endpoint(&user, &fast.url, all_events()).await.unwrap().name;
    cluster.burst(&endpoint, EACH).await;
    let alone = cluster.median(&endpoint, EACH).await;

    for (_, slow) in slow_endpoints(&cluster, &slow, SLOW_ENDPOINTS).await {
        cluster.burst(&slow, EACH).await;
    }
    cluster.burst(&endpoint, EACH).await;
    let at_first = cluster.median(&endpoint, EACH).await;
    assert_eq!(cluster.attempts_elsewhere(&endpoint).await, 0, "it waited for no slow one to end");
    // Now they are known to be slow.
    cluster.burst(&endpoint, EACH).await;
    let beside = cluster.median(&endpoint, EACH).await;
    assert_eq!(cluster.attempts_elsewhere(&endpoint).await, 0, "it waited for no slow one to end");
    println!(
        "median in seconds: {alone:.3} alone, {at_first:.3} and then {beside:.3} beside {SLOW_ENDPOINTS} slow endpoints"
    );
}

#[tokio::test]
async fn an_endpoint_has_few_slots_and_one_while_it_is_slow() {
    let (cluster, mut receiver) = (cluster().await, Receiver::open().await);
    receiver.plan(&[Reply::Never; 8]);
    let user = cluster.user(0).await;
    let endpoint = cluster.endpoint(&user, &receiver.url, all_events()).await.unwrap().name;
    cluster.burst(&endpoint, 8).await;
    receiver.next().await;
    let speed = async || {
        let speed = sqlx::query_scalar::<_, String>("select answer_speed from webhook_endpoints");
        Some(speed.fetch_one(&cluster.pool).await.unwrap()).filter(|speed| speed == "slow")
    };
    eventually("the endpoint is slow", LONG, speed).await.unwrap();
    // Rounds go on; none may send it more.
    cluster.test_endpoint(&user, &endpoint).await.unwrap();
    let on_their_way = "select count(*) from webhook_deliveries where state = 1 and job_id is not null";
    let count: i64 = sqlx::query_scalar(on_their_way).fetch_one(&cluster.pool).await.unwrap();
    assert_eq!(count, 1);
    assert!(!receiver.has_more());
}

#[tokio::test]
async fn an_answer_whose_body_never_ends_is_an_answer() {
    let (cluster, mut receiver) = (cluster().await, Receiver::open().await);
    receiver.plan(&[Reply::Drip]);
    let user = cluster.user(0).await;
    let endpoint = cluster.endpoint(&user, &receiver.url, all_events()).await.unwrap().name;
    cluster.test_endpoint(&user, &endpoint).await.unwrap();
    receiver.next().await;
    let came = Instant::now();
    let log = cluster.logged(&user, &endpoint, |log| log[0].state() == Sent::Delivered).await;
    assert_eq!((log[0].attempts[0].http_status, log[0].attempts[0].response_excerpt.as_str()), (200, "a"));
    assert!(came.elapsed() < Duration::from_secs(10), "the timeout is 15 s");
}

#[tokio::test]
async fn an_event_that_is_refused_for_good_is_overtaken_by_the_next() {
    let (cluster, mut receiver) = (cluster().await, Receiver::open().await);
    let user = cluster.user(2).await;
    let events = ["queued", "cancelled"].map(|state| format!("generation.{state}")).to_vec();
    let endpoint = cluster.endpoint(&user, &receiver.url, events).await.unwrap().name;
    receiver.plan(&[Reply::Status(404, ""), Reply::Status(422, ""), Reply::Status(400, "")]);
    let name = cluster.started(&user).await.name;
    cluster.cancel_many(&user, &[&name]).await;
    for attempt in 1..=3 {
        assert_eq!(receiver.next().await.event(), "generation.queued", "attempt {attempt}");
        let log = cluster.logged(&user, &endpoint, |log| log[0].attempt_count == attempt).await;
        // The third refusal is for good, and the next one goes out at once.
        if attempt < 3 {
            assert_eq!(log[1].attempt_count, 0, "refused {attempt} times, it keeps the next back");
            cluster.hasten_webhooks().await;
        }
    }
    assert_eq!(receiver.next().await.event(), "generation.cancelled");
    let log = cluster.logged(&user, &endpoint, |log| log[1].state() == Sent::Delivered).await;
    assert_eq!((log[0].state(), log[0].attempt_count), (Sent::Failed, 3));

    // Without a newer one it goes on, and ends when there is one.
    receiver.plan(&[Reply::Status(404, ""); 3]);
    let name = cluster.started(&user).await.name;
    for attempt in 1..=3 {
        assert_eq!(receiver.next().await.event(), "generation.queued");
        let log = cluster.logged(&user, &endpoint, |log| log[2].attempt_count == attempt).await;
        assert_eq!(log[2].state(), Sent::Pending);
        if attempt < 3 {
            cluster.hasten_webhooks().await;
        }
    }
    cluster.cancel_many(&user, &[&name]).await;
    assert_eq!(receiver.next().await.event(), "generation.cancelled");
    let log = cluster.logged(&user, &endpoint, |log| log[3].state() == Sent::Delivered).await;
    assert_eq!((log[2].state(), log[2].attempt_count), (Sent::Failed, 3));
    assert!(!receiver.has_more());
}

#[tokio::test]
async fn an_event_that_fails_while_others_are_taken_is_overtaken() {
    let (cluster, mut receiver) = (cluster().await, Receiver::open().await);
    let user = cluster.user(2).await;
    let events = ["queued", "cancelled"].map(|state| format!("generation.{state}")).to_vec();
    let endpoint = cluster.endpoint(&user, &receiver.url, events).await.unwrap().name;
    receiver.plan(&[Reply::Status(500, "")]);
    let first = cluster.started(&user).await.name;
    receiver.next().await;
    cluster.cancel_many(&user, &[&first]).await;
    cluster.logged(&user, &endpoint, |log| log[0].attempt_count == 1).await;
    // The endpoint takes another.
    cluster.test_endpoint(&user, &endpoint).await.unwrap();
    assert_eq!(receiver.next().await.event(), "webhook.test");
    cluster.logged(&user, &endpoint, |log| log[2].state() == Sent::Delivered).await;
    receiver.plan(&[Reply::Status(500, ""); 4]);
    for attempt in 2..=5 {
        cluster.hasten_webhooks().await;
        assert_eq!(receiver.next().await.event(), "generation.queued");
        cluster.logged(&user, &endpoint, |log| log[0].attempt_count == attempt).await;
    }
    assert_eq!(receiver.next().await.event(), "generation.cancelled");
    let log = cluster.logged(&user, &endpoint, |log| log[1].state() == Sent::Delivered).await;
    assert_eq!((log[0].state(), log[0].attempt_count), (Sent::Failed, 5));
}

#[tokio::test]
async fn a_delivery_that_waits_for_another_can_be_sent_now() {
    let (cluster, mut receiver) = (cluster().await, Receiver::open().await);
    let user = cluster.user(1).await;
    let events = ["queued", "cancelled"].map(|state| format!("generation.{state}")).to_vec();
    let endpoint = cluster.endpoint(&user, &receiver.url, events).await.unwrap().name;
    receiver.plan(&[Reply::Status(500, "")]);
    let name = cluster.started(&user).await.name;
    receiver.next().await;
    cluster.cancel_many(&user, &[&name]).await;
    let log = cluster.logged(&user, &endpoint, |log| log.len() == 2 && log[0].attempt_count == 1).await;
    // A backlog that is not wanted yet, and much that is due, are no reason to wait.
    receiver.plan(&[Reply::Status(200, "")]);
    cluster.redeliver(&user, &log[1].name).await.unwrap();
    let got = receiver.next().await;
    assert_eq!((got.event().as_str(), got.id()), ("generation.cancelled", webhook_id(&log[1])));
    let log = cluster.logged(&user, &endpoint, |log| log[1].state() == Sent::Delivered).await;
    assert_eq!(log[0].state(), Sent::Pending, "the earlier one still has its attempts");
}

#[tokio::test]
async fn an_endpoint_gets_a_few_tests_a_minute() {
    let (cluster, receiver) = (cluster().await, Receiver::open().await);
    let user = cluster.user(0).await;
    let first = cluster.endpoint(&user, &receiver.url, all_events()).await.unwrap().name;
    let other = cluster.endpoint(&user, &receiver.url, all_events()).await.unwrap().name;
    for _ in 0..10 {
        cluster.test_endpoint(&user, &first).await.unwrap();
    }
    let limited = (Code::ResourceExhausted, "WEBHOOK_TEST_LIMIT".to_owned());
    assert_eq!(refusal(cluster.test_endpoint(&user, &first).await), limited);
    cluster.test_endpoint(&user, &other).await.unwrap();
    sqlx::query("update webhook_deliveries set create_time = create_time - interval '1 minute'")
        .execute(&cluster.pool)
        .await
        .unwrap();
    cluster.test_endpoint(&user, &first).await.unwrap();
}

/// An endpoint is disabled after a delivery to it was enqueued, and enabled before the reaper has failed what was pending. The job of
/// then must not stand for the delivery for ever, nor count as on its way.
#[tokio::test]
async fn a_job_that_is_not_carried_out_leaves_its_delivery_to_the_next() {
    let cluster = Cluster::with(|config| {
        config.webhooks.reach = Reach::Anywhere;
        config.work.reap_interval = Duration::from_secs(600);
    })
    .await;
    let mut receiver = Receiver::open().await;
    let user = cluster.user(0).await;
    let endpoint = cluster.endpoint(&user, &receiver.url, all_events()).await.unwrap();
    let execute = async |sql: &'static str| {
        sqlx::query(sql).bind(user.account).execute(&cluster.pool).await.unwrap();
    };
    // The reaper has had its first round, which comes at once.
    eventually("a round of the reaper", LONG, async || {
        let query =
            "select 1 from pg_stat_activity where datname = current_database() and application_name = 'rushes/reaper'";
        sqlx::query_scalar::<_, i32>(query).fetch_optional(&cluster.pool).await.unwrap()
    })
    .await
    .unwrap();
    execute("insert into job_accounts (kind, account_id, running_limit) values ('webhook', $1, 0)").await;
    cluster.burst(&endpoint.name, 1).await;
    let job = async |state: &'static str| {
        let found = async || {
            let query = sqlx::query_scalar("select id from jobs where kind = 'webhook' and state = $1").bind(state);
            query.fetch_optional(&cluster.pool).await.unwrap()
        };
        let _: uuid::Uuid = eventually(state, LONG, found).await.unwrap();
    };
    job("queued").await;
    execute("update webhook_endpoints set disable_reason = 'USER', disable_time = now() where account_id = $1").await;
    execute("delete from job_accounts where account_id = $1").await;
    job("cancelled").await;
    execute("update webhook_endpoints set disable_reason = null, disable_time = null where account_id = $1").await;
    receiver.next().await;
    cluster.logged(&user, &endpoint.name, |log| log[0].state() == Sent::Delivered).await;
}

/// What is due is enqueued 200 at a time. Old accounts with many endpoints used to fill each batch, by the ids of their endpoints.
#[tokio::test]
async fn a_flood_of_events_of_old_accounts_does_not_come_before_those_of_a_new_one() {
    let (cluster, receiver) = (cluster().await, Receiver::open().await);
    // None ends, so that each job is there to be looked at.
    receiver.plan(&[Reply::Never; 500]);
    let mut flood = Vec::new();
    for _ in 0..6 {
        let user = cluster.user(0).await;
        for _ in 0..10 {
            flood.push(id_of(&cluster.endpoint(&user, &receiver.url, all_events()).await.unwrap().name));
        }
    }
    let user = cluster.user(0).await;
    let late = id_of(&cluster.endpoint(&user, &receiver.url, all_events()).await.unwrap().name);
    // Known as prompt, each has room for four: 240 of the flood before the late one's, were it by their ids. All come at one instant.
    sqlx::query("update webhook_endpoints set answer_speed = 'prompt'").execute(&cluster.pool).await.unwrap();
    flood.push(late);
    sqlx::query(
        "insert into webhook_deliveries (id, account_id, endpoint_id, event_type)
         select rushes_uuid_v7(), e.account_id, e.id, 'generation.queued'
         from webhook_endpoints e, generate_series(1, 8) where e.id = any($1)",
    )
    .bind(&flood)
    .execute(&cluster.pool)
    .await
    .unwrap();
    let rounds = async || {
        let times = sqlx::query_as::<_, (Option<time::OffsetDateTime>, Option<time::OffsetDateTime>)>(
            "select min(j.created_at), min(j.created_at) filter (where d.endpoint_id = $1)
             from jobs j join webhook_deliveries d on j.id = d.job_id",
        )
        .bind(late)
        .fetch_one(&cluster.pool)
        .await
        .unwrap();
        times.0.zip(times.1)
    };
    let (first, of_the_late) = eventually("the late one's is enqueued", LONG, rounds).await.unwrap();
    assert_eq!(first, of_the_late, "in the first round, which is one transaction");
}
