//! Secrets of webhooks as they are stored: sealed where there is a key, sealed anew where there is another, and never lost.

use std::sync::Arc;
use std::time::Duration;

use generation_status::SecretKeys;
use testkit::eventually;

use crate::cluster::{Cluster, Node};
use crate::receiver::Receiver;
use crate::webhooks::cluster;

const OLD: &str = "old-old-old-old-old-old-old-old-old";
const NEW: &str = "new-new-new-new-new-new-new-new-new";
const WITHIN: Duration = Duration::from_secs(20);

/// Another process on the same database, with these keys; the one before drains.
async fn restart(cluster: &mut Cluster, keys: &str) {
    cluster.config.webhooks.secrets = match keys {
        "" => Arc::default(),
        keys => Arc::new(SecretKeys::parse(keys).unwrap()),
    };
    cluster.node = Node::start(&cluster.config).await;
}

async fn stored(cluster: &Cluster) -> Vec<Vec<u8>> {
    let query = sqlx::query_scalar(
        "select secret from webhook_endpoints union all
         select previous_secret from webhook_endpoints where previous_secret is not null",
    );
    query.fetch_all(&cluster.pool).await.unwrap()
}

/// Waits until what is stored is as `wanted` says.
async fn sealed(cluster: &Cluster, what: &str, wanted: impl Fn(&[u8]) -> bool) -> Vec<Vec<u8>> {
    let all = async || Some(stored(cluster).await).filter(|stored| stored.iter().all(|secret| wanted(secret)));
    eventually(what, WITHIN, all).await.unwrap()
}

#[tokio::test]
async fn secrets_are_sealed_anew_and_go_on_signing_while_keys_change() {
    let (mut cluster, mut receiver) = (cluster().await, Receiver::open().await);
    let user = cluster.user(0).await;
    let endpoint = cluster.endpoint(&user, &receiver.url, Vec::new()).await.unwrap();
    assert_eq!(stored(&cluster).await[0].len(), 32, "without a key, as it is");

    // What was stored in the clear is sealed when there is a key, and a new secret at once.
    restart(&mut cluster, OLD).await;
    let first = sealed(&cluster, "what was in the clear is sealed", |secret| secret.len() == 65).await;
    let rotated = cluster.rotate(&user, &endpoint.name, false).await.unwrap();
    assert!(stored(&cluster).await.iter().all(|secret| secret.len() == 65));
    cluster.test_endpoint(&user, &endpoint.name).await.unwrap();
    let got = receiver.next().await;
    assert!(got.is_signed_by(&rotated.secret) && got.is_signed_by(&endpoint.secret));

    // A new key before the old one: both are sealed anew by it, and the old one may go.
    let of_old = first[0][1..5].to_vec();
    restart(&mut cluster, &format!("{NEW},{OLD}")).await;
    sealed(&cluster, "all are of the new key", |secret| secret.len() == 65 && secret[1..5] != of_old).await;
    restart(&mut cluster, NEW).await;
    cluster.test_endpoint(&user, &endpoint.name).await.unwrap();
    let got = receiver.next().await;
    assert!(got.is_signed_by(&rotated.secret) && got.is_signed_by(&endpoint.secret));
}

#[tokio::test]
async fn a_delivery_whose_secret_no_key_opens_waits_and_is_not_lost() {
    let (mut cluster, mut receiver) = (cluster().await, Receiver::open().await);
    let user = cluster.user(0).await;
    restart(&mut cluster, OLD).await;
    let endpoint = cluster.endpoint(&user, &receiver.url, Vec::new()).await.unwrap();
    restart(&mut cluster, NEW).await;
    cluster.test_endpoint(&user, &endpoint.name).await.unwrap();
    let waits = async || {
        let query = "select count(*) from webhook_deliveries
                     where state = 1 and job_id is null and due_time > now() + make_interval(secs => 30)";
        (sqlx::query_scalar::<_, i64>(query).fetch_one(&cluster.pool).await.unwrap() == 1).then_some(())
    };
    eventually("it waits, and no attempt is counted", WITHIN, waits).await.unwrap();
    let attempts: i64 =
        sqlx::query_scalar("select count(*) from webhook_attempts").fetch_one(&cluster.pool).await.unwrap();
    assert_eq!(attempts, 0);
    // The key is put back, and a minute passes.
    restart(&mut cluster, &format!("{NEW},{OLD}")).await;
    sqlx::query("update webhook_deliveries set due_time = now()").execute(&cluster.pool).await.unwrap();
    assert!(receiver.next().await.is_signed_by(&endpoint.secret));
}

#[tokio::test]
async fn a_sealed_secret_is_of_no_use_in_another_endpoints_row() {
    let (mut cluster, _receiver) = (cluster().await, Receiver::open().await);
    restart(&mut cluster, OLD).await;
    let (one, two) = (cluster.user(0).await, cluster.user(0).await);
    let mine = cluster.endpoint(&one, "http://127.0.0.1:1/", Vec::new()).await.unwrap();
    cluster.endpoint(&two, "http://127.0.0.1:1/", Vec::new()).await.unwrap();
    // Whoever writes the table cannot have our signatures made with the secret of another account.
    sqlx::query("update webhook_endpoints set secret = (select secret from webhook_endpoints where account_id = $2) where account_id = $1")
        .bind(one.account)
        .bind(two.account)
        .execute(&cluster.pool)
        .await
        .unwrap();
    cluster.test_endpoint(&one, &mine.name).await.unwrap();
    let waits = async || {
        let query =
            "select count(*) from webhook_deliveries where state = 1 and due_time > now() + make_interval(secs => 30)";
        (sqlx::query_scalar::<_, i64>(query).fetch_one(&cluster.pool).await.unwrap() == 1).then_some(())
    };
    eventually("it is not sent", WITHIN, waits).await.unwrap();
}
