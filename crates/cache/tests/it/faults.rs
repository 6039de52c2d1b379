//! With Redis or NATS or both gone, hanging, and back again: every read is answered, none is older than the bound, none
//! goes back.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cache::{Settings, Tier};
use testkit::{Proxy, Redis};

use crate::stand::{LONG, Process, Stand};

const BOUND: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn without_postgresql_what_is_old_is_refused() {
    let stand = Stand::new().await;
    let process = stand.ready().await;
    process.change("a").await.unwrap();
    process.from(Tier::L1, "a").await;
    stand.postgres.kill().await.unwrap();
    let killed = Instant::now();
    let refused = testkit::eventually("a read that is refused", LONG, async || match process.get("a").await {
        Ok(hit) => {
            assert!(matches!(hit.tier, Tier::L1 | Tier::L2), "{hit:?}");
            None
        }
        Err(_) => Some(Instant::now()),
    })
    .await
    .unwrap();
    assert!(refused - killed < BOUND + Duration::from_millis(500), "served for {:?} without a truth", refused - killed);
    stand.postgres.start().await.unwrap();
    process.from(Tier::L1, "a").await;
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
    fn least(&self, begun: Instant) -> i64 {
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
    /// `writer` is a process that tells its cache, or one that leaves all to the relay.
    fn start(writer: &Process, readers: &[&Process], tells: bool) -> Self {
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
                    if tells {
                        writer.cache.wrote(&writer.key("hot"), version).await;
                    }
                    tokio::time::sleep(Duration::from_millis(7)).await;
                }
            }));
        }
        for reader in readers.iter().flat_map(|reader| [reader, reader]) {
            let (reader, history, done) = (Process::clone(reader), Arc::clone(&history), Arc::clone(&done));
            let (reads, slowest) = (Arc::clone(&reads), Arc::clone(&slowest));
            tasks.push(tokio::spawn(async move {
                let mut shown = 0;
                while !done.load(Ordering::SeqCst) {
                    let begun = Instant::now();
                    let least = history.least(begun);
                    let hit = reader.get("hot").await.expect("every read is answered");
                    assert!(hit.version >= least, "{} but {least} is a second old, from {:?}", hit.version, hit.tier);
                    assert!(hit.version >= shown, "{} after {shown}, from {:?}", hit.version, hit.tier);
                    shown = hit.version;
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

async fn through(tells: bool, faults: impl AsyncFnOnce(&Stand, &Load)) {
    let stand = Stand::new().await;
    let processes = tokio::join!(stand.ready(), stand.ready());
    under_load(&processes.into(), tells, async |load| faults(&stand, load).await).await;
}

/// The same with Redis behind a proxy, and with a second process that has nothing but Redis to answer from.
async fn through_a_proxy(faults: impl AsyncFnOnce(&Stand, &Load, &Proxy)) {
    let stand = Stand::new().await;
    let proxy = Proxy::before(stand.redis.address().to_string()).await.unwrap();
    let url = Some(proxy.url(&stand.redis.url()).unwrap());
    let settings = || Settings { redis_url: url.clone(), ..stand.settings() };
    let one = stand.with(settings(), true);
    let two = stand.with(Settings { l1_bytes: 0, relay: false, ..settings() }, true);
    let processes = tokio::join!(one, two);
    under_load(&processes.into(), false, async |load| faults(&stand, load, &proxy).await).await;
}

async fn under_load(processes: &[Process; 2], tells: bool, faults: impl AsyncFnOnce(&Load)) {
    let [one, two] = processes;
    for process in processes {
        process.proven().await;
    }
    let load = Load::start(one, &[one, two], tells);
    load.goes_on(Duration::from_millis(300)).await;
    faults(&load).await;
    load.goes_on(Duration::from_millis(1500)).await;
    let slowest = load.end().await;
    assert!(slowest < BOUND, "a read took {slowest:?}");
    for process in processes {
        process.proven().await;
    }
    one.from(Tier::L1, "hot").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_stops_and_comes_back() {
    through(true, async |stand, load| {
        stand.redis.kill().await.unwrap();
        load.goes_on(Duration::from_millis(2500)).await;
        stand.redis.start().await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_hangs_and_goes_on() {
    through(false, async |stand, load| {
        stand.redis.pause();
        load.goes_on(Duration::from_millis(2500)).await;
        stand.redis.resume();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_stops_and_comes_back() {
    through(false, async |stand, load| {
        stand.nats.kill().await.unwrap();
        load.goes_on(Duration::from_millis(2500)).await;
        stand.nats.start().await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_falls_silent_and_goes_on() {
    through(false, async |stand, load| {
        stand.nats.pause();
        load.goes_on(Duration::from_millis(2500)).await;
        stand.nats.resume();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_stop_and_come_back() {
    through(true, async |stand, load| {
        stand.redis.kill().await.unwrap();
        stand.nats.kill().await.unwrap();
        load.goes_on(Duration::from_millis(2500)).await;
        stand.nats.start().await.unwrap();
        load.goes_on(Duration::from_millis(500)).await;
        stand.redis.start().await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_flushed() {
    through(true, async |stand, load| {
        let client = redis::Client::open(stand.redis.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        for _ in 0..5 {
            redis::cmd("FLUSHALL").query_async::<()>(&mut connection).await.unwrap();
            load.goes_on(Duration::from_millis(200)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_slow() {
    through_a_proxy(async |_, load, proxy| {
        // Within a reader's patience of 50 ms, and past it.
        for latency in [10, 200] {
            proxy.latency(Duration::from_millis(latency));
            load.goes_on(Duration::from_millis(2500)).await;
        }
        proxy.heal();
    })
    .await;
}

async fn tell(redis: &Redis, command: &[&str]) -> redis::Value {
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd(command[0]).arg(&command[1..]).query_async(&mut connection).await.unwrap()
}

/// Makes `copy` a copy of the stand's Redis, which follows it.
async fn follow(stand: &Stand, copy: &Redis) {
    let (host, port) = (stand.redis.address().ip().to_string(), stand.redis.address().port().to_string());
    tell(copy, &["replicaof", &host, &port]).await;
    testkit::eventually("a copy", LONG, async || {
        let info = match tell(copy, &["info", "replication"]).await {
            redis::Value::BulkString(info) => String::from_utf8(info).unwrap(),
            redis::Value::VerbatimString { text, .. } => text,
            other => panic!("{other:?}"),
        };
        info.contains("master_link_status:up").then_some(())
    })
    .await
    .unwrap();
}

/// From now on a copy is what it was.
async fn cut_off(copy: &Redis) {
    tell(copy, &["replicaof", "no", "one"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_fails_over_to_an_older_copy_and_back() {
    through_a_proxy(async |stand, load, proxy| {
        let copy = Redis::launch().await.unwrap();
        // It falls behind, for less than the bound and for more.
        for behind in [400, 2500] {
            follow(stand, &copy).await;
            cut_off(&copy).await;
            load.goes_on(Duration::from_millis(behind)).await;
            proxy.lead_to(copy.address().to_string());
            load.goes_on(Duration::from_millis(1500)).await;
            // Back to the first, which knows nothing of what came meanwhile.
            proxy.lead_to(stand.redis.address().to_string());
            load.goes_on(Duration::from_millis(1500)).await;
        }
    })
    .await;
}

/// Some processes see another Redis than the relay does. What they see has a proof and entries that belong together, but they are
/// old; and a process that has just begun knows nothing that would speak against them.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_redis_that_was_left_behind_is_not_believed() {
    let stand = Stand::new().await;
    let one = stand.ready().await;
    let old = one.write("a").await.unwrap();
    one.write("b").await.unwrap();
    // Into Redis, by who has no memory of its own.
    let filler = stand.with(Settings { l1_bytes: 0, relay: false, ..stand.settings() }, true).await;
    for id in ["a", "b"] {
        filler.from(Tier::L2, id).await;
    }

    let copy = Redis::launch().await.unwrap();
    follow(&stand, &copy).await;
    let settings = Settings { redis_url: Some(copy.url()), relay: false, ..stand.settings() };
    let readers = [(); 3].map(|()| stand.deaf(settings.clone()));
    for reader in &readers {
        // They believe what they see there.
        reader.from(Tier::L2, "b").await;
    }
    cut_off(&copy).await;
    let new = one.write("a").await.unwrap();
    assert!(new > old);
    tokio::time::sleep(BOUND).await;
    for reader in readers {
        let seen = reader.get("a").await.unwrap();
        assert_eq!(seen.version, new, "from {:?}", seen.tier);
    }
}
