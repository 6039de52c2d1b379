//! What is asked of PostgreSQL: a cold read costs one round trip, a warm one none, however many generations it asks for; and
//! what cannot run yet costs few claims, however much is queued.

use std::time::{Duration, Instant};

use proto::generations::v1::{BatchGetGenerationsRequest, Generation, GetGenerationRequest};
use testkit::{Database, Nats, Redis, RoundTrips, Service, eventually};

use crate::cluster::{Cluster, Node, User};
use crate::watches::{Watch, all, named};
use crate::worker::Worker;

/// A process whose round trips are counted, beside those of a cluster that lead the relay and write.
struct Counted {
    node: Node,
    counter: RoundTrips,
    cluster: Cluster,
    _relay: Node,
    _servers: (Nats, Redis),
}

impl Counted {
    async fn start() -> Self {
        let (nats, redis) = (Nats::launch().await.unwrap(), Redis::launch().await.unwrap());
        let database = Database::fresh().await.unwrap();
        let counter = RoundTrips::before(&database.url_of(Service::GenerationStatus)).await.unwrap();
        let cluster = Cluster::on(database, |config| {
            config.nats_url = Some(nats.url());
            config.cache.redis_url = Some(redis.url());
            // What is counted is this process's reads; another one leads the relay.
            config.cache.relay = false;
        })
        .await;
        let mut config = cluster.config.clone();
        config.database.url = counter.url();
        // One connection, so that what it has prepared stays prepared.
        config.database.read.max = 1;
        let node = Node::start(&config).await;
        config.database.url = cluster.config.database.url.clone();
        config.cache.relay = true;
        let _relay = Node::start(&config).await;
        Self { node, counter, cluster, _relay, _servers: (nats, redis) }
    }

    async fn get(&self, user: &User, name: &str) -> Generation {
        let request = user.asks(GetGenerationRequest { name: name.to_owned(), min_version: 0 });
        self.node.generations.clone().get_generation(request).await.unwrap().into_inner()
    }

    async fn batch(&self, user: &User, names: &[String]) -> Vec<Generation> {
        let request = user.asks(BatchGetGenerationsRequest { names: names.to_vec() });
        self.node.generations.clone().batch_get_generations(request).await.unwrap().into_inner().generations
    }

    /// The round trips since the last call that read generations.
    fn reads(&self) -> Vec<String> {
        self.counter.take().into_iter().filter(|sql| sql.contains("generations g")).collect()
    }

    /// Waits until the proof stands, and the statement is prepared on its connection.
    async fn warm_up(&self, user: &User) {
        let first = self.cluster.started(user).await.name;
        eventually("a status is served warm", Duration::from_secs(10), async || {
            let _ = self.reads();
            self.get(user, &first).await;
            self.get(user, &first).await;
            self.reads().is_empty().then_some(())
        })
        .await
        .unwrap();
    }
}

#[tokio::test]
async fn a_status_costs_one_cold_and_none_warm() {
    let counted = Counted::start().await;
    let user = counted.cluster.user(8).await;
    counted.warm_up(&user).await;
    for _ in 0..5 {
        let name = counted.cluster.started(&user).await.name;
        let _ = counted.reads();
        let cold = counted.get(&user, &name).await;
        let reads = counted.reads();
        assert_eq!(reads.len(), 1, "cold: {reads:#?}");
        for _ in 0..20 {
            assert_eq!(counted.get(&user, &name).await, cold);
        }
        assert_eq!(counted.reads(), Vec::<String>::new(), "warm");
    }
}

#[tokio::test]
async fn a_batch_costs_one_for_all_that_is_cold() {
    let counted = Counted::start().await;
    let user = counted.cluster.user(8).await;
    counted.warm_up(&user).await;
    let (mut names, mut expected) = (Vec::new(), Vec::new());
    for more in [4, 1, 2] {
        // What the batch before asked for is warm by now, what is new is cold, and one is asked for again.
        for _ in 0..more {
            let generation = counted.cluster.started(&user).await;
            names.push(generation.name.clone());
            expected.push(generation);
        }
        names.push(names[0].clone());
        expected.push(expected[0].clone());
        let _ = counted.reads();
        assert_eq!(counted.batch(&user, &names).await, expected);
        let reads = counted.reads();
        assert_eq!(reads.len(), 1, "{more} cold: {reads:#?}");
        for _ in 0..20 {
            assert_eq!(counted.batch(&user, &names).await, expected);
        }
        assert_eq!(counted.reads(), Vec::<String>::new(), "warm");
    }
}

#[tokio::test]
async fn two_hundred_watchers_cost_one_read_for_each_change() {
    let counted = Counted::start().await;
    let user = counted.cluster.user(8).await;
    counted.warm_up(&user).await;
    let name = counted.cluster.started(&user).await.name;
    let mut watches = Vec::new();
    for turn in 0..200 {
        let request = if turn % 2 == 0 { all() } else { named(&[&name]) };
        let mut watch = Watch::of(&counted.node, &user, request).await.unwrap();
        watch.snapshot().await;
        watches.push(watch);
    }
    // A machine that starves the process for a second leaves it without a proof, and each watch then reads anew: three of nine changes
    // that cost what a change costs are enough.
    let mut reads = Vec::new();
    for percent in (10..100).step_by(10) {
        let _ = counted.reads();
        counted.cluster.set_progress(percent).await;
        for watch in &mut watches {
            // A watch of the account gets other generations, too.
            while watch.update().await.name != name {}
        }
        reads.push(counted.reads().len());
        // What was changed together may be heard of in two parts.
        if reads.iter().filter(|reads| (1..=3).contains(*reads)).count() == 3 {
            return;
        }
    }
    panic!("reads of each change: {reads:?}");
}

/// All of an account's browsers come back at once, say after a deployment.
#[tokio::test]
async fn a_hundred_watches_that_open_at_once_share_their_first_reads() {
    let counted = Counted::start().await;
    let user = counted.cluster.user(8).await;
    counted.warm_up(&user).await;
    let _ = counted.reads();
    // The first that reads waits for this transaction, and the others for the first.
    let mut slow = counted.cluster.pool.begin().await.unwrap();
    sqlx::query("lock table generations in access exclusive mode").execute(&mut *slow).await.unwrap();
    let open = || {
        let generations = counted.node.generations.clone();
        tokio::spawn(async move { Watch::by(&generations, &user, all()).await.unwrap().snapshot().await.len() })
    };
    let watches: Vec<_> = (0..100).map(|_| open()).collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    slow.rollback().await.unwrap();
    for watch in watches {
        assert_eq!(watch.await.unwrap(), 1);
    }
    let reads = counted.reads();
    // Two for the first and two for all others; a machine that starves the process has some of them come later.
    assert!(reads.len() <= 20, "{} reads: {reads:#?}", reads.len());
}

/// Each start notifies the workers, and all of it is of an account that may run nothing.
#[tokio::test]
async fn starts_of_a_full_account_cost_few_claims() {
    const STARTS: i64 = 60;
    let database = Database::fresh().await.unwrap();
    let counter = RoundTrips::before(&database.url_of(Service::GenerationStatus)).await.unwrap();
    let cluster = Cluster::on(database, |config| {
        config.database.url = counter.url();
        config.generations.account_running = 0;
    })
    .await;
    let user = cluster.user(STARTS).await;
    let _worker = Worker::new(&cluster, 1).await;
    let claims = || counter.take().into_iter().filter(|sql| sql.contains("'claims of '")).count();
    eventually("the worker claims", Duration::from_secs(10), async || (claims() > 0).then_some(())).await.unwrap();
    let begun = Instant::now();
    for _ in 0..STARTS {
        cluster.started(&user).await;
    }
    // The pauses between them grow to 100 ms: so many in any time, and the few before.
    let max = 6 + begun.elapsed().as_millis() / 100;
    let claims = claims();
    assert!(claims > 0 && claims as u128 <= max, "{claims} claims in {:?}", begun.elapsed());
}
