//! The four scripts by hand, against the histories that they must stop.

use testkit::Redis;

const GET: &str = include_str!("../../src/redis/get.lua");
const FILL: &str = include_str!("../../src/redis/fill.lua");
const APPLY: &str = include_str!("../../src/redis/apply.lua");
const FRESH: &str = include_str!("../../src/redis/fresh.lua");

struct Hand {
    connection: redis::aio::MultiplexedConnection,
    _server: Redis,
}

impl Hand {
    async fn new() -> Self {
        let server = Redis::launch().await.unwrap();
        let client = redis::Client::open(server.url()).unwrap();
        Self { connection: client.get_multiplexed_async_connection().await.unwrap(), _server: server }
    }

    async fn run<T: redis::FromRedisValue>(&mut self, script: &str, arguments: &[&str]) -> T {
        let script = redis::Script::new(script);
        let mut call = script.key("s:fresh");
        for argument in arguments {
            call.arg(*argument);
        }
        call.invoke_async(&mut self.connection).await.unwrap()
    }

    async fn fresh(&mut self, t: i64, space: &str) -> i64 {
        self.run(FRESH, &["7", "3", &t.to_string(), space, "10000"]).await
    }

    /// One key's answer, as text: `H1=body`, `L`, `B`, or `-` without a proof.
    async fn get(&mut self, key: &str, token: &str) -> String {
        type Answer = (String, Option<String>, Option<String>, Option<i64>);
        let got: Option<(i64, i64, i64, Vec<Vec<redis::Value>>)> = self.run(GET, &["s:c:", "200", key, token]).await;
        let Some((_, _, _, answers)) = got else { return "-".into() };
        let text = |value: Option<&redis::Value>| value.map(|v| redis::from_redis_value::<String>(v.clone()).unwrap());
        let parts = &answers[0];
        let _: Option<Answer> = None;
        match (text(parts.first()), text(parts.get(1)), text(parts.get(2))) {
            (Some(kind), Some(version), Some(body)) => format!("{kind}{version}={body}"),
            (Some(kind), ..) => kind,
            _ => "?".into(),
        }
    }

    async fn fill(&mut self, key: &str, token: &str, version: &str) -> i64 {
        self.run(FILL, &["s:c:", key, token, version, "body", "60000"]).await
    }

    async fn apply(&mut self, key: &str, version: &str) -> i64 {
        self.run(APPLY, &["s:c:", "2000", key, version]).await
    }
}

#[tokio::test]
async fn without_a_proof_nothing_is_read_leased_filled_or_applied() {
    let mut hand = Hand::new().await;
    assert_eq!(hand.get("k", "1").await, "-");
    assert_eq!(hand.fill("k", "1", "1").await, 0);
    assert_eq!(hand.apply("k", "1").await, 0);
}

#[tokio::test]
async fn the_holder_of_the_lease_fills_and_others_wait() {
    let mut hand = Hand::new().await;
    hand.fresh(1, "9").await;
    assert_eq!(hand.get("k", "1").await, "L");
    assert_eq!(hand.get("k", "2").await, "B");
    assert_eq!(hand.fill("k", "2", "5").await, 0, "not its lease");
    assert_eq!(hand.fill("k", "1", "5").await, 1);
    assert_eq!(hand.get("k", "3").await, "H5=body");
    assert_eq!(hand.fill("k", "1", "6").await, 0, "a lease is used once");
}

#[tokio::test]
async fn a_lease_that_ran_out_is_given_to_another() {
    let mut hand = Hand::new().await;
    hand.fresh(1, "9").await;
    assert_eq!(hand.get("k", "1").await, "L");
    testkit::eventually("a second lease", std::time::Duration::from_secs(5), async || {
        (hand.get("k", "2").await == "L").then_some(())
    })
    .await
    .unwrap();
    assert_eq!(hand.fill("k", "1", "5").await, 0);
}

#[tokio::test]
async fn a_change_takes_the_lease_away() {
    let mut hand = Hand::new().await;
    hand.fresh(1, "9").await;
    assert_eq!(hand.get("k", "1").await, "L");
    hand.apply("k", "6").await;
    assert_eq!(hand.fill("k", "1", "5").await, 0, "read before the change");
    assert_eq!(hand.get("k", "2").await, "L");
}

#[tokio::test]
async fn an_applier_raises_and_never_creates_or_lowers() {
    let mut hand = Hand::new().await;
    hand.fresh(1, "9").await;
    assert_eq!(hand.apply("k", "6").await, 0);
    assert_eq!(hand.get("k", "1").await, "L", "nothing was created");
    hand.fill("k", "1", "6").await;
    assert_eq!(hand.apply("k", "6").await, 0);
    assert_eq!(hand.apply("k", "5").await, 0, "late");
    assert_eq!(hand.get("k", "2").await, "H6=body");
    assert_eq!(hand.apply("k", "7").await, 1);
    assert_eq!(hand.get("k", "3").await, "L", "a tombstone is not a value");
    assert_eq!(hand.fill("k", "3", "6").await, 0, "below the tombstone");
    assert_eq!(hand.fill("k", "3", "7").await, 1);
}

#[tokio::test]
async fn a_change_to_an_unknown_version_deletes() {
    let mut hand = Hand::new().await;
    hand.fresh(1, "9").await;
    hand.get("k", "1").await;
    hand.fill("k", "1", "6").await;
    assert_eq!(hand.apply("k", "").await, 1);
    assert_eq!(hand.get("k", "2").await, "L");
}

#[tokio::test]
async fn a_proof_moves_forward_only_and_another_space_hides_all() {
    let mut hand = Hand::new().await;
    hand.fresh(10, "9").await;
    hand.get("k", "1").await;
    hand.fill("k", "1", "6").await;
    assert_eq!(hand.fresh(9, "8").await, 0);
    assert_eq!(hand.get("k", "2").await, "H6=body");
    assert_eq!(hand.fresh(11, "8").await, 1);
    assert_eq!(hand.get("k", "3").await, "L");
    assert_eq!(hand.fill("k", "2", "7").await, 0, "a lease of the old space");
}
