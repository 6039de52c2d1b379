//! Own writes at another replica: one that gets no messages of changes shows a write to a caller who sends its token.

use anyhow::{Context, Result};
use bytes::Bytes;
use chassis::request::token;
use proto::dashboard::v1::GetDashboardRequest;
use proto::projects::v1 as projects;
use testkit::eventually;
use tonic::metadata::BinaryMetadataValue;
use tonic::{Request, Response};

use crate::cluster::{Cluster, Replica, TIMEOUT, User};

fn with_token<T>(user: &User, message: T, token: &Bytes) -> Request<T> {
    let mut request = user.ask(message);
    request.metadata_mut().insert_bin(token::HEADER, BinaryMetadataValue::from_bytes(token));
    request
}

fn reply_token<T>(response: &Response<T>) -> Result<Bytes> {
    let value = response.metadata().get_bin(token::HEADER).context("the reply carries a token")?;
    Ok(value.to_bytes()?)
}

async fn create(user: &User, title: &str) -> Result<Bytes> {
    let project = projects::Project { title: title.to_owned(), ..projects::Project::default() };
    let request = projects::CreateProjectRequest { project: Some(project), request_id: String::new() };
    reply_token(&user.projects().create_project(user.ask(request)).await?)
}

/// How many projects a dashboard read shows, with a token or without.
async fn shown(user: &User, token: Option<&Bytes>) -> Result<usize> {
    Ok(titles(user, token).await?.len())
}

/// The titles of the projects that a dashboard read shows, newest first.
async fn titles(user: &User, token: Option<&Bytes>) -> Result<Vec<String>> {
    let message = GetDashboardRequest::default();
    let request = match token {
        Some(token) => with_token(user, message, token),
        None => user.ask(message),
    };
    let dashboard = user.dashboards().get_dashboard(request).await?.into_inner();
    Ok(dashboard.projects.into_iter().map(|project| project.title).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_without_messages_shows_a_write_to_a_caller_with_its_token() -> Result<()> {
    let cluster = Cluster::start().await?;
    let writer = cluster.account().await?;
    let replica = Replica::of(&cluster).await?;
    let reader = replica.user(writer.id);
    let mut made = 0;
    // On a machine so busy that the proof ends before the read, a round shows nothing; then another is tried.
    eventually("the replica shows an old dashboard to a caller without a token", TIMEOUT, async || {
        replica.reconnect();
        // The replica answers from its own memory: Redis is silent, and is not asked again after three missing answers.
        replica.cut_off_from_redis();
        replica.is_warm(&reader).await.ok()?;
        replica.cut_off();
        made += 1;
        let title = format!("P{made}");
        let token = create(&writer, &title).await.ok()?;
        let without = titles(&reader, None).await.ok()?;
        assert_eq!(titles(&reader, Some(&token)).await.ok()?[0], title, "with the token the write shows");
        (without.first() != Some(&title)).then_some(())
    })
    .await?;
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_satisfied_token_costs_nothing_and_a_write_one_query() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.warm_up().await?;
    let user = cluster.account().await?;
    create(&user, "P").await?;
    cluster.queries();
    let token = create(&user, "P").await?;
    // A connection that has not run the statement yet prepares it first; that is no query more.
    let is_version_query = |sql: &String| sql.contains("o.key = wanted.key") && !sql.starts_with("prepare: ");
    let queries = cluster.queries().iter().filter(|sql| is_version_query(sql)).count();
    assert_eq!(queries, 1, "the version of the dashboard after the commit");
    assert_eq!(shown(&user, Some(&token)).await?, 2);
    eventually("a read with the token costs no round trip", TIMEOUT, async || {
        cluster.queries();
        shown(&user, Some(&token)).await.ok()?;
        cluster.queries().is_empty().then_some(())
    })
    .await?;
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_write_returns_its_token_again() -> Result<()> {
    let cluster = Cluster::start().await?;
    let user = cluster.account().await?;
    let project = projects::Project { title: "P".to_owned(), ..projects::Project::default() };
    let request =
        projects::CreateProjectRequest { project: Some(project), request_id: uuid::Uuid::now_v7().to_string() };
    let first = reply_token(&user.projects().create_project(user.ask(request.clone())).await?)?;
    let second = reply_token(&user.projects().create_project(user.ask(request)).await?)?;
    assert_eq!(first, second, "it is one write");
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_of_a_write_contains_the_token_of_its_caller() -> Result<()> {
    let cluster = Cluster::start().await?;
    let user = cluster.account().await?;
    let mut other = cache::Token::of("another service's key", 7);
    let project = projects::Project { title: "P".to_owned(), ..projects::Project::default() };
    let request = projects::CreateProjectRequest { project: Some(project), request_id: String::new() };
    let answer = user.projects().create_project(with_token(&user, request, &other.encode().into())).await?;
    let token = cache::Token::decode(&reply_token(&answer)?).context("a token")?;
    assert_eq!(token.version("another service's key"), Some(7));
    other.absorb(&token);
    assert_eq!(other, token, "with something of its own");
    assert_ne!(token, cache::Token::of("another service's key", 7));
    let read = user.dashboards().get_dashboard(user.ask(GetDashboardRequest::default())).await?;
    assert!(reply_token(&read).is_err(), "a read returns no token");
    cluster.stop().await
}
