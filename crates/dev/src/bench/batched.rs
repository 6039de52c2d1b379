//! The batched design as a small program: a thread with a connection of its own, which reads projects, scenes and their latest
//! generations in three queries and writes them down as JSON, as a handler of requests does. What a server, its framework and a key
//! would cost is left out.

use std::collections::HashMap;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sqlx::postgres::PgRow;
use sqlx::{Connection as _, PgConnection, Row as _};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::{backends, process, statements};

/// The running program; its thread ends when this is dropped.
pub(super) struct Batched {
    asked: mpsc::UnboundedSender<Asked>,
}

enum Asked {
    Dashboard(Uuid, oneshot::Sender<Result<usize>>),
    Cpu(oneshot::Sender<Result<Duration>>),
}

impl Batched {
    /// Starts it on this database.
    pub(super) fn start(url: &str) -> Result<Self> {
        let (asked, asks) = mpsc::unbounded_channel();
        let url = url.to_owned();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().name("batched".to_owned()).spawn(move || runtime.block_on(answer(&url, asks)))?;
        Ok(Self { asked })
    }

    /// How many scenes the dashboard of `account` has.
    pub(super) async fn dashboard(&self, account: Uuid) -> Result<usize> {
        let (answer, answered) = oneshot::channel();
        self.asked.send(Asked::Dashboard(account, answer)).ok().context("the batched program has ended")?;
        answered.await?
    }

    /// CPU time of its thread and of its backend so far.
    pub(super) async fn cpu(&self) -> Result<Duration> {
        let (answer, answered) = oneshot::channel();
        self.asked.send(Asked::Cpu(answer)).ok().context("the batched program has ended")?;
        answered.await?
    }
}

async fn answer(url: &str, mut asks: mpsc::UnboundedReceiver<Asked>) {
    let mut connection = PgConnection::connect(url).await;
    while let Some(asked) = asks.recv().await {
        let connection = connection.as_mut().map_err(|error| anyhow::anyhow!("connecting: {error}"));
        match asked {
            Asked::Dashboard(account, answer) => {
                let _ = answer.send(match connection {
                    Ok(connection) => dashboard(connection, account).await,
                    Err(error) => Err(error),
                });
            }
            Asked::Cpu(answer) => {
                let _ = answer.send(match connection {
                    Ok(connection) => cpu(connection).await,
                    Err(error) => Err(error),
                });
            }
        }
    }
}

async fn cpu(connection: &mut PgConnection) -> Result<Duration> {
    let thread = std::fs::read_link("/proc/thread-self").context("reading /proc/thread-self")?;
    Ok(process::cpu_of_thread(&PathBuf::from("/proc").join(thread))? + backends::own(connection).await?)
}

async fn dashboard(connection: &mut PgConnection, account: Uuid) -> Result<usize> {
    let found = statements::batched(connection, account).await?;
    let text = written(&found)?;
    // Used, so that no compiler leaves the writing out.
    anyhow::ensure!(text.len() > 2, "a dashboard is empty");
    Ok(found.scenes.len())
}

/// Projects with their scenes with their latest generations.
fn written(found: &statements::Batched) -> Result<Vec<u8>> {
    let id = |row: &PgRow, name| row.try_get::<Uuid, _>(name);
    let mut latest = HashMap::with_capacity(found.latest.len());
    for row in &found.latest {
        let generation = json!({
            "id": id(row, "id")?.to_string(),
            "state": row.try_get::<i16, _>("state")?,
            "percent": row.try_get::<i16, _>("percent")?,
            "prompt": row.try_get::<&str, _>("prompt")?,
            "thumbnail": row.try_get::<Option<&str>, _>("thumbnail")?,
        });
        latest.insert(id(row, "scene_id")?, generation);
    }
    let mut scenes: HashMap<Uuid, Vec<Value>> = HashMap::with_capacity(found.projects.len());
    for row in &found.scenes {
        let scene = json!({
            "id": id(row, "id")?.to_string(),
            "title": row.try_get::<&str, _>("title")?,
            "position": row.try_get::<i32, _>("position")?,
            "latest": latest.remove(&id(row, "id")?),
        });
        scenes.entry(id(row, "project_id")?).or_default().push(scene);
    }
    let mut projects = Vec::with_capacity(found.projects.len());
    for row in &found.projects {
        projects.push(json!({
            "id": id(row, "id")?.to_string(),
            "title": row.try_get::<&str, _>("title")?,
            "scene_count": row.try_get::<i64, _>("scene_count")?,
            "total_cost": row.try_get::<i64, _>("total_cost")?,
            "scenes": scenes.remove(&id(row, "id")?),
        }));
    }
    Ok(serde_json::to_vec(&projects)?)
}
