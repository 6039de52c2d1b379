//! Keys: looked up once, refused when unknown, ended within a second, and held while dashboard is away.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use futures::future::join_all;
use proto::assets::v1::GetAssetRequest;
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
    for (key, counted, reason) in [
        (None, "missing", "KEY_MISSING"),
        (Some("rsk_no"), "malformed", "KEY_UNKNOWN"),
        (Some(UNKNOWN_KEY), "unknown", "KEY_UNKNOWN"),
        (Some(&revoked), "revoked", "KEY_REVOKED"),
        (Some(&expired), "expired", "KEY_EXPIRED"),
    ] {
        let before = refusals(&cluster).await.get(counted).copied().unwrap_or_default();
        let mut request = tonic::Request::new(GetAssetRequest::default());
        if let Some(key) = key {
            request = authorized(GetAssetRequest::default(), key);
        }
        let status = cluster.assets().await.get_asset(request).await.unwrap_err();
        check(&status, Code::Unauthenticated, reason);
        let after = refusals(&cluster).await[counted];
        assert!(after > before, "{counted}: {after} after {before}");
    }
    let before = refusals(&cluster).await;
    assert!(cluster.get(&cluster.key(Uuid::now_v7()), "assets/a").await.is_ok());
    assert_eq!(before.len(), 5, "no reason but these: {before:?}");
}
