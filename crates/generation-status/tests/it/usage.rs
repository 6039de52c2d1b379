//! Usage: the sums of days, models and end users, their pages, and what they cost to read.

use proto::credits::v1::usage_query::Dimension;
use proto::credits::v1::{
    GetAccountUsageRequest, GetAccountUsageResponse, GetUsageRequest, GetUsageResponse, Usage, UsageQuery,
};
use proto::generations::v1::{CancelGenerationRequest, StartGenerationRequest};
use proto::work::v1::{self as work, CompleteWorkRequest, FailureClass};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::cluster::{Cluster, PRICE, User, refusal};
use crate::worker::{ORDERED_MS, VIDEO_BYTES, Worker, completion};

async fn usage(cluster: &Cluster, user: &User, query: UsageQuery) -> Result<GetUsageResponse, Status> {
    let request = user.asks(GetUsageRequest { query: Some(query) });
    Ok(cluster.node.usage.clone().get_usage(request).await?.into_inner())
}

async fn account_usage(cluster: &Cluster, user: &User, query: UsageQuery) -> Result<GetAccountUsageResponse, Status> {
    let request = GetAccountUsageRequest { account: format!("accounts/{}", user.account), query: Some(query) };
    Ok(cluster.node.usage.clone().get_account_usage(request).await?.into_inner())
}

fn by(dimensions: &[Dimension]) -> UsageQuery {
    UsageQuery { group_by: dimensions.iter().map(|one| (*one).into()).collect(), ..UsageQuery::default() }
}

/// Started, completed, failed, cancelled, and what it cost.
fn counts(usage: &Usage) -> (i64, i64, i64, i64, i64) {
    let Usage { started_count, completed_count, failed_count, cancelled_count, captured_micros, .. } = *usage;
    (started_count, completed_count, failed_count, cancelled_count, captured_micros)
}

#[tokio::test]
async fn what_was_started_and_ended_is_counted_with_its_money() {
    let cluster = Cluster::new().await;
    let (user, foreign) = (cluster.user(9).await, cluster.user(0).await);
    let mut worker = Worker::new(&cluster, 1).await;
    let start = async |end_user: &str| {
        let request = StartGenerationRequest { end_user: end_user.to_owned(), ..user.start_request() };
        cluster.start(&user, request).await.unwrap().name
    };
    start("ada").await;
    let work = worker.next().await;
    worker.submitted(&work).await.unwrap();
    worker.finalizing(&work).await.unwrap();
    worker.complete_with(&work, 1_600).await.unwrap();
    start("brahe").await;
    worker.free(1).await;
    let work = worker.next().await;
    worker.submitted(&work).await.unwrap();
    worker.finalizing(&work).await.unwrap();
    worker.register_output(&work.account, VIDEO_BYTES).await;
    let cost = work::Usage { provider_cost_micros: Some(15_000), ..work::Usage::default() };
    let completed = CompleteWorkRequest { usage: Some(cost), ..completion(work.lease.clone(), ORDERED_MS) };
    cluster.node.works.clone().complete_work(completed).await.unwrap();
    start("ada").await;
    worker.free(1).await;
    let work = worker.next().await;
    worker.fail(&work, FailureClass::InvalidInput).await.unwrap();
    let name = start("").await;
    cluster.node.generations.clone().cancel_generation(user.asks(CancelGenerationRequest { name })).await.unwrap();
    start("").await;

    let total = (5, 2, 1, 1, 20_000 + PRICE);
    let one = usage(&cluster, &user, by(&[])).await.unwrap();
    assert_eq!((one.rows.len(), counts(&one.rows[0]), counts(&one.total.unwrap())), (1, total, total));
    let today: String = sqlx::query_scalar("select utc_day(now())::text").fetch_one(&cluster.pool).await.unwrap();
    let all = usage(&cluster, &user, by(&[Dimension::EndUser, Dimension::Day, Dimension::Model])).await.unwrap();
    let rows: Vec<_> =
        all.rows.iter().map(|row| (row.day.as_str(), row.model.as_str(), row.end_user.as_str(), counts(row))).collect();
    let model = "models/local-sketch";
    let expected = [
        (today.as_str(), model, "", (2, 0, 0, 1, 0)),
        (today.as_str(), model, "ada", (2, 1, 1, 0, 20_000)),
        (today.as_str(), model, "brahe", (1, 1, 0, 0, PRICE)),
    ];
    assert_eq!(rows, expected);
    assert_eq!(counts(&all.total.unwrap()), total);
    let ada = UsageQuery { end_user: "ada".to_owned(), ..by(&[Dimension::Model]) };
    assert_eq!(counts(&usage(&cluster, &user, ada).await.unwrap().rows[0]), (2, 1, 1, 0, 20_000));
    let other = UsageQuery { model: "models/other".to_owned(), ..by(&[Dimension::Day]) };
    let none = usage(&cluster, &user, other).await.unwrap();
    assert_eq!((none.rows.len(), counts(&none.total.unwrap())), (0, (0, 0, 0, 0, 0)));
    assert_eq!(counts(&usage(&cluster, &foreign, by(&[])).await.unwrap().total.unwrap()), (0, 0, 0, 0, 0));

    let internal = account_usage(&cluster, &user, by(&[Dimension::EndUser])).await.unwrap();
    let costs: Vec<_> = internal.rows.iter().map(|row| row.provider_cost_micros).collect();
    assert_eq!((costs, internal.total.as_ref().unwrap().provider_cost_micros), (vec![0, 0, 15_000], 15_000));
    assert_eq!(counts(&internal.total.unwrap().usage.unwrap()), total);
}

/// Rows of `days` days with two models and two end users each, the last of them yesterday.
async fn history(cluster: &Cluster, user: &User, days: i32) {
    sqlx::query(
        "insert into usage_daily (account_id, day, model, end_user, started, completed, captured_micros)
         select $1, utc_day(now()) - past, model, end_user, 3, 2, 10
         from generate_series(1, $2) past, unnest(array['a', 'b']) model, unnest(array['ada', 'brahe']) end_user",
    )
    .bind(user.account)
    .bind(days)
    .execute(&cluster.pool)
    .await
    .unwrap();
}

async fn day(cluster: &Cluster, past: i32) -> String {
    let day = sqlx::query_scalar("select (utc_day(now()) - $1)::text").bind(past);
    day.fetch_one(&cluster.pool).await.unwrap()
}

async fn forget(cluster: &Cluster) {
    sqlx::query("delete from usage_daily").execute(&cluster.pool).await.unwrap();
}

#[tokio::test]
async fn days_are_those_asked_for_by_pages_that_leave_none_out() {
    let cluster = Cluster::new().await;
    let user = cluster.user(0).await;
    history(&cluster, &user, 40).await;
    let last_thirty = usage(&cluster, &user, by(&[Dimension::Day])).await.unwrap();
    assert_eq!((last_thirty.rows.len(), last_thirty.rows[0].day.clone()), (29, day(&cluster, 29).await), "and today");
    let (first_day, last_day) = (day(&cluster, 35).await, day(&cluster, 26).await);
    let ten = UsageQuery { first_day, last_day, ..by(&[Dimension::Day, Dimension::Model]) };
    let all = usage(&cluster, &user, ten.clone()).await.unwrap();
    assert_eq!((all.rows.len(), all.total.as_ref().unwrap().captured_micros), (20, 400));
    let (mut rows, mut page_token) = (Vec::new(), String::new());
    loop {
        let page = usage(&cluster, &user, UsageQuery { page_size: 7, page_token, ..ten.clone() }).await.unwrap();
        assert_eq!(page.total, all.total);
        rows.extend(page.rows);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(rows, all.rows);
    let token = usage(&cluster, &user, UsageQuery { page_size: 7, ..ten.clone() }).await.unwrap().next_page_token;
    let forged = (Code::InvalidArgument, "PAGE_TOKEN_INVALID".to_owned());
    let other = UsageQuery { page_token: token.clone(), ..by(&[Dimension::Day]) };
    assert_eq!(refusal(usage(&cluster, &user, other).await), forged, "another query's");
    let foreign = cluster.user(0).await;
    let theirs = usage(&cluster, &foreign, UsageQuery { page_token: token, ..ten }).await;
    assert_eq!(refusal(theirs), forged, "another account's");
    forget(&cluster).await;
}

#[tokio::test]
async fn a_wrong_query_is_refused() {
    let cluster = Cluster::new().await;
    let user = cluster.user(0).await;
    let query = |first: &str, last: &str| UsageQuery {
        first_day: first.to_owned(),
        last_day: last.to_owned(),
        ..UsageQuery::default()
    };
    for wrong in [
        query("2026-11-01", ""),
        query("", "2026-11-01"),
        query("2026-11-02", "2026-11-01"),
        query("2025-11-01", "2026-11-02"),
        query("2026-11-31", "2026-12-01"),
        UsageQuery { group_by: vec![0], ..UsageQuery::default() },
        UsageQuery { group_by: vec![4], ..UsageQuery::default() },
        UsageQuery { group_by: vec![1; 9], ..UsageQuery::default() },
        UsageQuery { model: "sketch".to_owned(), ..UsageQuery::default() },
        UsageQuery { end_user: "two\nlines".to_owned(), ..UsageQuery::default() },
        UsageQuery { page_size: -1, ..UsageQuery::default() },
    ] {
        let refused = refusal(usage(&cluster, &user, wrong.clone()).await);
        assert_eq!(refused, (Code::InvalidArgument, "INPUT_SCHEMA_VIOLATION".to_owned()), "{wrong:?}");
    }
    usage(&cluster, &user, query("2025-11-02", "2026-11-02")).await.unwrap();
    let nobody = User { account: Uuid::now_v7(), ..user };
    assert!(
        account_usage(&cluster, &nobody, UsageQuery::default()).await.unwrap().rows[..]
            .iter()
            .all(|row| row.usage.is_none())
    );
    let mut client = cluster.node.usage.clone();
    assert_eq!(refusal(client.get_usage(GetUsageRequest::default()).await).0, Code::Unauthenticated);
    let malformed = GetAccountUsageRequest { account: "me".to_owned(), query: None };
    assert_eq!(refusal(client.get_account_usage(malformed).await).0, Code::InvalidArgument);
}
