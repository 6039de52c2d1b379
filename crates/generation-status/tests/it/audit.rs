//! What operators do here stands in the audit log, once, in the transaction of the act.

use chassis::request::caller::Caller;
use proto::generations::v1::charge::ProviderCharge;
use proto::generations::v1::resolve_generation_request::Resolution;
use proto::queues::v1::{SetAccountRunningLimitRequest, SetAccountWeightRequest};
use sqlx::FromRow;
use tonic::Request;
use uuid::Uuid;

use crate::cluster::{Cluster, PRICE};
use crate::queues::{expired, pause, quick, requeue, resume};
use crate::submissions::{resolve, unconfirmed};

#[derive(Debug, FromRow)]
struct Entry {
    act: String,
    actor: String,
    subject: String,
    detail: serde_json::Value,
}

/// The entries of an account, or of what is nobody's, oldest first; those of its creation by the test's own hand left out.
async fn entries(cluster: &Cluster, account: Option<Uuid>) -> Vec<Entry> {
    let query = sqlx::query_as(
        "select act, actor, subject, detail from audit_entries
         where account_id is not distinct from $1 and act <> 'account.create' and actor not like 'database:%' order by id",
    );
    query.bind(account).fetch_all(&cluster.pool).await.unwrap()
}

fn acts(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.act.as_str()).collect()
}

#[tokio::test]
async fn credits_shares_and_pauses_are_entered_with_who_and_what() {
    let cluster = Cluster::new().await;
    let user = cluster.user(0).await;
    let before = entries(&cluster, Some(user.account)).await.len();
    let request = Uuid::now_v7();
    cluster.grant(&user, 5, request).await.unwrap();
    cluster.grant(&user, 5, request).await.unwrap();
    cluster.adjust(&user, -2, "a correction", Uuid::now_v7()).await.unwrap();
    cluster.adjust(&user, -50, "too much", Uuid::now_v7()).await.expect_err("it is more than there is");
    let account = format!("accounts/{}", user.account);
    let mut queues = cluster.node.queues.clone();
    let operator = Uuid::now_v7();
    let mut weight = Request::new(SetAccountWeightRequest { account: account.clone(), weight: 2.0 });
    Caller::account(operator).attach(&mut weight);
    queues.set_account_weight(weight).await.unwrap();
    for limit in [Some(3), Some(3), None] {
        let request = SetAccountRunningLimitRequest { account: account.clone(), limit };
        queues.set_account_running_limit(request).await.unwrap();
    }
    let log = entries(&cluster, Some(user.account)).await;
    let log = &log[before..];
    assert_eq!(
        acts(log),
        ["credits.grant", "credits.adjust", "account.weight", "account.running-limit", "account.running-limit"],
        "once for a request id, not for what was refused or changed nothing: {log:?}"
    );
    assert_eq!((log[0].detail["amount_micros"].as_i64(), log[0].actor.as_str()), (Some(5), "service: operator"));
    assert_eq!((&log[1].detail["amount_micros"], &log[1].detail["reason"]), (&(-2).into(), &"a correction".into()));
    assert_eq!(log[2].actor, format!("accounts/{operator}/apiKeys/{}", testkit::KEY));
    assert_eq!((log[3].detail["limit"].as_i64(), log[4].detail["limit"].as_str()), (Some(3), Some("default")));

    pause(&cluster, "models/local-sketch", "ada: away").await.unwrap();
    assert!(resume(&cluster, "models/local-sketch").await && !resume(&cluster, "models/local-sketch").await);
    let log = entries(&cluster, None).await;
    assert_eq!(acts(&log), ["queue.pause", "queue.resume"]);
    assert_eq!(
        (log[0].subject.as_str(), log[0].detail["note"].as_str()),
        ("generation/local-sketch", Some("ada: away"))
    );
}

#[tokio::test]
async fn what_is_done_to_a_generation_is_entered_and_what_is_refused_is_not() {
    let cluster = quick().await;
    let user = cluster.user(3).await;
    // While there is no worker that would take it.
    let letter = expired(&cluster, &user).await;
    let (_worker, _, name) = unconfirmed(&cluster, &user).await;
    resolve(&cluster, &user, &name, Resolution::Failed(ProviderCharge::Charged.into())).await.unwrap();
    resolve(&cluster, &user, &name, Resolution::Failed(ProviderCharge::Charged.into())).await.expect_err("it is over");
    let request = Uuid::now_v7();
    for _ in 0..2 {
        requeue(&cluster, &letter, request).await.unwrap();
    }
    requeue(&cluster, &letter, Uuid::now_v7()).await.expect_err("it was requeued");
    let log = entries(&cluster, Some(user.account)).await;
    let log: Vec<_> = log.iter().filter(|entry| entry.act.starts_with("generation.")).collect();
    let listed: Vec<_> = log.iter().map(|entry| (entry.act.as_str(), entry.subject.as_str())).collect();
    assert_eq!(listed, [("generation.resolve", name.as_str()), ("generation.requeue", letter.as_str())]);
    assert_eq!(log[0].detail["note"].as_str(), Some("ada: asked the provider"));
    assert_eq!(log[1].actor, format!("accounts/{}/apiKeys/{}", Uuid::nil(), testkit::KEY));
    assert_eq!(cluster.credit(&user).await.held_micros, PRICE);
}
