//! Endpoints of webhooks: their URLs, their secrets, and whose they are.

use std::time::Duration;

use prost_types::FieldMask;
use proto::webhooks::v1::{
    CreateEndpointRequest, DeleteEndpointRequest, Endpoint, ListDeliveriesRequest, ListEndpointsRequest,
    UpdateEndpointRequest,
};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::cluster::{Cluster, refusal};
use crate::receiver::Receiver;
use crate::webhooks::{cluster, webhook_id};

#[tokio::test]
async fn nothing_is_sent_into_our_own_network() {
    let cluster = Cluster::new().await;
    let user = cluster.user(0).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let wrong = (Code::InvalidArgument, "INPUT_SCHEMA_VIOLATION".to_owned());
    for url in [
        format!("http://example.com:{port}/"),
        format!("https://127.0.0.1:{port}/"),
        format!("https://2130706433:{port}/"),
        format!("https://[::1]:{port}/"),
        format!("https://[::ffff:127.0.0.1]:{port}/"),
        "https://10.0.0.1/".to_owned(),
        "https://100.64.0.1/".to_owned(),
        "https://169.254.169.254/latest/meta-data/".to_owned(),
        "https://224.0.0.1/".to_owned(),
        "https://[fd00::1]/".to_owned(),
        "https://[fe80::1]/".to_owned(),
        "https://[64:ff9b::7f00:1]/".to_owned(),
        "https://ada:secret@example.com/".to_owned(),
        "ftp://example.com/".to_owned(),
        "nonsense".to_owned(),
    ] {
        assert_eq!(refusal(cluster.endpoint(&user, &url, Vec::new()).await), wrong, "{url}");
    }
    // A name is resolved when it is called, and what it stands for then is what counts.
    let named = cluster.endpoint(&user, &format!("https://localhost:{port}/"), Vec::new()).await.unwrap();
    cluster.test_endpoint(&user, &named.name).await.unwrap();
    let log = cluster.logged(&user, &named.name, |log| log[0].attempt_count == 1).await;
    assert_eq!((log[0].attempts[0].http_status, log[0].attempts[0].reason.as_str()), (0, "UNREACHABLE"));
    let called = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
    assert!(called.is_err(), "nobody came");
}

#[tokio::test]
async fn a_secret_is_returned_when_it_is_made_and_two_sign_during_a_rotation() {
    let (cluster, mut receiver) = (cluster().await, Receiver::open().await);
    let user = cluster.user(0).await;
    let endpoint = cluster.endpoint(&user, &receiver.url, Vec::new()).await.unwrap();
    let terminal = ["completed", "failed", "cancelled", "expired"].map(|state| format!("generation.{state}"));
    assert_eq!(endpoint.event_types, terminal);
    let request = ListEndpointsRequest { page_size: 0, page_token: String::new() };
    let list = cluster.node.webhooks.clone().list_endpoints(user.asks(request)).await.unwrap().into_inner();
    assert_eq!((list.endpoints.len(), list.endpoints[0].secret.as_str()), (1, ""));
    assert_eq!(cluster.get_endpoint(&user, &endpoint.name).await.unwrap().secret, "");

    let rotated = cluster.rotate(&user, &endpoint.name, false).await.unwrap();
    assert!(rotated.previous_secret_expire_time.is_some());
    cluster.test_endpoint(&user, &endpoint.name).await.unwrap();
    let got = receiver.next().await;
    assert!(got.is_signed_by(&rotated.secret) && got.is_signed_by(&endpoint.secret));
    // The day passes.
    sqlx::query("update webhook_endpoints set previous_until = now()").execute(&cluster.pool).await.unwrap();
    cluster.test_endpoint(&user, &endpoint.name).await.unwrap();
    let got = receiver.next().await;
    assert!(got.is_signed_by(&rotated.secret) && !got.is_signed_by(&endpoint.secret));
    // One that others know ends at once.
    let last = cluster.rotate(&user, &endpoint.name, true).await.unwrap();
    cluster.test_endpoint(&user, &endpoint.name).await.unwrap();
    let got = receiver.next().await;
    assert!(got.is_signed_by(&last.secret) && !got.is_signed_by(&rotated.secret));
}

#[tokio::test]
async fn a_creation_is_repeated_safely_and_an_update_is_guarded() {
    let cluster = cluster().await;
    let user = cluster.user(0).await;
    let request_id = Uuid::now_v7().to_string();
    let create = async |url: &str| {
        let endpoint = Some(Endpoint { url: url.to_owned(), ..Endpoint::default() });
        let request = CreateEndpointRequest { endpoint, request_id: request_id.clone() };
        Ok::<_, Status>(cluster.node.webhooks.clone().create_endpoint(user.asks(request)).await?.into_inner())
    };
    let made = create("https://example.com/a").await.unwrap();
    let again = create("https://example.com/a").await.unwrap();
    assert_eq!((&again.name, again.secret.as_str()), (&made.name, ""));
    assert!(!made.secret.is_empty());
    let reused = (Code::AlreadyExists, "REQUEST_ID_REUSED".to_owned());
    assert_eq!(refusal(create("https://example.com/b").await), reused);

    let moved = Endpoint { url: "https://example.com/c".to_owned(), ..made.clone() };
    let moved = cluster.update(&user, moved, &["url"]).await.unwrap();
    assert_eq!((moved.url.as_str(), &moved.event_types), ("https://example.com/c", &made.event_types));
    assert_eq!(
        refusal(cluster.update(&user, made, &["description"]).await),
        (Code::Aborted, "ETAG_MISMATCH".to_owned())
    );
    let wrong = (Code::InvalidArgument, "INPUT_SCHEMA_VIOLATION".to_owned());
    assert_eq!(refusal(cluster.update(&user, moved.clone(), &["secret"]).await), wrong);
    let unknown = Endpoint { event_types: vec!["generation.lost".to_owned()], ..moved };
    assert_eq!(refusal(cluster.update(&user, unknown, &["event_types"]).await), wrong);

    for at in 1..20 {
        cluster.endpoint(&user, &format!("https://example.com/{at}"), Vec::new()).await.unwrap();
    }
    let full = cluster.endpoint(&user, "https://example.com/more", Vec::new()).await;
    assert_eq!(refusal(full), (Code::FailedPrecondition, "TOO_MANY_WEBHOOK_ENDPOINTS".to_owned()));
}

#[tokio::test]
async fn an_update_without_a_mask_changes_only_the_fields_that_are_set() {
    let cluster = cluster().await;
    let user = cluster.user(0).await;
    let events = vec!["generation.failed".to_owned()];
    let made = cluster.endpoint(&user, "https://example.com/a", events.clone()).await.unwrap();
    let named = Endpoint { description: "ours".to_owned(), ..made.clone() };
    cluster.update(&user, named, &["description"]).await.unwrap();
    let update = async |endpoint: Endpoint, paths: Option<&[&str]>| {
        let endpoint = Some(Endpoint { name: made.name.clone(), ..endpoint });
        let mask = |paths: &[&str]| FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() };
        let request = UpdateEndpointRequest { endpoint, update_mask: paths.map(mask) };
        Ok::<_, Status>(cluster.node.webhooks.clone().update_endpoint(user.asks(request)).await?.into_inner())
    };
    let parts = |endpoint: &Endpoint| {
        (endpoint.url.clone(), endpoint.description.clone(), endpoint.event_types.clone(), endpoint.disabled)
    };
    let (a, b) = ("https://example.com/a".to_owned(), "https://example.com/b".to_owned());
    // No mask at all, and one without paths, mean the same.
    let moved = update(Endpoint { url: b.clone(), ..Endpoint::default() }, None).await.unwrap();
    assert_eq!(parts(&moved), (b.clone(), "ours".to_owned(), events.clone(), false), "the rest is kept");
    let disabled = update(Endpoint { disabled: true, ..Endpoint::default() }, Some(&[])).await.unwrap();
    assert_eq!(parts(&disabled), (b.clone(), "ours".to_owned(), events.clone(), true));
    for mask in [None, Some(&[] as &[&str])] {
        let nothing = refusal(update(Endpoint::default(), mask).await);
        assert_eq!(nothing, (Code::InvalidArgument, "INPUT_SCHEMA_VIOLATION".to_owned()), "nothing to change");
    }
    let kept = cluster.get_endpoint(&user, &made.name).await.unwrap();
    assert_eq!((parts(&kept), &kept.etag), (parts(&disabled), &disabled.etag));
    // Only a mask empties a field.
    let emptied = update(Endpoint::default(), Some(&["description", "disabled"])).await.unwrap();
    assert_eq!(parts(&emptied), (b, String::new(), events, false));
    let replaced = update(Endpoint { url: a.clone(), ..Endpoint::default() }, Some(&["*"])).await.unwrap();
    let ends = ["completed", "failed", "cancelled", "expired"].map(|state| format!("generation.{state}"));
    assert_eq!(parts(&replaced), (a, String::new(), ends.to_vec(), false));
}

#[tokio::test]
async fn another_accounts_endpoint_does_not_exist() {
    let (cluster, mut receiver) = (cluster().await, Receiver::open().await);
    let (user, stranger) = (cluster.user(0).await, cluster.user(0).await);
    let endpoint = cluster.endpoint(&user, &receiver.url, Vec::new()).await.unwrap();
    let test = cluster.test_endpoint(&user, &endpoint.name).await.unwrap();
    receiver.next().await;
    let missing = (Code::NotFound, "WEBHOOK_ENDPOINT_NOT_FOUND".to_owned());
    let mut client = cluster.node.webhooks.clone();
    let name = endpoint.name.clone();
    assert_eq!(refusal(cluster.get_endpoint(&stranger, &name).await), missing);
    assert_eq!(refusal(cluster.test_endpoint(&stranger, &name).await), missing);
    assert_eq!(refusal(cluster.rotate(&stranger, &name, true).await), missing);
    assert_eq!(refusal(cluster.redeliver(&stranger, &test.name).await), missing);
    assert_eq!(refusal(cluster.update(&stranger, endpoint.clone(), &["description"]).await), missing);
    let request = ListDeliveriesRequest { parent: name.clone(), page_size: 0, page_token: String::new() };
    assert_eq!(refusal(client.list_deliveries(stranger.asks(request)).await), missing);
    let request = || DeleteEndpointRequest { name: name.clone() };
    assert_eq!(refusal(client.delete_endpoint(stranger.asks(request())).await), missing);
    let request_all = ListEndpointsRequest { page_size: 0, page_token: String::new() };
    let all = client.list_endpoints(stranger.asks(request_all)).await.unwrap().into_inner();
    assert!(all.endpoints.is_empty());
    // A delivery under another endpoint's name is none either.
    let other = cluster.endpoint(&user, &receiver.url, Vec::new()).await.unwrap();
    let elsewhere = format!("{}/deliveries/{}", other.name, webhook_id(&test));
    let no_delivery = (Code::NotFound, "WEBHOOK_DELIVERY_NOT_FOUND".to_owned());
    assert_eq!(refusal(cluster.redeliver(&user, &elsewhere).await), no_delivery);

    client.delete_endpoint(user.asks(request())).await.unwrap();
    assert_eq!(refusal(cluster.get_endpoint(&user, &name).await), missing);
    assert_eq!(refusal(client.delete_endpoint(user.asks(request())).await), missing);
}
