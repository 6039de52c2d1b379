//! What models cost at their providers beside what their entries say: noticed, said once, and never charged.

use std::time::Duration;

use proto::work::v1::{ListRemoteModelsRequest, ModelCost, Usage};
use testkit::eventually;

use crate::cluster::{Cluster, Node, User};
use crate::orders::{ENTRY, Folder, harbour, next_work, request};
use crate::worker::{VIDEO_BYTES, completion};

const WAIT: Duration = Duration::from_secs(20);
/// What eight seconds with sound are charged.
const CHARGED: i64 = 1_344_000;

/// The model, whose provider asks 0.1 a second and a cent for each order.
fn entry() -> String {
    let cost = r#"cost = [ { per = "second", rows = [ { credits = "0.1" } ] }, { per = "generation", rows = [ { credits = "0.01" } ] } ]"#;
    format!("{ENTRY}{cost}\n")
}

/// So many orders of eight seconds are made and cost so much each; their provider may not say.
async fn made(cluster: &Cluster, user: &User, count: usize, cost_micros: Option<i64>) {
    for _ in 0..count {
        let started = cluster.start(user, request(user, harbour())).await.unwrap();
        let (worker, work) = next_work(cluster).await;
        worker.submitted(&work).await.unwrap();
        worker.finalizing(&work).await.unwrap();
        worker.register_output(&work.account, VIDEO_BYTES).await;
        let mut done = completion(work.lease.clone(), 8_000);
        done.usage = Some(Usage { provider_cost_micros: cost_micros, ..Usage::default() });
        worker.works.clone().complete_work(done).await.unwrap();
        let charge = cluster.get(user, &started.name).await.unwrap().charge.unwrap();
        assert_eq!(charge.captured_micros, CHARGED, "whatever the provider asked");
    }
}

async fn model_cost(cluster: &Cluster) -> Option<ModelCost> {
    let answer = cluster.node.works.clone().list_remote_models(ListRemoteModelsRequest {}).await.unwrap();
    answer.into_inner().models.into_iter().find(|model| model.model == "models/clip").unwrap().cost
}

/// Since when the models have drifted of which that is noted.
async fn noted(cluster: &Cluster) -> Vec<(String, time::OffsetDateTime)> {
    sqlx::query_as("select model, since_time from provider_cost_alarms").fetch_all(&cluster.pool).await.unwrap()
}

#[tokio::test]
async fn a_bill_that_differs_is_noticed_once_and_its_end_as_well() {
    let folder = Folder::new(&entry());
    let cluster = folder.cluster_with(|config| config.work.reconcile_interval = Duration::from_millis(50)).await;
    let user = cluster.user(1_000).await;
    // Of two processes one says it.
    let _other = Node::start(&cluster.config).await;
    // Within a twentieth, and not told: neither is a drift.
    made(&cluster, &user, 4, Some(840_000)).await;
    made(&cluster, &user, 1, None).await;
    let now = model_cost(&cluster).await.unwrap();
    assert_eq!((now.expected_micros, now.cost_micros, now.outputs), (4 * 810_000, 4 * 840_000, 4));
    assert!(!now.drifted);
    made(&cluster, &user, 4, Some(1_000_000)).await;
    let now = model_cost(&cluster).await.unwrap();
    assert_eq!((now.expected_micros, now.cost_micros, now.outputs), (8 * 810_000, 7_360_000, 8));
    assert!(now.drifted, "13.6 % more");
    let since = eventually("it is noted", WAIT, async || noted(&cluster).await.pop()).await.unwrap();
    assert_eq!(since.0, "clip");
    // Rounds go by, and nothing more is noted of it.
    sqlx::query("update provider_costs set create_time = create_time - interval '23 hours'")
        .execute(&cluster.pool)
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(noted(&cluster).await, [since]);
    // What is older than a day does not count, and what is older than two days goes.
    sqlx::query("update provider_costs set create_time = create_time - interval '2 hours'")
        .execute(&cluster.pool)
        .await
        .unwrap();
    assert_eq!(model_cost(&cluster).await, None);
    let over = async || noted(&cluster).await.is_empty().then_some(());
    eventually("it is as expected", WAIT, over).await.unwrap();
    sqlx::query("update provider_costs set create_time = create_time - interval '1 day'")
        .execute(&cluster.pool)
        .await
        .unwrap();
    let gone = async || {
        let left: i64 =
            sqlx::query_scalar("select count(*) from provider_costs").fetch_one(&cluster.pool).await.unwrap();
        (left == 0).then_some(())
    };
    eventually("old rows are gone", WAIT, gone).await.unwrap();
}

#[tokio::test]
async fn a_model_without_a_cost_is_not_compared() {
    let folder = Folder::new(ENTRY);
    let cluster = folder.cluster_with(|_| {}).await;
    let user = cluster.user(1_000).await;
    made(&cluster, &user, 2, Some(9_000_000)).await;
    assert_eq!(model_cost(&cluster).await, None);
    let rows: i64 = sqlx::query_scalar("select count(*) from provider_costs").fetch_one(&cluster.pool).await.unwrap();
    assert_eq!(rows, 0);
}
