//! A watch outlives the process that serves it: `kill -9`, and it goes on at the next one where it was.

use std::collections::HashMap;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::StreamExt as _;
use proto::generations::v1::watch_generations_response::Event;
use proto::generations::v1::{CancelGenerationRequest, Generation, WatchGenerationsRequest};
use proto::projects::v1::Scene;
use testkit::eventually;

use crate::client::Client;
use crate::cluster::{Cluster, Options};

const WATCHED: usize = 1_000;
/// How long a test waits for what should take moments.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Calls at once where a test makes many.
const AT_ONCE: usize = 8;

/// What a client knows, and what went wrong on the way.
#[derive(Debug, Default)]
struct Seen {
    known: HashMap<String, Generation>,
    token: String,
    resumes: usize,
    gaps: usize,
    doubles: usize,
    backwards: usize,
}

impl Seen {
    fn take(&mut self, generation: Generation) {
        let old = self.known.get(&generation.name).map_or(0, |old| old.version);
        self.doubles += usize::from(generation.version == old);
        self.backwards += usize::from(generation.version < old);
        self.known.insert(generation.name.clone(), generation);
    }

    fn is_over(&self) -> bool {
        self.known.len() == WATCHED && self.known.values().all(|generation| generation.end_time.is_some())
    }

    /// Watches to the end, whatever becomes of the server: a stream that breaks is taken up again.
    async fn watch(&mut self, client: &Client, names: &[String]) -> Result<()> {
        while !self.is_over() {
            let resume_token = self.token.clone();
            let request = WatchGenerationsRequest { names: names.to_vec(), resume_token, ..Default::default() };
            let watch = async || match client.generations().watch_generations(request.clone()).await {
                // The next process is on its way.
                Err(status) if status.code() == tonic::Code::Unavailable => None,
                answer => Some(answer),
            };
            let mut events = eventually("the watch is open", TIMEOUT, watch).await??.into_inner();
            self.resumes += usize::from(!self.token.is_empty());
            while !self.is_over() {
                let event = match events.message().await {
                    Ok(Some(event)) => event,
                    Ok(None) => break,
                    Err(status) if status.code() == tonic::Code::Unavailable => break,
                    Err(status) => bail!("a watch that is cut off is UNAVAILABLE, not {status}"),
                };
                self.token = event.resume_token;
                match event.event.context("an event")? {
                    Event::Snapshot(snapshot) => snapshot.generations.into_iter().for_each(|one| self.take(one)),
                    Event::Update(generation) => self.take(generation),
                    Event::Gap(_) => self.gaps += 1,
                    Event::Heartbeat(_) | Event::Moved(_) => {}
                }
            }
        }
        Ok(())
    }
}

async fn start(client: &Client, scene: &Scene) -> Result<String> {
    Ok(client.start(scene, "a tide that comes and goes").await?.name)
}

/// Cancels these; tried again while the service is away.
async fn cancel(client: &Client, names: &[String]) -> Result<()> {
    let cancel = async |name: &String| {
        let request = || CancelGenerationRequest { name: name.clone() };
        eventually("a cancel", TIMEOUT, async || client.generations().cancel_generation(request()).await.ok()).await
    };
    let outcomes: Vec<_> = futures::stream::iter(names).map(cancel).buffer_unordered(AT_ONCE).collect().await;
    outcomes.into_iter().try_for_each(|outcome| outcome.map(drop))
}

/// All generations get on, as a fix by hand would have them.
async fn move_on(pool: &sqlx::PgPool, percent: i16) -> Result<()> {
    sqlx::query("update generations set percent = $1, version = version + 1 where end_time is null")
        .bind(percent)
        .execute(pool)
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_of_a_thousand_outlives_a_kill_without_a_gap_or_a_double() -> Result<()> {
    let mut cluster = Cluster::start(Options::default()).await?;
    // Nobody takes them up, so that what changes is what this test changes.
    cluster.kill("generation-worker");
    let client = cluster.client(100).await?;
    let scene = client.scene(&client.project("Watched").await?, "One").await?;
    let starts = futures::stream::iter(0..WATCHED).map(|_| start(&client, &scene)).buffer_unordered(AT_ONCE);
    let names: Vec<String> = starts.collect::<Vec<_>>().await.into_iter().collect::<Result<_>>()?;
    let pool = sqlx::PgPool::connect(&cluster.database.url()).await?;

    let watching = async {
        let mut seen = Seen::default();
        tokio::time::timeout(TIMEOUT * 3, seen.watch(&client, &names)).await.context("all terminal in time")??;
        anyhow::Ok(seen)
    };
    let changing = async {
        for round in 0..3 {
            move_on(&pool, 10 + round).await?;
            cluster.kill("generation-status");
            // While nobody serves the watch, too.
            move_on(&pool, 20 + round).await?;
            cluster.run("generation-status")?;
            cluster.ready("generation-status").await?;
            move_on(&pool, 30 + round).await?;
            let part = WATCHED / 4;
            cancel(&client, &names[usize::try_from(round)? * part..][..part]).await?;
        }
        cancel(&client, &names).await
    };
    let (seen, ()) = tokio::try_join!(watching, changing)?;
    assert_eq!((seen.gaps, seen.doubles, seen.backwards), (0, 0, 0));
    ensure!(seen.resumes >= 1, "the watch was never taken up again");
    let ended: HashMap<String, i64> =
        sqlx::query_as("select 'generations/' || id, version from generations where end_time is not null")
            .fetch_all(&pool)
            .await?
            .into_iter()
            .collect();
    let known: HashMap<_, _> = seen.known.into_iter().map(|(name, last)| (name, last.version)).collect();
    assert_eq!(known, ended, "the terminal state of each was seen");
    println!("watched {WATCHED}, resumed {} times: 0 gaps, 0 doubles, 0 backwards", seen.resumes);
    pool.close().await;
    cluster.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn rushes_watch_goes_on_when_its_server_is_killed() -> Result<()> {
    let mut cluster = Cluster::start(Options::default()).await?;
    cluster.kill("generation-worker");
    let client = cluster.client(10).await?;
    let scene = client.scene(&client.project("Watched").await?, "One").await?;
    let name = start(&client, &scene).await?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_rushes-dev"));
    command
        .args(["--json", "watch", &name])
        .env("RUSHES_ADDRESS", format!("http://{}", client.gateway))
        .env("RUSHES_API_KEY", client.key())
        .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
        .stdout(Stdio::piped());
    let mut watching = tokio::process::Command::from(command).kill_on_drop(true).spawn()?;
    let out = watching.stdout.take().context("its output")?;
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(out));
    let first = tokio::time::timeout(TIMEOUT, lines.next_line()).await??.context("the state at first")?;
    ensure!(first.contains("QUEUED"), "{first}");
    cluster.kill("generation-status");
    cluster.run("generation-status")?;
    cancel(&client, &[name]).await?;
    let last = tokio::time::timeout(TIMEOUT, lines.next_line()).await??.context("the state at last")?;
    ensure!(last.contains("CANCELLED"), "{last}");
    assert_eq!(tokio::time::timeout(TIMEOUT, lines.next_line()).await??, None, "and that was all");
    assert_eq!(tokio::time::timeout(TIMEOUT, watching.wait()).await??.code(), Some(7), "not completed");
    cluster.end().await
}
