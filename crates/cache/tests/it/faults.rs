//! With Redis or NATS or both dead, hanging, and back again: every read is answered, none is older than the bound, none
//! goes back.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cache::{Settings, Tier};
use testkit::{Proxy, Redis};

use crate::cluster::{Cluster, LONG, Node};

const BOUND: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn without_postgresql_a_read_fails_when_the_last_proof_is_old() {
    let cluster = Cluster::new().await;
    let node = cluster.ready_node().await;
    node.change("a").await.unwrap();
    node.from(Tier::L1, "a").await;
    cluster.postgres.kill().await.unwrap();
    let killed = Instant::now();
    let refused = testkit::eventually("a read that is refused", LONG, async || match node.get("a").await {
        Ok(hit) => {
            assert!(matches!(hit.tier, Tier::L1 | Tier::L2), "{hit:?}");
            None
        }
        Err(_) => Some(Instant::now()),
    })
    .await
    .unwrap();
    assert!(refused - killed < BOUND + Duration::from_millis(500), "served for {:?} without a truth", refused - killed);
    cluster.postgres.start().await.unwrap();
    node.from(Tier::L1, "a").await;
}

/// The commits of one thing: version `n + 1` was visible from the `n`th instant on.
#[derive(Default)]
struct History(Mutex<Vec<Instant>>);

impl History {
    fn committed(&self, version: i64) {
        let mut commits = self.0.lock().unwrap();
        assert_eq!(i64::try_from(commits.len()).unwrap() + 1, version);
        commits.push(Instant::now());
    }

    /// The least version that a read which began at `begun` may return.
    fn min_version(&self, begun: Instant) -> i64 {
        let commits = self.0.lock().unwrap();
        let old = commits.iter().take_while(|commit| **commit + BOUND <= begun).count();
        i64::try_from(old).unwrap()
    }
}

/// One writer and some readers who check every answer, until it is dropped.
struct Load {
    history: Arc<History>,
    done: Arc<AtomicBool>,
    reads: Arc<AtomicU64>,
    slowest: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    /// With `hints` the writer notifies its cache; without, only the outbox has its changes.
    fn start(writer: &Node, readers: &[&Node], hints: bool) -> Self {
        let history = Arc::new(History::default());
        let done = Arc::new(AtomicBool::new(false));
        let reads = Arc::new(AtomicU64::new(0));
        let slowest = Arc::new(AtomicU64::new(0));
        let mut tasks = Vec::new();
        {
            let (writer, history, done) = (writer.clone(), Arc::clone(&history), Arc::clone(&done));
            tasks.push(tokio::spawn(async move {
                while !done.load(Ordering::SeqCst) {
                    let version = writer.change("hot").await.unwrap();
                    history.committed(version);
                    if hints {
                        writer.cache.wrote(&writer.key("hot"), version).await;
                    }
                    tokio::time::sleep(Duration::from_millis(7)).await;
                }
            }));
        }
        for reader in readers.iter().flat_map(|reader| [reader, reader]) {
            let (reader, history, done) = (Node::clone(reader), Arc::clone(&history), Arc::clone(&done));
            let (reads, slowest) = (Arc::clone(&reads), Arc::clone(&slowest));
            tasks.push(tokio::spawn(async move {
                let mut last = 0;
                while !done.load(Ordering::SeqCst) {
                    let begun = Instant::now();
                    let min_version = history.min_version(begun);
                    let hit = reader.get("hot").await.expect("every read is answered");
                    assert!(
                        hit.version >= min_version,
                        "{} but {min_version} is a second old, from {:?}",
                        hit.version,
                        hit.tier
                    );
                    assert!(hit.version >= last, "{} after {last}, from {:?}", hit.version, hit.tier);
                    last = hit.version;
                    reads.fetch_add(1, Ordering::SeqCst);
                    slowest.fetch_max(u64::try_from(begun.elapsed().as_millis()).unwrap(), Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }));
        }
        Self { history, done, reads, slowest, tasks }
    }

    /// Waits until some more reads were answered, over at least `time`.
    async fn goes_on(&self, time: Duration) {
        let (before, began) = (self.reads.load(Ordering::SeqCst), Instant::now());
        testkit::eventually("reads go on", LONG, async || {
            let failed = self.tasks.iter().any(tokio::task::JoinHandle::is_finished);
            let more = self.reads.load(Ordering::SeqCst) > before + 50 && began.elapsed() > time;
            (failed || more).then_some(())
        })
        .await
        .unwrap();
    }

    async fn end(self) -> Duration {
        self.done.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.unwrap();
        }
        assert!(self.history.0.lock().unwrap().len() > 50);
        Duration::from_millis(self.slowest.load(Ordering::SeqCst))
    }
}

async fn through(hints: bool, faults: impl AsyncFnOnce(&Cluster, &Load)) {
    let cluster = Cluster::new().await;
    let nodes = tokio::join!(cluster.ready_node(), cluster.ready_node());
    under_load(&nodes.into(), hints, async |load| faults(&cluster, load).await).await;
}

/// The same with Redis behind a proxy, and with a second node that has nothing but Redis to answer from.
async fn through_a_proxy(faults: impl AsyncFnOnce(&Cluster, &Load, &Proxy)) {
    let cluster = Cluster::new().await;
    let proxy = Proxy::before(cluster.redis.address().to_string()).await.unwrap();
    let url = Some(proxy.url(&cluster.redis.url()).unwrap());
    let settings = || Settings { redis_url: url.clone(), ..cluster.settings() };
    let one = cluster.node_with(settings(), true);
    let two = cluster.node_with(Settings { l1_bytes: 0, relay: false, ..settings() }, true);
    let nodes = tokio::join!(one, two);
    under_load(&nodes.into(), false, async |load| faults(&cluster, load, &proxy).await).await;
}

async fn under_load(nodes: &[Node; 2], hints: bool, faults: impl AsyncFnOnce(&Load)) {
    let [one, two] = nodes;
    for node in nodes {
        node.proven().await;
    }
    let load = Load::start(one, &[one, two], hints);
    load.goes_on(Duration::from_millis(300)).await;
    faults(&load).await;
    load.goes_on(Duration::from_millis(1500)).await;
    let slowest = load.end().await;
    assert!(slowest < BOUND, "a read took {slowest:?}");
    for node in nodes {
        node.proven().await;
    }
    one.from(Tier::L1, "hot").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_go_on_when_redis_stops_and_comes_back() {
    through(true, async |cluster, load| {
        cluster.redis.kill().await.unwrap();
        load.goes_on(Duration::from_millis(2500)).await;
        cluster.redis.start().await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_go_on_when_redis_hangs_and_resumes() {
    through(false, async |cluster, load| {
        cluster.redis.pause();
        load.goes_on(Duration::from_millis(2500)).await;
        cluster.redis.resume();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_go_on_when_nats_stops_and_comes_back() {
    through(false, async |cluster, load| {
        cluster.nats.kill().await.unwrap();
        load.goes_on(Duration::from_millis(2500)).await;
        cluster.nats.start().await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_go_on_when_nats_hangs_and_resumes() {
    through(false, async |cluster, load| {
        cluster.nats.pause();
        load.goes_on(Duration::from_millis(2500)).await;
        cluster.nats.resume();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_go_on_when_redis_and_nats_stop_and_come_back() {
    through(true, async |cluster, load| {
        cluster.redis.kill().await.unwrap();
        cluster.nats.kill().await.unwrap();
        load.goes_on(Duration::from_millis(2500)).await;
        cluster.nats.start().await.unwrap();
        load.goes_on(Duration::from_millis(500)).await;
        cluster.redis.start().await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_go_on_when_redis_is_flushed() {
    through(true, async |cluster, load| {
        let client = redis::Client::open(cluster.redis.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        for _ in 0..5 {
            redis::cmd("FLUSHALL").query_async::<()>(&mut connection).await.unwrap();
            load.goes_on(Duration::from_millis(200)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_go_on_when_redis_is_slow() {
    through_a_proxy(async |_, load, proxy| {
        // Within a reader's timeout of 50 ms, and beyond it.
        for latency in [10, 200] {
            proxy.latency(Duration::from_millis(latency));
            load.goes_on(Duration::from_millis(2500)).await;
        }
        proxy.heal();
    })
    .await;
}

async fn call(redis: &Redis, command: &[&str]) -> redis::Value {
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd(command[0]).arg(&command[1..]).query_async(&mut connection).await.unwrap()
}

/// Makes `copy` a replica of the cluster's Redis.
async fn replicate(cluster: &Cluster, copy: &Redis) {
    let (host, port) = (cluster.redis.address().ip().to_string(), cluster.redis.address().port().to_string());
    call(copy, &["replicaof", &host, &port]).await;
    testkit::eventually("a replica that is up to date", LONG, async || {
        let info = match call(copy, &["info", "replication"]).await {
            redis::Value::BulkString(info) => String::from_utf8(info).unwrap(),
            redis::Value::VerbatimString { text, .. } => text,
            other => panic!("{other:?}"),
        };
        info.contains("master_link_status:up").then_some(())
    })
    .await
    .unwrap();
}

/// Ends the replication: the copy stays what it is.
async fn detach(copy: &Redis) {
    call(copy, &["replicaof", "no", "one"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_go_on_when_redis_fails_over_to_an_older_replica_and_back() {
    through_a_proxy(async |cluster, load, proxy| {
        let copy = Redis::launch().await.unwrap();
        // It is behind by less than the bound, and by more.
        for behind in [400, 2500] {
            replicate(cluster, &copy).await;
            detach(&copy).await;
            load.goes_on(Duration::from_millis(behind)).await;
            proxy.lead_to(copy.address().to_string());
            load.goes_on(Duration::from_millis(1500)).await;
            // Back to the first, which has nothing of what came meanwhile.
            proxy.lead_to(cluster.redis.address().to_string());
            load.goes_on(Duration::from_millis(1500)).await;
        }
    })
    .await;
}

/// Some nodes read another Redis than the relay's. What they read has a proof and entries that belong together, but are old; and a
/// node that has just started knows nothing that contradicts them.
#[tokio::test(flavor = "multi_thread")]
async fn a_detached_replica_of_redis_is_not_believed() {
    let cluster = Cluster::new().await;
    let one = cluster.ready_node().await;
    let old = one.write("a").await.unwrap();
    one.write("b").await.unwrap();
    // Redis is filled by a node without an L1.
    let filler = cluster.node_with(Settings { l1_bytes: 0, relay: false, ..cluster.settings() }, true).await;
    for id in ["a", "b"] {
        filler.from(Tier::L2, id).await;
    }

    let copy = Redis::launch().await.unwrap();
    replicate(&cluster, &copy).await;
    let settings = Settings { redis_url: Some(copy.url()), relay: false, ..cluster.settings() };
    let readers = [(); 3].map(|()| cluster.node_without_nats(settings.clone()));
    for reader in &readers {
        // They serve what they read there.
        reader.from(Tier::L2, "b").await;
    }
    detach(&copy).await;
    let new = one.write("a").await.unwrap();
    assert!(new > old);
    tokio::time::sleep(BOUND).await;
    for reader in readers {
        let hit = reader.get("a").await.unwrap();
        assert_eq!(hit.version, new, "from {:?}", hit.tier);
    }
}
