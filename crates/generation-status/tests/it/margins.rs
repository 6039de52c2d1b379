//! Margins of accounts: one price from the quote to the charge, and none that changes once an order has begun.

use chassis::request::caller::Caller;
use proto::credits::v1::{GetMarginRequest, Margin, SetMarginRequest};
use proto::generations::v1::{BatchStartGenerationsRequest, Generation, StartGenerationRequest, State};
use proto::models::v1::model_service_client::ModelServiceClient;
use proto::models::v1::{GetModelRequest, Model};
use tonic::{Code, Request, Status};
use uuid::Uuid;

use crate::cluster::{Cluster, Node, User, refusal};
use crate::orders::{ENTRY, Folder, harbour, next_work, request};

/// Eight seconds with sound, at the catalogue's price.
const EIGHT_SECONDS: i64 = 1_344_000;

async fn set(node: &Node, user: &User, margin: &str) -> Result<Margin, Status> {
    let request = SetMarginRequest { account: format!("accounts/{}", user.account), margin: margin.to_owned() };
    let mut request = Request::new(request);
    Caller::account(Uuid::nil()).attach(&mut request);
    Ok(node.credits.clone().set_margin(request).await?.into_inner())
}

async fn margin(cluster: &Cluster, user: &User) -> String {
    let request = GetMarginRequest { account: format!("accounts/{}", user.account) };
    cluster.node.credits.clone().get_margin(request).await.unwrap().into_inner().margin
}

async fn model(cluster: &Cluster, user: &User) -> Model {
    let request = user.asks(GetModelRequest { name: "models/clip".to_owned() });
    ModelServiceClient::new(cluster.node.doors()).get_model(request).await.unwrap().into_inner()
}

fn rates(model: &Model) -> Vec<&str> {
    model.prices.iter().flat_map(|price| &price.rows).map(|row| row.credits.as_str()).collect()
}

fn held(generation: &Generation) -> i64 {
    generation.charge.as_ref().unwrap().held_micros
}

/// The unit prices of a generation's lines.
fn paid(generation: &Generation) -> Vec<&str> {
    generation.charge.as_ref().unwrap().lines.iter().map(|line| line.unit_price.as_str()).collect()
}

async fn quote(cluster: &Cluster, user: &User) -> i64 {
    let asked = StartGenerationRequest { validate_only: true, ..request(user, harbour()) };
    held(&cluster.start(user, asked).await.unwrap())
}

async fn made(cluster: &Cluster, milliseconds: i64) {
    let (worker, work) = next_work(cluster).await;
    worker.submitted(&work).await.unwrap();
    worker.finalizing(&work).await.unwrap();
    worker.complete_with(&work, milliseconds).await.unwrap();
}

#[tokio::test]
async fn quote_hold_charge_lines_and_what_a_model_tells_have_one_price() {
    let folder = Folder::new(&ENTRY.replace("price = ", "markup = \"1.1\"\nprice = "));
    let cluster = folder.cluster().await;
    let (user, other) = (cluster.user(100).await, cluster.user(100).await);
    // By another process, so that the one that starts has not heard of it.
    let elsewhere = Node::start(&cluster.config).await;
    set(&elsewhere, &user, "0.333").await.unwrap();
    // 0.168 × 1.1 × 0.333, exactly.
    let told = model(&cluster, &user).await;
    assert_eq!((rates(&told), told.price_micros), (vec!["0.0615384", "0.0410256"], 492_308));
    assert_eq!(rates(&model(&cluster, &other).await), ["0.1848", "0.1232"], "the margin is one account's");

    assert_eq!(quote(&cluster, &user).await, 492_308);
    let started = cluster.start(&user, request(&user, harbour())).await.unwrap();
    assert_eq!((held(&started), paid(&started)), (492_308, vec!["0.0615384"]));
    made(&cluster, 5_000).await;
    let done = cluster.get(&user, &started.name).await.unwrap();
    assert_eq!((done.state(), done.charge.as_ref().unwrap().captured_micros), (State::Completed, 307_692));
    assert_eq!(paid(&done), ["0.0615384"]);
    let booked = cluster.all_entries(&user, 10).await;
    let booked: Vec<_> = booked.iter().flat_map(|entry| &entry.lines).map(|line| line.unit_price.as_str()).collect();
    assert_eq!(booked, ["0.0615384"; 2], "the capture and the hold");
    assert_eq!(held(&cluster.start(&other, request(&other, harbour())).await.unwrap()), 1_478_400);
}

#[tokio::test]
async fn a_margin_is_of_the_next_start_and_of_none_that_has_begun() {
    let folder = Folder::new(ENTRY);
    let cluster = folder.cluster().await;
    let user = cluster.user(1_000).await;
    let elsewhere = Node::start(&cluster.config).await;
    let asked = request(&user, harbour());
    let before = cluster.start(&user, asked.clone()).await.unwrap();
    set(&elsewhere, &user, "2").await.unwrap();
    assert_eq!(held(&cluster.start(&user, asked.clone()).await.unwrap()), EIGHT_SECONDS, "a repetition finds it");
    made(&cluster, 8_000).await;
    let charged = cluster.get(&user, &before.name).await.unwrap().charge.unwrap();
    assert_eq!((charged.captured_micros, charged.lines[0].unit_price.as_str()), (EIGHT_SECONDS, "0.168"));

    let batch = async || {
        let requests = vec![request(&user, harbour()), request(&user, harbour())];
        let batch = user.asks(BatchStartGenerationsRequest { requests });
        cluster.node.generations.clone().batch_start_generations(batch).await.unwrap().into_inner().generations
    };
    assert_eq!(batch().await.iter().map(held).collect::<Vec<_>>(), [2 * EIGHT_SECONDS; 2]);
    // What this process believes is too dear for the maximum, and what the account has is not.
    set(&elsewhere, &user, "0.5").await.unwrap();
    let limited = |max| StartGenerationRequest { max_price_micros: Some(max), ..request(&user, harbour()) };
    let cheap = cluster.start(&user, limited(EIGHT_SECONDS / 2)).await.unwrap();
    assert_eq!(held(&cheap), EIGHT_SECONDS / 2);
    let above = (Code::FailedPrecondition, "PRICE_ABOVE_MAX".to_owned());
    assert_eq!(refusal(cluster.start(&user, limited(EIGHT_SECONDS / 2 - 1)).await), above);
    // Back to the catalogue's prices, also of a batch and of a check alone.
    set(&elsewhere, &user, "1").await.unwrap();
    assert_eq!(quote(&cluster, &user).await, EIGHT_SECONDS);
    assert_eq!(batch().await.iter().map(held).collect::<Vec<_>>(), [EIGHT_SECONDS; 2]);
    for _ in 0..5 {
        made(&cluster, 8_000).await;
    }
    let spent = EIGHT_SECONDS + 2 * 2 * EIGHT_SECONDS + EIGHT_SECONDS / 2 + 2 * EIGHT_SECONDS;
    assert_eq!(cluster.credit(&user).await.spent_micros, spent);
}

#[tokio::test]
async fn a_start_and_a_margin_at_once_leave_one_price_of_the_two() {
    let folder = Folder::new(ENTRY);
    let cluster = folder.cluster().await;
    let user = cluster.user(1_000).await;
    let elsewhere = Node::start(&cluster.config).await;
    for at in 0..20 {
        let (was, next) = if at % 2 == 0 { (1, "3") } else { (3, "1") };
        let (started, changed) =
            tokio::join!(cluster.start(&user, request(&user, harbour())), set(&elsewhere, &user, next));
        changed.unwrap();
        let started = started.unwrap();
        assert!([EIGHT_SECONDS, 3 * EIGHT_SECONDS].contains(&held(&started)), "{was} or {next}: {started:?}");
        let priced: f64 = paid(&started)[0].parse().unwrap();
        assert_eq!((priced * 8e6).round() as i64, held(&started), "the lines are of the same margin");
        cluster.cancel_many(&user, &[&started.name]).await;
    }
}

#[tokio::test]
async fn a_margin_that_is_none_is_refused_and_each_change_is_in_the_audit_log() {
    let cluster = Cluster::new().await;
    let user = cluster.user(0).await;
    for wrong in ["", "0", "0.0009", "1000.1", "-1", "1e2", "ten", "1.0000000000001"] {
        let refused = (Code::InvalidArgument, "INPUT_SCHEMA_VIOLATION".to_owned());
        assert_eq!(refusal(set(&cluster.node, &user, wrong).await), refused, "{wrong:?}");
    }
    let nobody = User { account: Uuid::now_v7(), ..user };
    let missing = (Code::NotFound, "ACCOUNT_NOT_FOUND".to_owned());
    assert_eq!(refusal(set(&cluster.node, &nobody, "2").await), missing);
    assert_eq!(margin(&cluster, &user).await, "1");
    for next in ["1.150", "1.15", "0.000000000001", "0.9"] {
        let _ = set(&cluster.node, &user, next).await;
    }
    assert_eq!(margin(&cluster, &user).await, "0.9");
    let log: Vec<(String, String)> = sqlx::query_as(
        "select actor, detail ->> 'margin' from audit_entries where act = 'account.margin' and account_id = $1 order by id",
    )
    .bind(user.account)
    .fetch_all(&cluster.pool)
    .await
    .unwrap();
    let operator = format!("accounts/{}/apiKeys/{}", Uuid::nil(), testkit::KEY);
    assert_eq!(log, [(operator.clone(), "1.15".to_owned()), (operator, "0.9".to_owned())], "each change once");
    // One that was never given credits has a margin, and its balance is none.
    assert_eq!(cluster.credit(&user).await.available_micros, 0);
}

#[tokio::test]
async fn a_price_beyond_all_credits_is_refused() {
    let folder = Folder::new(&ENTRY.replace("0.168", "2000000000"));
    let cluster = folder.cluster().await;
    let user = cluster.user(100).await;
    set(&cluster.node, &user, "1000").await.unwrap();
    assert_eq!(refusal(cluster.start(&user, request(&user, harbour())).await).1, "INSUFFICIENT_CREDIT");
    assert_eq!(model(&cluster, &user).await.prices.len(), 1);
}
