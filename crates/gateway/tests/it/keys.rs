//! Keys: asked about once, refused when unknown, ended within a second, and held while dashboard is away.

use std::time::{Duration, SystemTime};

use futures::future::join_all;
use sha2::{Digest as _, Sha256};
use testkit::{Nats, eventually};
use tonic::Code;
use uuid::Uuid;

use crate::stage::{Stage, check};

const NOBODYS: &str = "rsk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

#[tokio::test]
async fn many_calls_with_one_key_ask_once() {
    let stage = Stage::set_with(|config| config.key_lifetime = Duration::from_secs(60)).await;
    let key = stage.key(Uuid::now_v7());
    let answers = join_all((0..100).map(|_| stage.get(&key, "assets/a"))).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(stage.authentications(), 1);
}

#[tokio::test]
async fn a_key_that_nobody_has_is_asked_about_once() {
    let stage = Stage::set().await;
    for _ in 0..50 {
        let status = stage.get(NOBODYS, "assets/a").await.unwrap_err();
        check(&status, Code::Unauthenticated, "KEY_UNKNOWN");
    }
    assert_eq!(stage.authentications(), 1);
    let status = stage.get("rsk_no", "assets/a").await.unwrap_err();
    check(&status, Code::Unauthenticated, "KEY_UNKNOWN");
    assert_eq!(stage.authentications(), 1, "what cannot be a key is not asked about");
}

#[tokio::test]
async fn a_key_that_has_ended_opens_nothing() {
    let stage = Stage::set().await;
    let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let past = proto_time(seconds - 1);
    let expired = stage.key_with(Uuid::now_v7(), |key| key.expire_time = Some(past));
    let status = stage.get(&expired, "assets/a").await.unwrap_err();
    check(&status, Code::Unauthenticated, "KEY_EXPIRED");

    let later = stage.key_with(Uuid::now_v7(), |key| key.expire_time = Some(proto_time(seconds + 60)));
    assert!(stage.get(&later, "assets/a").await.is_ok());
}

fn proto_time(seconds: u64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: i64::try_from(seconds).unwrap(), nanos: 0 }
}

#[tokio::test]
async fn a_revoked_key_is_refused_within_its_lifetime() {
    let stage = Stage::set().await;
    let key = stage.key(Uuid::now_v7());
    assert!(stage.get(&key, "assets/a").await.is_ok());
    for stored in stage.upstream.keys.lock().unwrap().values_mut() {
        stored.revoke_time = Some(proto_time(1));
    }
    let refused =
        eventually("the key is refused", Duration::from_secs(4), async || stage.get(&key, "assets/a").await.err());
    check(&refused.await.unwrap(), Code::Unauthenticated, "KEY_EXPIRED");
}

#[tokio::test]
async fn a_revoked_key_is_refused_at_once_when_the_change_is_heard_of() {
    let nats = Nats::launch().await.unwrap();
    let stage = Stage::set_with(|config| {
        config.key_lifetime = Duration::from_secs(600);
        config.nats_url = Some(nats.url());
    })
    .await;
    let key = stage.key(Uuid::now_v7());
    assert!(stage.get(&key, "assets/a").await.is_ok());
    for stored in stage.upstream.keys.lock().unwrap().values_mut() {
        stored.revoke_time = Some(proto_time(1));
    }
    assert!(stage.get(&key, "assets/a").await.is_ok(), "nobody has said anything");
    // Whoever revokes a key tells the cache, as dashboard does.
    let client = chassis::nats::connect(&nats.url()).await.unwrap();
    let settings = cache::Settings { relay: false, ..cache::Settings::default() };
    let dashboard = cache::Cache::start(settings, None, Some(client)).unwrap();
    let name = cache::Key::global("key", hex::encode(Sha256::digest(&key)));
    let refused = eventually("the key is refused", Duration::from_secs(10), async || {
        // Again and again, because the gateway may not be subscribed yet.
        dashboard.wrote(&name, 2).await;
        stage.get(&key, "assets/a").await.err()
    });
    check(&refused.await.unwrap(), Code::Unauthenticated, "KEY_EXPIRED");
}

#[tokio::test]
async fn while_dashboard_is_away_known_keys_open_and_others_do_not() {
    let stage = Stage::set_with(|config| config.key_lifetime = Duration::from_millis(1)).await;
    let (known, other) = (stage.key(Uuid::now_v7()), stage.key(Uuid::now_v7()));
    assert!(stage.get(&known, "assets/a").await.is_ok());
    stage.dashboard.begin();
    let refused =
        eventually("dashboard is gone", Duration::from_secs(5), async || stage.get(&other, "assets/a").await.err());
    check(&refused.await.unwrap(), Code::Unavailable, "DEPENDENCY_DOWN");
    assert!(stage.get(&known, "assets/a").await.is_ok());
}
