//! The histories that each step of a load must survive.

use super::*;
use crate::clock::Sample;

const MS: i64 = 1_000_000;

fn at(ms: i64) -> Mono {
    Mono(ms * MS)
}

fn pg(ms: i64) -> PgTime {
    PgTime(ms * 1000)
}

fn clock() -> Clock {
    let mut clock: Clock = Clock::default();
    clock.sampled(Sample { asked: at(0), answered: at(0), lower: pg(0), upper: pg(0) });
    clock
}

fn asof(seq: i64) -> Asof {
    Asof { epoch: 1, seq }
}

fn entry(version: i64) -> Entry<&'static str> {
    Entry { version, asof: asof(1), until: at(30_000), body: "old" }
}

fn hit(version: i64, at_ms: i64) -> L2<&'static str> {
    L2::Hit(L2Hit { asof: asof(9), at: pg(at_ms), version, body: "l2", left: Duration::from_secs(4) })
}

fn loaded(version: i64) -> Loaded<&'static str> {
    Loaded { version, asof: asof(7), body: "new", lifetime: Lifetime::TERMINAL }
}

fn alone() -> Abilities {
    Abilities { validate: false, wait: true }
}

fn able() -> Abilities {
    Abilities { validate: true, wait: true }
}

fn answer(step: Step<&'static str>) -> Answer<&'static str> {
    match step {
        Step::Answer(answer) => answer,
        other => panic!("no answer but {other:?}"),
    }
}

#[test]
fn redis_answers_under_a_young_proof() {
    let mut read: Read<_> = Read::new(None, alone());
    assert_eq!(read.begin(), Step::AskL2);
    let got = answer(read.on_l2(hit(3, 1000), &clock(), Requirement::version(3), at(1199), at(1200)));
    assert_eq!((got.entry.version, got.entry.asof, got.tier), (3, asof(9), Tier::L2));
    assert_eq!(got.entry.until, at(5200), "what Redis had left");
    assert!(got.fresh <= at(1000));
}

#[test]
fn an_old_proof_or_a_watermark_means_a_load() {
    for (version, proof, requirement) in [
        (3, 100, Requirement::version(0)),
        (3, 1000, Requirement::version(4)),
        (3, 1000, Requirement { barrier: at(1100), ..Requirement::NONE }),
    ] {
        let mut read: Read<_> = Read::new(None, alone());
        assert_eq!(read.on_l2(hit(version, proof), &clock(), requirement, at(1199), at(1200)), Step::Load);
    }
}

#[test]
fn an_unproven_value_is_validated_not_loaded() {
    let mut read: Read<_> = Read::new(Some(entry(3)), able());
    assert_eq!(read.on_l2(L2::Unavailable, &clock(), Requirement::version(0), at(0), at(1)), Step::Validate);
    let got = answer(read.on_version(Some((3, asof(8))), Requirement::version(0), at(5), at(6)));
    assert_eq!((got.entry.body, got.entry.asof, got.fresh, got.tier), ("old", asof(8), at(5), Tier::Validated));
    assert_eq!(got.entry.until, at(30_000), "validating does not lengthen its life");
}

#[test]
fn another_version_or_none_means_a_load() {
    for current in [Some((4, asof(8))), Some((2, asof(8))), None] {
        let mut read: Read<_> = Read::new(Some(entry(3)), able());
        assert_eq!(read.on_l2(L2::NoProof, &clock(), Requirement::version(0), at(0), at(1)), Step::Validate);
        assert_eq!(read.on_version(current, Requirement::version(0), at(5), at(6)), Step::Load);
    }
}

#[test]
fn what_is_below_the_watermark_is_not_even_validated() {
    let mut read: Read<_> = Read::new(Some(entry(3)), able());
    assert_eq!(read.on_l2(L2::NoProof, &clock(), Requirement::version(4), at(0), at(1)), Step::Load);
}

#[test]
fn a_version_read_before_the_barrier_does_not_validate() {
    let mut read: Read<_> = Read::new(Some(entry(3)), able());
    read.on_l2(L2::NoProof, &clock(), Requirement::version(0), at(0), at(1));
    let behind = Requirement { barrier: at(6), ..Requirement::NONE };
    assert_eq!(read.on_version(Some((3, asof(8))), behind, at(5), at(7)), Step::Load);
}

#[test]
fn the_holder_of_the_lease_fills() {
    let mut read: Read<_> = Read::new(None, alone());
    assert_eq!(read.on_l2(L2::Lease { token: 42 }, &clock(), Requirement::version(0), at(0), at(1)), Step::Load);
    let got = read.on_loaded(loaded(5), Requirement::version(5), at(2), at(10));
    assert_eq!(got.fill, Some(Fill { token: 42, lifetime: Lifetime::TERMINAL }));
    assert!(got.keep);
}

#[test]
fn a_holder_that_is_late_does_not_fill() {
    let mut read: Read<_> = Read::new(None, alone());
    read.on_l2(L2::Lease { token: 42 }, &clock(), Requirement::version(0), at(0), at(1));
    assert_eq!(read.on_loaded(loaded(5), Requirement::version(0), at(2), at(1001)).fill, None);
}

#[test]
fn a_busy_key_is_waited_for_once_and_then_loaded_without_a_fill() {
    let mut read: Read<_> = Read::new(None, alone());
    assert_eq!(read.on_l2(L2::Busy, &clock(), Requirement::version(0), at(0), at(1)), Step::Wait);
    assert_eq!(read.on_l2(L2::Busy, &clock(), Requirement::version(0), at(20), at(21)), Step::Load);
    assert_eq!(read.on_loaded(loaded(5), Requirement::version(0), at(22), at(23)).fill, None);
    let mut hasty: Read<_> = Read::new(None, Abilities { validate: false, wait: false });
    assert_eq!(hasty.on_l2(L2::<&str>::Busy, &clock(), Requirement::version(0), at(0), at(1)), Step::Load);
}

#[test]
fn a_row_that_is_gone_is_answered_but_not_kept() {
    let mut read: Read<_> = Read::new(None, alone());
    read.on_l2(L2::Lease { token: 42 }, &clock(), Requirement::version(6), at(0), at(1));
    let gone = Loaded { version: 0, body: "", lifetime: Lifetime::ABSENT, ..loaded(0) };
    let got = read.on_loaded(gone, Requirement::version(6), at(11), at(15));
    assert_eq!((got.entry.version, got.keep, got.fill), (0, false, None));
}

#[test]
fn a_row_that_never_was_is_kept_for_a_short_time() {
    let mut read: Read<_> = Read::new(None, alone());
    read.on_l2(L2::Lease { token: 42 }, &clock(), Requirement::version(0), at(0), at(1));
    let none = Loaded { version: 0, body: "", lifetime: Lifetime::ABSENT, ..loaded(0) };
    let got = read.on_loaded(none, Requirement::version(0), at(2), at(3));
    assert_eq!((got.entry.until, got.keep), (at(5002), true));
}

#[test]
fn a_value_at_its_end_is_not_validated() {
    let mut read: Read<_> = Read::new(Some(entry(3)), able());
    read.on_l2(L2::NoProof, &clock(), Requirement::version(0), at(29_990), at(29_991));
    assert_eq!(read.on_version(Some((3, asof(8))), Requirement::version(0), at(29_995), at(30_000)), Step::Load);
}

#[test]
fn the_newer_of_two_unproven_values_is_validated() {
    let mut read: Read<_> = Read::new(Some(entry(4)), able());
    assert_eq!(read.on_l2(hit(3, 100), &clock(), Requirement::version(0), at(1199), at(1200)), Step::Validate);
    assert_eq!(
        answer(read.on_version(Some((4, asof(8))), Requirement::version(0), at(1201), at(1202))).entry.body,
        "old"
    );
    let mut read: Read<_> = Read::new(Some(entry(2)), able());
    assert_eq!(read.on_l2(hit(3, 100), &clock(), Requirement::version(0), at(1199), at(1200)), Step::Validate);
    assert_eq!(
        answer(read.on_version(Some((3, asof(8))), Requirement::version(0), at(1201), at(1202))).entry.body,
        "l2"
    );
}
