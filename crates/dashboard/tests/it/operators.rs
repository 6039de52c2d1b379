//! What operators set for accounts and keys, and what the audit log has of it.

use std::time::Duration;

use anyhow::{Context, Result};
use chassis::postgres::PoolSettings;
use dashboard::Erasures;
use proto::accounts::v1::{
    Account, ApiKey, CreateApiKeyRequest, EraseAccountRequest, GetAccountRequest, ReactivateAccountRequest,
    RevokeApiKeyRequest, SetAccountLimitsRequest, SuspendAccountRequest, UpdateApiKeyRequest,
};
use proto::audit::v1::{AuditEntry, ListAuditEntriesRequest};
use proto::limits::v1::{Limits, Rate};
use testkit::eventually;
use tonic::{Code, Response};
use uuid::Uuid;

use crate::accounts::{authenticate, create_key, hash};
use crate::cluster::{Answer, Cluster, TIMEOUT, User, id, refused};

const WRONG: &str = "INPUT_SCHEMA_VIOLATION";

async fn entries(cluster: &Cluster, account: &str, act: &str) -> Answer<Vec<AuditEntry>> {
    let request = ListAuditEntriesRequest {
        account: account.to_owned(),
        act: act.to_owned(),
        page_size: 100,
        ..ListAuditEntriesRequest::default()
    };
    cluster.audit().list_audit_entries(request).await.map(|reply| reply.into_inner().entries)
}

async fn get(cluster: &Cluster, name: &str) -> Answer<Account> {
    let request = GetAccountRequest { name: name.to_owned() };
    cluster.accounts().get_account(request).await.map(Response::into_inner)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspension_reaches_every_key_at_once_and_is_taken_back() -> Result<()> {
    let cluster = Cluster::start().await?;
    let (user, operator) = (cluster.account().await?, cluster.account().await?);
    let name = format!("accounts/{}", user.id);
    let (_, first) = create_key(&cluster, &name, &[]).await?;
    let (_, second) = create_key(&cluster, &name, &[]).await?;
    let (ended, ended_secret) = create_key(&cluster, &name, &[]).await?;
    let revoke = RevokeApiKeyRequest { name: ended.name };
    let ended = cluster.accounts().revoke_api_key(revoke).await?.into_inner().api_key.context("a key")?;
    let before = authenticate(&cluster, hash(&first)).await?;
    assert_eq!(before.account_suspend_time, None);

    let suspend = |note: &str| SuspendAccountRequest { name: name.clone(), note: note.to_owned() };
    let suspended = cluster.accounts().suspend_account(operator.ask(suspend("unpaid"))).await?.into_inner();
    assert!(suspended.suspend_time.is_some() && suspended.suspend_note == "unpaid");
    for secret in [&first, &second] {
        let known = authenticate(&cluster, hash(secret)).await?;
        assert_eq!(known.account_suspend_time, suspended.suspend_time, "at once");
        assert!(known.version > before.version && known.account_version > before.account_version);
    }
    assert_eq!(authenticate(&cluster, hash(&ended_secret)).await?.version, ended.version, "it has ended before");
    let again = cluster.accounts().suspend_account(operator.ask(suspend("still unpaid"))).await?.into_inner();
    assert_eq!((again.suspend_time, again.suspend_note.as_str()), (suspended.suspend_time, "still unpaid"));
    assert_eq!(get(&cluster, &name).await?, again);
    // A key that is made meanwhile is no way around it.
    let (_, new) = create_key(&cluster, &name, &[]).await?;
    assert_eq!(authenticate(&cluster, hash(&new)).await?.account_suspend_time, suspended.suspend_time);

    let reactivate = || ReactivateAccountRequest { name: name.clone() };
    let back = cluster.accounts().reactivate_account(operator.ask(reactivate())).await?.into_inner();
    assert_eq!((back.suspend_time, back.suspend_note.as_str()), (None, ""));
    assert_eq!(authenticate(&cluster, hash(&first)).await?.account_suspend_time, None);
    assert_eq!(cluster.accounts().reactivate_account(operator.ask(reactivate())).await?.into_inner(), back);

    let own = SuspendAccountRequest { name: format!("accounts/{}", operator.id), note: "n".to_owned() };
    let answer = cluster.accounts().suspend_account(operator.ask(own)).await;
    refused(answer, Code::FailedPrecondition, "OWN_ACCOUNT");
    let nobody = SuspendAccountRequest { name: format!("accounts/{}", Uuid::now_v7()), note: "n".to_owned() };
    let answer = cluster.accounts().suspend_account(operator.ask(nobody)).await;
    refused(answer, Code::NotFound, "ACCOUNT_NOT_FOUND");
    let answer = cluster.accounts().suspend_account(operator.ask(suspend(" "))).await;
    assert_eq!(refused(answer, Code::InvalidArgument, WRONG), ["note"]);

    let acts: Vec<_> = entries(&cluster, &name, "").await?.into_iter().map(|entry| (entry.act, entry.actor)).collect();
    let who = format!("accounts/{}/apiKeys/{}", operator.id, testkit::KEY);
    let of_operator: Vec<_> = acts.iter().filter(|(_, actor)| *actor == who).map(|(act, _)| act.as_str()).collect();
    assert_eq!(
        of_operator,
        ["account.reactivate", "account.suspend", "account.suspend"],
        "and what changed nothing is none"
    );
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_an_account_go_with_its_keys() -> Result<()> {
    let cluster = Cluster::start().await?;
    let name = format!("accounts/{}", cluster.account().await?.id);
    let (_, secret) = create_key(&cluster, &name, &[]).await?;
    assert_eq!(authenticate(&cluster, hash(&secret)).await?.account_limits, None);
    let set = async |limits| {
        let request = SetAccountLimitsRequest { name: name.clone(), limits };
        cluster.accounts().set_account_limits(request).await.map(Response::into_inner)
    };
    let polls = Some(Rate { per_second: 7, burst: 70 });
    let limits = Limits { polls, uploads: Some(2), ..Limits::default() };
    assert_eq!(set(Some(limits)).await?.limits, Some(limits));
    let first = authenticate(&cluster, hash(&secret)).await?;
    assert_eq!(first.account_limits, Some(limits));
    let other = Limits { watches: Some(3), ..Limits::default() };
    assert_eq!(set(Some(other)).await?.limits, Some(other), "in place of all that was set before");
    assert_eq!(set(Some(other)).await?.limits, Some(other));
    let second = authenticate(&cluster, hash(&secret)).await?;
    assert_eq!((second.account_limits, second.account_version), (Some(other), first.account_version + 1));
    let quota = Limits { storage_bytes: Some(5_000_000), ..Limits::default() };
    assert_eq!(set(Some(quota)).await?.limits, Some(quota));
    assert_eq!(get(&cluster, &name).await?.limits, Some(quota));
    assert_eq!(authenticate(&cluster, hash(&secret)).await?.account_limits, None, "it is no matter of the gateways");
    let quotas = async || {
        let query = "select max_bytes, max_objects from storage_quotas";
        sqlx::query_as::<_, (Option<i64>, Option<i64>)>(query).fetch_all(&cluster.pool).await
    };
    assert_eq!(quotas().await?, [(Some(5_000_000), None)]);
    let quota = Limits { assets: Some(0), ..other };
    assert_eq!(set(Some(quota)).await?.limits, Some(quota), "in place of all that was set before");
    assert_eq!(set(Some(quota)).await?.limits, Some(quota));
    assert_eq!(
        (quotas().await?, authenticate(&cluster, hash(&secret)).await?.account_limits),
        (vec![(None, Some(0))], Some(other))
    );
    assert_eq!(set(Some(Limits::default())).await?.limits, None);
    assert_eq!(quotas().await?, []);
    assert_eq!(authenticate(&cluster, hash(&secret)).await?.account_limits, None);

    let wrong = Limits {
        people: Some(Rate { per_second: 0, burst: 1 }),
        background: Some(Rate { per_second: 1, burst: 1_000_001 }),
        calls: Some(0),
        storage_bytes: Some(1 << 63),
        ..Limits::default()
    };
    let fields = ["limits.people.per_second", "limits.background.burst", "limits.calls", "limits.storage_bytes"];
    assert_eq!(refused(set(Some(wrong)).await, Code::InvalidArgument, WRONG), fields);
    assert_eq!(entries(&cluster, &name, "account.limits").await?.len(), 5, "and the one that changed nothing is none");
    assert_eq!(entries(&cluster, &name, "account.quota").await?.len(), 3, "set, set otherwise, and taken back");
    sqlx::query("insert into storage_quotas (account_id, max_bytes) values ($1, 1)")
        .bind(id(&name))
        .execute(&cluster.pool)
        .await?;
    let by_hand = &entries(&cluster, &name, "account.quota").await?[0];
    assert!(by_hand.actor.starts_with("database: "), "{by_hand:?}");
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_erased_only_while_it_is_suspended_and_by_its_name_twice() -> Result<()> {
    let cluster = Cluster::start().await?;
    let (user, operator) = (cluster.account().await?, cluster.account().await?);
    let name = format!("accounts/{}", user.id);
    let (key, secret) = create_key(&cluster, &name, &[]).await?;
    user.project("Kept until its turn comes").await?;
    assert_eq!(authenticate(&cluster, hash(&secret)).await?.name, key.name);
    let own = user.own_account(0, "").await?;
    assert_eq!((own.account, own.api_keys), (Some(get(&cluster, &name).await?), vec![key]));

    let erase = async |name: &str, confirm: &str| {
        let request = EraseAccountRequest { name: name.to_owned(), confirm: confirm.to_owned() };
        cluster.accounts().erase_account(operator.ask(request)).await.map(Response::into_inner)
    };
    refused(erase(&name, &name).await, Code::FailedPrecondition, "ACCOUNT_NOT_SUSPENDED");
    let suspend = SuspendAccountRequest { name: name.clone(), note: "asked for".to_owned() };
    cluster.accounts().suspend_account(operator.ask(suspend.clone())).await?;
    let other = format!("accounts/{}", operator.id);
    for confirm in ["", "yes", &other] {
        assert_eq!(refused(erase(&name, confirm).await, Code::InvalidArgument, WRONG), ["confirm"]);
    }
    refused(erase(&other, &other).await, Code::FailedPrecondition, "OWN_ACCOUNT");
    let nobody = format!("accounts/{}", Uuid::now_v7());
    refused(erase(&nobody, &nobody).await, Code::NotFound, "ACCOUNT_NOT_FOUND");
    assert_eq!(get(&cluster, &name).await?.erase_time, None);

    let erased = erase(&name, &name).await?;
    assert!(erased.erase_time.is_some() && erased.erase_end_time.is_none(), "{erased:?}");
    assert_eq!((erased.display_name.as_str(), erased.email.as_str()), ("erased", ""));
    let gone = authenticate(&cluster, hash(&secret)).await;
    refused(gone, Code::NotFound, "API_KEY_NOT_FOUND");
    assert_eq!(erase(&name, &name).await?, erased, "again changes nothing");

    let reactivate = ReactivateAccountRequest { name: name.clone() };
    let answer = cluster.accounts().reactivate_account(operator.ask(reactivate)).await;
    refused(answer, Code::FailedPrecondition, "ACCOUNT_ERASED");
    let answer = cluster.accounts().suspend_account(operator.ask(suspend)).await;
    refused(answer, Code::FailedPrecondition, "ACCOUNT_ERASED");
    let key = CreateApiKeyRequest { parent: name.clone(), ..CreateApiKeyRequest::default() };
    refused(cluster.accounts().create_api_key(key).await, Code::FailedPrecondition, "ACCOUNT_ERASED");
    let by_hand = sqlx::query("update accounts set suspend_time = null where id = $1").bind(user.id);
    let refusal = by_hand.execute(&cluster.pool).await.expect_err("it stays suspended").to_string();
    assert!(refusal.contains("accounts_erased"), "{refusal}");
    let acts = entries(&cluster, &name, "account.erase").await?;
    assert_eq!(acts.len(), 1, "and of what was refused, or done before, there is none");
    assert!(acts[0].actor.starts_with(&other), "{acts:?}");
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_service_has_of_an_erased_account_goes_once_its_generations_are_gone() -> Result<()> {
    let cluster = Cluster::configured(PoolSettings::default(), |config| {
        config.erasures = Erasures { interval: Duration::from_millis(50), batch: 2 };
    })
    .await?;
    // Their order is that in which they are erased.
    let (first, user, stranger) = (cluster.account().await?, cluster.account().await?, cluster.account().await?);
    let name = format!("accounts/{}", user.id);
    let networks = vec!["203.0.113.0/24".to_owned()];
    for parent in [name.clone(), format!("accounts/{}", stranger.id)] {
        let request = CreateApiKeyRequest { parent, allowed_networks: networks.clone(), ..Default::default() };
        cluster.accounts().create_api_key(request).await?;
    }
    for of in [&first, &user, &stranger] {
        for title in ["One", "Two", "Three"] {
            let project = of.project(title).await?;
            of.scene(&project.name, title).await?;
            of.scene(&project.name, title).await?;
        }
    }
    let rows = async |of: &User| {
        let query = "select (select count(*) from projects where account_id = $1), (select count(*) from scenes where account_id = $1),
                            (select count(*) from notices where account_id = $1), (select count(*) from api_keys where account_id = $1)";
        sqlx::query_as::<_, (i64, i64, i64, i64)>(query).bind(of.id).fetch_one(&cluster.pool).await
    };
    for name in [format!("accounts/{}", first.id), name.clone()] {
        let suspend = SuspendAccountRequest { name: name.clone(), note: "asked for".to_owned() };
        cluster.accounts().suspend_account(stranger.ask(suspend)).await?;
        let request = EraseAccountRequest { name: name.clone(), confirm: name };
        cluster.accounts().erase_account(stranger.ask(request)).await?;
    }
    sqlx::query("update account_erasures set generations_time = now() where account_id = $1")
        .bind(user.id)
        .execute(&cluster.pool)
        .await?;
    let over = async || {
        let query = "select count(*) from account_erasures where projects_time is not null";
        (sqlx::query_scalar::<_, i64>(query).fetch_one(&cluster.pool).await.ok()? == 1).then_some(())
    };
    eventually("the end of the erasure", TIMEOUT, over).await?;
    assert_eq!(rows(&user).await?, (0, 0, 0, 0));
    assert_eq!(rows(&first).await?, (3, 6, 1, 0), "its scenes may still be named by generations");
    assert_eq!(rows(&stranger).await?, (3, 6, 1, 1), "nobody else's");
    let log = format!("{:?}", entries(&cluster, &name, "").await?);
    assert!(log.contains("key.create") && !log.contains("Ada") && !log.contains("203.0.113"), "{log}");
    let log = format!("{:?}", entries(&cluster, &format!("accounts/{}", stranger.id), "").await?);
    assert!(log.contains("Ada") && log.contains("203.0.113"), "nobody else's: {log}");
    for of in [&name, &format!("accounts/{}", stranger.id)] {
        let change = "update audit_entries set detail = '{}' where account_id = $1";
        let refused = sqlx::query(change).bind(id(of)).execute(&cluster.pool).await.expect_err(of);
        assert!(refused.to_string().contains("append only"), "{refused}");
    }
    assert_eq!(get(&cluster, &name).await?.erase_end_time, None, "thumbnail-worker has not been there");
    sqlx::query("update account_erasures set assets_time = now()").execute(&cluster.pool).await?;
    assert!(get(&cluster, &name).await?.erase_end_time.is_some());
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_bound_to_networks_and_to_others() -> Result<()> {
    let cluster = Cluster::start().await?;
    let parent = format!("accounts/{}", cluster.account().await?.id);
    let create = async |networks: &[&str]| {
        let allowed_networks = networks.iter().map(|network| (*network).to_owned()).collect();
        let request =
            CreateApiKeyRequest { parent: parent.clone(), allowed_networks, ..CreateApiKeyRequest::default() };
        cluster.accounts().create_api_key(request).await.map(Response::into_inner)
    };
    let made = create(&["203.0.113.0/24", "2001:db8::7"]).await?;
    let key = made.api_key.context("a key")?;
    assert_eq!(key.allowed_networks, ["203.0.113.0/24", "2001:db8::7/128"]);
    assert_eq!(authenticate(&cluster, hash(&made.secret)).await?.allowed_networks, key.allowed_networks);
    let bind = async |networks: &[&str]| {
        let allowed_networks = networks.iter().map(|network| (*network).to_owned()).collect();
        let request = UpdateApiKeyRequest { name: key.name.clone(), allowed_networks };
        cluster.accounts().update_api_key(request).await.map(Response::into_inner)
    };
    let bound: ApiKey = bind(&["10.0.0.0/8"]).await?;
    assert_eq!(bound.allowed_networks, ["10.0.0.0/8"]);
    assert_eq!(authenticate(&cluster, hash(&made.secret)).await?.allowed_networks, ["10.0.0.0/8"], "at once");
    assert_eq!(bind(&[]).await?.allowed_networks, [""; 0]);

    assert_eq!(
        refused(create(&["10.0.0.1/8", "10.0.0.0/8", "x"]).await, Code::InvalidArgument, WRONG),
        ["allowed_networks[0]", "allowed_networks[2]"]
    );
    assert_eq!(refused(bind(&["10.0.0.0/8"; 33]).await, Code::InvalidArgument, WRONG), ["allowed_networks"]);
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_has_who_did_what_and_nobody_changes_it() -> Result<()> {
    let cluster = Cluster::start().await?;
    let user = cluster.account().await?;
    let name = format!("accounts/{}", user.id);
    let request = CreateApiKeyRequest { parent: name.clone(), ..CreateApiKeyRequest::default() };
    let key = cluster.accounts().create_api_key(request).await?.into_inner().api_key.context("a key")?;
    cluster.accounts().revoke_api_key(RevokeApiKeyRequest { name: key.name.clone() }).await?;
    cluster.accounts().revoke_api_key(RevokeApiKeyRequest { name: key.name.clone() }).await?;
    let by_hand = sqlx::query(
        "update accounts set suspend_time = now()
           from set_config('rushes.traceparent', '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', true)
          where id = $1",
    );
    by_hand.bind(user.id).execute(&cluster.pool).await?;
    // What is refused leaves no entry.
    let nobody = format!("accounts/{}/apiKeys/{}", user.id, Uuid::now_v7());
    cluster.accounts().revoke_api_key(RevokeApiKeyRequest { name: nobody }).await.expect_err("there is no such key");

    let log = entries(&cluster, &name, "").await?;
    let acts: Vec<_> = log.iter().map(|entry| (entry.act.as_str(), entry.subject.as_str())).collect();
    let of_key = key.name.as_str();
    let expected =
        [("account.suspend", name.as_str()), ("key.revoke", of_key), ("key.create", of_key), ("account.create", &name)];
    assert_eq!(acts, expected);
    assert!(log[0].actor.starts_with("database: "), "by hand: {}", log[0].actor);
    assert_eq!((log[1].actor.as_str(), log[2].actor.as_str()), ("service: operator", "service: operator"));
    let scopes = &log[2].detail.as_ref().context("what was set")?.fields["scopes"];
    assert!(format!("{scopes:?}").contains("generate"), "{scopes:?}");
    assert_eq!(log[0].trace_id, "0af7651916cd43dd8448eb211c80319c");
    let text = format!("{log:?}");
    assert!(!text.contains("rsk_"), "no secret and no part of one: {text}");

    assert_eq!(entries(&cluster, &name, "key.revoke").await?.len(), 1);
    let other = format!("accounts/{}", cluster.account().await?.id);
    assert_eq!(entries(&cluster, &other, "").await?.len(), 1, "its creation alone");
    let page = |page_token: &str, account: &str| ListAuditEntriesRequest {
        account: account.to_owned(),
        page_size: 2,
        page_token: page_token.to_owned(),
        ..ListAuditEntriesRequest::default()
    };
    let first = cluster.audit().list_audit_entries(page("", &name)).await?.into_inner();
    let second = cluster.audit().list_audit_entries(page(&first.next_page_token, &name)).await?.into_inner();
    assert_eq!([first.entries, second.entries].concat(), log);
    assert_eq!(second.next_page_token, "");
    let forged = cluster.audit().list_audit_entries(page(&first.next_page_token, &other)).await;
    refused(forged, Code::InvalidArgument, "PAGE_TOKEN_INVALID");

    for statement in
        ["update audit_entries set actor = 'nobody'", "delete from audit_entries", "truncate audit_entries"]
    {
        let refused = sqlx::query(statement).execute(&cluster.pool).await.expect_err(statement);
        assert!(refused.to_string().contains("append only"), "{refused}");
    }
    assert_eq!(entries(&cluster, &name, "").await?, log);
    cluster.stop().await
}
