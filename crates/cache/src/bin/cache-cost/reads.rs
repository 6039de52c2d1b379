//! A warm read through the cache, beside a hit in a bare moka that holds the same.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cache::Tier;
use chassis::settings::Source;

use crate::replica::{Replica, key};
use crate::result::Result;

const KEYS: usize = 1000;
const READS: usize = 200_000;
/// How many of one kind are read before as many of the other.
const CHUNK: usize = 2000;
/// Rounds in which the proof was too old for a part of the reads, on a crowded machine, are run again this often.
const RETRIES: usize = 20;

/// Prints the nanoseconds of one read of each kind, for each round.
pub(crate) async fn measure(source: &Source, rounds: usize) -> Result<()> {
    let replicas = Replica::start(source, 1, KEYS).await?;
    let replica = &replicas[0];
    let keys: Vec<_> = (0..KEYS).map(key).collect();
    let bare: moka::future::Cache<Arc<str>, Bytes> = moka::future::Cache::builder().max_capacity(64 << 20).build();
    for (id, key) in keys.iter().enumerate() {
        bare.insert(key.as_str().into(), replica.get(key, id).await?.body).await;
    }
    let order: Vec<usize> = (0..READS).map(|_| fastrand::usize(..KEYS)).collect();
    let mut left = RETRIES;
    let mut done = 0;
    // The first round warms caches and branch predictors, and is not counted.
    while done <= rounds {
        replica.proven().await;
        for (id, key) in keys.iter().enumerate() {
            replica.get(key, id).await?;
        }
        let (mut took, mut bare_took, mut warm) = (Duration::ZERO, Duration::ZERO, 0);
        for order in order.chunks(CHUNK) {
            let began = Instant::now();
            for id in order {
                std::hint::black_box(bare.get(keys[*id].as_str()).await);
            }
            bare_took += began.elapsed();
            let began = Instant::now();
            for id in order {
                let hit = std::hint::black_box(replica.get(&keys[*id], *id).await?);
                warm += usize::from(hit.tier == Tier::L1);
            }
            took += began.elapsed();
        }
        if warm < READS {
            left = left.checked_sub(1).ok_or("L1 was without a proof in each round")?;
            continue;
        }
        if done > 0 {
            let each = |took: Duration| took.as_nanos() as f64 / READS as f64;
            println!("read={} moka={}", each(took), each(bare_took));
        }
        done += 1;
    }
    Ok(())
}
