//! Keys: looked up once, refused when unknown, ended within a second, and held while dashboard is away.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use futures::future::join_all;
use proto::accounts::v1::{GetAccountRequest, account_service_client::AccountServiceClient};
use proto::assets::v1::{GetAssetRequest, asset_service_client::AssetServiceClient};
use sha2::{Digest as _, Sha256};
use testkit::{Nats, eventually};
use tonic::Code;
use uuid::Uuid;

use crate::{
    cluster::{Cluster, authorized, check},
    probes::admin,
};

const UNKNOWN_KEY: &str = "rsk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA1McdoK";

#[tokio::test]
async fn many_calls_with_one_key_cost_one_lookup() {
    let cluster = Cluster::start_with(|config| config.key_lifetime = Duration::from_secs(60)).await;
    let key = cluster.key(Uuid::now_v7());
    let answers = join_all((0..100).map(|_| cluster.get_slowly(&key, "assets/a"))).await;
    let refused = answers.iter().find(|answer| answer.is_err());
    assert!(refused.is_none(), "{refused:?}");
    assert_eq!(cluster.authentications(), 1);
}

#[tokio::test]
async fn an_unknown_key_is_looked_up_once() {
    let cluster = Cluster::start().await;
    for _ in 0..50 {
        let status = cluster.get(UNKNOWN_KEY, "assets/a").await.unwrap_err();
        check(&status, Code::Unauthenticated, "KEY_UNKNOWN");
    }
    assert_eq!(cluster.authentications(), 1);
    let status = cluster.get("rsk_no", "assets/a").await.unwrap_err();
    check(&status, Code::Unauthenticated, "KEY_UNKNOWN");
    // As an attacker makes them up who has seen one.
    for _ in 0..50 {
        let mut invented = cluster.key(Uuid::now_v7());
        invented.truncate(invented.len() - 6);
        let status = cluster.get(&format!("{invented}abcdef"), "assets/a").await.unwrap_err();
        check(&status, Code::Unauthenticated, "KEY_UNKNOWN");
    }
    assert_eq!(cluster.authentications(), 1, "what cannot be a key is not looked up");
}

#[tokio::test]
async fn an_expired_key_is_refused() {
    let cluster = Cluster::start().await;
    let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let past = proto_time(seconds - 1);
    let expired = cluster.key_with(Uuid::now_v7(), |key| key.expire_time = Some(past));
    let status = cluster.get(&expired, "assets/a").await.unwrap_err();
    check(&status, Code::Unauthenticated, "KEY_EXPIRED");

    let later = cluster.key_with(Uuid::now_v7(), |key| key.expire_time = Some(proto_time(seconds + 60)));
    assert!(cluster.get(&later, "assets/a").await.is_ok());
}

fn proto_time(seconds: u64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: i64::try_from(seconds).unwrap(), nanos: 0 }
}

#[tokio::test]
async fn a_revoked_key_is_refused_within_its_lifetime() {
    let cluster = Cluster::start().await;
    let key = cluster.key(Uuid::now_v7());
    assert!(cluster.get(&key, "assets/a").await.is_ok());
    for stored in cluster.upstream.keys.lock().unwrap().values_mut() {
        stored.revoke_time = Some(proto_time(1));
    }
    let refused =
        eventually("the key is refused", Duration::from_secs(4), async || cluster.get(&key, "assets/a").await.err());
    check(&refused.await.unwrap(), Code::Unauthenticated, "KEY_REVOKED");
}

#[tokio::test]
async fn a_message_of_a_revocation_takes_effect_at_once() {
    let nats = Nats::launch().await.unwrap();
    let cluster = Cluster::start_with(|config| {
        config.key_lifetime = Duration::from_secs(600);
        config.nats_url = Some(nats.url());
    })
    .await;
    let key = cluster.key(Uuid::now_v7());
    assert!(cluster.get(&key, "assets/a").await.is_ok());
    for stored in cluster.upstream.keys.lock().unwrap().values_mut() {
        stored.revoke_time = Some(proto_time(1));
    }
    assert!(cluster.get(&key, "assets/a").await.is_ok(), "no message has come");
    // Dashboard tells the cache when it revokes a key.
    let client = chassis::nats::connect(&nats.url()).await.unwrap();
    let settings = cache::Settings { relay: false, ..cache::Settings::default() };
    let dashboard = cache::Cache::start(settings, None, Some(client)).unwrap();
    let name = cache::Key::global("key", hex::encode(Sha256::digest(&key)));
    let refused = eventually("the key is refused", Duration::from_secs(10), async || {
        // Repeated, because the gateway may not be subscribed yet.
        dashboard.wrote(&name, 2).await;
        cluster.get(&key, "assets/a").await.err()
    });
    check(&refused.await.unwrap(), Code::Unauthenticated, "KEY_REVOKED");
}

#[tokio::test]
async fn while_dashboard_is_away_known_keys_are_accepted_and_others_are_not() {
    let cluster = Cluster::start_with(|config| config.key_lifetime = Duration::from_millis(1)).await;
    let (known, other) = (cluster.key(Uuid::now_v7()), cluster.key(Uuid::now_v7()));
    assert!(cluster.get(&known, "assets/a").await.is_ok());
    cluster.dashboard.begin();
    let refused =
        eventually("dashboard is gone", Duration::from_secs(5), async || cluster.get(&other, "assets/a").await.err());
    check(&refused.await.unwrap(), Code::Unavailable, "DEPENDENCY_DOWN");
    assert!(cluster.get(&known, "assets/a").await.is_ok());
}

#[tokio::test]
async fn a_suspended_account_is_refused_within_the_lifetime_of_an_answer_and_taken_back() {
    let cluster = Cluster::start().await;
    let account = Uuid::now_v7();
    let (one, two, other) = (cluster.key(account), cluster.key(account), cluster.key(Uuid::now_v7()));
    for key in [&one, &two, &other] {
        assert!(cluster.get(key, "assets/a").await.is_ok());
    }
    let suspend = |since: Option<prost_types::Timestamp>| {
        for stored in cluster.upstream.keys.lock().unwrap().values_mut() {
            if stored.account.ends_with(&account.to_string()) {
                stored.account_suspend_time = since;
                stored.account_version += 1;
            }
        }
    };
    suspend(Some(proto_time(1)));
    let began = Instant::now();
    for key in [&one, &two] {
        let refused = eventually("the account is refused", Duration::from_secs(4), async || {
            cluster.get(key, "assets/a").await.err()
        });
        check(&refused.await.unwrap(), Code::PermissionDenied, "ACCOUNT_SUSPENDED");
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(3), "an answer is acted on for 1 s: {took:?}");
    assert!(cluster.get(&other, "assets/a").await.is_ok(), "another account feels nothing");
    suspend(None);
    let again =
        eventually("it is taken again", Duration::from_secs(4), async || cluster.get(&one, "assets/a").await.ok());
    again.await.unwrap();
}

#[tokio::test]
async fn a_key_is_used_from_its_networks_alone() {
    let cluster = Cluster::start().await;
    let bind = |networks: &[&str]| {
        let networks = networks.iter().map(|network| (*network).to_owned()).collect();
        cluster.key_with(Uuid::now_v7(), |key| key.allowed_networks = networks)
    };
    let get = async |last: u8, key: &str| {
        let request = authorized(GetAssetRequest { name: "assets/a".into() }, key);
        AssetServiceClient::new(cluster.channel_from(last).await).get_asset(request).await
    };
    let one = bind(&["127.0.0.7/32"]);
    assert!(get(7, &one).await.is_ok());
    check(&get(8, &one).await.unwrap_err(), Code::PermissionDenied, "KEY_ADDRESS_REFUSED");
    let several = bind(&["2001:db8::/32", "127.0.0.8/31"]);
    assert!(get(8, &several).await.is_ok() && get(9, &several).await.is_ok());
    check(&get(7, &several).await.unwrap_err(), Code::PermissionDenied, "KEY_ADDRESS_REFUSED");
    // One that nobody can read lets nobody in.
    let broken = bind(&["10.0.0.1/8"]);
    check(&get(7, &broken).await.unwrap_err(), Code::Internal, "INTERNAL");
}

#[tokio::test]
async fn behind_a_proxy_the_forwarded_address_is_the_one_that_counts() {
    let cluster = Cluster::start_with(|config| config.door.trusted_hops = 1).await;
    let key = cluster.key_with(Uuid::now_v7(), |key| key.allowed_networks = vec!["203.0.113.0/24".to_owned()]);
    let get = async |forwarded: &str| {
        let mut request = authorized(GetAssetRequest { name: "assets/a".into() }, &key);
        request.metadata_mut().insert("x-forwarded-for", forwarded.parse().unwrap());
        cluster.assets().await.get_asset(request).await
    };
    assert!(get("198.51.100.1, 203.0.113.9").await.is_ok());
    let invented = get("203.0.113.9, 198.51.100.1").await.unwrap_err();
    check(&invented, Code::PermissionDenied, "KEY_ADDRESS_REFUSED");
}

#[tokio::test]
async fn a_service_knows_which_key_calls_and_nobody_else_says_so() {
    let cluster = Cluster::start().await;
    let (account, mut name) = (Uuid::now_v7(), String::new());
    let key = cluster.key_with(account, |key| {
        key.scopes = vec!["operate".to_owned()];
        name = key.name.clone();
    });
    let mut request = authorized(GetAccountRequest::default(), &key);
    for (header, value) in [("x-rushes-key", Uuid::nil().to_string()), ("x-rushes-identity", "s.operator".to_owned())] {
        request.metadata_mut().insert(header, value.parse().unwrap());
    }
    let answer = AccountServiceClient::new(cluster.channel().await).get_account(request).await.unwrap();
    assert_eq!(answer.into_inner().display_name, name);
}

/// How many refusals the process has counted for each reason.
async fn refusals(cluster: &Cluster) -> BTreeMap<String, u64> {
    let page = admin(cluster, "/metrics").await;
    let series =
        page.lines().filter_map(|line| line.strip_prefix("rushes_gateway_authentications_refused_total{reason=\""));
    series
        .filter_map(|rest| rest.split_once("\"} "))
        .map(|(reason, n)| (reason.to_owned(), n.parse().unwrap()))
        .collect()
}

#[tokio::test]
async fn every_refusal_has_its_reason_and_is_counted_by_it() {
    let cluster = Cluster::start().await;
    let expired = cluster.key_with(Uuid::now_v7(), |key| key.expire_time = Some(proto_time(1)));
    let revoked = cluster.key_with(Uuid::now_v7(), |key| key.revoke_time = Some(proto_time(1)));
    let bound = cluster.key_with(Uuid::now_v7(), |key| key.allowed_networks = vec!["10.0.0.0/8".to_owned()]);
    let suspended = cluster.key_with(Uuid::now_v7(), |key| key.account_suspend_time = Some(proto_time(1)));
    for (key, counted, reason) in [
        (None, "missing", "KEY_MISSING"),
        (Some("rsk_no"), "malformed", "KEY_UNKNOWN"),
        (Some(UNKNOWN_KEY), "unknown", "KEY_UNKNOWN"),
        (Some(&revoked), "revoked", "KEY_REVOKED"),
        (Some(&expired), "expired", "KEY_EXPIRED"),
        (Some(&bound), "address", "KEY_ADDRESS_REFUSED"),
        (Some(&suspended), "suspended", "ACCOUNT_SUSPENDED"),
    ] {
        let before = refusals(&cluster).await.get(counted).copied().unwrap_or_default();
        let mut request = tonic::Request::new(GetAssetRequest::default());
        if let Some(key) = key {
            request = authorized(GetAssetRequest::default(), key);
        }
        let status = cluster.assets().await.get_asset(request).await.unwrap_err();
        let denied = ["address", "suspended"].contains(&counted);
        check(&status, if denied { Code::PermissionDenied } else { Code::Unauthenticated }, reason);
        let after = refusals(&cluster).await[counted];
        assert!(after > before, "{counted}: {after} after {before}");
    }
    let before = refusals(&cluster).await;
    assert!(cluster.get(&cluster.key(Uuid::now_v7()), "assets/a").await.is_ok());
    assert_eq!(before.len(), 7, "no reason but these: {before:?}");
}
