//! The decode pool, bounded in bytes, processes, waiting and time: refuses at once, outlives whatever ends a decoder, and leaves what is
//! paid for its room. The budgets of files on disk, bounded in bytes, in all and for each account.

use std::time::{Duration, Instant};

use domain::id::AccountId;
use rustix::process::{Pid, Signal, kill_process};
use thumbnail_worker::byte_budget::ByteBudget;
use thumbnail_worker::decode_pool::{DecodePool, Error, Input, Settings};
use thumbnail_worker::media::Type;
use thumbnail_worker::model::Spec;
use thumbnail_worker::pictures::Format;
use tokio::time::timeout;

use crate::cluster::{decoders, on_disk};
use crate::paint::{fixture, png, quarters, vast_png, webp};

const MIB: u64 = 1 << 20;

fn small() -> Input {
    Input::Bytes(fixture("baseline.jpg").into())
}

/// Process ids of the decoders of the pool with these bytes, which no other pool of this process has.
pub(crate) fn decoders_of(settings: &Settings) -> Vec<u32> {
    let mark = format!("decode\0{}\0", settings.light_memory() + settings.bytes);
    let processes =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let ours =
        |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.ends_with(&mark));
    processes.filter(ours).collect()
}

/// Sends a signal to a decoder: one that is stopped is one that takes for ever.
fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}

/// A pool of one decoder that is there already, and its process id.
async fn pool_of_one(settings: Settings) -> (DecodePool, Settings, u32) {
    let settings = Settings { processes: 1, ..settings };
    let pool = DecodePool::new(settings.clone());
    pool.check_picture(&small()).await.unwrap().unwrap();
    let pid = decoders_of(&settings)[0];
    (pool, settings, pid)
}

#[tokio::test(flavor = "multi_thread")]
async fn never_runs_more_decoders_than_admitted() {
    let settings = Settings { processes: 2, bytes: 301 * MIB, ..decoders() };
    let pool = DecodePool::new(settings.clone());
    let work = (0..40).map(|_| {
        let pool = pool.clone();
        tokio::spawn(async move { pool.check_picture(&small()).await.unwrap().unwrap() })
    });
    for task in work.collect::<Vec<_>>() {
        assert_eq!(task.await.unwrap().facts.media_type.mime(), "image/jpeg");
        assert!(decoders_of(&settings).len() <= 2);
    }
    let used = decoders_of(&settings);
    assert!(!used.is_empty());
    // They are used again, and end with their pool.
    pool.check_picture(&small()).await.unwrap().unwrap();
    assert!(decoders_of(&settings).iter().all(|pid| used.contains(pid)));
    drop(pool);
    let gone = async || decoders_of(&settings).is_empty().then_some(());
    testkit::eventually("the decoders end", Duration::from_secs(5), gone).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_at_once_with_a_time_to_come_back() {
    let (pool, _, pid) = pool_of_one(Settings { waiting: 2, bytes: 302 * MIB, ..decoders() }).await;
    signal(pid, Signal::STOP);
    let small = small();
    let (busy, first, second) = (pool.check_picture(&small), pool.check_picture(&small), pool.check_picture(&small));
    tokio::pin!(busy, first, second);
    // Polled once each, they have asked for their places in this order.
    assert!(timeout(Duration::ZERO, &mut busy).await.is_err());
    assert!(timeout(Duration::ZERO, &mut first).await.is_err());
    assert!(timeout(Duration::ZERO, &mut second).await.is_err());
    let asked = Instant::now();
    let refused = pool.check_picture(&small).await.unwrap_err();
    assert!(
        matches!(refused, Error::Overloaded { retry_after } if retry_after >= Duration::from_millis(50)),
        "{refused}"
    );
    assert!(asked.elapsed() < Duration::from_millis(50));
    // What is paid for has a decoder of its own, and waits for none of them.
    pool.paid().check_picture(&small).await.unwrap().unwrap();
    assert!(timeout(Duration::ZERO, &mut first).await.is_err(), "the others wait still");
    signal(pid, Signal::CONT);
    busy.await.unwrap().unwrap();
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn work_heavier_than_the_pool_is_refused() {
    let (pool, settings, pid) = pool_of_one(Settings { bytes: 20 * MIB, ..decoders() }).await;
    let heavy = Input::Bytes(webp(1_500, 1_500, &vec![7; 1_500 * 1_500 * 3], true).into());
    let refused = pool.check_picture(&heavy).await.unwrap_err();
    assert!(
        matches!(refused, Error::TooHeavy { weight, limit } if weight > 20_000_000 && limit == 15 * MIB),
        "{refused}"
    );
    // Its decoder is still good, and more is given to what is paid for.
    pool.check_picture(&small()).await.unwrap().unwrap();
    let refused = pool.paid().check_picture(&heavy).await.unwrap_err();
    assert!(matches!(refused, Error::TooHeavy { limit, .. } if limit == 20 * MIB), "{refused}");
    assert_eq!(decoders_of(&settings), [pid]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_too_long_is_killed_and_others_go_on() {
    let limit = Duration::from_millis(1_500);
    let (pool, settings, pid) = pool_of_one(Settings { bytes: 303 * MIB, timeout: limit, ..decoders() }).await;
    signal(pid, Signal::STOP);
    let started = Instant::now();
    assert_eq!(pool.check_picture(&small()).await.unwrap_err(), Error::TooSlow(limit));
    assert!(started.elapsed() < limit * 2, "{:?}", started.elapsed());
    assert!(decoders_of(&settings).is_empty(), "it is gone");
    pool.check_picture(&small()).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn work_whose_caller_leaves_is_killed() {
    let (pool, settings, pid) = pool_of_one(Settings { bytes: 304 * MIB, ..decoders() }).await;
    signal(pid, Signal::STOP);
    assert!(timeout(Duration::from_millis(30), pool.check_picture(&small())).await.is_err());
    let gone = async || (!decoders_of(&settings).contains(&pid)).then_some(());
    testkit::eventually("its decoder ends", Duration::from_secs(5), gone).await.unwrap();
    // Its room is free again.
    timeout(Duration::from_secs(5), pool.check_picture(&small())).await.unwrap().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decoder_that_dies_ends_one_piece_of_work_only() {
    let (pool, _, pid) = pool_of_one(Settings { bytes: 305 * MIB, ..decoders() }).await;
    signal(pid, Signal::STOP);
    let small = small();
    let work = pool.check_picture(&small);
    tokio::pin!(work);
    assert!(timeout(Duration::from_millis(20), &mut work).await.is_err());
    signal(pid, Signal::KILL);
    let error = work.await.unwrap_err();
    assert!(matches!(&error, Error::Panicked(how) if how.contains("signal: 9")), "{error}");
    let webp = pool.render_picture(&on_disk(&fixture("baseline.jpg")), Spec::default()).await.unwrap().unwrap();
    assert!(webp.starts_with(b"RIFF"));
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_beyond_its_weight_ends_the_decoder_and_nothing_else() {
    // A file longer than a decoder may hold before its work is weighed, given as if pictures might be so long.
    let pictures = thumbnail_worker::pictures::Limits { bytes: 200 * MIB, ..Default::default() };
    let pool = DecodePool::new(Settings { processes: 1, bytes: 30 * MIB, ..decoders() });
    let file = png(64, 64, &quarters(64, 64));
    let mut long = file.clone();
    long.resize(60 << 20, 0);
    let honest = DecodePool::new(Settings { processes: 1, bytes: 30 * MIB, pictures, ..decoders() });
    assert!(honest.render_picture(&Input::Bytes(long.clone().into()), Spec::default()).await.unwrap().is_ok());
    assert_eq!(pool.render_picture(&Input::Bytes(long.into()), Spec::default()).await.unwrap_err(), Error::OutOfMemory);
    assert!(pool.render_picture(&Input::Bytes(file.into()), Spec::default()).await.unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_that_earlier_work_left_taken_is_no_fault_of_the_file() {
    let (pool, settings, pid) = pool_of_one(Settings { bytes: 306 * MIB, ..decoders() }).await;
    signal(pid, Signal::STOP);
    let small = small();
    let work = pool.check_picture(&small);
    tokio::pin!(work);
    assert!(timeout(Duration::from_millis(20), &mut work).await.is_err());
    // As a decoder ends that is given no memory.
    signal(pid, Signal::ABORT);
    signal(pid, Signal::CONT);
    work.await.unwrap().unwrap();
    let others = decoders_of(&settings);
    assert!(!others.is_empty() && !others.contains(&pid), "a new one has done it: {others:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_size_that_no_picture_has_is_none() {
    let pool = DecodePool::new(decoders());
    for (width, height) in [(u32::MAX, 480), (640, 1 << 31)] {
        let file = Input::Bytes(vast_png(width, height).into());
        let facts = pool.describe(&file, Type::Picture(Format::Png)).await.unwrap().unwrap().facts;
        assert_eq!((facts.width, facts.height), (0, 0), "{width} x {height}");
    }
}

#[tokio::test]
async fn files_on_disk_are_bounded() {
    let budget = ByteBudget::new(4 * MIB, || {});
    let first = budget.try_reserve(3 * MIB).unwrap();
    assert!(budget.try_reserve(2 * MIB).is_err());
    let second = budget.try_reserve(MIB).unwrap();
    drop((first, second));
    // A file larger than the whole budget takes all of it.
    let all = budget.try_reserve(100 * MIB).unwrap();
    assert!(budget.try_reserve(1).is_err());
    drop(all);
    budget.try_reserve(1).unwrap();
}

#[test]
fn an_account_fills_its_share_and_no_more() {
    let budget = ByteBudget::new(8 * MIB, || {}).with_share(2 * MIB);
    let [one, other] = [1, 2].map(|n| AccountId(uuid::Uuid::from_u128(n)));
    // What is open and has sent nothing takes nothing.
    let mut idle: Vec<_> = (0..1_000).map(|_| budget.open(Some(one))).collect();
    for upload in &mut idle[..2] {
        upload.grow(MIB).unwrap();
    }
    assert!(idle[2].grow(1).is_err(), "its share is full");
    let mut another = budget.open(Some(other));
    another.grow(2 * MIB).unwrap();
    assert!(another.grow(16 << 10).is_err());
    // It comes back when an upload ends.
    idle.clear();
    let mut again = budget.open(Some(one));
    (0..2 * MIB / 4_096).for_each(|_| again.grow(4_096).unwrap());
    assert!(again.grow(1).is_err());
}
