//! The share of a Zipf-like traffic with 5 % writes that each tier answers, through two replicas.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use cache::Tier;
use chassis::settings::Source;

use crate::replica::{Replica, key};
use crate::result::Result;

const REPLICAS: usize = 2;
const KEYS: usize = 10_000;
const WRITES: f64 = 0.05;
const CLIENTS: usize = 8;
/// Operations in one round, after as many that warm the tiers.
const OPERATIONS: usize = 40_000;

/// Prints the shares of reads, in percent, that went past each tier, for each round.
pub(crate) async fn measure(source: &Source, rounds: usize) -> Result<()> {
    let replicas: Arc<[_]> = Replica::start(source, REPLICAS, KEYS).await?.into();
    let ranks: Arc<[f64]> = zipf().into();
    for round in 0..=rounds {
        let tiers = Arc::new(Tiers::default());
        let left = Arc::new(AtomicUsize::new(OPERATIONS));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let (replicas, ranks) = (Arc::clone(&replicas), Arc::clone(&ranks));
                tokio::spawn(client(replicas, ranks, Arc::clone(&left), Arc::clone(&tiers)))
            })
            .collect();
        for client in clients {
            client.await??;
        }
        if round > 0 {
            let [l1, l2, validated, loaded] = tiers.0.each_ref().map(|count| count.load(Ordering::Relaxed) as f64);
            let share = |past: f64| 100.0 * past / (l1 + l2 + validated + loaded);
            println!(
                "past_l1={} past_l2={} loaded={}",
                share(l2 + validated + loaded),
                share(validated + loaded),
                share(loaded)
            );
        }
    }
    Ok(())
}

/// Reads by the tier that answered.
#[derive(Default)]
struct Tiers([AtomicU64; 4]);

async fn client(
    replicas: Arc<[Arc<Replica>]>,
    ranks: Arc<[f64]>,
    left: Arc<AtomicUsize>,
    tiers: Arc<Tiers>,
) -> Result<()> {
    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
        let replica = &replicas[fastrand::usize(..replicas.len())];
        let drawn = fastrand::f64();
        let id = ranks.partition_point(|up_to| *up_to < drawn).min(KEYS - 1);
        let key = key(id);
        if fastrand::f64() < WRITES {
            let version = replica.change(&key, id).await?;
            replica.cache.wrote(&key, version).await;
        } else {
            let tier = match replica.get(&key, id).await?.tier {
                Tier::L1 => 0,
                Tier::L2 => 1,
                Tier::Validated => 2,
                Tier::Loaded => 3,
            };
            tiers.0[tier].fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// The part of the traffic that goes to the first, the first two, … keys: the `n`th is asked for 1/n as often.
fn zipf() -> Vec<f64> {
    let mut sum = 0.0;
    let sums: Vec<f64> = (1..=KEYS)
        .map(|rank| {
            sum += 1.0 / rank as f64;
            sum
        })
        .collect();
    sums.into_iter().map(|up_to| up_to / sum).collect()
}
