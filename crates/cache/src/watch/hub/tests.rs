//! A hub without a cache: the signals are sent by hand.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use coherence::window::Cause;
use tokio::sync::broadcast;

use super::*;
use crate::watch::Update;
use crate::watch::inbox::tests::Row;

/// Watches the keys below a number.
struct Below(u8);

impl Filter<Row> for Below {
    fn matches(&self, record: &Row) -> bool {
        self.may_match(record.key())
    }
    fn may_match(&self, key: u8) -> bool {
        key < self.0
    }
}

/// The rows of a test by group and key, how often they were read, and whether the next read fails.
#[derive(Default)]
struct Table {
    rows: Mutex<BTreeMap<(u8, u8), Row>>,
    reads: AtomicUsize,
    fails: Mutex<bool>,
}

struct Fixture {
    hub: Hub<Row, Below>,
    table: Arc<Table>,
    signals: broadcast::Sender<Signal>,
}

impl Fixture {
    fn start() -> Self {
        let (hub, table, signals) = (Hub::new(Metrics("test")), Arc::<Table>::default(), broadcast::Sender::new(64));
        let (feed, changes, read) = (Hub::clone(&hub), Changes(signals.subscribe()), Arc::clone(&table));
        tokio::spawn(feed.feed(changes, parse, move |keys| {
            read.reads.fetch_add(1, Ordering::SeqCst);
            let failed = std::mem::take(&mut *read.fails.lock().unwrap());
            let rows = read.rows.lock().unwrap().clone();
            std::future::ready(if failed {
                Err(std::io::Error::other("no database"))
            } else {
                Ok(keys.iter().filter_map(|key| rows.get(key).copied()).collect())
            })
        }));
        Self { hub, table, signals }
    }

    fn put(&self, row: Row) {
        self.table.rows.lock().unwrap().insert((row.group(), row.key()), row);
    }

    fn signal(&self, row: Row) {
        let key = format!("row:{}:{}", row.group(), row.key()).into();
        self.signals.send(Signal::Changed(Change { key, version: row.version() })).unwrap();
    }

    fn reads(&self) -> usize {
        self.table.reads.load(Ordering::SeqCst)
    }
}

fn parse(change: &Change) -> Option<(u8, u8)> {
    if change.kind() != "row" {
        return None;
    }
    let mut parts = change.key.split(':').skip(1);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The next update; time is paused, so that waiting for one that never comes fails at once.
async fn next(subscription: &Subscription<Row, Below>) -> Update<Row> {
    let update = async {
        loop {
            if let Some(update) = subscription.inbox().take() {
                return update;
            }
            subscription.inbox().arrived().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), update).await.expect("an update")
}

/// Returns when the hub has done all that it can.
async fn idle() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_change_is_read_once_for_all_its_watchers_and_reaches_no_others() {
    let test = Fixture::start();
    let (one, two) = (test.hub.subscribe(1, Below(9)), test.hub.subscribe(1, Below(9)));
    let (other_group, other_keys) = (test.hub.subscribe(2, Below(9)), test.hub.subscribe(1, Below(5)));
    let row = Row(1, 5, 3, false);
    test.put(row);
    test.signal(row);
    for subscription in [&one, &two] {
        assert_eq!(next(subscription).await, Update::Changed(Arc::new(row)));
    }
    assert_eq!(test.reads(), 1);
    assert_eq!((other_group.inbox().take(), other_keys.inbox().take()), (None, None));
}

#[tokio::test(start_paused = true)]
async fn changes_that_come_together_are_read_together() {
    let test = Fixture::start();
    let subscription = test.hub.subscribe(1, Below(9));
    for key in 1..=4 {
        let row = Row(1, key, 1, false);
        test.put(row);
        test.signal(row);
    }
    for _ in 1..=4 {
        next(&subscription).await;
    }
    assert_eq!(test.reads(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_watches_or_all_know_is_not_read() {
    let test = Fixture::start();
    let subscription = test.hub.subscribe(1, Below(5));
    let published = Row(1, 1, 3, false);
    test.hub.publish(published);
    assert_eq!(next(&subscription).await, Update::Changed(Arc::new(published)));
    for unwanted in [published, Row(1, 7, 1, false), Row(2, 1, 1, false)] {
        test.put(unwanted);
        test.signal(unwanted);
    }
    test.signals.send(Signal::Changed(Change { key: "other:1:1".into(), version: 9 })).unwrap();
    idle().await;
    assert_eq!(test.reads(), 0);
    let wanted = Row(1, 1, 4, false);
    test.put(wanted);
    test.signal(wanted);
    assert_eq!(next(&subscription).await, Update::Changed(Arc::new(wanted)));
    assert_eq!(test.reads(), 1);
}

#[tokio::test(start_paused = true)]
async fn whoever_may_have_missed_changes_resyncs() {
    let test = Fixture::start();
    let (one, two) = (test.hub.subscribe(1, Below(9)), test.hub.subscribe(2, Below(9)));
    for signal in [Signal::Gap(Cause::Gap), Signal::Lagged(7)] {
        test.signals.send(signal).unwrap();
        for subscription in [&one, &two] {
            assert_eq!(next(subscription).await, Update::Resync);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_that_fails_makes_everyone_resync_and_the_feed_goes_on() {
    let test = Fixture::start();
    let subscription = test.hub.subscribe(1, Below(9));
    *test.table.fails.lock().unwrap() = true;
    test.signal(Row(1, 1, 1, false));
    assert_eq!(next(&subscription).await, Update::Resync);
    let row = Row(1, 1, 2, false);
    test.put(row);
    test.signal(row);
    assert_eq!(next(&subscription).await, Update::Changed(Arc::new(row)));
}

#[tokio::test]
async fn a_dropped_subscription_leaves_nothing_behind() {
    let hub: Hub<Row, Below> = Hub::new(Metrics("test"));
    let (one, two) = (hub.subscribe(1, Below(9)), hub.subscribe(1, Below(9)));
    drop(one);
    assert_eq!(hub.watchers(1).len(), 1);
    hub.publish(Row(1, 1, 1, false));
    assert!(two.inbox().take().is_some());
    drop(two);
    assert!(hub.lock().is_empty());
}

#[tokio::test]
async fn a_forwarded_change_is_its_record_and_reads_nothing() {
    let signals = broadcast::Sender::new(64);
    let hub: Hub<Row> = Hub::new(Metrics("test"));
    let subscription = hub.subscribe(1, ());
    tokio::spawn(hub.clone().forward(Changes(signals.subscribe()), |change| {
        parse(change).map(|(group, key)| Row(group, key, change.version, false))
    }));
    signals.send(Signal::Changed(Change { key: "other:1:0".into(), version: 1 })).unwrap();
    signals.send(Signal::Changed(Change { key: "row:1:0".into(), version: 2 })).unwrap();
    subscription.inbox().arrived().await;
    assert_eq!(subscription.inbox().take(), Some(Update::Changed(Arc::new(Row(1, 0, 2, false)))));
    signals.send(Signal::Gap(Cause::Disconnect)).unwrap();
    subscription.inbox().arrived().await;
    assert_eq!(subscription.inbox().take(), Some(Update::Resync));
}
