//! Notifications: at once within the process and over NATS; without NATS, listeners ask by themselves.

use std::time::{Duration, Instant};

use jobs::{Listener, Notifier, POLL_INTERVAL};
use testkit::Nats;

/// How often it asked, where it is told `quiet` times that nothing is due, and then `due`.
async fn wait(listener: &mut Listener, quiet: usize, due: Result<bool, ()>) -> usize {
    let mut asked = 0;
    let any_due = || {
        asked += 1;
        std::future::ready(if asked > quiet { due } else { Ok(false) })
    };
    listener.until_due(any_due).await;
    asked
}

#[tokio::test(start_paused = true)]
async fn a_notification_before_the_wait_is_not_missed() {
    let notifier = Notifier::new("test", None);
    let mut listener = notifier.listen();
    notifier.notify().await;
    let begun = tokio::time::Instant::now();
    assert_eq!(wait(&mut listener, 0, Ok(true)).await, 0, "whoever is notified asks nobody");
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_listener_asks_without_a_notification() {
    let notifier = Notifier::new("test", None);
    let mut listener = notifier.listen();
    let begun = tokio::time::Instant::now();
    assert_eq!(wait(&mut listener, 2, Ok(true)).await, 3);
    assert_eq!(begun.elapsed().as_secs(), 3 * POLL_INTERVAL.as_secs());
    assert_eq!(wait(&mut listener, 1, Err(())).await, 2, "a claim that fails tells why");
    drop(notifier);
    let begun = tokio::time::Instant::now();
    assert_eq!(wait(&mut listener, 1, Ok(true)).await, 2, "nobody is left who could notify");
    assert_eq!(begun.elapsed().as_secs(), 2 * POLL_INTERVAL.as_secs());
}

#[tokio::test(start_paused = true)]
async fn claims_that_find_nothing_make_a_listener_wait_before_it_claims_again() {
    let notifier = Notifier::new("test", None);
    let mut listener = notifier.listen();
    let mut waited = Vec::new();
    for found in [false, false, false, false, false, false, true, false] {
        listener.claimed(found);
        notifier.notify().await;
        let begun = tokio::time::Instant::now();
        // Dropped and called again, as beside the worker's own requests.
        assert!(tokio::time::timeout(Duration::ZERO, wait(&mut listener, 0, Ok(true))).await.is_ok() == found);
        if !found {
            assert_eq!(wait(&mut listener, 0, Ok(true)).await, 0, "what was notified meanwhile is not missed");
        }
        waited.push(begun.elapsed().as_millis());
    }
    assert_eq!(waited, [10, 20, 40, 80, 100, 100, 0, 10]);
}

#[tokio::test]
async fn a_notification_reaches_other_processes_over_nats() {
    let nats = Nats::launch().await.unwrap();
    let ours = Notifier::new("test", Some(chassis::nats::connect(&nats.url()).await.unwrap()));
    let client = chassis::nats::connect(&nats.url()).await.unwrap();
    let theirs = Notifier::new("test", Some(client));
    let relay = tokio::spawn(ours.clone().relay());
    let mut listener = ours.listen();
    // The first may be sent before the subscription; a later one arrives well before the listener would ask by itself.
    let mut notified = false;
    for _ in 0..100 {
        theirs.notify().await;
        if tokio::time::timeout(Duration::from_millis(50), wait(&mut listener, 0, Ok(true))).await.is_ok() {
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
