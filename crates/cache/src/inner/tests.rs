//! One process without servers: it is given messages in any order, and its answers are compared.

use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::{Cache, Hit, Key, Loaded};
use coherence::asof::Asof;
use coherence::lifetime::Lifetime;
use coherence::read::Tier;

struct Node {
    cache: Cache,
    key: Key,
}

impl Node {
    /// A process whose clock agrees with PostgreSQL's, and whose window begins at number 1 of epoch 1.
    async fn new() -> Self {
        let cache = Cache::start(Settings::default(), None, None).unwrap();
        let node = Self { cache, key: Key::global("thing", "a") };
        let now = node.inner().now();
        node.inner().sampled(Sample { asked: now, answered: now, lower: node.pg(), upper: node.pg() });
        node.receive(1, &[]).await;
        node
    }

    fn inner(&self) -> &Inner {
        &self.cache.inner
    }

    /// PostgreSQL's clock now.
    fn pg(&self) -> PgTime {
        PgTime(self.inner().now().0 / 1000)
    }

    /// A relay message with these versions of the one key; without any it is a heartbeat.
    async fn receive(&self, seq: i64, versions: &[i64]) {
        self.receive_from(1, seq, self.pg(), versions).await;
    }

    async fn receive_from(&self, epoch: i64, seq: i64, at: PgTime, versions: &[i64]) {
        let changes: Vec<(Arc<str>, i64)> = versions.iter().map(|v| (Arc::clone(self.key.text()), *v)).collect();
        let data = !changes.is_empty();
        self.inner().receive(&Notice { epoch, seq, at, data }, &changes).await;
    }

    /// Reads, with a truth of `version`, read when everything up to `seq` was compacted.
    async fn get(&self, version: i64, seq: i64) -> Hit {
        self.get_for(version, seq, Lifetime::TERMINAL).await
    }

    async fn get_for(&self, version: i64, seq: i64, lifetime: Lifetime) -> Hit {
        let body = Bytes::from(version.to_string());
        let asof = Asof { epoch: 1, seq };
        let loaded = Loaded { version, asof, body, lifetime };
        self.cache.get(&self.key, None, move || async move { Ok::<_, ()>(loaded) }).await.unwrap()
    }

    async fn tier(&self, version: i64, seq: i64) -> Tier {
        self.get(version, seq).await.tier
    }
}

#[tokio::test]
async fn a_proven_entry_is_served_until_its_change_is_received() {
    let node = Node::new().await;
    assert_eq!(node.tier(5, 1).await, Tier::Loaded);
    assert_eq!(node.tier(5, 1).await, Tier::L1);
    node.receive(2, &[5]).await;
    assert_eq!(node.tier(5, 2).await, Tier::L1, "the change that it includes");
    node.receive(3, &[6]).await;
    assert_eq!(node.get(6, 3).await.version, 6);
}

#[tokio::test]
async fn what_nobody_changes_is_kept_again_after_its_end() {
    let life = Duration::from_millis(200);
    // What does not exist has the version 0.
    for version in [5, 0] {
        let node = Node::new().await;
        let get = async || node.get_for(version, 1, Lifetime { l1: life, l2: life }).await.tier;
        for _ in 0..2 {
            assert_eq!(get().await, Tier::Loaded);
            assert_eq!(get().await, Tier::L1);
            tokio::time::sleep(life).await;
        }
    }
}

#[tokio::test]
async fn events_in_reverse_order_leave_the_newest() {
    let node = Node::new().await;
    node.get(5, 1).await;
    node.receive(3, &[7]).await;
    node.receive(2, &[6]).await;
    assert_eq!(node.tier(7, 3).await, Tier::Loaded, "5 was dropped with the first");
    assert_eq!(node.tier(7, 3).await, Tier::L1);
    node.receive(2, &[6]).await;
    let hit = node.get(0, 3).await;
    assert_eq!((hit.version, hit.tier), (7, Tier::L1), "an older event drops nothing");
}

#[tokio::test]
async fn a_value_from_before_an_event_is_not_kept_after_it() {
    let node = Node::new().await;
    node.receive(2, &[6]).await;
    assert_eq!(node.tier(5, 1).await, Tier::Loaded);
    assert_eq!(node.tier(6, 2).await, Tier::Loaded, "5 was not put in");
    assert_eq!(node.tier(6, 2).await, Tier::L1);
}

#[tokio::test]
async fn a_lost_message_makes_all_that_came_before_unproven() {
    let node = Node::new().await;
    node.get(5, 1).await;
    node.receive(3, &[]).await;
    assert_eq!(node.tier(5, 3).await, Tier::Loaded);
    assert_eq!(node.tier(5, 3).await, Tier::L1);
}

#[tokio::test]
async fn a_broken_connection_makes_all_that_came_before_unproven() {
    let node = Node::new().await;
    node.get(5, 1).await;
    node.inner().close(Cause::Disconnect);
    assert_eq!(node.tier(5, 1).await, Tier::Loaded);
    node.receive(1, &[]).await;
    assert_eq!(node.tier(5, 1).await, Tier::L1, "nothing was lost after all");
}

#[tokio::test]
async fn a_stepped_clock_makes_everything_unproven() {
    let node = Node::new().await;
    node.get(5, 1).await;
    node.receive_from(1, 1, node.pg() + Duration::from_secs(60), &[]).await;
    assert_eq!(node.tier(5, 1).await, Tier::Loaded, "a proof from the future");
    assert_eq!(node.cache.proof_age(), None);
}

#[tokio::test]
async fn an_own_write_of_unknown_version_is_seen_by_the_next_read() {
    let node = Node::new().await;
    let before = node.pg();
    node.get(5, 1).await;
    node.cache.touched(&node.key).await;
    node.receive_from(1, 1, before, &[]).await;
    let hit = node.get(6, 1).await;
    assert_eq!((hit.version, hit.tier), (6, Tier::Loaded));
    assert_eq!(node.tier(6, 1).await, Tier::L1, "one load pays for the write");
}

#[tokio::test]
async fn a_caller_that_knows_of_a_newer_version_does_not_get_the_old_one() {
    let node = Node::new().await;
    node.get(5, 1).await;
    let asof = Asof { epoch: 1, seq: 1 };
    let loaded = Loaded { version: 6, asof, body: "6".into(), lifetime: Lifetime::TERMINAL };
    let hit = node.cache.get(&node.key, Some(6), move || async move { Ok::<_, ()>(loaded) }).await.unwrap();
    assert_eq!(hit.version, 6);
    assert_eq!(node.get(0, 1).await.version, 6, "what one reader got, all get");
}
