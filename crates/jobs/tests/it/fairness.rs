//! Fairness: a backlog makes only its own account wait, and weights set the shares.

use jobs::NewJob;
use uuid::Uuid;

use crate::cluster::{Cluster, KIND, new_job};

#[tokio::test]
async fn a_flood_makes_only_its_own_account_wait() {
    let cluster = Cluster::new().await;
    let (flood, modest) = (Uuid::now_v7(), Uuid::now_v7());
    for _ in 0..200 {
        cluster.enqueue_for(flood).await;
    }
    // The front has moved on before the modest account comes.
    let mut served: Vec<Uuid> = cluster.claim("worker", 20).await.iter().map(|job| job.account).collect();
    assert!(served.iter().all(|account| *account == flood));
    served.clear();
    for _ in 0..10 {
        cluster.enqueue_for(modest).await;
    }
    while served.iter().filter(|account| **account == modest).count() < 10 {
        served.extend(cluster.claim("worker", 1).await.iter().map(|job| job.account));
    }
    assert!(served.len() <= 21, "ten jobs beside a flood were served within {} turns", served.len());
}

#[tokio::test]
async fn past_use_is_not_held_against_an_account() {
    let cluster = Cluster::new().await;
    let (regular, newcomer) = (Uuid::now_v7(), Uuid::now_v7());
    for _ in 0..50 {
        cluster.enqueue_for(regular).await;
        jobs::complete(&mut *cluster.connection().await, cluster.claim_only().await.lease).await.unwrap();
    }
    for _ in 0..10 {
        cluster.enqueue_for(newcomer).await;
    }
    cluster.enqueue_for(regular).await;
    let served: Vec<Uuid> = cluster.claim("worker", 3).await.iter().map(|job| job.account).collect();
    assert!(served.contains(&regular), "idle time is not saved up by a newcomer either");
}

#[tokio::test]
async fn cost_and_weight_set_the_share() {
    let cluster = Cluster::new().await;
    let (heavy, light) = (Uuid::now_v7(), Uuid::now_v7());
    for _ in 0..30 {
        cluster.enqueue(&NewJob { cost: 2.0, ..new_job(heavy) }).await;
        cluster.enqueue_for(light).await;
    }
    let served = cluster.claim("worker", 30).await;
    let of_light = served.iter().filter(|job| job.account == light).count();
    assert!((19..=21).contains(&of_light), "half the cost, twice the turns: {of_light} of 30");
}

#[tokio::test]
async fn an_account_with_weight_two_gets_two_turns_where_another_gets_one() {
    let cluster = Cluster::new().await;
    let (favoured, other) = (Uuid::now_v7(), Uuid::now_v7());
    jobs::set_weight(&mut *cluster.connection().await, KIND, favoured, 2.0).await.unwrap();
    jobs::set_weight(&mut *cluster.connection().await, "another kind", other, 9.0).await.unwrap();
    for _ in 0..30 {
        cluster.enqueue_for(other).await;
        cluster.enqueue_for(favoured).await;
    }
    let served = cluster.claim("worker", 30).await;
    let of_favoured = served.iter().filter(|job| job.account == favoured).count();
    assert!((19..=21).contains(&of_favoured), "{of_favoured} of 30");
}
