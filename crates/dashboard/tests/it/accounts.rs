//! Accounts and API keys, which only operators and the gateway reach.

use anyhow::{Context, Result};
use prost::Message as _;
use proto::accounts::v1::{
    Account, ApiKey, AuthenticateApiKeyRequest, CreateAccountRequest, CreateApiKeyRequest, RevokeApiKeyRequest,
};
use sha2::{Digest, Sha256};
use tonic::{Code, Response};
use uuid::Uuid;

use crate::cluster::{Answer, Cluster, TIMEOUT, id, refused};

pub(crate) async fn create_key(cluster: &Cluster, parent: &str, scopes: &[&str]) -> Answer<(ApiKey, String)> {
    let request = CreateApiKeyRequest {
        parent: parent.to_owned(),
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        ..CreateApiKeyRequest::default()
    };
    let made = cluster.accounts().create_api_key(request).await?.into_inner();
    Ok((made.api_key.expect("a key"), made.secret))
}

pub(crate) async fn authenticate(cluster: &Cluster, key_sha256: Vec<u8>) -> Answer<ApiKey> {
    let request = AuthenticateApiKeyRequest { key_sha256 };
    cluster.accounts().authenticate_api_key(request).await.map(Response::into_inner)
}

pub(crate) fn hash(secret: &str) -> Vec<u8> {
    Sha256::digest(secret).to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_known_by_its_hash_until_it_is_revoked() -> Result<()> {
    let cluster = Cluster::start().await?;
    let user = cluster.account().await?;
    let parent = format!("accounts/{}", user.id);
    let (key, secret) = create_key(&cluster, &parent, &["generate", "read"]).await?;
    assert!(domain::api_key::is_well_formed(&secret));
    assert_eq!(
        (key.account.as_str(), key.scopes.as_slice()),
        (parent.as_str(), &["read".into(), "generate".into()][..])
    );
    assert!(secret.starts_with(&key.prefix) && key.prefix.len() < 12, "{}", key.prefix);
    assert!(!cluster.state().await?.contains(&secret[8..]), "the key itself is not stored");

    let known = authenticate(&cluster, hash(&secret)).await?;
    assert_eq!(ApiKey { account_version: 0, ..known }, key);
    let request = RevokeApiKeyRequest { name: key.name.clone() };
    let revoked = cluster.accounts().revoke_api_key(request.clone()).await?.into_inner().api_key.context("a key")?;
    assert!(revoked.revoke_time.is_some() && revoked.version > key.version);
    let known = authenticate(&cluster, hash(&secret)).await?;
    assert_eq!(ApiKey { account_version: 0, ..known }, revoked, "at once");
    let again = cluster.accounts().revoke_api_key(request).await?.into_inner().api_key.context("a key")?;
    assert_eq!(again, revoked, "a key is revoked once");

    let (all, _) = create_key(&cluster, &parent, &[]).await?;
    assert_eq!(all.scopes, ["read", "write", "generate"], "and no reach across accounts");
    let (operator, _) = create_key(&cluster, &parent, &["operate"]).await?;
    assert_eq!(operator.scopes, ["operate"]);
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_by_hand_shows_too() -> Result<()> {
    let cluster = Cluster::start().await?;
    let parent = format!("accounts/{}", cluster.account().await?.id);
    let (key, secret) = create_key(&cluster, &parent, &[]).await?;
    authenticate(&cluster, hash(&secret)).await?;
    sqlx::query("update api_keys set revoke_time = now(), version = version + 1 where id = $1")
        .bind(id(&key.name))
        .execute(&cluster.pool)
        .await?;
    testkit::eventually("the key shows as revoked", TIMEOUT, async || {
        authenticate(&cluster, hash(&secret)).await.ok()?.revoke_time
    })
    .await?;
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_authentication_asks_no_database() -> Result<()> {
    let cluster = Cluster::start().await?;
    let parent = format!("accounts/{}", cluster.account().await?.id);
    let (_, secret) = create_key(&cluster, &parent, &[]).await?;
    cluster.warm_up().await?;
    for sha256 in [hash(&secret), vec![7; 32]] {
        let first = authenticate(&cluster, sha256.clone()).await.map_err(|status| status.code());
        cluster.queries();
        for _ in 0..5 {
            assert_eq!(authenticate(&cluster, sha256.clone()).await.map_err(|status| status.code()), first);
        }
        assert_eq!(cluster.queries(), [""; 0], "that nobody has a key is cached too");
    }
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_refused_and_leaves_nothing() -> Result<()> {
    let cluster = Cluster::start().await?;
    let parent = format!("accounts/{}", cluster.account().await?.id);
    let state = cluster.state().await?;
    const WRONG: &str = "INPUT_SCHEMA_VIOLATION";

    let account = |display_name: &str, email: &str| {
        let (display_name, email) = (display_name.to_owned(), email.to_owned());
        CreateAccountRequest { account: Some(Account { display_name, email, ..Account::default() }) }
    };
    for (request, wrong) in [
        (CreateAccountRequest { account: None }, vec!["account.display_name"]),
        (account("", &"e".repeat(321)), vec!["account.display_name", "account.email"]),
        (account(&"n".repeat(201), "a\0b"), vec!["account.display_name", "account.email"]),
    ] {
        let answer = cluster.accounts().create_account(request).await;
        assert_eq!(refused(answer, Code::InvalidArgument, WRONG), wrong);
    }
    for (parent, scopes, wrong) in [
        ("projects/x", vec!["admin"], vec!["parent", "scopes[0]"]),
        (parent.as_str(), vec!["read", ""], vec!["scopes[1]"]),
    ] {
        assert_eq!(refused(create_key(&cluster, parent, &scopes).await, Code::InvalidArgument, WRONG), wrong);
    }
    for (seconds, nanos) in [(1_000_000_000, 0), (i64::MAX, 0), (4_000_000_000, -1)] {
        let expire_time = Some(prost_types::Timestamp { seconds, nanos });
        let request = CreateApiKeyRequest { parent: parent.clone(), expire_time, ..CreateApiKeyRequest::default() };
        let answer = cluster.accounts().create_api_key(request).await;
        assert_eq!(refused(answer, Code::InvalidArgument, WRONG), ["expire_time"], "{seconds}.{nanos}");
    }
    let nobody = format!("accounts/{}", Uuid::now_v7());
    refused(create_key(&cluster, &nobody, &[]).await, Code::NotFound, "ACCOUNT_NOT_FOUND");
    for name in [format!("{nobody}/apiKeys/{}", Uuid::now_v7()), format!("{parent}/apiKeys/{}", Uuid::now_v7())] {
        let answer = cluster.accounts().revoke_api_key(RevokeApiKeyRequest { name }).await;
        refused(answer, Code::NotFound, "API_KEY_NOT_FOUND");
    }
    let answer = cluster.accounts().revoke_api_key(RevokeApiKeyRequest { name: "accounts/x".into() }).await;
    assert_eq!(refused(answer, Code::InvalidArgument, WRONG), ["name"]);
    refused(authenticate(&cluster, vec![1; 32]).await, Code::NotFound, "API_KEY_NOT_FOUND");
    assert_eq!(refused(authenticate(&cluster, vec![1; 31]).await, Code::InvalidArgument, WRONG), ["key_sha256"]);
    assert_eq!(cluster.state().await?, state);
    cluster.stop().await
}

/// Whoever reached Redis used to give a key the scope `operate` by adding ten bytes to its record there.
#[tokio::test(flavor = "multi_thread")]
async fn a_scope_that_somebody_added_in_redis_is_not_believed() -> Result<()> {
    let cluster = Cluster::start().await?;
    // Before, a load fills the process's own memory alone, which then answers.
    cluster.warm_up().await?;
    let parent = format!("accounts/{}", cluster.account().await?.id);
    let (key, secret) = create_key(&cluster, &parent, &["read"]).await?;
    let sha256 = hash(&secret);
    let mut redis = cluster.redis().await?;
    let pattern = format!("*key:{}", hex::encode(&sha256));
    // The record has a body once a load was allowed to fill it.
    // Where the machine is crowded, Redis is left out of loads for a while.
    let entry = testkit::eventually("the key's record is in Redis", TIMEOUT * 6, async || {
        authenticate(&cluster, sha256.clone()).await.ok()?;
        let names: Vec<String> = redis::cmd("KEYS").arg(&pattern).query_async(&mut redis.clone()).await.ok()?;
        let name = names.into_iter().next()?;
        let body: Option<Vec<u8>> =
            redis::cmd("HGET").arg(&name).arg("d").query_async(&mut redis.clone()).await.ok()?;
        Some((name, body?))
    });
    let (name, body) = entry.await?;
    // A protobuf message takes another element of `scopes` wherever it stands.
    let operate = ApiKey { scopes: vec!["operate".to_owned()], ..ApiKey::default() }.encode_to_vec();
    let forged = [body, operate].concat();
    let _: i64 = redis::cmd("HSET").arg(&name).arg("d").arg(&forged).query_async(&mut redis).await?;
    // A process that has the key in no memory of its own reads Redis, and finds what nobody of ours has put there.
    let mut replica = cluster.another().await?;
    let request = AuthenticateApiKeyRequest { key_sha256: sha256.clone() };
    let read = replica.authenticate_api_key(request).await?.into_inner();
    assert_eq!(read.scopes, key.scopes);
    let kept: Option<Vec<u8>> = redis::cmd("HGET").arg(&name).arg("d").query_async(&mut redis).await?;
    assert_eq!(kept, Some(forged), "it was there to be read");
    cluster.stop().await
}
