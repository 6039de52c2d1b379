//! The reconciler finds each planted violation and repairs it where nothing must be guessed; and the tables themselves refuse
//! what no code may write.

use std::time::Duration;

use proto::generations::v1::State;
use proto::generations::v1::charge::ProviderCharge;
use testkit::eventually;
use uuid::Uuid;

use crate::cluster::{Cluster, PRICE};
use crate::worker::Worker;

fn id(name: &str) -> Uuid {
    Uuid::try_parse(name.trim_start_matches("generations/")).unwrap()
}

#[tokio::test]
async fn a_generation_without_a_job_ends_and_its_hold_is_released() {
    let cluster = Cluster::with(|config| config.work.reconcile_interval = Duration::from_millis(50)).await;
    let user = cluster.user(1).await;
    let name = cluster.started(&user).await.name;
    sqlx::query("delete from jobs where id = $1").bind(id(&name)).execute(&cluster.pool).await.unwrap();
    let ended = eventually("the reconciler ends it", Duration::from_secs(20), async || {
        cluster.get(&user, &name).await.ok().filter(|generation| generation.state() == State::Failed)
    });
    let charge = ended.await.unwrap().charge.unwrap();
    assert_eq!((charge.released_micros, charge.provider_charge()), (PRICE, ProviderCharge::NotCharged));
    assert_eq!(cluster.credit(&user).await.available_micros, PRICE);
}

/// What the tables themselves refuse, whatever code writes them.
#[tokio::test]
async fn a_second_settlement_is_refused_by_the_table() {
    let cluster = Cluster::new().await;
    let user = cluster.user(2).await;
    let (completed, open) = (cluster.started(&user).await.name, cluster.started(&user).await.name);
    let mut worker = Worker::new(&cluster, 1).await;
    let work = worker.next().await;
    assert_eq!(work.generation, completed);
    worker.carry_out(&work).await;
    let settle = "insert into ledger (id, account_id, generation_id, entry, book, amount_micros)
                  select gen_random_uuid(), account_id, id, $2, 'held', -held_micros from generations where id = $1";
    for entry in ["capture", "release"] {
        let error = sqlx::query(settle).bind(id(&completed)).bind(entry).execute(&cluster.pool).await.unwrap_err();
        let constraint = error.as_database_error().unwrap().constraint().unwrap().to_owned();
        assert!(["ledger_once", "ledger_one_settlement"].contains(&constraint.as_str()), "{constraint}");
    }
    for (what, sql) in [
        ("ended without a settlement", "update generations set state = 7, end_time = now() where id = $1"),
        ("charged more than was held", "update generations set captured_micros = held_micros + 1 where id = $1"),
        (
            "a negative balance",
            "update credit_accounts set available_micros = -1 where account_id = (select account_id from generations where id = $1)",
        ),
        (
            "a second order beside a live one",
            "insert into provider_calls (generation_id, account_id, fence, provider, phase) select id, account_id, n, 'x', 'intent' from generations, generate_series(7, 8) n where id = $1",
        ),
        (
            "a reference that is none",
            "insert into provider_calls (generation_id, account_id, fence, provider, phase) select id, account_id, 7, 'x', 'known' from generations where id = $1",
        ),
    ] {
        let error = sqlx::query(sql).bind(id(&open)).execute(&cluster.pool).await.unwrap_err();
        assert!(error.as_database_error().is_some_and(|error| error.constraint().is_some()), "{what}: {error}");
    }
    worker.free(1).await;
    let work = worker.next().await;
    worker.carry_out(&work).await;
}
