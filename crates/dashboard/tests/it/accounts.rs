//! Accounts and API keys, by the internal door.

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proto::accounts::v1::{
    Account, ApiKey, AuthenticateApiKeyRequest, CreateAccountRequest, CreateApiKeyRequest, RevokeApiKeyRequest,
};
use sha2::{Digest, Sha256};
use tonic::{Code, Response};
use uuid::Uuid;

use crate::stack::{Answer, PATIENCE, Stack, id, refused};

async fn create_key(stack: &Stack, parent: &str, scopes: &[&str]) -> Answer<(ApiKey, String)> {
    let request = CreateApiKeyRequest {
        parent: parent.to_owned(),
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        expire_time: None,
    };
    let made = stack.accounts().create_api_key(request).await?.into_inner();
    Ok((made.api_key.expect("a key"), made.secret))
}

async fn authenticate(stack: &Stack, key_sha256: Vec<u8>) -> Answer<ApiKey> {
    let request = AuthenticateApiKeyRequest { key_sha256 };
    stack.accounts().authenticate_api_key(request).await.map(Response::into_inner)
}

fn hash(secret: &str) -> Vec<u8> {
    Sha256::digest(secret).to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_known_by_its_hash_until_it_is_revoked() -> Result<()> {
    let stack = Stack::start().await?;
    let user = stack.account().await?;
    let parent = format!("accounts/{}", user.id);
    let (key, secret) = create_key(&stack, &parent, &["generate", "read"]).await?;
    let random = URL_SAFE_NO_PAD.decode(secret.strip_prefix("rsk_").context("the prefix")?)?;
    assert_eq!((random.len(), secret.len()), (32, 47));
    assert_eq!(
        (key.account.as_str(), key.scopes.as_slice()),
        (parent.as_str(), &["read".into(), "generate".into()][..])
    );
    assert!(secret.starts_with(&key.prefix) && key.prefix.len() < 12, "{}", key.prefix);
    assert!(!stack.state().await?.contains(&secret[8..]), "the key itself is not stored");

    assert_eq!(authenticate(&stack, hash(&secret)).await?, key);
    let request = RevokeApiKeyRequest { name: key.name.clone() };
    let revoked = stack.accounts().revoke_api_key(request.clone()).await?.into_inner().api_key.context("a key")?;
    assert!(revoked.revoke_time.is_some() && revoked.version > key.version);
    assert_eq!(authenticate(&stack, hash(&secret)).await?, revoked, "at once");
    let again = stack.accounts().revoke_api_key(request).await?.into_inner().api_key.context("a key")?;
    assert_eq!(again, revoked, "it ended once");

    let (all, _) = create_key(&stack, &parent, &[]).await?;
    assert_eq!(all.scopes, ["read", "write", "generate"], "and no reach across accounts");
    let (operator, _) = create_key(&stack, &parent, &["operate"]).await?;
    assert_eq!(operator.scopes, ["operate"]);
    stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hand_made_revocation_shows_too() -> Result<()> {
    let stack = Stack::start().await?;
    let parent = format!("accounts/{}", stack.account().await?.id);
    let (key, secret) = create_key(&stack, &parent, &[]).await?;
    authenticate(&stack, hash(&secret)).await?;
    sqlx::query("update api_keys set revoke_time = now(), version = version + 1 where id = $1")
        .bind(id(&key.name))
        .execute(&stack.pool)
        .await?;
    testkit::eventually("the key shows as revoked", PATIENCE, async || {
        authenticate(&stack, hash(&secret)).await.ok()?.revoke_time
    })
    .await?;
    stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn authentication_is_answered_from_memory() -> Result<()> {
    let stack = Stack::start().await?;
    let parent = format!("accounts/{}", stack.account().await?.id);
    let (_, secret) = create_key(&stack, &parent, &[]).await?;
    stack.warm_up().await?;
    for sha256 in [hash(&secret), vec![7; 32]] {
        let first = authenticate(&stack, sha256.clone()).await.map_err(|status| status.code());
        stack.queries();
        for _ in 0..5 {
            assert_eq!(authenticate(&stack, sha256.clone()).await.map_err(|status| status.code()), first);
        }
        assert_eq!(stack.queries(), [""; 0], "that nobody has a key is remembered too");
    }
    stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_refused_and_leaves_nothing() -> Result<()> {
    let stack = Stack::start().await?;
    let parent = format!("accounts/{}", stack.account().await?.id);
    let state = stack.state().await?;
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
        let answer = stack.accounts().create_account(request).await;
        assert_eq!(refused(answer, Code::InvalidArgument, WRONG), wrong);
    }
    for (parent, scopes, wrong) in [
        ("projects/x", vec!["admin"], vec!["parent", "scopes[0]"]),
        (parent.as_str(), vec!["read", ""], vec!["scopes[1]"]),
    ] {
        assert_eq!(refused(create_key(&stack, parent, &scopes).await, Code::InvalidArgument, WRONG), wrong);
    }
    for (seconds, nanos) in [(1_000_000_000, 0), (i64::MAX, 0), (4_000_000_000, -1)] {
        let expire_time = Some(prost_types::Timestamp { seconds, nanos });
        let request = CreateApiKeyRequest { parent: parent.clone(), scopes: vec![], expire_time };
        let answer = stack.accounts().create_api_key(request).await;
        assert_eq!(refused(answer, Code::InvalidArgument, WRONG), ["expire_time"], "{seconds}.{nanos}");
    }
    let nobody = format!("accounts/{}", Uuid::now_v7());
    refused(create_key(&stack, &nobody, &[]).await, Code::NotFound, "ACCOUNT_NOT_FOUND");
    for name in [format!("{nobody}/apiKeys/{}", Uuid::now_v7()), format!("{parent}/apiKeys/{}", Uuid::now_v7())] {
        let answer = stack.accounts().revoke_api_key(RevokeApiKeyRequest { name }).await;
        refused(answer, Code::NotFound, "API_KEY_NOT_FOUND");
    }
    let answer = stack.accounts().revoke_api_key(RevokeApiKeyRequest { name: "accounts/x".into() }).await;
    assert_eq!(refused(answer, Code::InvalidArgument, WRONG), ["name"]);
    refused(authenticate(&stack, vec![1; 32]).await, Code::NotFound, "API_KEY_NOT_FOUND");
    assert_eq!(refused(authenticate(&stack, vec![1; 31]).await, Code::InvalidArgument, WRONG), ["key_sha256"]);
    assert_eq!(stack.state().await?, state);
    stack.stop().await
}
