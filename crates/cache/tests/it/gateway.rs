//! A process without a database: its proof is the relay's, its clock is another process's, its loads are calls.

use std::time::{Duration, Instant};

use cache::{Settings, Tier};

use crate::stand::Stand;

#[tokio::test(flavor = "multi_thread")]
async fn it_answers_from_l1_and_follows_changes() {
    let stand = Stand::new().await;
    let service = stand.ready().await;
    let gateway = stand.with(stand.settings(), false).await;
    service.change("a").await.unwrap();
    gateway.proven().await;
    gateway.from(Tier::L1, "a").await;
    let changed = service.change("a").await.unwrap();
    let committed = Instant::now();
    gateway.sees("a", changed).await;
    assert!(committed.elapsed() < Duration::from_secs(1));
    gateway.from(Tier::L1, "a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_anyone_to_ask_for_the_time_it_believes_nothing() {
    let stand = Stand::new().await;
    let gateway = stand.with(Settings { redis_url: None, ..stand.settings() }, false).await;
    for _ in 0..20 {
        assert_eq!(gateway.get("a").await.unwrap().tier, Tier::Loaded);
    }
    assert_eq!(gateway.cache.proof_age(), None);
}
