//! Grants, corrections, balances, and what was booked.

use proto::credits::v1::credit_entry::Kind;
use proto::credits::v1::{AdjustCreditsRequest, CreditEntry, GrantCreditsRequest, ListCreditEntriesRequest};
use proto::work::v1::FailureClass;
use tonic::Code;
use uuid::Uuid;

use crate::cluster::{Cluster, PRICE, User, refusal};
use crate::worker::Worker;

#[tokio::test]
async fn the_same_request_grants_once() {
    let cluster = Cluster::new().await;
    let user = cluster.user(0).await;
    assert_eq!(cluster.credit(&user).await.available_micros, 0);
    let request = Uuid::now_v7();
    for _ in 0..3 {
        assert_eq!(cluster.grant(&user, 700, request).await.unwrap().available_micros, 700);
    }
    let other = cluster.grant(&user, 701, request).await;
    assert_eq!(refusal(other), (Code::AlreadyExists, "REQUEST_ID_REUSED".to_owned()));
    assert_eq!(cluster.grant(&user, 300, Uuid::now_v7()).await.unwrap().available_micros, 1_000);
    let parallel = Uuid::now_v7();
    let grants = (0..20).map(|_| cluster.grant(&user, 1, parallel));
    assert!(futures::future::join_all(grants).await.iter().all(Result::is_ok));
    assert_eq!(cluster.credit(&user).await.available_micros, 1_001);
}

#[tokio::test]
async fn an_invalid_grant_is_refused() {
    let cluster = Cluster::new().await;
    let user = cluster.user(0).await;
    for amount in [0, -1, i64::MIN, i64::MAX] {
        let granted = cluster.grant(&user, amount, Uuid::now_v7()).await;
        assert_eq!(refusal(granted), (Code::InvalidArgument, "INPUT_SCHEMA_VIOLATION".to_owned()));
    }
    let nobody = User { account: Uuid::now_v7(), ..user };
    let granted = cluster.grant(&nobody, 1, Uuid::now_v7()).await;
    assert_eq!(refusal(granted), (Code::NotFound, "ACCOUNT_NOT_FOUND".to_owned()));
    let malformed = GrantCreditsRequest { account: "me".to_owned(), amount_micros: 1, request_id: "1".to_owned() };
    let granted = cluster.node.credits.clone().grant_credits(malformed).await;
    assert_eq!(refusal(granted).0, Code::InvalidArgument);
}

#[tokio::test]
async fn the_same_request_adjusts_once_and_says_why() {
    let cluster = Cluster::new().await;
    let user = cluster.user(0).await;
    cluster.grant(&user, 1_000, Uuid::now_v7()).await.unwrap();
    let (up, down) = (Uuid::now_v7(), Uuid::now_v7());
    for _ in 0..3 {
        assert_eq!(cluster.adjust(&user, 500, "a bonus", up).await.unwrap().available_micros, 1_500);
    }
    for _ in 0..3 {
        assert_eq!(cluster.adjust(&user, -1_200, "paid twice", down).await.unwrap().available_micros, 300);
    }
    let reused = (Code::AlreadyExists, "REQUEST_ID_REUSED".to_owned());
    assert_eq!(refusal(cluster.adjust(&user, -1_200, "another reason", down).await), reused);
    assert_eq!(refusal(cluster.adjust(&user, -1_201, "paid twice", down).await), reused);
    assert_eq!(refusal(cluster.grant(&user, 500, up).await), reused, "a grant is no correction");
    let parallel = Uuid::now_v7();
    let adjustments = (0..20).map(|_| cluster.adjust(&user, -10, "fees", parallel));
    assert!(futures::future::join_all(adjustments).await.iter().all(Result::is_ok));
    assert_eq!(cluster.credit(&user).await.available_micros, 290);
    // One that was never given anything can be given something this way, too.
    let new = cluster.user(0).await;
    assert_eq!(cluster.adjust(&new, 7, "moved from elsewhere", Uuid::now_v7()).await.unwrap().available_micros, 7);
}

#[tokio::test]
async fn an_adjustment_never_makes_the_available_balance_negative() {
    let cluster = Cluster::new().await;
    let (user, new) = (cluster.user(2).await, cluster.user(0).await);
    cluster.started(&user).await;
    let below = (Code::FailedPrecondition, "BALANCE_BELOW_ZERO".to_owned());
    let request = Uuid::now_v7();
    assert_eq!(
        refusal(cluster.adjust(&user, -PRICE - 1, "too much", request).await),
        below,
        "what is held is not free"
    );
    assert_eq!(refusal(cluster.adjust(&new, -1, "too much", Uuid::now_v7()).await), below);
    assert_eq!(cluster.all_entries(&user, 10).await.len(), 2, "nothing was booked");
    assert_eq!(cluster.all_entries(&new, 10).await, Vec::new());
    // Ten at once for what is enough for five.
    let adjustments = (0..10).map(|_| cluster.adjust(&user, -PRICE / 5, "fees", Uuid::now_v7()));
    let (done, refused): (Vec<_>, Vec<_>) =
        futures::future::join_all(adjustments).await.into_iter().partition(Result::is_ok);
    assert_eq!((done.len(), refused.len()), (5, 5));
    assert!(refused.into_iter().all(|refused| refusal(refused) == below));
    assert_eq!(cluster.credit(&user).await.available_micros, 0);
    // What was refused was not done: the same request may be made again when there is enough.
    cluster.grant(&user, PRICE + 1, Uuid::now_v7()).await.unwrap();
    assert_eq!(cluster.adjust(&user, -PRICE - 1, "too much", request).await.unwrap().available_micros, 0);
}

#[tokio::test]
async fn a_wrong_adjustment_is_refused() {
    let cluster = Cluster::new().await;
    let user = cluster.user(1).await;
    let invalid = (Code::InvalidArgument, "INPUT_SCHEMA_VIOLATION".to_owned());
    for amount in [0, i64::MIN, i64::MAX] {
        assert_eq!(refusal(cluster.adjust(&user, amount, "why", Uuid::now_v7()).await), invalid, "{amount}");
    }
    for reason in ["", " ", "two\nlines", &"x".repeat(501)] {
        assert_eq!(refusal(cluster.adjust(&user, 1, reason, Uuid::now_v7()).await), invalid, "{reason:?}");
    }
    let nobody = User { account: Uuid::now_v7(), ..user };
    let missing = (Code::NotFound, "ACCOUNT_NOT_FOUND".to_owned());
    assert_eq!(refusal(cluster.adjust(&nobody, 1, "why", Uuid::now_v7()).await), missing);
    let malformed = AdjustCreditsRequest { account: "me".to_owned(), ..AdjustCreditsRequest::default() };
    assert_eq!(refusal(cluster.node.credits.clone().adjust_credits(malformed).await).0, Code::InvalidArgument);
    assert_eq!(cluster.all_entries(&user, 10).await.len(), 1);
}

/// What an entry says, without its name and time.
fn fields_of(entry: &CreditEntry) -> (Kind, &str, i64, i64, &str) {
    (entry.kind(), &entry.generation, entry.amount_micros, entry.available_change_micros, &entry.reason)
}

#[tokio::test]
async fn every_entry_is_listed_once_as_the_account_sees_it() {
    let cluster = Cluster::new().await;
    let (user, foreign) = (cluster.user(4).await, cluster.user(1).await);
    cluster.started(&foreign).await;
    let mut worker = Worker::new(&cluster, 1).await;
    // Another account's is carried out first, so that the next that is given out is the user's.
    let theirs = worker.next().await;
    worker.carry_out(&theirs).await;
    let completed = cluster.started(&user).await.name;
    worker.free(1).await;
    let work = worker.next().await;
    worker.carry_out(&work).await;
    let cheap = cluster.started(&user).await.name;
    worker.free(1).await;
    let work = worker.next().await;
    worker.submitted(&work).await.unwrap();
    worker.finalizing(&work).await.unwrap();
    worker.complete_with(&work, 1_600).await.unwrap();
    let failed = cluster.started(&user).await.name;
    worker.free(1).await;
    let work = worker.next().await;
    worker.fail(&work, FailureClass::InvalidInput).await.unwrap();
    cluster.adjust(&user, -30_000, "a refund elsewhere", Uuid::now_v7()).await.unwrap();
    let open = cluster.started(&user).await.name;

    let expected = [
        (Kind::Hold, open.as_str(), -PRICE, -PRICE, ""),
        (Kind::Adjust, "", -30_000, -30_000, "a refund elsewhere"),
        (Kind::Release, &failed, PRICE, PRICE, ""),
        (Kind::Hold, &failed, -PRICE, -PRICE, ""),
        (Kind::Capture, &cheap, -20_000, PRICE - 20_000, ""),
        (Kind::Hold, &cheap, -PRICE, -PRICE, ""),
        (Kind::Capture, &completed, -PRICE, 0, ""),
        (Kind::Hold, &completed, -PRICE, -PRICE, ""),
        (Kind::Grant, "", 4 * PRICE, 4 * PRICE, ""),
    ];
    let all = cluster.all_entries(&user, 100).await;
    assert_eq!(all.iter().map(fields_of).collect::<Vec<_>>(), expected);
    for size in [1, 2, 4] {
        assert_eq!(cluster.all_entries(&user, size).await, all, "by pages of {size}");
    }
    let credit = cluster.credit(&user).await;
    assert_eq!(all.iter().map(|entry| entry.available_change_micros).sum::<i64>(), credit.available_micros);
    let paid = all.iter().filter(|entry| entry.kind() == Kind::Capture);
    assert_eq!(paid.map(|entry| -entry.amount_micros).sum::<i64>(), credit.spent_micros);
    assert!(all.iter().all(|entry| entry.name.starts_with("creditAccount/entries/") && entry.create_time.is_some()));
}

#[tokio::test]
async fn pages_of_entries_are_the_accounts_own() {
    let cluster = Cluster::new().await;
    let (user, foreign) = (cluster.user(3).await, cluster.user(0).await);
    for _ in 0..3 {
        cluster.started(&user).await;
    }
    assert_eq!(cluster.all_entries(&foreign, 10).await, Vec::new());
    let token = cluster.entries(&user, 2, "").await.unwrap().next_page_token;
    assert!(!token.is_empty());
    let forged = (Code::InvalidArgument, "PAGE_TOKEN_INVALID".to_owned());
    assert_eq!(refusal(cluster.entries(&user, 2, "x").await), forged);
    assert_eq!(refusal(cluster.entries(&foreign, 2, &token).await), forged, "another account's");
    assert_eq!(refusal(cluster.entries(&user, -1, "").await).1, "INPUT_SCHEMA_VIOLATION");
    let mut anonymous = cluster.node.credits.clone();
    assert_eq!(
        refusal(anonymous.list_credit_entries(ListCreditEntriesRequest::default()).await).0,
        Code::Unauthenticated
    );
}
