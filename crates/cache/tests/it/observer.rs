//! The observer on real servers: it counts what is right, and finds what a test made wrong without the cache.
//!
//! It checks every hit and every change here, and the content of what it checks is a thing's note.

use std::time::Duration;

use cache::{Asof, Cache, Hit, Lifetime, Loaded, Observed, Settings, Signal, Tier};
use chassis::postgres::Error;
use redis::AsyncCommands as _;
use testkit::eventually;

use crate::cluster::{Cluster, LONG, Node};

async fn observed(cluster: &Cluster) -> Node {
    let probe_after = [1, 2, 4].map(Duration::from_secs);
    let node = cluster.node_with(Settings { observe: 1.0, probe_after, ..cluster.settings() }, true).await;
    node.proven().await;
    node
}

/// Reads a thing's note.
async fn note(node: &Node, id: &str) -> Hit {
    let (data, account, of) = (node.data.clone(), node.account, id.to_owned());
    let load = move || async move {
        let (epoch, seq, version, note): (i64, i64, i64, Option<String>) = data
            .run("load_note", async |connection| {
                sqlx::query_as(
                    "select c.epoch, c.seq, coalesce(t.version, 0), t.note from cache_clock c
                     left join thing t on t.account = $1 and t.id = $2 where c.part = 0",
                )
                .bind(account)
                .bind(of)
                .fetch_one(connection)
                .await
            })
            .await?;
        let (asof, body) = (Asof { epoch, seq }, note.unwrap_or_default().into());
        let lifetime = if version == 0 { Lifetime::ABSENT } else { Lifetime::TERMINAL };
        Ok::<_, Error>(Loaded { version, asof, body, lifetime })
    };
    node.cache.get(&node.key(id), None, load).await.unwrap()
}

async fn note_from(node: &Node, tier: Tier, id: &str) -> Hit {
    let read = async || Some(note(node, id).await).filter(|hit| hit.tier == tier);
    eventually(&format!("{id} from {tier:?}"), LONG, read).await.unwrap()
}

/// Changes things without writing the outbox.
async fn change_without_outbox(node: &Node, change: &'static str) {
    let mut connection = node.data.connect().await.unwrap();
    let mut changing = sqlx::Connection::begin(&mut connection).await.unwrap();
    for statement in ["alter table thing disable trigger all", change, "alter table thing enable trigger all"] {
        sqlx::query(statement).execute(&mut *changing).await.unwrap();
    }
    changing.commit().await.unwrap();
}

/// Overwrites the only entry that Redis has; returns whether it had one with a value.
async fn forge(cluster: &Cluster, fields: &[(&str, &str)]) -> bool {
    let client = redis::Client::open(cluster.redis.url()).unwrap();
    let mut redis = client.get_multiplexed_async_connection().await.unwrap();
    let entries: Vec<String> = redis.keys("rushes:c:*").await.unwrap();
    let [entry] = &entries[..] else { return false };
    if !redis.hexists::<_, _, bool>(entry, "d").await.unwrap() {
        return false;
    }
    redis.hset_multiple::<_, _, _, ()>(entry, fields).await.unwrap();
    true
}

/// Waits until the observer has found something.
async fn finds(cache: &Cache, what: &str, found: impl Fn(&Observed) -> bool) -> Observed {
    eventually(what, LONG, async || Some(cache.observed()).filter(|observed| found(observed))).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn right_answers_are_counted_as_samples_and_not_as_violations() {
    let cluster = Cluster::new().await;
    let (one, two) = tokio::join!(observed(&cluster), observed(&cluster));
    for round in 0..40 {
        let id = format!("t{}", round % 4);
        let changed = if round % 2 == 0 { one.write(&id).await } else { two.change(&id).await };
        changed.unwrap();
        for node in [&one, &two] {
            node.get(&id).await.unwrap();
            node.from(Tier::L1, &id).await;
            node.get_all().await.unwrap();
        }
    }
    one.delete("t0").await.unwrap();
    one.sees("t0", 0).await;
    let mut samples = 0;
    for node in [&one, &two] {
        let found = finds(&node.cache, "samples", |observed| observed.shadow_reads.samples > 20).await;
        assert_eq!((found.shadow_reads.violations(), found.replica_probes.violations(), found.last), (0, 0, None));
        assert!((found.shadow_reads.likely_share() * found.shadow_reads.samples as f64 - 3.0).abs() < 0.1);
        samples += found.shadow_reads.samples;
    }
    assert!(samples > 40);
    let probed = async || {
        let of = |node: &Node| node.cache.observed().replica_probes;
        [of(&one), of(&two)].into_iter().find(|probes| probes.samples > 20)
    };
    let probes = eventually("answers to the leader's probes", LONG, probed).await.unwrap();
    assert_eq!(probes.violations(), 0);
}

/// Nothing else changes, so that what all have is exactly what was relayed.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_all_have_applied_is_no_violation() {
    let cluster = Cluster::new().await;
    let (one, two) = tokio::join!(observed(&cluster), observed(&cluster));
    one.change("a").await.unwrap();
    for node in [&one, &two] {
        note_from(node, Tier::L1, "a").await;
    }
    let probed = async || {
        let of = |node: &Node| node.cache.observed().replica_probes;
        [of(&one), of(&two)].into_iter().find(|probes| probes.samples >= 4)
    };
    let probes = eventually("answers to the leader's probes", LONG, probed).await.unwrap();
    assert_eq!(probes.violations(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_observer_that_is_off_checks_nothing() {
    let cluster = Cluster::new().await;
    let node = cluster.ready_node().await;
    node.change("a").await.unwrap();
    for _ in 0..50 {
        node.from(Tier::L1, "a").await;
    }
    assert_eq!(node.cache.observed(), Observed::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn other_content_for_an_equal_version_is_a_violation() {
    let cluster = Cluster::new().await;
    let node = observed(&cluster).await;
    node.change("a").await.unwrap();
    note_from(&node, Tier::L1, "a").await;
    change_without_outbox(&node, "update thing set note = 'another'").await;
    assert_eq!(note_from(&node, Tier::L1, "a").await.body, "");
    let found = finds(&node.cache, "other content", |observed| observed.shadow_reads.content > 0).await;
    assert_eq!((found.shadow_reads.bound, found.shadow_reads.ahead), (0, 0));
    let line = found.last.unwrap();
    assert!(line.contains("content") && line.contains("loaded 1, as of"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_served_a_second_after_a_newer_truth_was_read_is_a_violation() {
    let cluster = Cluster::new().await;
    let node = observed(&cluster).await;
    node.change("a").await.unwrap();
    note_from(&node, Tier::L1, "a").await;
    change_without_outbox(&node, "update thing set version = version + 1").await;
    assert_eq!(note_from(&node, Tier::L1, "a").await.version, 1);
    let found = finds(&node.cache, "an old answer", |observed| observed.shadow_reads.bound > 0).await;
    assert_eq!((found.shadow_reads.content, found.shadow_reads.ahead), (0, 0));
    assert!(found.last.unwrap().contains("answered 1, the truth is 2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_does_not_exist_is_a_violation() {
    let cluster = Cluster::new().await;
    let (one, two) = tokio::join!(observed(&cluster), observed(&cluster));
    let forged = eventually("a forged value read from Redis", LONG, async || {
        one.change("a").await.ok()?;
        note_from(&one, Tier::L1, "a").await;
        forge(&cluster, &[("v", "1000"), ("d", "forged")]).await.then_some(())?;
        Some(note(&two, "a").await).filter(|hit| hit.version == 1000)
    });
    assert_eq!(forged.await.unwrap().tier, Tier::L2);
    finds(&two.cache, "a version ahead", |observed| observed.shadow_reads.ahead > 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_differ_are_a_violation() {
    let cluster = Cluster::new().await;
    let (one, two) = tokio::join!(observed(&cluster), observed(&cluster));
    let forged = eventually("a forged value read from Redis", LONG, async || {
        one.change("a").await.ok()?;
        note_from(&one, Tier::L1, "a").await;
        forge(&cluster, &[("d", "forged")]).await.then_some(())?;
        Some(note(&two, "a").await).filter(|hit| hit.body == "forged")
    });
    forged.await.unwrap();
    let found = async || {
        let of = |node: &Node| node.cache.observed();
        [of(&one), of(&two)].into_iter().find(|observed| observed.replica_probes.content > 0)
    };
    let found = eventually("replicas that differ", LONG, found).await.unwrap();
    assert_eq!(found.replica_probes.bound, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_would_serve_what_is_old_is_a_violation() {
    let cluster = Cluster::new().await;
    let node = observed(&cluster).await;
    node.change("a").await.unwrap();
    let mut changes = node.cache.changes();
    let changed = node.change("a").await.unwrap();
    // Redis has applied the change when this node receives it: what is loaded from now on gets in and stays.
    let relayed = async {
        while !matches!(changes.next().await.unwrap(), Signal::Changed(change) if change.version == changed) {}
    };
    tokio::time::timeout(LONG, relayed).await.unwrap();
    note_from(&node, Tier::L1, "a").await;
    let old = [("v", "1"), ("d", "old")];
    eventually("a filled Redis", LONG, async || forge(&cluster, &old).await.then_some(())).await.unwrap();
    let found = finds(&node.cache, "what Redis would serve", |observed| observed.replica_probes.bound > 0).await;
    assert!(found.last.unwrap().contains("redis answered 1, the truth is 2"));
}
