//! Wake-ups: heard at once here and over NATS, and by the poll when NATS is gone.

use std::time::{Duration, Instant};

use jobs::{Notifier, POLL_INTERVAL};
use testkit::Nats;

#[tokio::test]
async fn a_ring_before_the_wait_is_heard() {
    let notifier = Notifier::new("test", None);
    let mut listener = notifier.listen();
    notifier.notify().await;
    let begun = Instant::now();
    listener.notified().await;
    assert!(begun.elapsed() < POLL_INTERVAL / 2);
}

#[tokio::test(start_paused = true)]
async fn without_a_ring_the_poll_comes() {
    let notifier = Notifier::new("test", None);
    let mut listener = notifier.listen();
    let begun = tokio::time::Instant::now();
    listener.notified().await;
    assert_eq!(begun.elapsed().as_secs(), POLL_INTERVAL.as_secs());
}

#[tokio::test]
async fn another_process_is_heard_over_nats() {
    let nats = Nats::launch().await.unwrap();
    let ours = Notifier::new("test", Some(chassis::nats::connect(&nats.url()).await.unwrap()));
    let client = chassis::nats::connect(&nats.url()).await.unwrap();
    let theirs = Notifier::new("test", Some(client));
    let relay = tokio::spawn(ours.clone().relay());
    let mut listener = ours.listen();
    // The first rings may come before the subscription; one of them is heard well before the poll.
    let mut heard = false;
    for _ in 0..100 {
        theirs.notify().await;
        if tokio::time::timeout(Duration::from_millis(50), listener.notified()).await.is_ok() {
            heard = true;
            break;
        }
    }
    relay.abort();
    assert!(heard, "no ring came over NATS within five seconds");
}

#[tokio::test]
async fn a_ring_without_nats_waits_for_nothing() {
    let client = chassis::nats::connect("nats://127.0.0.1:1").await.unwrap();
    let notifier = Notifier::new("test", Some(client));
    let begun = Instant::now();
    for _ in 0..1000 {
        notifier.notify().await;
    }
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}
