//! Whoever writes sees what it wrote: at once in its own process, and with its version anywhere.

use cache::Tier;

use crate::stand::Stand;

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_reads_its_row_at_once() {
    let stand = Stand::new().await;
    let process = stand.ready().await;
    for _ in 0..100 {
        let wrote = process.write("a").await.unwrap();
        let hit = process.get("a").await.unwrap();
        assert!(hit.version >= wrote, "wrote {wrote}, read {} from {:?}", hit.version, hit.tier);
        process.get("a").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_reads_its_aggregate_at_once() {
    let stand = Stand::new().await;
    let process = stand.ready().await;
    for round in 1..=100 {
        process.write("a").await.unwrap();
        let hit = process.get_all().await.unwrap();
        assert_eq!(hit.body, round.to_string(), "read from {:?}", hit.tier);
        process.get_all().await.unwrap();
    }
    assert!(process.loads() < 150, "{} loads: one for each write, not for each read", process.loads());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_given_the_version_shows_it() {
    let stand = Stand::new().await;
    let (writer, reader) = tokio::join!(stand.ready(), stand.ready());
    for _ in 0..50 {
        reader.get("a").await.unwrap();
        // Without a word to anyone: neither Redis nor the other process can know of it yet.
        let wrote = writer.change("a").await.unwrap();
        assert!(reader.get_at_least("a", Some(wrote)).await.unwrap().version >= wrote);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_shown_once_is_not_taken_back() {
    let stand = Stand::new().await;
    let process = stand.ready().await;
    let mut shown = 0;
    for round in 0..300 {
        if round % 3 == 0 {
            process.change("a").await.unwrap();
        }
        // Redis and L1 are behind now; the load that a floor forces is ahead of both.
        let least = (round % 5 == 0).then_some(shown + 1);
        let hit = process.get_at_least("a", least).await.unwrap();
        assert!(hit.version >= shown, "{} after {shown}, from {:?}", hit.version, hit.tier);
        shown = hit.version;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_version_of_an_aggregate_is_exact() {
    let stand = Stand::new().await;
    let process = stand.ready().await;
    for _ in 0..20 {
        process.change("a").await.unwrap();
        let version = process.cache.version(&process.all()).await.unwrap().unwrap();
        let loaded = process.load_all().await.unwrap();
        assert_eq!((loaded.version, loaded.body.as_ref()), (version, version.to_string().as_bytes()));
    }
    assert_eq!(process.get_all().await.unwrap().tier, Tier::Loaded);
}
