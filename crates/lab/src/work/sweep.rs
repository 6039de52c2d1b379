//! `rushes crash-points`: at each crash point in turn the process that passes it aborts, is started again, and everything comes to its
//! end; then the provider's bill is joined with the books.
//!
//! One stage serves for all points. Leases are short there, so that a run takes minutes; `nemesis` runs with the usual ones.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cli::failure::Exit;
use cli::out;
use proto::generations::v1::charge::ProviderCharge;
use proto::generations::v1::{State, WaitReason};
use provider_double::Event;
use serde_json::json;
use sqlx::PgPool;

use super::audit::{Audit, audit};
use super::customer::Customer;
use super::points::{self, Found, Scene, service};
use super::provider::Provider;
use super::rescue::Rescues;
use crate::Progress;
use crate::stage::{Plan, Stage};

/// How long a script may take to reach its point.
const REACH: Duration = Duration::from_secs(60);
/// How long everything may take to come to its end after that.
const SETTLE: Duration = Duration::from_secs(90);

/// Which points.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Only points whose name holds this.
    #[arg(long, default_value = "")]
    point: String,
    /// Where to keep the logs, the bill and the videos; else they go with the run.
    #[arg(long, value_name = "DIRECTORY")]
    logs: Option<std::path::PathBuf>,
}

/// What came of one point.
struct Swept {
    point: String,
    trouble: Option<String>,
    took: Duration,
    ends: String,
}

/// Runs it; a promise that was broken, or a point that was not reached, is a failure.
pub async fn run(options: &Options, json: bool, say: Progress<'_>) -> Result<Exit> {
    let temporary = tempfolder(options.logs.as_deref())?;
    let provider = Provider::start(&temporary.path, Duration::from_secs(600), |_| {}).await?;
    let mut more = provider.environment();
    for (name, value) in [
        ("RUSHES_LEASE", "4s"),
        ("RUSHES_HEARTBEAT", "1s"),
        ("RUSHES_REAP_INTERVAL", "500ms"),
        ("RUSHES_RECONCILE_INTERVAL", "2s"),
        ("RUSHES_LOCAL_PACE", "300"),
    ] {
        more.push((name, value.to_owned()));
    }
    say("starting one of each service");
    let stage = Stage::start(Plan { sides: 1, logs: Some(temporary.path.clone()), more }).await?;
    let pool = PgPool::connect(&stage.database_url()).await?;
    let customers = [Customer::new(&stage, 1).await.context("making an account")?];
    let scene = Scene { stage: &stage, pool: &pool, customer: &customers[0] };
    let rescues = Rescues::default();
    let (mut swept, mut accepted) = (Vec::new(), Vec::new());
    for point in points::all()?.into_iter().filter(|point| point.contains(&options.point)) {
        let begun = Instant::now();
        let result = one(&scene, &provider, &rescues, &point).await;
        let (trouble, ends) = match result {
            Ok(ends) => {
                let text: Vec<_> = ends.iter().map(|(_, end)| end.clone()).collect();
                accepted.extend(ends.into_iter().map(|(name, _)| name));
                (None, text.join(", "))
            }
            Err(error) => (Some(format!("{error:#}")), String::new()),
        };
        stage.heal().await?;
        let one = Swept { point, trouble, took: begun.elapsed(), ends };
        if !json {
            out::print(format_args!("{one}\n"))?;
        }
        swept.push(one);
    }
    let audit = audit(&pool, &provider.bill, &customers, &[accepted]).await?;
    let rescued = rescues.all().await;
    pool.close().await;
    report(&swept, &audit, &rescued, json)
}

/// Brings the process to abort at a point, starts it again, and waits until everything has ended; gives how.
async fn one(scene: &Scene<'_>, provider: &Provider, rescues: &Rescues, point: &str) -> Result<Vec<(String, String)>> {
    let (stage, at) = (scene.stage, scene.stage.at(0, service(point)));
    stage.kill(at);
    stage.launch_with(at, Some(("RUSHES_CRASH_AT", point)))?;
    stage.ready(at).await?;
    let armed = stage.actors[at].with(testkit::Process::id).context("it does not run")?;
    let abort = async {
        let dead = async || {
            let now = stage.actors[at].with(|process| (process.id(), process.ended().is_some()));
            now.filter(|(id, ended)| *id == armed && *ended).map(drop)
        };
        testkit::eventually(&format!("{} reaches {point}", service(point)), REACH, dead).await?;
        if service(point) == "generation-worker" {
            rescues.begin(scene.pool, armed);
        }
        stage.kill(at);
        stage.launch(at)
    };
    let (names, ()) = tokio::try_join!(scene.play(point), abort)?;
    settle(scene, provider, &names).await
}

/// Waits until all have ended. What stays parked is resolved as an operator would, by the bill.
async fn settle(scene: &Scene<'_>, provider: &Provider, names: &[String]) -> Result<Vec<(String, String)>> {
    let until = Instant::now() + SETTLE;
    let mut parked: Option<Instant> = None;
    loop {
        let seen = scene.customer.get(names).await?;
        if seen.iter().all(|one| one.state() >= State::Completed) {
            return Ok(seen.into_iter().map(|one| (one.name.clone(), format!("{:?}", one.state()))).collect());
        }
        if Instant::now() >= until {
            let open: Vec<_> = seen.iter().map(|one| format!("{} is {:?}", one.name, one.state())).collect();
            bail!("not everything came to its end: {}", open.join(", "));
        }
        let unconfirmed = seen.iter().find(|one| one.wait_reason() == WaitReason::SubmissionUnconfirmed);
        match (unconfirmed, parked) {
            (None, _) => parked = None,
            (Some(_), None) => parked = Some(Instant::now()),
            // Its webhook had time to come.
            (Some(one), Some(since)) if since.elapsed() > Duration::from_secs(8) => {
                let job = one.name.trim_start_matches("generations/");
                let bill = provider_double::read_bill(&provider.bill)?;
                let mut orders = bill.iter().filter(|line| line.event == Event::Ordered);
                let order = orders.find(|line| line.job.as_deref() == Some(job)).map(|line| line.order.clone());
                let cut = one.input.as_ref().is_some_and(|input| input.prompt.contains("[cut"));
                let found = match order {
                    Some(order) => Found::ProviderReference(order),
                    None if cut => Found::Failed(ProviderCharge::NotCharged.into()),
                    None => Found::Requeue(true),
                };
                scene.customer.resolve(&one.name, found).await?;
                parked = None;
            }
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

impl std::fmt::Display for Swept {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.took.as_secs_f64();
        match &self.trouble {
            None => write!(out, "{:<20} {:<18} {seconds:>5.1} s  {}", self.point, service(&self.point), self.ends),
            Some(trouble) => {
                write!(out, "{:<20} {:<18} {seconds:>5.1} s  FAILED: {trouble}", self.point, service(&self.point))
            }
        }
    }
}

fn report(swept: &[Swept], audit: &Audit, rescued: &[Duration], json: bool) -> Result<Exit> {
    let kills = swept.iter().filter(|one| one.trouble.is_none()).count();
    let worst = rescued.last().copied().unwrap_or_default();
    if json {
        let object = json!({
            "points": swept.len(),
            "kills": kills,
            "lost": audit.lost.len() + swept.len() - kills,
            "double_submissions": audit.double_submissions.len(),
            "double_charges": audit.double_charges.len(),
            "ledger_sum": audit.ledger_sum,
            "parked": audit.parked,
            "worst_rescue_s": worst.as_secs_f64(),
        });
        out::print(format_args!("{object}\n"))?;
    } else {
        let text = summary(audit, &format!("{} points, {kills} kills", swept.len()), rescued);
        out::print(format_args!("{text}"))?;
    }
    for wrong in audit.wrong().take(20) {
        out::warn(wrong);
    }
    for one in swept.iter().filter(|one| one.trouble.is_some()) {
        out::warn(one);
    }
    Ok(if audit.holds() && kills == swept.len() { Exit::Done } else { Exit::Failed })
}

/// What an audit found, for people.
pub(super) fn summary(audit: &Audit, what: &str, rescued: &[Duration]) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = writeln!(
        text,
        "{what}: {} lost, {} double submissions, {} double charges, ledger sum {}, {} parked",
        audit.lost.len(),
        audit.double_submissions.len(),
        audit.double_charges.len(),
        audit.ledger_sum,
        audit.parked
    );
    for (why, count) in &audit.explained {
        let _ = writeln!(text, "  {count:>6} parked: {why}");
    }
    for (end, count) in &audit.ends {
        let _ = writeln!(text, "  {count:>6} {end}");
    }
    let _ = writeln!(text, "  {:>6} orders on the bill, {} made and never claimed", audit.orders, audit.given_up);
    let _ = writeln!(
        text,
        "  {:>6} jobs of dead workers back: half within {:.1} s, nine in ten within {:.1} s, the last after {:.1} s",
        rescued.len(),
        super::rescue::percentile(rescued, 0.5).as_secs_f64(),
        super::rescue::percentile(rescued, 0.9).as_secs_f64(),
        rescued.last().copied().unwrap_or_default().as_secs_f64()
    );
    text
}

/// A folder for a run.
pub(super) struct Folder {
    pub(super) path: std::path::PathBuf,
    kept: bool,
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.kept {
            // It lies in the temporary directory.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// The folder given, or a temporary one.
pub(super) fn tempfolder(given: Option<&std::path::Path>) -> Result<Folder> {
    let temporary = || std::env::temp_dir().join(format!("rushes-work-{}", uuid::Uuid::now_v7().simple()));
    let folder = Folder { path: given.map_or_else(temporary, std::path::Path::to_owned), kept: given.is_some() };
    std::fs::create_dir_all(&folder.path).context("making a folder for the run")?;
    Ok(folder)
}
