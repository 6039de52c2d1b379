//! Notifications: at once within the process and over NATS; without NATS, listeners wake by themselves.

use std::time::{Duration, Instant};

use jobs::{Notifier, POLL_INTERVAL};
use testkit::Nats;

#[tokio::test(start_paused = true)]
async fn a_notification_before_the_wait_is_not_missed() {
    let notifier = Notifier::new("test", None);
    let mut listener = notifier.listen();
    notifier.notify().await;
    let begun = tokio::time::Instant::now();
    assert!(listener.notified().await);
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_listener_wakes_without_a_notification() {
    let notifier = Notifier::new("test", None);
    let mut listener = notifier.listen();
    let begun = tokio::time::Instant::now();
    assert!(!listener.notified().await, "nobody notified");
    assert_eq!(begun.elapsed().as_secs(), POLL_INTERVAL.as_secs());
    drop(notifier);
    assert!(!listener.notified().await, "nobody is left who could");
    assert_eq!(begun.elapsed().as_secs(), 2 * POLL_INTERVAL.as_secs());
}

#[tokio::test]
async fn a_notification_reaches_other_processes_over_nats() {
    let nats = Nats::launch().await.unwrap();
    let ours = Notifier::new("test", Some(chassis::nats::connect(&nats.url()).await.unwrap()));
    let client = chassis::nats::connect(&nats.url()).await.unwrap();
    let theirs = Notifier::new("test", Some(client));
    let relay = tokio::spawn(ours.clone().relay());
    let mut listener = ours.listen();
    // The first may be sent before the subscription; a later one arrives well before the listener would wake by itself.
    let mut notified = false;
    for _ in 0..100 {
        theirs.notify().await;
        if tokio::time::timeout(Duration::from_millis(50), listener.notified()).await.is_ok() {
            notified = true;
            break;
        }
    }
    relay.abort();
    assert!(notified, "no notification came over NATS within five seconds");
}

#[tokio::test]
async fn a_notification_without_nats_waits_for_nothing() {
    let client = chassis::nats::connect("nats://127.0.0.1:1").await.unwrap();
    let notifier = Notifier::new("test", Some(client));
    let begun = Instant::now();
    for _ in 0..1000 {
        notifier.notify().await;
    }
    // One that waited for each would take twenty seconds.
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}
