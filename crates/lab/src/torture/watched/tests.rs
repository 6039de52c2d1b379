//! Histories of watches written by hand, good ones and one for each promise broken.

use super::*;

const FRESH: Event = Event::Opened { resumed: false };
const RESUMED: Event = Event::Opened { resumed: true };

fn state(version: i64) -> State {
    State { key: "k".to_owned(), version, over: version == 9 }
}

fn all(version: i64) -> Event {
    Event::Snapshot(vec![state(version)])
}

fn update(version: i64) -> Event {
    Event::Update(state(version))
}

/// Events a second apart, with what was known of `k` at which second, and the version that it has in the end.
fn check(until_over: bool, events: &[Event], known: &[(u64, i64)], end: i64, broken: Option<&str>) {
    let watch = Watch::new("a watch".to_owned(), until_over);
    let origin = Instant::now();
    let at = |second| origin + Duration::from_secs(second);
    for (second, event) in (0..).zip(events) {
        watch.add_at(at(second), event.clone());
    }
    let key = "k".to_owned();
    let known = KnownVersions::from(known.iter().map(|(second, version)| (at(*second), *version)).collect());
    let truth = HashMap::from([(key.clone(), end)]);
    let mut findings = WatchFindings::default();
    watch.check(&HashMap::from([(&key, known)]), &truth, &truth, true, &mut findings);
    let found: Vec<_> = findings.broken.keys().copied().collect();
    assert_eq!(found, broken.into_iter().collect::<Vec<_>>(), "{events:?}: {:?}", findings.violations);
}

#[test]
fn what_services_promise_is_found_kept() {
    let good = |events: &[Event], end| check(false, events, &[], end, None);
    good(&[FRESH, all(1), update(2), Event::Alive, update(9)], 9);
    // One after the other by token: first a heartbeat, and versions may be skipped.
    good(&[FRESH, all(1), Event::Broken, RESUMED, Event::Alive, update(4), Event::Moved, Event::Ended], 4);
    // After a gap all comes again, with what is known already.
    good(&[FRESH, all(1), Event::Broken, RESUMED, Event::Gap, all(1), update(2)], 2);
    good(&[FRESH, all(1), Event::Gap, all(3)], 3);
    // Nothing came before the first stream broke.
    good(&[FRESH, Event::Broken, FRESH, all(2)], 2);
    check(true, &[FRESH, all(1), update(9), Event::Ended], &[], 9, None);
}

#[test]
fn each_broken_promise_is_found() {
    let bad = |events: &[Event], end, promise| check(false, events, &[], end, Some(promise));
    bad(&[FRESH, all(1), update(1)], 1, "double");
    bad(&[FRESH, all(2), Event::Broken, RESUMED, Event::Alive, update(2)], 2, "double");
    bad(&[FRESH, all(2), update(3), update(2)], 2, "backwards");
    bad(&[FRESH, all(2), Event::Gap, all(1)], 1, "backwards");
    bad(&[FRESH, all(2), Event::Broken, RESUMED, all(2)], 2, "order");
    bad(&[FRESH, all(2), Event::Alive, all(3)], 3, "order");
    bad(&[FRESH, all(2), Event::Broken, RESUMED, update(3)], 3, "order");
    bad(&[FRESH, update(3)], 3, "order");
    bad(&[FRESH, all(2), Event::Ended], 2, "order");
    bad(&[FRESH, all(2), Event::Broken, Event::Refused], 2, "order");
    bad(&[FRESH, all(2), update(3)], 9, "end");
    bad(&[FRESH, Event::Alive], 9, "end");
    check(true, &[FRESH, all(1), Event::Ended], &[], 1, Some("order"));
}

#[test]
fn an_open_stream_brings_what_was_known_elsewhere() {
    let alive = |seconds| std::iter::repeat_n(Event::Alive, seconds);
    let events = |parts: [&[Event]; 2], quiet| {
        let [before, after] = parts;
        before.iter().cloned().chain(alive(quiet)).chain(after.iter().cloned()).collect::<Vec<_>>()
    };
    let begun = &[FRESH, all(1)];
    check(false, &events([begun, &[update(2)]], 14), &[(2, 2)], 2, None);
    check(false, &events([begun, &[update(2)]], 20), &[(2, 2)], 2, Some("missed"));
    check(false, &events([begun, &[update(2)]], 20), &[(12, 2)], 2, None);
    // A later version will do.
    check(false, &events([begun, &[update(3)]], 10), &[(2, 2), (9, 3)], 3, None);
    // Time without a stream does not count.
    let away = [&[FRESH, all(1), Event::Broken], &[RESUMED, Event::Alive, update(2)][..]];
    let watch: Vec<_> = events(away, 0);
    check(false, &watch, &[(2, 2)], 2, None);
}

#[test]
fn a_watch_may_know_more_than_was_read_before_it_was_let_go_but_no_more_than_there_is() {
    let watch = Watch::new("a watch".to_owned(), false);
    watch.add(FRESH);
    assert!(watch.is_fresh());
    watch.add(Event::Alive);
    assert!(!watch.is_fresh(), "what comes after anything else is a change");
    watch.add(update(3));
    let at = |version| HashMap::from([("k".to_owned(), version)]);
    let broken = |truth, latest| {
        let mut findings = WatchFindings::default();
        watch.check(&HashMap::new(), &at(truth), &at(latest), true, &mut findings);
        findings.broken.get("end").copied().unwrap_or_default()
    };
    assert_eq!(broken(2, 3), 0);
    assert_eq!(broken(4, 4), 1);
    assert_eq!(broken(2, 2), 1);
}

#[test]
fn what_a_snapshot_has_no_room_for_is_not_missed() {
    let watch = Watch::new("a watch".to_owned(), false);
    watch.add(FRESH);
    watch.add(Event::Snapshot(vec![state(1)]));
    watch.add(Event::Gap);
    let others = |many: usize| {
        let other = |number| State { key: format!("other {number}"), version: 1, over: true };
        Event::Snapshot((0..many).map(other).collect())
    };
    let truth = HashMap::from([("k".to_owned(), 9)]);
    watch.add(others(LATEST - 1));
    assert_eq!(watch.lacks(&truth), [("k".to_owned(), 9, 1)], "there was room for it");
    watch.add(Event::Gap);
    watch.add(others(LATEST));
    assert_eq!(watch.lacks(&truth), []);
    watch.add(Event::Update(state(3)));
    assert_eq!(watch.lacks(&truth), [("k".to_owned(), 9, 3)], "it is told of again");
}
