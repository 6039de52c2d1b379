//! Limits by account and key: what one sends above them is refused here, and nobody else sees anything of it.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use futures::{StreamExt as _, future::join_all};
use gateway::Rate;
use proto::assets::v1::{
    Asset, DeleteAssetRequest, GetAssetRequest, UploadAssetRequest, asset_service_client::AssetServiceClient,
};
use proto::generations::v1::{WatchGenerationsRequest, generation_service_client::GenerationServiceClient};
use proto::limits::v1::{self as api, GetLimitsRequest, Limits, limit_service_client::LimitServiceClient};
use proto::webhooks::v1::{TestEndpointRequest, webhook_service_client::WebhookServiceClient};
use testkit::{Nats, eventually};
use tokio::task::JoinSet;
use tonic::{Code, Response, Status, transport::Channel};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::{
    cluster::{Cluster, authorized, check},
    probes::admin,
};

/// What is limited and of whom, by the refusal.
fn limit(refusal: &Status) -> (String, String) {
    check(refusal, Code::ResourceExhausted, "LIMIT_EXCEEDED");
    let details = refusal.get_error_details();
    let wait = details.retry_info().unwrap().retry_delay.unwrap();
    assert!(!wait.is_zero() && wait <= Duration::from_secs(60), "{wait:?}");
    let metadata = details.error_info().unwrap().metadata.clone();
    (metadata["limit"].clone(), metadata["of"].clone())
}

fn is(limit: &'static str, of: &'static str) -> (String, String) {
    (limit.to_owned(), of.to_owned())
}

async fn get(channel: &Channel, key: &str, name: &str) -> Result<Response<Asset>, Status> {
    let request = authorized(GetAssetRequest { name: name.to_owned() }, key);
    AssetServiceClient::new(channel.clone()).get_asset(request).await
}

/// Calls until one is refused, and returns how many were not.
async fn exhaust(channel: &Channel, key: &str) -> (usize, Status) {
    for taken in 0..1_000 {
        if let Err(refusal) = get(channel, key, "assets/a").await {
            return (taken, refusal);
        }
    }
    panic!("no call was refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_floods_is_refused_before_anything_is_asked_and_others_are_not() {
    let cluster = Cluster::start_with(|config| config.limits.account.polls = Rate::new(2, 20)).await;
    let account = Uuid::now_v7();
    let (key, second, other) = (cluster.key(account), cluster.key(account), cluster.key(Uuid::now_v7()));
    let channel = cluster.channel().await;
    let began = Instant::now();
    let flood = join_all((0..300).map(|_| get(&channel, &key, "assets/a"))).await;
    let refusals: Vec<_> = flood.into_iter().filter_map(Result::err).collect();
    let taken = 300 - refusals.len();
    // Half of the account's burst, and one a second.
    let max = 10 + usize::try_from(began.elapsed().as_secs()).unwrap() + 1;
    assert!((10..=max).contains(&taken), "{taken}");
    assert_eq!(limit(&refusals[0]), is("polls", "key"));
    assert_eq!(cluster.upstream.calls.lock().unwrap().len(), taken, "no refused call reached a service");
    assert!(get(&channel, &second, "assets/a").await.is_ok(), "another key of the account has its own part");
    assert!(get(&channel, &other, "assets/a").await.is_ok(), "another account has its own limit");
    let (_, refusal) = exhaust(&channel, &second).await;
    assert!([is("polls", "key"), is("polls", "account")].contains(&limit(&refusal)), "{refusal:?}");
    let third = cluster.key(account);
    assert_eq!(limit(&exhaust(&channel, &third).await.1), is("polls", "account"), "new keys make no new account");
    let metrics = admin(&cluster, "/metrics").await;
    let counted = r#"rushes_gateway_limits_exceeded_total{limit="polls",of="key"}"#;
    assert!(metrics.contains(counted), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_says_what_is_left_and_a_refusal_that_nothing_is() {
    let cluster = Cluster::start_with(|config| config.limits.account.polls = Rate::new(2, 20)).await;
    let key = cluster.key(Uuid::now_v7());
    let channel = cluster.channel().await;
    let answer = get(&channel, &key, "assets/a").await.unwrap();
    let policy = r#""polls-key";q=10;w=10, "polls";q=20;w=10"#;
    assert_eq!(answer.metadata().get("ratelimit-policy").unwrap(), policy);
    assert_eq!(answer.metadata().get("ratelimit").unwrap(), r#""polls-key";r=9;t=1, "polls";r=19;t=1"#);
    let refusal = exhaust(&channel, &key).await.1;
    let left = refusal.metadata().get("ratelimit").unwrap().to_str().unwrap();
    assert!(left.contains(r#""polls-key";r=0;t=10"#), "{left}");
    assert!(refusal.metadata().get("ratelimit-policy").unwrap().to_str().unwrap().contains("q=10;w=10"));
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_at_once_are_limited_and_their_places_come_back() {
    let cluster = Cluster::start_with(|config| config.limits.account.calls = NonZeroU32::new(8).unwrap()).await;
    let account = Uuid::now_v7();
    let (key, second, other) = (cluster.key(account), cluster.key(account), cluster.key(Uuid::now_v7()));
    let channel = cluster.channel().await;
    let mut slow = JoinSet::new();
    for _ in 0..4 {
        let (channel, key) = (channel.clone(), key.clone());
        slow.spawn(async move { get(&channel, &key, "assets/slow").await });
    }
    let all_wait = async || (cluster.upstream.calls.lock().unwrap().len() == 4).then_some(());
    eventually("four calls wait", Duration::from_secs(5), all_wait).await.unwrap();
    assert_eq!(limit(&get(&channel, &key, "assets/a").await.unwrap_err()), is("calls", "key"));
    assert!(get(&channel, &second, "assets/a").await.is_ok());
    assert!(get(&channel, &other, "assets/a").await.is_ok());
    slow.abort_all();
    let again = async || get(&channel, &key, "assets/a").await.ok();
    eventually("the places are free again", Duration::from_secs(5), again).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_at_once_are_limited_apart_from_calls() {
    let cluster = Cluster::start_with(|config| config.limits.account.uploads = NonZeroU32::new(4).unwrap()).await;
    let key = cluster.key(Uuid::now_v7());
    let channel = cluster.channel().await;
    let upload = |parts: bool| {
        let (mut client, silent) = (AssetServiceClient::new(channel.clone()), futures::stream::pending());
        let parts = match parts {
            true => futures::stream::iter([UploadAssetRequest::default()]).left_stream(),
            false => silent.right_stream(),
        };
        let request = authorized(parts, &key);
        async move { client.upload_asset(request).await }
    };
    let mut silent = JoinSet::new();
    silent.spawn(upload(false));
    silent.spawn(upload(false));
    let both_wait = async || (cluster.upstream.calls.lock().unwrap().len() == 2).then_some(());
    eventually("two uploads wait", Duration::from_secs(5), both_wait).await.unwrap();
    assert_eq!(limit(&upload(true).await.unwrap_err()), is("uploads", "key"));
    assert!(get(&channel, &key, "assets/a").await.is_ok(), "a call is no upload");
    silent.abort_all();
    let again = async || upload(true).await.ok();
    eventually("an upload is taken again", Duration::from_secs(5), again).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_may_change_something_counts_as_five() {
    let delete = proto::method("/rushes.assets.v1.AssetService/DeleteAsset").unwrap();
    let cluster = Cluster::start_with(|config| {
        for rate in [&mut config.limits.account.people, &mut config.limits.account.polls] {
            *rate = Rate::new(1, 40);
        }
    });
    let cluster = cluster.await;
    let key = cluster.key(Uuid::now_v7());
    let channel = cluster.channel().await;
    let request = || authorized(DeleteAssetRequest { name: "assets/a".into(), ..DeleteAssetRequest::default() }, &key);
    let mut assets = AssetServiceClient::new(channel.clone());
    let answer = assets.delete_asset(request()).await.unwrap();
    let class = delete.class.as_str();
    let left = format!(r#""{class}-key";r=15;t=5, "{class}";r=35;t=5"#);
    assert_eq!(answer.metadata().get("ratelimit").unwrap(), &left);
    for _ in 1..4 {
        assets.delete_asset(request()).await.unwrap();
    }
    let refusal = assets.delete_asset(request()).await.unwrap_err();
    assert_eq!(limit(&refusal), (class.to_owned(), "key".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn tests_of_endpoints_have_a_rate_of_their_own() {
    let cluster = Cluster::start_with(|config| config.limits.account.endpoint_tests = Rate::new(1, 6)).await;
    let key = cluster.key(Uuid::now_v7());
    let channel = cluster.channel().await;
    let test = async || {
        let request = authorized(TestEndpointRequest::default(), &key);
        WebhookServiceClient::new(channel.clone()).test_endpoint(request).await.unwrap_err()
    };
    let mut taken = 0;
    let refusal = loop {
        let answer = test().await;
        // The services of these tests do not have the method.
        if answer.code() != Code::Unimplemented {
            break answer;
        }
        taken += 1;
        assert!(taken < 100, "none was refused");
    };
    assert_eq!(limit(&refusal), is("endpoint-tests", "key"));
    assert!(taken >= 3, "{taken}");
}

/// Sets what is set for an account, as dashboard tells it from then on.
fn set(cluster: &Cluster, account: Uuid, limits: Option<Limits>) {
    for stored in cluster.upstream.keys.lock().unwrap().values_mut() {
        if stored.account.ends_with(&account.to_string()) {
            stored.account_limits = limits;
            stored.account_version += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_set_for_an_account_takes_effect_without_a_question_for_each_call() {
    let cluster = Cluster::start_with(|config| config.limits.account.polls = Rate::new(1_000, 1_200)).await;
    let account = Uuid::now_v7();
    let (key, second, other) = (cluster.key(account), cluster.key(account), cluster.key(Uuid::now_v7()));
    assert_eq!((quota(&cluster, &key).await, quota(&cluster, &second).await), (1_200, 1_200));
    let within = Duration::from_secs(10);
    let is = async |key: &str, share: u32| (policy(&cluster, key).await == Some(share)).then_some(());
    let polls = Some(api::Rate { per_second: 1, burst: 40 });
    set(&cluster, account, Some(Limits { polls, ..Limits::default() }));
    eventually("one key has less", within, async || is(&key, 40).await).await.unwrap();
    eventually("so has the other", within, async || is(&second, 40).await).await.unwrap();
    assert_eq!(quota(&cluster, &other).await, 1_200, "another account has what every account has");
    let asked = cluster.authentications();
    let channel = cluster.channel().await;
    let (taken, refusal) = exhaust(&channel, &key).await;
    assert_eq!(limit(&refusal), self::is("polls", "key"));
    assert!(taken <= 25, "half of 40, and some a second: {taken}");
    assert!(cluster.authentications() <= asked + 10, "no call asks");
    set(&cluster, account, None);
    eventually("all of it is back", within, async || is(&second, 1_200).await).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_answer_does_not_set_limits_back() {
    let cluster = Cluster::start_with(|config| {
        config.key_lifetime = Duration::from_secs(600);
        config.limits.account.polls = Rate::new(1_000, 1_200);
    })
    .await;
    let account = Uuid::now_v7();
    let (stale, fresh) = (cluster.key(account), cluster.key(account));
    assert_eq!(quota(&cluster, &stale).await, 1_200);
    set(&cluster, account, Some(Limits { polls: Some(api::Rate { per_second: 1, burst: 40 }), ..Limits::default() }));
    assert_eq!(quota(&cluster, &fresh).await, 40);
    assert_eq!(quota(&cluster, &stale).await, 40, "the account's limits are those of the newest answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_sees_its_limits_and_what_is_left_of_them() {
    let cluster = Cluster::start_with(|config| {
        config.limits.account.polls = Rate::new(2, 20);
        config.limits.account.uploads = NonZeroU32::new(4).unwrap();
        config.max_watches = 9;
    })
    .await;
    let account = Uuid::now_v7();
    let (key, second) = (cluster.key(account), cluster.key(account));
    let channel = cluster.channel().await;
    for _ in 0..3 {
        get(&channel, &key, "assets/a").await.unwrap();
    }
    get(&channel, &second, "assets/a").await.unwrap();
    let mut watches = GenerationServiceClient::new(channel.clone());
    let watch = watches.watch_generations(authorized(WatchGenerationsRequest::default(), &key)).await.unwrap();
    let limits = async || {
        let request = authorized(GetLimitsRequest {}, &key);
        LimitServiceClient::new(channel.clone()).get_limits(request).await
    };
    let answer = limits().await.unwrap();
    assert!(answer.metadata().get("ratelimit").is_some(), "it is counted as any call");
    let answer = answer.into_inner();
    let rate = |limit: &str, of: &str| {
        *answer.rates.iter().find(|rate| rate.limit == limit && rate.of == of).unwrap().rate.as_ref().unwrap()
    };
    let left = |limit: &str, of: &str| {
        answer.rates.iter().find(|rate| rate.limit == limit && rate.of == of).unwrap().remaining
    };
    assert_eq!((rate("polls", "account").per_second, rate("polls", "account").burst), (2, 20));
    assert_eq!((rate("polls", "key").per_second, rate("polls", "key").burst), (1, 10));
    // This call, three and one of the other key, and what a second or two gave back.
    assert!((15..=19).contains(&left("polls", "account")), "{}", left("polls", "account"));
    assert!((6..=9).contains(&left("polls", "key")), "{}", left("polls", "key"));
    let place = |limit: &str, of: &str| {
        let place = answer.places.iter().find(|place| place.limit == limit && place.of == of).unwrap();
        (place.max, place.in_use)
    };
    assert_eq!(place("calls", "key").1, 1, "this one");
    assert_eq!((place("uploads", "account"), place("uploads", "key")), ((4, 0), (2, 0)));
    assert_eq!((place("watches", "account"), answer.gateways), ((9, 1), 1), "the one that is open");
    drop(watch);
    let closed = async || {
        let places = limits().await.ok()?.into_inner().places;
        places.iter().any(|place| place.limit == "watches" && place.in_use == 0).then_some(())
    };
    eventually("the watch is closed", Duration::from_secs(5), closed).await.unwrap();
    assert!(cluster.upstream.calls.lock().unwrap().len() <= 5, "no service was asked");
}

/// The calls of the class `polls` that this gateway takes at once of an account.
async fn quota(cluster: &Cluster, key: &str) -> u32 {
    policy(cluster, key).await.expect("a call within the limits")
}

/// The same; nothing when the call was one too many.
async fn policy(cluster: &Cluster, key: &str) -> Option<u32> {
    let answer = cluster.get(key, "assets/a").await.ok()?;
    let policy = answer.metadata().get("ratelimit-policy").unwrap().to_str().unwrap().to_owned();
    let of_account = policy.split(", ").find_map(|item| item.strip_prefix(r#""polls";q="#)).unwrap();
    of_account.split(';').next()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_share_the_limits_and_one_that_is_gone_leaves_its_share() {
    let nats = Nats::launch().await.unwrap();
    let start = async || {
        Cluster::start_with(|config| {
            config.nats_url = Some(nats.url());
            config.limits.account.polls = Rate::new(1_000, 1_200);
        })
        .await
    };
    let (one, two) = (start().await, start().await);
    let key = one.key(Uuid::now_v7());
    let second = two.key(Uuid::now_v7());
    let within = Duration::from_secs(15);
    let is = async |cluster: &Cluster, key: &str, share: u32| (quota(cluster, key).await == share).then_some(());
    eventually("one counts both", within, async || is(&one, &key, 600).await).await.unwrap();
    eventually("two counts both", within, async || is(&two, &second, 600).await).await.unwrap();

    // A third that dies without a word: what it sent last is counted for three seconds.
    let client = chassis::nats::connect(&nats.url()).await.unwrap();
    let third = [&b"+"[..], Uuid::now_v7().as_bytes()].concat();
    let seen = eventually("the third is counted", within, async || {
        client.publish("rushes.gateways", third.clone().into()).await.unwrap();
        let died = Instant::now();
        is(&one, &key, 400).await.map(|()| died)
    });
    let died = seen.await.unwrap();
    eventually("the third is gone", within, async || is(&one, &key, 600).await).await.unwrap();
    let took = died.elapsed();
    assert!(took >= Duration::from_millis(2_500), "{took:?}: one that pauses is not gone");
    // One that drains says so.
    drop(two);
    eventually("the second has left", within, async || is(&one, &key, 1_200).await).await.unwrap();
    // Without NATS nobody is known to be gone or to have come.
    drop(nats);
    assert_eq!(quota(&one, &key).await, 1_200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_cannot_count_takes_the_share_that_is_stated() {
    let cluster = Cluster::start_with(|config| {
        config.limits.gateways = NonZeroU32::new(3).unwrap();
        config.limits.account.polls = Rate::new(1_000, 1_200);
    })
    .await;
    let key = cluster.key(Uuid::now_v7());
    assert_eq!(quota(&cluster, &key).await, 400);
}
