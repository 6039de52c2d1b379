//! The four scripts called by hand, against the histories that they must stop.

use testkit::Redis;

const GET: &str = include_str!("../../src/redis/get.lua");
const FILL: &str = include_str!("../../src/redis/fill.lua");
const APPLY: &str = include_str!("../../src/redis/apply.lua");
const PROVE: &str = include_str!("../../src/redis/prove.lua");

struct Scripts {
    connection: redis::aio::MultiplexedConnection,
    _server: Redis,
}

impl Scripts {
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

    async fn prove(&mut self, t: i64, space: &str) -> i64 {
        self.run(PROVE, &["7", "3", &t.to_string(), space, "10000"]).await
    }

    /// One key's answer, as text: `H1=body`, `L`, `B`, or `-` without a proof.
    async fn get(&mut self, key: &str, token: &str) -> String {
        self.get_for("200", key, token).await
    }

    /// The same, with how long a lease is given for.
    async fn get_for(&mut self, lease: &str, key: &str, token: &str) -> String {
        let got: Option<(i64, i64, i64, Vec<Vec<redis::Value>>)> = self.run(GET, &["s:c:", lease, key, token]).await;
        let Some((_, _, _, answers)) = got else { return "-".into() };
        let text = |value: Option<&redis::Value>| value.map(|v| redis::from_redis_value::<String>(v.clone()).unwrap());
        let parts = &answers[0];
        match (text(parts.first()), text(parts.get(1)), text(parts.get(2))) {
            (Some(kind), Some(version), Some(body)) => format!("{kind}{version}={body}"),
            (Some(kind), ..) => kind,
            _ => "?".into(),
        }
    }

    async fn fill(&mut self, key: &str, token: &str, version: &str) -> i64 {
        self.run(FILL, &["s:c:", key, token, version, "body", "60000"]).await
    }

    /// In the space that is proven, as a writer does.
    async fn apply(&mut self, key: &str, version: &str) -> i64 {
        self.apply_in("", key, version).await
    }

    /// In a named space, as the relay does.
    async fn apply_in(&mut self, space: &str, key: &str, version: &str) -> i64 {
        self.run(APPLY, &["s:c:", "60000", space, key, version]).await
    }
}

#[tokio::test]
async fn without_a_proof_nothing_is_read_leased_filled_or_applied() {
    let mut scripts = Scripts::new().await;
    assert_eq!(scripts.get("k", "1").await, "-");
    assert_eq!(scripts.fill("k", "1", "1").await, 0);
    assert_eq!(scripts.apply("k", "1").await, 0);
}

#[tokio::test]
async fn the_holder_of_the_lease_fills_and_others_wait() {
    let mut scripts = Scripts::new().await;
    scripts.prove(1, "9").await;
    assert_eq!(scripts.get("k", "1").await, "L");
    assert_eq!(scripts.get("k", "2").await, "B");
    assert_eq!(scripts.fill("k", "2", "5").await, 0, "not its lease");
    assert_eq!(scripts.fill("k", "1", "5").await, 1);
    assert_eq!(scripts.get("k", "3").await, "H5=body");
    assert_eq!(scripts.fill("k", "1", "6").await, 0, "a lease is used once");
}

#[tokio::test]
async fn a_lease_that_ran_out_is_given_to_another() {
    let mut scripts = Scripts::new().await;
    scripts.prove(1, "9").await;
    assert_eq!(scripts.get("k", "1").await, "L");
    testkit::eventually("a second lease", std::time::Duration::from_secs(5), async || {
        (scripts.get("k", "2").await == "L").then_some(())
    })
    .await
    .unwrap();
    assert_eq!(scripts.fill("k", "1", "5").await, 0);
}

#[tokio::test]
async fn a_change_voids_the_lease() {
    let mut scripts = Scripts::new().await;
    scripts.prove(1, "9").await;
    assert_eq!(scripts.get("k", "1").await, "L");
    scripts.apply("k", "6").await;
    assert_eq!(scripts.fill("k", "1", "5").await, 0, "read before the change");
    assert_eq!(scripts.get("k", "2").await, "L");
}

#[tokio::test]
async fn an_applier_raises_and_never_creates_or_lowers() {
    let mut scripts = Scripts::new().await;
    scripts.prove(1, "9").await;
    assert_eq!(scripts.apply("k", "6").await, 0);
    assert_eq!(scripts.get("k", "1").await, "L", "nothing was created");
    scripts.fill("k", "1", "6").await;
    assert_eq!(scripts.apply("k", "6").await, 0);
    assert_eq!(scripts.apply("k", "5").await, 0, "late");
    assert_eq!(scripts.get("k", "2").await, "H6=body");
    assert_eq!(scripts.apply("k", "7").await, 1);
    assert_eq!(scripts.get("k", "3").await, "L", "a tombstone is not a value");
    assert_eq!(scripts.fill("k", "3", "6").await, 0, "below the tombstone");
    assert_eq!(scripts.fill("k", "3", "7").await, 1);
}

#[tokio::test]
async fn a_change_to_an_unknown_version_deletes() {
    let mut scripts = Scripts::new().await;
    scripts.prove(1, "9").await;
    scripts.get("k", "1").await;
    scripts.fill("k", "1", "6").await;
    assert_eq!(scripts.apply("k", "").await, 1);
    assert_eq!(scripts.get("k", "2").await, "L");
}

#[tokio::test]
async fn while_the_proof_is_evicted_the_relay_still_applies() {
    let mut scripts = Scripts::new().await;
    scripts.prove(1, "9").await;
    scripts.get("k", "1").await;
    scripts.fill("k", "1", "6").await;
    let _: i64 = redis::cmd("DEL").arg("s:fresh").query_async(&mut scripts.connection).await.unwrap();
    assert_eq!(scripts.apply("k", "7").await, 0, "a writer knows no name space");
    assert_eq!(scripts.apply_in("9", "k", "7").await, 1);
    scripts.prove(2, "9").await;
    assert_eq!(scripts.get("k", "2").await, "L", "what the proof vouches for was applied");
}

#[tokio::test]
async fn a_proof_replaces_any_other_and_another_space_hides_all() {
    let mut scripts = Scripts::new().await;
    scripts.prove(10, "9").await;
    scripts.get("k", "1").await;
    scripts.fill("k", "1", "6").await;
    assert_eq!(scripts.prove(9, "9").await, 1, "PostgreSQL's clock may have been stepped back");
    assert_eq!(scripts.get("k", "2").await, "H6=body");
    assert_eq!(scripts.prove(11, "8").await, 1);
    assert_eq!(scripts.get("k", "3").await, "L");
    assert_eq!(scripts.fill("k", "2", "7").await, 0, "a lease of the old space");
}

/// The simulator's model of the scripts is compared with the scripts: the same random operations, the same answers.
#[tokio::test]
async fn the_simulated_redis_answers_as_the_scripts_do() {
    use coherence::read::L2;
    use coherence::time::PgTime;
    use sim::redis::{Proof, Redis as Model};

    let mut scripts = Scripts::new().await;
    let mut rng = fastrand::Rng::with_seed(1);
    for round in 0..300 {
        let _: () = redis::cmd("FLUSHALL").query_async(&mut scripts.connection).await.unwrap();
        let mut model = Model::<()>::default();
        for step in 0..40 {
            let (key, token, version) = (rng.usize(0..2), rng.u64(1..4), rng.i64(1..5));
            let name = format!("k{key}");
            let space = rng.i64(8..10);
            let at = format!("round {round}, step {step}");
            match rng.u8(0..12) {
                0 | 1 => {
                    let proof = Proof { epoch: 7, seq: 3, at: PgTime(version), space };
                    model.prove(proof, 0);
                    scripts.prove(version, &space.to_string()).await;
                }
                2 => {
                    model.evict_proof();
                    let _: i64 = redis::cmd("DEL").arg("s:fresh").query_async(&mut scripts.connection).await.unwrap();
                }
                3..=5 => {
                    let expected = match model.get(key, token, 0) {
                        L2::Hit(hit) => format!("H{}=body", hit.version),
                        L2::Lease { .. } => "L".to_owned(),
                        L2::Busy => "B".to_owned(),
                        L2::NoProof | L2::Unavailable => "-".to_owned(),
                    };
                    assert_eq!(scripts.get_for("600000", &name, &token.to_string()).await, expected, "{at}");
                }
                6..=8 => {
                    let filled = model.fill(key, token, version, (), 60_000, 0);
                    let real = scripts.fill(&name, &token.to_string(), &version.to_string()).await;
                    assert_eq!(real == 1, filled, "{at}");
                }
                9 => {
                    model.apply(None, key, None, None, 0);
                    scripts.apply(&name, "").await;
                }
                10 => {
                    model.apply(None, key, Some(version), None, 0);
                    scripts.apply(&name, &version.to_string()).await;
                }
                _ => {
                    model.apply(Some(space), key, Some(version), None, 0);
                    scripts.apply_in(&space.to_string(), &name, &version.to_string()).await;
                }
            }
        }
    }
}
