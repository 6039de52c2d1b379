//! WatchDashboard: which events come, in which order, and how a watch resumes at another process.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use proto::dashboard::v1::watch_dashboard_response::Event;
use proto::dashboard::v1::{Dashboard, WatchDashboardResponse};
use testkit::eventually;
use tonic::{Code, Streaming};

use crate::cluster::{Cluster, POOL, TIMEOUT, User, refused};

pub(crate) struct Watch {
    events: Streaming<WatchDashboardResponse>,
    /// Of the last event.
    token: String,
}

impl Watch {
    pub(crate) async fn of(user: &User, token: &str) -> Result<Self> {
        Ok(Self { events: user.watch(token).await?, token: token.to_owned() })
    }

    /// The next event; nothing when the stream has ended.
    async fn next(&mut self) -> Result<Option<Event>> {
        let next = tokio::time::timeout(TIMEOUT, self.events.message()).await.context("an event in time")?;
        let Some(response) = next? else { return Ok(None) };
        self.token = response.resume_token;
        Ok(response.event)
    }

    /// The next dashboard, past heartbeats.
    pub(crate) async fn dashboard(&mut self) -> Result<Dashboard> {
        loop {
            match self.next().await? {
                Some(Event::Dashboard(dashboard)) => return Ok(dashboard),
                Some(Event::Heartbeat(_)) => {}
                other => bail!("a dashboard was due, not {other:?}"),
            }
        }
    }

    /// Reads until the dashboard of this version; returns how many came.
    async fn up_to(&mut self, version: i64) -> Result<usize> {
        let mut last = 0;
        for count in 1.. {
            let shown = self.dashboard().await?;
            assert!(shown.version > last, "{} after {last}", shown.version);
            last = shown.version;
            if last >= version {
                assert_eq!(last, version);
                return Ok(count);
            }
        }
        bail!("more than can be counted")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_sees_what_changes() -> Result<()> {
    let cluster = Cluster::start().await?;
    let user = cluster.account().await?;
    let mut watch = Watch::of(&user, "").await?;
    let mut elsewhere = Watch::of(&cluster.replica(&user).await?, "").await?;
    let first = watch.dashboard().await?;
    assert_eq!(elsewhere.dashboard().await?, first);
    assert_eq!(first, user.dashboard().await?);
    let project = user.project("New").await?;
    for watch in [&mut watch, &mut elsewhere] {
        let shown = watch.dashboard().await?;
        assert!(shown.version > first.version);
        assert_eq!(shown.projects[0].name, project.name);
    }
    // By hand, too.
    sqlx::query("update accounts set display_name = 'Eve' where id = $1").bind(user.id).execute(&cluster.pool).await?;
    for watch in [&mut watch, &mut elsewhere] {
        let shown = watch.dashboard().await?;
        assert_eq!(shown.profile.map(|profile| profile.display_name).as_deref(), Some("Eve"));
    }
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_gets_up_to_ten_updates_a_second_and_always_the_last() -> Result<()> {
    let cluster = Cluster::start().await?;
    let user = cluster.account().await?;
    let mut watch = Watch::of(&user, "").await?;
    watch.dashboard().await?;
    let began = Instant::now();
    for change in 0..60 {
        user.project(&format!("P{change}")).await?;
    }
    let now = user.dashboard().await?.version;
    let came = watch.up_to(now).await?;
    let max = began.elapsed().as_millis() / 100 + 2;
    assert!(came as u128 <= max, "{came} dashboards in a time for {max}");
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_resumes_at_another_process_without_loss_or_repetition() -> Result<()> {
    let cluster = Cluster::configured(POOL, |config| config.watch.heartbeat = Duration::from_millis(50)).await?;
    let user = cluster.account().await?;
    let replica = cluster.replica(&user).await?;
    let mut watch = Watch::of(&user, "").await?;
    let first = watch.dashboard().await?;
    let token = watch.token.clone();
    drop(watch);

    let mut unchanged = Watch::of(&replica, &token).await?;
    for _ in 0..4 {
        let event = unchanged.next().await?;
        assert!(matches!(event, Some(Event::Heartbeat(_))), "nothing is sent twice: {event:?}");
    }
    assert_eq!(unchanged.token, token);
    drop(unchanged);

    user.project("Missed").await?;
    let mut behind = Watch::of(&replica, &token).await?;
    let event = behind.next().await?;
    assert!(matches!(event, Some(Event::Heartbeat(_))), "the stream says at once that it is open: {event:?}");
    let shown = behind.dashboard().await?;
    assert!(shown.version > first.version && shown.projects[0].title == "Missed");

    let expired = (Code::OutOfRange, "RESUME_TOKEN_EXPIRED");
    let mut forged = behind.token.clone().into_bytes();
    forged[3] ^= 1;
    for token in ["x", &String::from_utf8(forged)?] {
        refused(user.watch(token).await, expired.0, expired.1);
    }
    // The database came back from a copy that is older than what the watcher saw.
    sqlx::query("delete from outbox where key = $1").bind(format!("dash:{}", user.id)).execute(&cluster.pool).await?;
    sqlx::query("delete from cache_key where key = $1")
        .bind(format!("dash:{}", user.id))
        .execute(&cluster.pool)
        .await?;
    sqlx::query("select cache_reset()").execute(&cluster.pool).await?;
    let fresh = cluster.replica(&user).await?;
    // An entry of Redis is served for as long as its last proof is fresh.
    let refusal = eventually("a refusal", TIMEOUT, async || fresh.watch(&behind.token).await.err()).await?;
    refused::<()>(Err(refusal), expired.0, expired.1);
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_ends_with_moved_at_its_age_and_at_a_drain() -> Result<()> {
    let cluster = Cluster::configured(POOL, |config| {
        config.watch.heartbeat = Duration::from_millis(50);
        config.watch.age = Duration::from_millis(300);
    })
    .await?;
    let user = cluster.account().await?;
    let mut watch = Watch::of(&user, "").await?;
    watch.dashboard().await?;
    let (mut beats, mut moved) = (0, false);
    while let Some(event) = watch.next().await? {
        assert!(!moved, "{event:?} after moved");
        beats += usize::from(matches!(event, Event::Heartbeat(_)));
        moved = matches!(event, Event::Moved(_));
    }
    assert!(beats > 0 && moved, "{beats} heartbeats");

    let cluster = Cluster::start().await?;
    let user = cluster.account().await?;
    let mut watch = Watch::of(&user, "").await?;
    watch.dashboard().await?;
    cluster.drain();
    assert!(matches!(watch.next().await?, Some(Event::Moved(_))));
    assert!(watch.next().await?.is_none());
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_does_not_exist_cannot_be_watched() -> Result<()> {
    let cluster = Cluster::start().await?;
    let nobody = cluster.user(uuid::Uuid::now_v7());
    refused(nobody.watch("").await, Code::NotFound, "ACCOUNT_NOT_FOUND");
    cluster.stop().await
}
