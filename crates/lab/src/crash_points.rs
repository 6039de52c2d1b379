//! `cargo rushes crash-points`: at each crash point in turn the process that passes it aborts, is started again, and everything
//! comes to its end; then the provider's bill is joined with the books.
//!
//! One cluster serves for all points. Leases are short there, so that a run takes minutes; `nemesis` runs with the usual ones.

mod scripts;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cli::failure::Exit;
use cli::out;
use proto::generations::v1::charge::ProviderCharge;
use proto::generations::v1::resolve_generation_request::Resolution;
use proto::generations::v1::{State, WaitReason};
use provider_double::Event;
use serde_json::json;
use sqlx::PgPool;

use self::scripts::{Scene, service};
use crate::Progress;
use crate::audit::{Audit, audit, is_of};
use crate::cluster::{Cluster, Plan};
use crate::customer::Customer;
use crate::folder::folder_of_run;
use crate::provider::Provider;
use crate::report::summary;
use crate::rescue::Rescues;

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
struct PointRun {
    point: String,
    trouble: Option<String>,
    took: Duration,
    ends: String,
}

/// Runs it; a promise that was broken, or a point that was not reached, is a failure.
pub async fn run(options: &Options, json: bool, say: Progress<'_>) -> Result<Exit> {
    let temporary = folder_of_run(options.logs.as_deref())?;
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
    let cluster = Cluster::start(Plan { replicas: 1, logs: Some(temporary.path.clone()), more }).await?;
    let pool = PgPool::connect(&cluster.database_url()).await?;
    let customers = [Customer::new(&cluster, 1).await.context("making an account")?];
    let scene = Scene { cluster: &cluster, pool: &pool, customer: &customers[0] };
    let rescues = Rescues::default();
    let (mut runs, mut accepted) = (Vec::new(), Vec::new());
    for point in scripts::all()?.into_iter().filter(|point| point.contains(&options.point)) {
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
        cluster.heal().await?;
        let one = PointRun { point, trouble, took: begun.elapsed(), ends };
        say(&one.to_string());
        runs.push(one);
    }
    let audit = audit(&pool, &provider.bill, &customers, &[accepted]).await?;
    let rescued = rescues.all().await;
    pool.close().await;
    report(&runs, &audit, &rescued, json)
}

/// Brings the process to abort at a point, starts it again, and waits until everything has ended; gives how.
async fn one(scene: &Scene<'_>, provider: &Provider, rescues: &Rescues, point: &str) -> Result<Vec<(String, String)>> {
    let (cluster, at) = (scene.cluster, scene.cluster.at(0, service(point)));
    cluster.kill(at);
    cluster.launch_with(at, Some(("RUSHES_CRASH_AT", point)))?;
    cluster.ready(at).await?;
    let armed = cluster.nodes[at].with(testkit::Process::id).context("it does not run")?;
    let abort = async {
        let dead = async || {
            let now = cluster.nodes[at].with(|process| (process.id(), process.ended().is_some()));
            now.filter(|(id, ended)| *id == armed && *ended).map(drop)
        };
        testkit::eventually(&format!("{} reaches {point}", service(point)), REACH, dead).await?;
        if service(point) == "generation-worker" {
            rescues.begin(scene.pool, armed);
        }
        cluster.kill(at);
        cluster.launch(at)
    };
    let (names, ()) = tokio::try_join!(scene.play(point), abort)?;
    settle(scene, provider, &names).await
}

/// Waits until all have ended. What stays unconfirmed is resolved as an operator would, by the bill.
async fn settle(scene: &Scene<'_>, provider: &Provider, names: &[String]) -> Result<Vec<(String, String)>> {
    let until = Instant::now() + SETTLE;
    let mut unconfirmed_since: Option<Instant> = None;
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
        match (unconfirmed, unconfirmed_since) {
            (None, _) => unconfirmed_since = None,
            (Some(_), None) => unconfirmed_since = Some(Instant::now()),
            // Its webhook had time to come.
            (Some(one), Some(since)) if since.elapsed() > Duration::from_secs(8) => {
                let prompt = one.input.as_ref().map(|input| input.prompt.as_str()).unwrap_or_default();
                let bill = provider_double::read_bill(&provider.bill)?;
                let mut orders = bill.iter().filter(|line| line.event == Event::Ordered);
                let order = orders.find(|line| is_of(line, &one.name, prompt)).map(|line| line.order.clone());
                let cut = prompt.contains("[cut");
                let found = match order {
                    Some(order) => Resolution::ProviderReference(order),
                    None if cut => Resolution::Failed(ProviderCharge::NotCharged.into()),
                    None => Resolution::Requeue(true),
                };
                scene.customer.resolve(&one.name, found).await?;
                unconfirmed_since = None;
            }
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

impl std::fmt::Display for PointRun {
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

fn report(runs: &[PointRun], audit: &Audit, rescued: &[Duration], json: bool) -> Result<Exit> {
    let kills = runs.iter().filter(|one| one.trouble.is_none()).count();
    let worst = rescued.last().copied().unwrap_or_default();
    if json {
        let object = json!({
            "points": runs.len(),
            "kills": kills,
            "lost": audit.lost.len() + runs.len() - kills,
            "double_submissions": audit.double_submissions.len(),
            "double_charges": audit.double_charges.len(),
            "paid_undelivered": audit.paid_undelivered.causes,
            "paid_undelivered_ours": audit.paid_undelivered.ours.len(),
            "ledger_sum": audit.ledger_sum,
            "unconfirmed": audit.unconfirmed,
            "worst_rescue_s": worst.as_secs_f64(),
        });
        out::print(format_args!("{object}\n"))?;
    } else {
        let text = summary(audit, &format!("{} points, {kills} kills", runs.len()), rescued);
        out::print(format_args!("{text}"))?;
    }
    for wrong in audit.wrong().take(20) {
        out::warn(wrong);
    }
    for one in runs.iter().filter(|one| one.trouble.is_some()) {
        out::warn(one);
    }
    Ok(if audit.holds() && kills == runs.len() { Exit::Done } else { Exit::Failed })
}
