//! End users: what is held and spent for each, and limits that no start passes.

use proto::credits::v1::end_user::Period;
use proto::credits::v1::{
    EndUser, GetEndUserRequest, ListEndUsersRequest, ListEndUsersResponse, SetEndUserLimitRequest,
};
use proto::generations::v1::{CancelGenerationRequest, Generation, RetryGenerationRequest, StartGenerationRequest};
use proto::work::v1::FailureClass;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::cluster::{Cluster, PRICE, User, refusal};
use crate::worker::Worker;

/// Starts an ordinary generation for an end user.
async fn start(cluster: &Cluster, user: &User, end_user: &str) -> Result<Generation, Status> {
    cluster.start(user, StartGenerationRequest { end_user: end_user.to_owned(), ..user.start_request() }).await
}

async fn limit(
    cluster: &Cluster,
    user: &User,
    end_user: &str,
    limit_micros: impl Into<Option<i64>>,
    period: Period,
) -> Result<EndUser, Status> {
    let (end_user, limit_micros, period) = (end_user.to_owned(), limit_micros.into(), period.into());
    let request = user.asks(SetEndUserLimitRequest { end_user, limit_micros, period });
    Ok(cluster.node.usage.clone().set_end_user_limit(request).await?.into_inner())
}

async fn get(cluster: &Cluster, user: &User, end_user: &str) -> EndUser {
    let request = user.asks(GetEndUserRequest { end_user: end_user.to_owned() });
    cluster.node.usage.clone().get_end_user(request).await.unwrap().into_inner()
}

async fn list(cluster: &Cluster, user: &User, page_size: i32, token: &str) -> Result<ListEndUsersResponse, Status> {
    let request = user.asks(ListEndUsersRequest { page_size, page_token: token.to_owned() });
    Ok(cluster.node.usage.clone().list_end_users(request).await?.into_inner())
}

/// Held, spent in the period, and spent in all.
fn money(end_user: &EndUser) -> (i64, i64, i64) {
    (end_user.held_micros, end_user.spent_micros, end_user.total_micros)
}

fn refused() -> (Code, String) {
    (Code::FailedPrecondition, "END_USER_LIMIT".to_owned())
}

#[tokio::test]
async fn what_is_held_and_spent_is_the_end_users_own() {
    let cluster = Cluster::new().await;
    let (user, foreign) = (cluster.user(9).await, cluster.user(9).await);
    let nobody = get(&cluster, &user, "ada").await;
    assert_eq!((money(&nobody), nobody.limit_micros, nobody.create_time), ((0, 0, 0), None, None));
    let mut worker = Worker::new(&cluster, 1).await;
    start(&cluster, &user, "ada").await.unwrap();
    assert_eq!(money(&get(&cluster, &user, "ada").await), (PRICE, 0, 0));
    let work = worker.next().await;
    worker.submitted(&work).await.unwrap();
    worker.finalizing(&work).await.unwrap();
    worker.complete_with(&work, 1_600).await.unwrap();
    assert_eq!(money(&get(&cluster, &user, "ada").await), (0, 20_000, 20_000), "what it cost, not what was held");

    start(&cluster, &user, "ada").await.unwrap();
    worker.free(1).await;
    let work = worker.next().await;
    worker.fail(&work, FailureClass::InvalidInput).await.unwrap();
    assert_eq!(money(&get(&cluster, &user, "ada").await), (0, 20_000, 20_000), "a failure costs nothing");

    start(&cluster, &user, "brahe").await.unwrap();
    cluster.started(&user).await;
    start(&cluster, &foreign, "ada").await.unwrap();
    assert_eq!(
        money(&get(&cluster, &user, "ada").await),
        (0, 20_000, 20_000),
        "another's, nobody's, another account's"
    );
    assert_eq!(money(&get(&cluster, &user, "brahe").await), (PRICE, 0, 0));
}

#[tokio::test]
async fn no_start_passes_the_limit() {
    let cluster = Cluster::new().await;
    let user = cluster.user(20).await;
    let set = limit(&cluster, &user, "ada", 2 * PRICE + 1, Period::Unspecified).await.unwrap();
    assert_eq!((set.limit_micros, set.period(), money(&set)), (Some(2 * PRICE + 1), Period::Total, (0, 0, 0)));
    let request = StartGenerationRequest { end_user: "ada".to_owned(), ..user.start_request() };
    let first = cluster.start(&user, request.clone()).await.unwrap();
    let second = start(&cluster, &user, "ada").await.unwrap();
    let rows = cluster.rows().await;
    let status = start(&cluster, &user, "ada").await.unwrap_err();
    let info = status.get_error_details().error_info().unwrap().clone();
    assert_eq!((status.code(), info.reason.as_str()), (Code::FailedPrecondition, "END_USER_LIMIT"));
    for (name, micros) in [("price_micros", PRICE), ("limit_micros", 2 * PRICE + 1), ("left_micros", 1)] {
        assert_eq!(info.metadata[name], micros.to_string(), "{name}");
    }
    let check = StartGenerationRequest { validate_only: true, ..request.clone() };
    assert_eq!(refusal(cluster.start(&user, check.clone()).await), refused());
    assert_eq!(cluster.rows().await, rows, "nothing is left of what was refused");
    assert_eq!(money(&get(&cluster, &user, "ada").await), (2 * PRICE, 0, 0));
    assert_eq!(cluster.start(&user, request).await.unwrap().name, first.name, "a repetition finds the first");
    start(&cluster, &user, "brahe").await.unwrap();
    cluster.started(&user).await;

    // What is released may be spent again, and a retry counts like a start.
    let cancel = CancelGenerationRequest { name: second.name.clone() };
    cluster.node.generations.clone().cancel_generation(user.asks(cancel)).await.unwrap();
    assert_eq!(money(&get(&cluster, &user, "ada").await), (PRICE, 0, 0));
    cluster.start(&user, check).await.unwrap();
    limit(&cluster, &user, "ada", 0, Period::Total).await.unwrap();
    assert_eq!(refusal(start(&cluster, &user, "ada").await), refused());
    limit(&cluster, &user, "ada", None, Period::Total).await.unwrap();
    start(&cluster, &user, "ada").await.unwrap();
    let retry = RetryGenerationRequest { name: second.name, request_id: Uuid::now_v7().to_string() };
    cluster.node.generations.clone().retry_generation(user.asks(retry)).await.unwrap();
}

#[tokio::test]
async fn of_many_starts_at_once_as_many_pass_as_the_limit_allows() {
    let cluster = Cluster::new().await;
    let user = cluster.user(20).await;
    limit(&cluster, &user, "ada", 5 * PRICE, Period::Day).await.unwrap();
    let starts = futures::future::join_all((0..12).map(|_| start(&cluster, &user, "ada"))).await;
    let (passed, rest): (Vec<_>, Vec<_>) = starts.into_iter().partition(Result::is_ok);
    assert_eq!(passed.len(), 5);
    assert!(rest.into_iter().all(|start| refusal(start) == refused()));
    assert_eq!(money(&get(&cluster, &user, "ada").await), (5 * PRICE, 0, 0));
}

#[tokio::test]
async fn a_limit_counts_what_its_period_has_seen() {
    let cluster = Cluster::new().await;
    let user = cluster.user(20).await;
    let mut worker = Worker::new(&cluster, 1).await;
    start(&cluster, &user, "ada").await.unwrap();
    let work = worker.next().await;
    worker.carry_out(&work).await;
    for (period, spent) in [(Period::Day, PRICE), (Period::Month, PRICE), (Period::Total, PRICE)] {
        let set = limit(&cluster, &user, "ada", PRICE, period).await.unwrap();
        assert_eq!((set.period(), set.spent_micros), (period, spent));
        assert_eq!(refusal(start(&cluster, &user, "ada").await), refused(), "{period:?}");
    }
    // The last time was in an earlier day, and then in an earlier month.
    for (last, passes) in [
        ("utc_day(now()) - 1", vec![Period::Day]),
        ("(date_trunc('month', utc_day(now())) - interval '1 day')::date", vec![Period::Day, Period::Month]),
    ] {
        let move_back = sqlx::AssertSqlSafe(format!("update end_users set last_day = {last}"));
        sqlx::raw_sql(move_back).execute(&cluster.pool).await.unwrap();
        let first_of_month: bool =
            sqlx::query_scalar("select extract(day from utc_day(now())) = 1").fetch_one(&cluster.pool).await.unwrap();
        for period in [Period::Day, Period::Month, Period::Total] {
            let over = passes.contains(&period) || (first_of_month && period == Period::Month);
            let set = limit(&cluster, &user, "ada", PRICE, period).await.unwrap();
            assert_eq!(set.spent_micros, if over { 0 } else { PRICE }, "{last}, {period:?}");
            assert_eq!(set.total_micros, PRICE);
            let check =
                StartGenerationRequest { end_user: "ada".to_owned(), validate_only: true, ..user.start_request() };
            assert_eq!(cluster.start(&user, check).await.is_ok(), over, "{last}, {period:?}");
        }
    }
    // A new month begins to count from nothing.
    limit(&cluster, &user, "ada", PRICE, Period::Month).await.unwrap();
    start(&cluster, &user, "ada").await.unwrap();
    worker.free(1).await;
    let work = worker.next().await;
    worker.carry_out(&work).await;
    let end_user = get(&cluster, &user, "ada").await;
    assert_eq!(money(&end_user), (0, PRICE, 2 * PRICE));
    assert_eq!(refusal(start(&cluster, &user, "ada").await), refused());
}

#[tokio::test]
async fn end_users_are_listed_to_their_account_alone() {
    let cluster = Cluster::new().await;
    let (user, foreign) = (cluster.user(9).await, cluster.user(0).await);
    for name in ["ada", "brahe", "curie"] {
        start(&cluster, &user, name).await.unwrap();
    }
    limit(&cluster, &user, "darwin", 7, Period::Month).await.unwrap();
    let names = |page: &ListEndUsersResponse| page.end_users.iter().map(|one| one.end_user.clone()).collect::<Vec<_>>();
    let first = list(&cluster, &user, 3, "").await.unwrap();
    assert_eq!(names(&first), ["darwin", "curie", "brahe"]);
    let last = list(&cluster, &user, 3, &first.next_page_token).await.unwrap();
    assert_eq!((names(&last), last.next_page_token.as_str()), (vec!["ada".to_owned()], ""));
    assert!(last.end_users[0].create_time.is_some());
    assert!(list(&cluster, &foreign, 0, "").await.unwrap().end_users.is_empty());
    let theirs = get(&cluster, &foreign, "darwin").await;
    assert_eq!((theirs.limit_micros, theirs.create_time), (None, None));
    let forged = list(&cluster, &foreign, 3, &first.next_page_token).await;
    assert_eq!(refusal(forged), (Code::InvalidArgument, "PAGE_TOKEN_INVALID".to_owned()));
}

#[tokio::test]
async fn a_wrong_limit_is_refused() {
    let cluster = Cluster::new().await;
    let user = cluster.user(0).await;
    let invalid = (Code::InvalidArgument, "INPUT_SCHEMA_VIOLATION".to_owned());
    for name in ["", " ", "two\nlines", &"x".repeat(201)] {
        assert_eq!(refusal(limit(&cluster, &user, name, 1, Period::Day).await), invalid, "{name:?}");
    }
    assert_eq!(refusal(limit(&cluster, &user, "ada", -1, Period::Day).await), invalid);
    let unknown = SetEndUserLimitRequest { end_user: "ada".to_owned(), limit_micros: None, period: 9 };
    assert_eq!(refusal(cluster.node.usage.clone().set_end_user_limit(user.asks(unknown)).await), invalid);
    let nobody = User { account: Uuid::now_v7(), ..user };
    let missing = limit(&cluster, &nobody, "ada", 1, Period::Day).await;
    assert_eq!(refusal(missing), (Code::NotFound, "ACCOUNT_NOT_FOUND".to_owned()));
    let anonymous = cluster.node.usage.clone().get_end_user(GetEndUserRequest { end_user: "ada".to_owned() }).await;
    assert_eq!(refusal(anonymous).0, Code::Unauthenticated);
    assert!(list(&cluster, &user, 0, "").await.unwrap().end_users.is_empty());
}
