//! Webhooks to users: what is sent where, in which order, and how often.

use std::time::Duration;

use chassis::egress::Reach;
use domain::generation::State;
use prost_types::FieldMask;
use proto::generations::v1::StartGenerationRequest;
use proto::webhooks::v1::delivery::State as Sent;
use proto::webhooks::v1::{
    CreateEndpointRequest, Delivery, Endpoint, GetEndpointRequest, ListDeliveriesRequest, RedeliverDeliveryRequest,
    RotateSecretRequest, TestEndpointRequest, UpdateEndpointRequest,
};
use testkit::{Database, eventually};
use tonic::{Code, Status};

use crate::binary::Binary;
use crate::cluster::{Cluster, Node, User, refusal};
use crate::receiver::{Got, Receiver, Reply};
use crate::worker::Worker;

/// The longest that a crowded machine may take.
const LONG: Duration = Duration::from_secs(30);

pub(crate) async fn cluster() -> Cluster {
    Cluster::with(|config| {
        config.webhooks.reach = Reach::Anywhere;
        config.work.reap_interval = Duration::from_millis(50);
    })
    .await
}

pub(crate) fn all_events() -> Vec<String> {
    State::ALL.map(|state| format!("generation.{}", state.as_str().to_lowercase())).to_vec()
}

impl Cluster {
    pub(crate) async fn endpoint(&self, user: &User, url: &str, event_types: Vec<String>) -> Result<Endpoint, Status> {
        let endpoint = Some(Endpoint { url: url.to_owned(), event_types, ..Endpoint::default() });
        let request = CreateEndpointRequest { endpoint, request_id: String::new() };
        Ok(self.node.webhooks.clone().create_endpoint(user.asks(request)).await?.into_inner())
    }

    pub(crate) async fn get_endpoint(&self, user: &User, name: &str) -> Result<Endpoint, Status> {
        let request = GetEndpointRequest { name: name.to_owned() };
        Ok(self.node.webhooks.clone().get_endpoint(user.asks(request)).await?.into_inner())
    }

    pub(crate) async fn test_endpoint(&self, user: &User, name: &str) -> Result<Delivery, Status> {
        let request = TestEndpointRequest { name: name.to_owned() };
        Ok(self.node.webhooks.clone().test_endpoint(user.asks(request)).await?.into_inner())
    }

    pub(crate) async fn rotate(&self, user: &User, name: &str, expire_previous: bool) -> Result<Endpoint, Status> {
        let request = RotateSecretRequest { name: name.to_owned(), expire_previous };
        Ok(self.node.webhooks.clone().rotate_secret(user.asks(request)).await?.into_inner())
    }

    pub(crate) async fn redeliver(&self, user: &User, name: &str) -> Result<Delivery, Status> {
        let request = RedeliverDeliveryRequest { name: name.to_owned() };
        Ok(self.node.webhooks.clone().redeliver_delivery(user.asks(request)).await?.into_inner())
    }

    pub(crate) async fn update(&self, user: &User, endpoint: Endpoint, paths: &[&str]) -> Result<Endpoint, Status> {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        let request = UpdateEndpointRequest { endpoint: Some(endpoint), update_mask: Some(FieldMask { paths }) };
        Ok(self.node.webhooks.clone().update_endpoint(user.asks(request)).await?.into_inner())
    }

    /// All deliveries, oldest first.
    pub(crate) async fn log(&self, user: &User, endpoint: &str) -> Vec<Delivery> {
        let request = ListDeliveriesRequest { parent: endpoint.to_owned(), page_size: 100, page_token: String::new() };
        let page = self.node.webhooks.clone().list_deliveries(user.asks(request)).await.unwrap().into_inner();
        page.deliveries.into_iter().rev().collect()
    }

    /// The log, once it is as `wanted` has it.
    pub(crate) async fn logged(
        &self,
        user: &User,
        endpoint: &str,
        wanted: impl Fn(&[Delivery]) -> bool,
    ) -> Vec<Delivery> {
        let log = eventually("the log", LONG, async || Some(self.log(user, endpoint).await).filter(|log| wanted(log)));
        log.await.unwrap()
    }

    /// Makes every delivery that waits for its next attempt due, as time would.
    pub(crate) async fn hasten_webhooks(&self) {
        sqlx::query("update webhook_deliveries set due_time = now() where state = 1 and job_id is null")
            .execute(&self.pool)
            .await
            .unwrap();
    }

    pub(crate) async fn notices(&self, user: &User) -> Vec<String> {
        sqlx::query_scalar("select body from notices where account_id = $1")
            .bind(user.account)
            .fetch_all(&self.pool)
            .await
            .unwrap()
    }
}

fn over(state: Sent) -> impl Fn(&[Delivery]) -> bool {
    move |log| !log.is_empty() && log.iter().all(|delivery| delivery.state() == state)
}

pub(crate) fn webhook_id(delivery: &Delivery) -> &str {
    delivery.name.rsplit('/').next().unwrap()
}

#[tokio::test]
async fn every_change_is_sent_in_order_and_signed() {
    let (cluster, mut receiver) = (cluster().await, Receiver::open().await);
    let user = cluster.user(1).await;
    let endpoint = cluster.endpoint(&user, &receiver.url, all_events()).await.unwrap();
    // Another account's endpoint hears nothing of it.
    let stranger = cluster.user(0).await;
    let theirs = cluster.endpoint(&stranger, &receiver.url, all_events()).await.unwrap();

    let labels = [("cut".to_owned(), "b".to_owned())].into();
    let started = cluster.start(&user, StartGenerationRequest { labels, ..user.start_request() }).await.unwrap();
    let mut worker = Worker::new(&cluster, 1).await;
    let work = worker.next().await;
    worker.carry_out(&work).await;
    let mut got = Vec::new();
    for _ in 0..5 {
        got.push(receiver.next().await);
    }
    let events: Vec<_> = got.iter().map(Got::event).collect();
    let events: Vec<_> = events.iter().map(|event| event.trim_start_matches("generation.")).collect();
    assert_eq!(events, ["queued", "submitting", "processing", "finalizing", "completed"]);
    assert!(got.is_sorted_by(|a, b| a.version() < b.version()));
    for got in &got {
        assert_eq!(got.json()["data"]["labels"], serde_json::json!({"cut": "b"}));
        assert!(got.is_signed_by(&endpoint.secret), "{}", got.header("webhook-signature"));
        assert!(!got.is_signed_by(&theirs.secret));
        assert_eq!(got.header("content-type"), "application/json");
        assert_eq!(got.json()["data"]["name"], started.name);
        assert_eq!(format!("generation.{}", got.json()["data"]["state"].as_str().unwrap().to_lowercase()), got.event());
    }
    // What is sent is what is shown, as it was then.
    assert_eq!(got[0].json()["data"]["progress"]["percent"].as_i64().unwrap_or_default(), 0);
    let done = cluster.get(&user, &started.name).await.unwrap();
    let last = &got[4].json()["data"];
    assert_eq!(
        (last["version"].as_str().unwrap(), &last["etag"]),
        (done.version.to_string().as_str(), &done.etag.into())
    );
    assert_eq!(last["outputs"][0]["url"], done.outputs[0].url);

    let log = cluster.logged(&user, &endpoint.name, over(Sent::Delivered)).await;
    let ids: Vec<_> = log.iter().map(webhook_id).collect();
    assert_eq!(ids, got.iter().map(Got::id).collect::<Vec<_>>());
    assert!(log.iter().all(|delivery| delivery.attempts[0].http_status == 200 && delivery.attempt_count == 1));
    assert!(cluster.log(&stranger, &theirs.name).await.is_empty());
}

#[tokio::test]
async fn a_failed_delivery_is_sent_again_and_blocks_its_successor() {
    let (cluster, mut receiver) = (cluster().await, Receiver::open().await);
    let user = cluster.user(2).await;
    let events = ["queued", "cancelled"].map(|state| format!("generation.{state}")).to_vec();
    let endpoint = cluster.endpoint(&user, &receiver.url, events).await.unwrap();
    receiver.plan(&[Reply::Status(500, "try\0 later"), Reply::Status(503, "")]);
    let first = cluster.started(&user).await.name;
    let failed = receiver.next().await;
    cluster.cancel_many(&user, &[&first]).await;
    // Others are not held back by it.
    let second = cluster.started(&user).await.name;
    let also_failed = receiver.next().await;
    assert_eq!(
        (failed.json()["data"]["name"].as_str(), also_failed.json()["data"]["name"].as_str()),
        (Some(first.as_str()), Some(second.as_str()))
    );
    let log = cluster
        .logged(&user, &endpoint.name, |log| log.len() == 3 && log.iter().filter(|d| d.attempt_count == 1).count() == 2)
        .await;
    assert!(log.iter().all(|delivery| delivery.state() == Sent::Pending));
    let (failed_once, blocked) = (&log[0], &log[1]);
    assert_eq!(
        (failed_once.attempts[0].http_status, failed_once.attempts[0].response_excerpt.as_str()),
        (500, "try  later")
    );
    assert!(failed_once.next_attempt_time.unwrap().seconds - failed_once.attempts[0].time.unwrap().seconds >= 4);
    assert_eq!((blocked.event_type.as_str(), blocked.next_attempt_time), ("generation.cancelled", None), "it waits");
    assert!(!receiver.has_more());

    cluster.hasten_webhooks().await;
    let mut got = [receiver.next().await, receiver.next().await, receiver.next().await];
    got.sort_by_key(|got| (got.json()["data"]["name"] != first, got.version()));
    let ids = got.each_ref().map(Got::id);
    assert_eq!(ids, [failed.id(), webhook_id(blocked), also_failed.id()], "the same ids, in order");
    assert_eq!(got[0].json(), failed.json(), "the same body");
    cluster.logged(&user, &endpoint.name, over(Sent::Delivered)).await;
    assert!(!receiver.has_more());
}

#[tokio::test]
async fn a_delivery_that_always_fails_ends_and_unblocks_its_successor() {
    let (cluster, mut receiver) = (cluster().await, Receiver::open().await);
    let user = cluster.user(1).await;
    let events = ["queued", "cancelled"].map(|state| format!("generation.{state}")).to_vec();
    let endpoint = cluster.endpoint(&user, &receiver.url, events).await.unwrap();
    receiver.plan(&[Reply::Status(500, ""); 10]);
    let name = cluster.started(&user).await.name;
    cluster.cancel_many(&user, &[&name]).await;
    for attempt in 1..=10 {
        assert_eq!(receiver.next().await.event(), "generation.queued", "attempt {attempt}");
        cluster.logged(&user, &endpoint.name, |log| log[0].attempt_count == attempt).await;
        cluster.hasten_webhooks().await;
    }
    assert_eq!(receiver.next().await.event(), "generation.cancelled");
    let log = cluster.logged(&user, &endpoint.name, |log| log.iter().all(|d| d.state() != Sent::Pending)).await;
    assert_eq!((log[0].state(), log[1].state()), (Sent::Failed, Sent::Delivered));
    assert!(!cluster.get_endpoint(&user, &endpoint.name).await.unwrap().disabled);

    // It can be had again, under its own id.
    let again = cluster.redeliver(&user, &log[0].name).await.unwrap();
    assert_eq!(again.state(), Sent::Pending);
    assert_eq!(receiver.next().await.id(), webhook_id(&log[0]));
    let log = cluster.logged(&user, &endpoint.name, over(Sent::Delivered)).await;
    assert_eq!((log[0].attempt_count, log[0].attempts[0].http_status, log[0].attempts[1].http_status), (11, 200, 500));
}

#[tokio::test]
async fn a_delivery_in_a_pause_can_be_sent_now() {
    let (cluster, mut receiver) = (cluster().await, Receiver::open().await);
    let user = cluster.user(0).await;
    let endpoint = cluster.endpoint(&user, &receiver.url, all_events()).await.unwrap();
    receiver.plan(&[Reply::Status(500, "")]);
    let test = cluster.test_endpoint(&user, &endpoint.name).await.unwrap();
    let got = receiver.next().await;
    assert_eq!((got.event().as_str(), got.json()["data"].to_string().as_str()), ("webhook.test", "{}"));
    assert!(got.is_signed_by(&endpoint.secret));
    cluster.logged(&user, &endpoint.name, |log| log[0].attempt_count == 1).await;
    cluster.redeliver(&user, &test.name).await.unwrap();
    assert_eq!(receiver.next().await.id(), got.id());
    cluster.logged(&user, &endpoint.name, over(Sent::Delivered)).await;
}

#[tokio::test]
async fn an_endpoint_that_is_gone_is_disabled_with_a_notice() {
    let (cluster, mut receiver) = (cluster().await, Receiver::open().await);
    let user = cluster.user(2).await;
    let events = ["queued", "cancelled"].map(|state| format!("generation.{state}")).to_vec();
    let endpoint = cluster.endpoint(&user, &receiver.url, events).await.unwrap();
    receiver.plan(&[Reply::Status(500, ""), Reply::Status(410, "")]);
    let name = cluster.started(&user).await.name;
    receiver.next().await;
    cluster.cancel_many(&user, &[&name]).await;
    cluster.logged(&user, &endpoint.name, |log| log.len() == 2 && log[0].attempt_count == 1).await;
    cluster.hasten_webhooks().await;
    receiver.next().await;
    // Its pending deliveries have failed, and new events are not sent.
    let log = cluster.logged(&user, &endpoint.name, over(Sent::Failed)).await;
    assert_eq!((log.len(), log[1].attempt_count), (2, 0));
    let gone = cluster.get_endpoint(&user, &endpoint.name).await.unwrap();
    assert_eq!((gone.disabled, gone.disable_reason.as_str()), (true, "GONE"));
    let notices = cluster.notices(&user).await;
    assert!(notices.len() == 1 && notices[0].contains("410") && notices[0].contains(&receiver.url), "{notices:?}");
    cluster.started(&user).await;
    assert_eq!(cluster.log(&user, &endpoint.name).await.len(), 2);
    let disabled = (Code::FailedPrecondition, "WEBHOOK_ENDPOINT_DISABLED".to_owned());
    assert_eq!(refusal(cluster.test_endpoint(&user, &endpoint.name).await), disabled);
    assert_eq!(refusal(cluster.redeliver(&user, &log[0].name).await), disabled);
    assert!(!receiver.has_more());

    let enabled = cluster.update(&user, Endpoint { disabled: false, ..gone }, &["disabled"]).await.unwrap();
    assert_eq!((enabled.disabled, enabled.disable_reason.as_str()), (false, ""));
    cluster.redeliver(&user, &log[0].name).await.unwrap();
    assert_eq!(receiver.next().await.id(), webhook_id(&log[0]));
}

#[tokio::test]
async fn an_endpoint_that_failed_for_days_is_disabled() {
    let (cluster, mut receiver) = (cluster().await, Receiver::open().await);
    let user = cluster.user(0).await;
    let endpoint = cluster.endpoint(&user, &receiver.url, all_events()).await.unwrap();
    let age = async |days: i32| {
        sqlx::query("update webhook_endpoints set failing_since = now() - make_interval(days => $1)")
            .bind(days)
            .execute(&cluster.pool)
            .await
            .unwrap();
    };
    age(2).await;
    receiver.plan(&[Reply::Status(500, ""), Reply::Status(200, ""), Reply::Status(500, "")]);
    let attempts = async |count| {
        cluster.logged(&user, &endpoint.name, |log| log.iter().map(|d| d.attempt_count).sum::<i32>() == count).await
    };
    let disabled = async || cluster.get_endpoint(&user, &endpoint.name).await.unwrap();
    cluster.test_endpoint(&user, &endpoint.name).await.unwrap();
    attempts(1).await;
    assert!(!disabled().await.disabled, "two days are not enough");
    // A success ends it.
    cluster.hasten_webhooks().await;
    attempts(2).await;
    assert!(disabled().await.failing_since.is_none());
    age(4).await;
    cluster.test_endpoint(&user, &endpoint.name).await.unwrap();
    attempts(3).await;
    assert_eq!(disabled().await.disable_reason, "FAILING");
    assert_eq!(cluster.notices(&user).await.len(), 1);
    for _ in 0..3 {
        receiver.next().await;
    }
    assert!(!receiver.has_more());
}

#[tokio::test]
async fn redirects_are_not_followed_and_late_answers_not_waited_for() {
    let cluster = Cluster::with(|config| {
        config.webhooks.reach = Reach::Anywhere;
        config.webhooks.timeout = Duration::from_millis(300);
    })
    .await;
    let mut receiver = Receiver::open().await;
    let user = cluster.user(0).await;
    let endpoint = cluster.endpoint(&user, &receiver.url, all_events()).await.unwrap();
    receiver.plan(&[Reply::Redirect, Reply::Never]);
    for (status, reason) in [(307, ""), (0, "TIMEOUT")] {
        let test = cluster.test_endpoint(&user, &endpoint.name).await.unwrap();
        let log = cluster.logged(&user, &endpoint.name, |log| log.last().unwrap().attempt_count == 1).await;
        let last = log.last().unwrap();
        assert_eq!((&last.name, last.state()), (&test.name, Sent::Pending));
        assert_eq!((last.attempts[0].http_status, last.attempts[0].reason.as_str()), (status, reason));
        assert_eq!(receiver.next().await.path, "/hooks");
    }
    assert!(!receiver.has_more());
}

#[tokio::test]
async fn the_trigger_names_the_states_as_the_rules_do() {
    let database = Database::fresh().await.unwrap();
    let pool = sqlx::PgPool::connect(&database.url()).await.unwrap();
    for (state, event) in State::ALL.into_iter().zip(all_events()) {
        let named: String =
            sqlx::query_scalar("select generation_event($1)").bind(state.number()).fetch_one(&pool).await.unwrap();
        assert_eq!(named, event);
    }
}

#[tokio::test]
async fn a_delivery_whose_process_is_killed_is_sent_again_under_its_id() {
    let (mut cluster, mut receiver) = (cluster().await, Receiver::open().await);
    let user = cluster.user(1).await;
    let endpoint = cluster.endpoint(&user, &receiver.url, all_events()).await.unwrap();
    // From here on a process of its own is alone.
    cluster.node.drain();
    let victim = Binary::start(&cluster, &[("RUSHES_WEBHOOK_REACH", "anywhere")]).await;
    receiver.plan(&[Reply::Never]);
    sqlx::query(
        "insert into webhook_deliveries (id, account_id, endpoint_id, event_type)
         select gen_random_uuid(), account_id, id, 'webhook.test' from webhook_endpoints",
    )
    .execute(&cluster.pool)
    .await
    .unwrap();
    let first = receiver.next().await;
    victim.kill();
    let log =
        sqlx::query_scalar::<_, i32>("select attempt_count from webhook_deliveries").fetch_one(&cluster.pool).await;
    assert_eq!(log.unwrap(), 0, "the dead process committed nothing");

    cluster.node = Node::start(&cluster.config).await;
    cluster.expire_leases().await;
    let second = receiver.next().await;
    assert_eq!((second.id(), second.json()), (first.id(), first.json()));
    assert!(second.is_signed_by(&endpoint.secret));
    let log = cluster.logged(&user, &endpoint.name, over(Sent::Delivered)).await;
    assert_eq!(log[0].attempt_count, 1);
}
