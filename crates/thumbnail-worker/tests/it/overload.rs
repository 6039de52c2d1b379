//! The decode pool, bounded in bytes, threads and waiting: refuses at once, outlives a panic, keeps its room until the work ends.
//! The memory budget, bounded in bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use thumbnail_worker::byte_budget::ByteBudget;
use thumbnail_worker::decode_pool::{DecodePool, Error, Settings};
use thumbnail_worker::stop::Stop;
use tokio::time::timeout;

const MIB: u64 = 1 << 20;

fn pool(threads: usize, bytes: u64, waiting: usize) -> DecodePool {
    DecodePool::new(Settings { threads, bytes, waiting })
}

#[tokio::test(flavor = "multi_thread")]
async fn never_holds_more_bytes_or_threads_than_admitted() {
    for (threads, bytes, weight, max) in [(8, 4 * MIB, MIB, 4), (2, 64 * MIB, MIB, 2)] {
        let pool = pool(threads, bytes, 100);
        let (running, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let work = (0..40).map(|_| {
            let (pool, running, peak) = (pool.clone(), Arc::clone(&running), Arc::clone(&peak));
            tokio::spawn(async move {
                let work = move |_: &Stop| {
                    peak.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(5));
                    running.fetch_sub(1, Ordering::SeqCst);
                };
                pool.run(weight, work).await.unwrap();
            })
        });
        for task in work.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        assert_eq!(peak.load(Ordering::SeqCst), max, "{threads} threads, {bytes} bytes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_at_once_with_a_time_to_come_back() {
    let pool = pool(1, MIB, 2);
    let (release, held) = mpsc::channel::<()>();
    let busy = pool.run(MIB, move |_| held.recv());
    let (first, second) = (pool.run(MIB, |_| ()), pool.run(MIB, |_| ()));
    tokio::pin!(busy, first, second);
    // Polled once each, they have asked for their places in this order.
    for _ in 0..2 {
        assert!(timeout(Duration::ZERO, &mut busy).await.is_err());
    }
    assert!(timeout(Duration::ZERO, &mut first).await.is_err());
    assert!(timeout(Duration::ZERO, &mut second).await.is_err());
    let asked = Instant::now();
    let refused = pool.run(MIB, |_| ()).await.unwrap_err();
    assert!(
        matches!(refused, Error::Overloaded { retry_after } if retry_after >= Duration::from_millis(50)),
        "{refused}"
    );
    assert!(asked.elapsed() < Duration::from_millis(20));
    release.send(()).unwrap();
    busy.await.unwrap().unwrap();
    first.await.unwrap();
    second.await.unwrap();
    pool.run(MIB, |_| ()).await.unwrap();
}

#[tokio::test]
async fn work_heavier_than_the_pool_is_refused() {
    let refused = pool(4, MIB, 4).run(MIB + 1, |_| ()).await.unwrap_err();
    assert_eq!(refused, Error::TooHeavy { weight: MIB + 1, limit: MIB });
}

#[tokio::test]
async fn a_panic_ends_one_piece_of_work_only() {
    let pool = pool(1, MIB, 4);
    let refused = pool.run(MIB, |_| panic!("a decoder's own bug")).await.unwrap_err();
    assert_eq!(refused, Error::Panicked("a decoder's own bug".into()));
    assert_eq!(pool.run(MIB, |_| 7).await, Ok(7));
}

#[tokio::test(flavor = "multi_thread")]
async fn room_stays_taken_when_the_caller_leaves() {
    let pool = pool(4, MIB, 4);
    let (release, held) = mpsc::channel::<()>();
    let (begun, begins) = tokio::sync::oneshot::channel();
    let left = tokio::spawn({
        let pool = pool.clone();
        async move {
            let work = move |_: &Stop| {
                begun.send(()).unwrap();
                held.recv()
            };
            pool.run(MIB, work).await
        }
    });
    begins.await.unwrap();
    left.abort();
    assert!(left.await.unwrap_err().is_cancelled());
    let next = pool.run(MIB, |_| 7);
    tokio::pin!(next);
    assert!(timeout(Duration::from_millis(50), &mut next).await.is_err(), "its bytes are still held");
    release.send(()).unwrap();
    assert_eq!(next.await, Ok(7));
}

#[tokio::test(flavor = "multi_thread")]
async fn work_whose_caller_leaves_is_stopped() {
    let pool = pool(1, MIB, 4);
    let (begun, begins) = tokio::sync::oneshot::channel();
    let left = tokio::spawn({
        let pool = pool.clone();
        async move {
            let work = move |stop: &Stop| {
                begun.send(()).unwrap();
                while !stop.is_set() {
                    std::thread::yield_now();
                }
            };
            pool.run(MIB, work).await
        }
    });
    begins.await.unwrap();
    left.abort();
    // Its thread is free again.
    assert_eq!(timeout(Duration::from_secs(5), pool.run(MIB, |_| 7)).await.unwrap(), Ok(7));
}

#[tokio::test]
async fn files_in_memory_are_bounded() {
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
