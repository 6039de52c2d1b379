//! One's own writes at another replica: one that hears of nothing shows them to a caller who brings the token of the write.

use anyhow::{Context, Result};
use bytes::Bytes;
use chassis::token;
use proto::dashboard::v1::GetDashboardRequest;
use proto::projects::v1 as projects;
use testkit::eventually;
use tonic::metadata::BinaryMetadataValue;
use tonic::{Request, Response};

use crate::stack::{PATIENCE, Replica, Stack, User};

fn brought<T>(user: &User, message: T, token: &Bytes) -> Request<T> {
    let mut request = user.ask(message);
    request.metadata_mut().insert_bin(token::HEADER, BinaryMetadataValue::from_bytes(token));
    request
}

fn told<T>(response: &Response<T>) -> Result<Bytes> {
    let value = response.metadata().get_bin(token::HEADER).context("the reply carries a token")?;
    Ok(value.to_bytes()?)
}

async fn create(user: &User, title: &str) -> Result<Bytes> {
    let project = projects::Project { title: title.to_owned(), ..projects::Project::default() };
    let request = projects::CreateProjectRequest { project: Some(project), request_id: String::new() };
    told(&user.projects().create_project(user.ask(request)).await?)
}

/// How many projects a dashboard read shows, with a token or without.
async fn shown(user: &User, token: Option<&Bytes>) -> Result<usize> {
    Ok(titles(user, token).await?.len())
}

/// The titles of the projects that a dashboard read shows, newest first.
async fn titles(user: &User, token: Option<&Bytes>) -> Result<Vec<String>> {
    let message = GetDashboardRequest::default();
    let request = match token {
        Some(token) => brought(user, message, token),
        None => user.ask(message),
    };
    let dashboard = user.dashboards().get_dashboard(request).await?.into_inner();
    Ok(dashboard.projects.into_iter().map(|project| project.title).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_hears_nothing_shows_a_write_to_who_brings_its_token() -> Result<()> {
    let stack = Stack::start().await?;
    let writer = stack.account().await?;
    let replica = Replica::of(&stack).await?;
    let reader = replica.user(writer.id);
    let mut made = 0;
    // A round on a machine so busy that the proof ran out before the read shows nothing: then there is another.
    eventually("the replica shows what is old to who brings no token", PATIENCE, async || {
        replica.hears();
        // Of its own memory: Redis says nothing any more, and is not asked again after it did not answer three times.
        replica.hears_nothing_from_redis();
        replica.is_warm(&reader).await.ok()?;
        replica.hears_nothing();
        made += 1;
        let title = format!("P{made}");
        let token = create(&writer, &title).await.ok()?;
        let without = titles(&reader, None).await.ok()?;
        assert_eq!(titles(&reader, Some(&token)).await.ok()?[0], title, "with the token the write is seen");
        (without.first() != Some(&title)).then_some(())
    })
    .await?;
    stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_satisfied_costs_nothing_and_a_write_one_question() -> Result<()> {
    let stack = Stack::start().await?;
    stack.warm_up().await?;
    let user = stack.account().await?;
    create(&user, "P").await?;
    stack.queries();
    let token = create(&user, "P").await?;
    // A connection that has not seen the statement yet prepares it first; that is not a question more.
    let is_asked = |sql: &String| sql.contains("cache_version(wanted.key)") && !sql.starts_with("prepare: ");
    let asked = stack.queries().iter().filter(|sql| is_asked(sql)).count();
    assert_eq!(asked, 1, "the version of the dashboard after the commit");
    assert_eq!(shown(&user, Some(&token)).await?, 2);
    eventually("a read with the token costs no round trip", PATIENCE, async || {
        stack.queries();
        shown(&user, Some(&token)).await.ok()?;
        stack.queries().is_empty().then_some(())
    })
    .await?;
    stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_is_repeated_tells_its_token_again() -> Result<()> {
    let stack = Stack::start().await?;
    let user = stack.account().await?;
    let project = projects::Project { title: "P".to_owned(), ..projects::Project::default() };
    let request =
        projects::CreateProjectRequest { project: Some(project), request_id: uuid::Uuid::now_v7().to_string() };
    let first = told(&user.projects().create_project(user.ask(request.clone())).await?)?;
    let second = told(&user.projects().create_project(user.ask(request)).await?)?;
    assert_eq!(first, second, "it is one write");
    stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_hands_on_what_its_caller_brought() -> Result<()> {
    let stack = Stack::start().await?;
    let user = stack.account().await?;
    let mut other = cache::Token::of("of another service", 7);
    let project = projects::Project { title: "P".to_owned(), ..projects::Project::default() };
    let request = projects::CreateProjectRequest { project: Some(project), request_id: String::new() };
    let answer = user.projects().create_project(brought(&user, request, &other.encode().into())).await?;
    let token = cache::Token::decode(&told(&answer)?).context("a token")?;
    assert_eq!(token.version("of another service"), Some(7));
    other.absorb(&token);
    assert_eq!(other, token, "and something of its own");
    assert_ne!(token, cache::Token::of("of another service", 7));
    let read = user.dashboards().get_dashboard(user.ask(GetDashboardRequest::default())).await?;
    assert!(told(&read).is_err(), "a read tells nothing");
    stack.stop().await
}
