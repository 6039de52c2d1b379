//! Fairness over random schedules: accounts with weights and limits enqueue and are served in any order.
//!
//! At every step, no account has more running than it may, and no claim leaves a job behind that may run. Of the accounts that
//! always have something queued and may run more, none gets less than its share by more than a few turns.

use std::collections::HashMap;

use uuid::Uuid;

use crate::cluster::{Cluster, KIND};
use crate::limits::LIMITS;

/// Schedules; each has its own seed, which a failure names.
const SEEDS: u64 = 12;
const STEPS: usize = 60;

struct Account {
    id: Uuid,
    weight: f64,
    limit: i32,
    /// Always has something queued.
    busy: bool,
    queued: usize,
    served: usize,
}

#[tokio::test]
async fn shares_and_limits_hold_over_random_schedules() {
    for seed in 0..SEEDS {
        schedule(seed).await;
    }
}

async fn schedule(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let cluster = Cluster::new().await;
    let mut connection = cluster.connection().await;
    let mut accounts = Vec::new();
    for n in 0..random.usize(2..6) {
        let account = Account {
            id: Uuid::now_v7(),
            weight: f64::from(random.u8(1..5)),
            limit: random.i32(1..6),
            busy: n < 2 || random.bool(),
            queued: 0,
            served: 0,
        };
        jobs::set_weight(&mut connection, KIND, account.id, account.weight).await.unwrap();
        jobs::set_running_limit(&mut connection, KIND, account.id, Some(account.limit)).await.unwrap();
        accounts.push(account);
    }
    let mut running = Vec::new();
    for step in 0..STEPS {
        for account in &mut accounts {
            let come = if account.busy { 12_usize.saturating_sub(account.queued) } else { random.usize(0..2) };
            for _ in 0..come {
                cluster.enqueue_for(account.id).await;
                account.queued += 1;
            }
        }
        let asked = random.u32(1..5);
        let given = cluster.claim_within_limits(asked).await;
        for job in &given {
            let account = accounts.iter_mut().find(|account| account.id == job.account).unwrap();
            account.queued -= 1;
            account.served += 1;
        }
        running.extend(given.iter().map(|job| (job.account, job.lease)));
        let mut at_work: HashMap<Uuid, i32> = HashMap::new();
        running.iter().for_each(|(account, _)| *at_work.entry(*account).or_default() += 1);
        let room = |account: &Account| account.limit - at_work.get(&account.id).copied().unwrap_or_default();
        for account in &accounts {
            assert!(room(account) >= 0, "seed {seed}, step {step}: more run than {}", account.limit);
        }
        if given.len() < asked as usize {
            let idle = accounts.iter().any(|account| account.queued > 0 && room(account) > 0);
            assert!(!idle, "seed {seed}, step {step}: a job may run and was not claimed");
        }
        // Some of what runs ends; in two rounds of three all of it, so that limits do not decide what shares should.
        while let Some((_, lease)) = running.pop() {
            jobs::complete(&mut connection, lease).await.unwrap();
            if step % 3 == 0 && random.u8(0..4) == 0 {
                break;
            }
        }
    }
    // Of the accounts that always had something queued and never reached their limit, each got its share.
    let free: Vec<_> = accounts.iter().filter(|account| account.busy && account.limit >= 5).collect();
    for one in &free {
        for other in &free {
            let (mine, theirs) = (one.served as f64 / one.weight, other.served as f64 / other.weight);
            assert!(mine + 12.0 >= theirs, "seed {seed}: {mine} turns beside {theirs}, with {LIMITS:?}");
        }
    }
}
