//! The crash points of the services, and what is done so that a process passes one: a start, a cancel, a failure, or what
//! else leads there.
//!
//! Invariant: every point that a service has has a script, and one that no run of its script reaches is a failure of the run; no
//! script is for a point that no service has.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chassis::crash;
use proto::generations::v1::charge::ProviderCharge;
use proto::generations::v1::resolve_generation_request::Resolution;
use proto::generations::v1::{State, WaitReason};
use sqlx::PgPool;
use testkit::Process;
use uuid::Uuid;

use crate::cluster::Cluster;
use crate::customer::{Ask, Customer, Still};
use crate::provider::MODELS;

/// The built-in model, which is drawn in the worker under its lease.
const LOCAL: &str = "models/local-sketch";
/// How long a step may take to be seen.
const STEP: Duration = Duration::from_secs(60);

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Script {
    /// A video by each protocol.
    Order,
    /// One is stopped while its provider works on it.
    Cancel,
    /// One is refused for good.
    Fail,
    /// A worker has to leave while it draws.
    Leave,
    /// A worker dies while it draws, and its lease runs out.
    Die,
    /// An unconfirmed one comes to its total deadline.
    Deadline,
    /// An unconfirmed one is resolved.
    Resolve,
    /// A job is deleted by hand.
    Delete,
}

/// The points that something else than an order leads to.
const SCRIPTS: &[(&str, Script)] = &[
    ("status.cancel", Script::Cancel),
    ("worker.cancel", Script::Cancel),
    ("status.failure", Script::Fail),
    ("worker.failure", Script::Fail),
    ("status.release", Script::Leave),
    ("status.reap", Script::Die),
    ("status.deadline", Script::Deadline),
    ("status.resolution", Script::Resolve),
    ("status.reconciler", Script::Delete),
];

fn script(point: &str) -> Script {
    SCRIPTS.iter().find(|(name, _)| *name == point).map_or(Script::Order, |(_, script)| *script)
}

/// The service that passes a point.
pub(super) fn service(point: &str) -> &'static str {
    if point.starts_with("status.") { "generation-status" } else { "generation-worker" }
}

/// All points of the services that lie built beside this program.
pub(super) fn all() -> Result<Vec<String>> {
    let mut points = of("generation-status")?;
    points.extend(of("generation-worker")?);
    let stray = SCRIPTS.iter().find(|(name, _)| !points.iter().any(|point| point == name));
    ensure!(stray.is_none(), "no service has the crash point of the script {stray:?}");
    Ok(points)
}

/// A service's points, which it lists when it refuses one that it does not have.
fn of(service: &'static str) -> Result<Vec<String>> {
    let program = std::env::current_exe().context("finding this program")?.with_file_name(service);
    let mut command = std::process::Command::new(&program);
    let refused =
        command.env(crash::SETTING, "?").output().with_context(|| format!("running {}", program.display()))?;
    let text = String::from_utf8_lossy(&refused.stderr);
    let list = text.trim_end().rsplit_once(": ").map(|(_, list)| list).unwrap_or_default();
    let points: Vec<_> = list.split(", ").map(str::to_owned).collect();
    let known = points.iter().all(|point| self::service(point) == service && point.contains('.'));
    ensure!(known && refused.status.code() == Some(1), "{service} lists no crash points: {text}");
    Ok(points)
}

/// What scripts act on.
pub(super) struct Scene<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) pool: &'a PgPool,
    pub(super) customer: &'a Customer,
}

impl Scene<'_> {
    /// Does what leads to a point, and returns the generations that were started.
    pub(super) async fn play(&self, point: &str) -> Result<Vec<String>> {
        let (customer, worker) = (self.customer, self.cluster.at(0, "generation-worker"));
        let one = match script(point) {
            Script::Order => {
                let mut names = Vec::new();
                for model in MODELS {
                    let ask = Ask { still: Still::Large, outputs: 2 };
                    // A provider that is told nothing of the job is joined with it by its words.
                    let prompt = format!("a harbour at dawn, {point}, {model}");
                    names.push(customer.start(model, &prompt, ask).await?);
                }
                return Ok(names);
            }
            Script::Cancel => {
                let name = customer.start(MODELS[0], "a harbour [endless]", Ask::default()).await?;
                self.until(&name, "at its provider", |state, _| state == State::Processing).await?;
                customer.cancel(&name).await?;
                name
            }
            Script::Fail => customer.start(MODELS[1], "a harbour [unsafe]", Ask::default()).await?,
            Script::Leave => {
                let name = self.drawn().await?;
                self.cluster.nodes[worker].with(Process::ask_to_end);
                self.until_unleased(&name, "given back").await?;
                self.cluster.kill(worker);
                customer.cancel(&name).await?;
                self.cluster.launch(worker)?;
                name
            }
            Script::Die => {
                let name = self.drawn().await?;
                self.cluster.kill(worker);
                self.until_unleased(&name, "taken back").await?;
                customer.cancel(&name).await?;
                self.cluster.launch(worker)?;
                name
            }
            Script::Deadline => {
                let name = self.unconfirmed().await?;
                sqlx::query("update generations set total_deadline = now() where id = $1")
                    .bind(id(&name)?)
                    .execute(self.pool)
                    .await?;
                name
            }
            Script::Resolve => {
                let name = self.unconfirmed().await?;
                customer.resolve(&name, Resolution::Failed(ProviderCharge::NotCharged.into())).await?;
                name
            }
            Script::Delete => {
                let name = self.drawn().await?;
                sqlx::query("delete from jobs where id = $1").bind(id(&name)?).execute(self.pool).await?;
                name
            }
        };
        Ok(vec![one])
    }

    /// One that the worker draws for as long as nobody stops it.
    async fn drawn(&self) -> Result<String> {
        let name = self.customer.start(LOCAL, "a harbour", Ask::default()).await?;
        self.until(&name, "drawn", |state, _| state == State::Processing).await?;
        Ok(name)
    }

    /// One of which nobody knows whether it was taken; it was not.
    async fn unconfirmed(&self) -> Result<String> {
        let name = self.customer.start(MODELS[0], "a harbour [cut-before]", Ask::default()).await?;
        self.until(&name, "unconfirmed", |_, wait| wait == WaitReason::SubmissionUnconfirmed).await?;
        Ok(name)
    }

    async fn until(&self, name: &str, what: &str, wanted: impl Fn(State, WaitReason) -> bool) -> Result<()> {
        let names = [name.to_owned()];
        let question = async || {
            let seen = self.customer.get(&names).await.ok()?.pop()?;
            wanted(seen.state(), seen.wait_reason()).then_some(())
        };
        testkit::eventually(&format!("{name} is {what}"), STEP, question).await
    }

    /// Waits until no worker holds a generation's lease. Its order may live on, and then nothing of the generation says so.
    async fn until_unleased(&self, name: &str, what: &str) -> Result<()> {
        let id = id(name)?;
        let question = async || {
            let leased = sqlx::query_scalar::<_, bool>("select state = 'leased' from jobs where id = $1").bind(id);
            (!leased.fetch_one(self.pool).await.ok()?).then_some(())
        };
        testkit::eventually(&format!("{name} is {what}"), STEP, question).await
    }
}

/// The id in a generation's name.
pub(super) fn id(name: &str) -> Result<Uuid> {
    Ok(Uuid::try_parse(name.trim_start_matches("generations/"))?)
}
