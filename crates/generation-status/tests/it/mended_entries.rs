//! Orders that were started with a wrong entry of the catalogue, once the entry is mended: they end, uncharged, and new ones do not
//! wait behind them.

use proto::generations::v1::charge::ProviderCharge;
use proto::generations::v1::{Generation, State, WaitReason};
use proto::models::v1::model;
use proto::work::v1::{ProviderCondition, Work};
use testkit::eventually;

use crate::cluster::{Cluster, User};
use crate::orders::{ENTRY, Folder, WAIT, harbour, next_work, request};
use crate::provider_health::{hasten, named, refused};
use crate::worker::Worker;

/// An order at the catalogue's price is held with so much.
const PRICE: i64 = 1_344_000;

/// The entry with this name of the model at its provider.
fn entry(remote_name: &str) -> String {
    ENTRY.replace("acme/clip", remote_name)
}

async fn start(cluster: &Cluster, user: &User) -> String {
    cluster.start(user, request(user, harbour())).await.unwrap().name
}

/// Waits until the model takes orders, or takes none.
async fn shows(cluster: &Cluster, user: &User, state: model::State) {
    let shown = async || (named(cluster, user, "models/clip").await.state() == state).then_some(());
    eventually(state.as_str_name(), WAIT, shown).await.unwrap();
}

/// The next order that is given out, while this name of the model is wrong.
async fn next(cluster: &Cluster) -> (Worker, Work, String) {
    hasten(cluster).await;
    let (worker, work) = next_work(cluster).await;
    let remote_name = work.order.as_ref().unwrap().model.clone();
    (worker, work, remote_name)
}

/// What a customer is told of an order that ended with its entry.
fn ended_with_its_entry(shown: &Generation) {
    let charge = shown.charge.as_ref().unwrap();
    assert_eq!(
        (shown.state(), charge.provider_charge(), charge.held_micros, charge.captured_micros),
        (State::Failed, ProviderCharge::NotCharged, 0, 0)
    );
    let error = shown.error.as_ref().unwrap();
    assert!(error.message.contains("was set up anew after this was started"), "{error:?}");
}

#[tokio::test]
async fn new_orders_do_not_wait_behind_those_of_a_wrong_entry() {
    let folder = Folder::new(&entry("acme/gone"));
    let cluster = folder.cluster().await;
    let user = cluster.user(200).await;
    let wrong = [start(&cluster, &user).await, start(&cluster, &user).await, start(&cluster, &user).await];
    let (worker, work, _) = next(&cluster).await;
    assert!(refused(&worker, &work, ProviderCondition::Misconfigured).await, "it waits while the entry is as it was");
    // While a worker serves it: without one it would be unavailable, too.
    let reason = async || {
        let unavailable = named(&cluster, &user, "models/clip").await.unavailability;
        unavailable.filter(|it| it.reason() == model::unavailability::Reason::Misconfigured)
    };
    eventually("the model is refused as it is set up", WAIT, reason).await.unwrap();
    drop(worker);
    // What users read names nobody's words; operators have them in the log and in the history.
    let waits = cluster.get(&user, &work.generation).await.unwrap();
    assert_eq!((waits.state(), waits.wait_reason()), (State::Queued, WaitReason::ProviderUnavailable));
    assert!(waits.error.is_none(), "{waits:?}");

    // The breaker closes with the entry that opened it.
    folder.write(&entry("acme/clip"));
    shows(&cluster, &user, model::State::Available).await;
    let right = start(&cluster, &user).await;
    let (mut refusals, mut made) = (0, 0);
    for _ in 0..4 {
        let (worker, work, remote_name) = next(&cluster).await;
        if remote_name == "acme/gone" {
            assert!(
                !refused(&worker, &work, ProviderCondition::Misconfigured).await,
                "no attempt of it would be taken"
            );
            refusals += 1;
        } else {
            worker.submitted(&work).await.unwrap();
            worker.finalizing(&work).await.unwrap();
            worker.complete_with(&work, 8_000).await.unwrap();
            made += 1;
        }
        assert_eq!(named(&cluster, &user, "models/clip").await.state(), model::State::Available);
    }
    assert_eq!((refusals, made), (3, 1));
    for name in &wrong {
        ended_with_its_entry(&cluster.get(&user, name).await.unwrap());
    }
    assert_eq!(cluster.get(&user, &right).await.unwrap().state(), State::Completed);
    let credit = cluster.credit(&user).await;
    assert_eq!((credit.held_micros, credit.spent_micros), (0, PRICE));
}

/// What a provider refuses of an entry before is no news of the present one: it neither opens its breaker nor prolongs it.
#[tokio::test]
async fn an_order_of_an_entry_before_passes_its_probe_on() {
    let folder = Folder::new(&entry("acme/gone"));
    let cluster = folder.cluster().await;
    let user = cluster.user(200).await;
    for _ in 0..2 {
        start(&cluster, &user).await;
    }
    let kept = async || {
        let query = sqlx::query_scalar("select entry_sha256 from model_providers where model = 'clip'");
        query.fetch_optional(&cluster.pool).await.unwrap().flatten()
    };
    let first: Vec<u8> = eventually("the first entry is kept", WAIT, kept).await.unwrap();
    folder.write(&entry("acme/gone-too"));
    eventually("the second entry is kept", WAIT, async || kept().await.filter(|entry| *entry != first)).await.unwrap();
    start(&cluster, &user).await;

    let mut worker = Worker::of(&cluster, "fal", 3).await;
    let mut all = [worker.next().await, worker.next().await, worker.next().await];
    all.sort_by_key(|work| work.order.as_ref().unwrap().model.clone());
    let names = all.each_ref().map(|work| work.order.as_ref().unwrap().model.as_str());
    assert_eq!(names, ["acme/gone", "acme/gone", "acme/gone-too"]);
    let [early, late, present] = &all;
    worker.release(late).await.unwrap();
    let breaker = async || {
        sqlx::query_as::<_, (i32, bool, bool)>(
            "select failures, probe_job is not null, probe_time <= now() from job_breakers where open_time is not null",
        )
        .fetch_optional(&cluster.pool)
        .await
        .unwrap()
    };
    assert!(refused(&worker, present, ProviderCondition::Misconfigured).await);
    assert_eq!(breaker().await, Some((1, false, false)));
    assert!(!refused(&worker, early, ProviderCondition::Misconfigured).await);
    assert_eq!(breaker().await, Some((1, false, false)), "it was no probe");
    let (worker, work, remote_name) = next(&cluster).await;
    assert_eq!((work.generation.as_str(), remote_name.as_str()), (late.generation.as_str(), "acme/gone"));
    assert_eq!(breaker().await, Some((1, true, false)));
    assert!(!refused(&worker, &work, ProviderCondition::Misconfigured).await);
    assert_eq!(breaker().await, Some((1, false, true)), "the next probe is due at once");
    ended_with_its_entry(&cluster.get(&user, &late.generation).await.unwrap());
}
