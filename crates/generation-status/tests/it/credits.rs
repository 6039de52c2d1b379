//! Grants and balances.

use proto::credits::v1::GrantCreditsRequest;
use tonic::Code;
use uuid::Uuid;

use crate::world::{User, World, refusal};

#[tokio::test]
async fn the_same_request_grants_once() {
    let world = World::new().await;
    let user = world.user(0).await;
    assert_eq!(world.credit(&user).await.available_micros, 0);
    let request = Uuid::now_v7();
    for _ in 0..3 {
        assert_eq!(world.grant(&user, 700, request).await.unwrap().available_micros, 700);
    }
    let other = world.grant(&user, 701, request).await;
    assert_eq!(refusal(other), (Code::AlreadyExists, "REQUEST_ID_REUSED".to_owned()));
    assert_eq!(world.grant(&user, 300, Uuid::now_v7()).await.unwrap().available_micros, 1_000);
    let parallel = Uuid::now_v7();
    let grants = (0..20).map(|_| world.grant(&user, 1, parallel));
    assert!(futures::future::join_all(grants).await.iter().all(Result::is_ok));
    assert_eq!(world.credit(&user).await.available_micros, 1_001);
}

#[tokio::test]
async fn what_is_wrong_is_refused() {
    let world = World::new().await;
    let user = world.user(0).await;
    for amount in [0, -1, i64::MIN, i64::MAX] {
        let granted = world.grant(&user, amount, Uuid::now_v7()).await;
        assert_eq!(refusal(granted), (Code::InvalidArgument, "INPUT_SCHEMA_VIOLATION".to_owned()));
    }
    let nobody = User { account: Uuid::now_v7(), ..user };
    let granted = world.grant(&nobody, 1, Uuid::now_v7()).await;
    assert_eq!(refusal(granted), (Code::NotFound, "ACCOUNT_NOT_FOUND".to_owned()));
    let malformed = GrantCreditsRequest { account: "me".to_owned(), amount_micros: 1, request_id: "1".to_owned() };
    let granted = world.process.credits.clone().grant_credits(malformed).await;
    assert_eq!(refusal(granted).0, Code::InvalidArgument);
}
