//! `cargo rushes siege`: a good client that lives on one account while one attack after another comes from others, and for each
//! attack what the good client felt of it, how much memory each process took, and what the attacker was told.
//!
//! Invariants: an attacker has other accounts and other addresses (of the loopback network) than the good client, and threads of its own
//! that give way to all others, as if it had another machine; the memory is what the kernel counted; p99 is judged beside a control that
//! burns as much processor time without attacking, and only where the services are what ships; and an attack that the good client felt
//! runs once more before it counts, in the open, since a shared machine starves a process for seconds.

mod attacker;
mod attacks;
mod client;
mod control;
mod http2;
mod machine;
mod memory;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cli::failure::Exit;
use cli::out;
use serde_json::json;

use self::attacker::Attacker;
use self::attacks::{ATTACKS, Attack};
use self::client::{GoodClient, Window};
use self::memory::{Burnt, Memory, Peak};
use crate::Progress;
use crate::cluster::{Cluster, Plan};

/// How long the short form attacks.
const SHORT: f64 = 5.0;
/// How long each attack of the whole form lasts.
const LONG: f64 = 15.0;
/// How many attacks may run once more; where more are felt, it is not the machine.
const MAX_AGAIN: usize = 3;
/// How long the good client must feel nothing before an attack runs once more, and how often that is tried.
const CALM: Duration = Duration::from_secs(3);
const MAX_CALM: usize = 10;
/// How long an attack may take to end after it was told to.
const GRACE: Duration = Duration::from_secs(10);
/// A p99 below this is not told from another: what a busy machine's scheduler does to a call.
const NOISE: Duration = Duration::from_millis(20);
/// Whether p99 means anything: what a development build does for a call is many times what ships does.
const JUDGES_P99: bool = !cfg!(debug_assertions);
/// How much slower the good client may be than beside the control.
const MAX_SLOWER: u32 = 2;

/// How long, and which attacks.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// How long each attack lasts, in seconds: 15, or 5 in the short form; in the whole form as long are the time before it and the control
    /// after it.
    #[arg(long)]
    seconds: Option<f64>,
    /// Five seconds for each attack, one look before all, and no control: errors, answers and memory are judged, p99 is only shown.
    #[arg(long)]
    short: bool,
    /// Only attacks whose name holds one of these.
    #[arg(long, value_name = "TEXT", value_delimiter = ',')]
    only: Vec<String>,
    /// Where to keep the services' logs; else they go with the run.
    #[arg(long, value_name = "DIRECTORY")]
    logs: Option<PathBuf>,
}

/// One attack, and what came of it.
struct Row {
    attack: &'static Attack,
    before: Window,
    during: Window,
    /// The good client beside as much work that attacks nobody; not in the short form.
    control: Option<Window>,
    peaks: Vec<Peak>,
    /// The most frequent answers that the attacker got.
    answers: Vec<(String, u64)>,
    /// What the good client felt, in words.
    felt: Vec<String>,
    /// What processes took or that they ended, in words: no machine is to blame for that.
    broken: Vec<String>,
    /// What the good client felt when the attack ran for the first time, if it ran again.
    felt_before: Vec<String>,
}

impl Row {
    fn holds(&self) -> bool {
        self.felt.is_empty() && self.broken.is_empty()
    }
}

/// Runs it; an attack that others feel is a failure.
pub async fn run(options: &Options, json: bool, say: Progress<'_>) -> Result<Exit> {
    let attacks = chosen(options)?;
    let short = options.short;
    if !short && !JUDGES_P99 {
        say(
            "this is a development build, whose services take ten times as long for a call: p99 is shown and not judged. \
             cargo run --release --package rushes-launch -- siege judges it",
        );
    }
    let lasting = options.seconds.unwrap_or(if short { SHORT } else { LONG });
    let lasting = Duration::try_from_secs_f64(lasting).context("--seconds")?;
    say("starting one of each service");
    // The good client's watch is to be ended by nobody but an attacker.
    let more = vec![
        ("RUSHES_WATCH_MAX_AGE", "10h".to_owned()),
        // A machine that is attacked is slow, and its PostgreSQL is not away for that.
        ("RUSHES_DATABASE_UNRESPONSIVE_AFTER", "1s".to_owned()),
        // As it is deployed; other laboratories let a few accounts ask for as much as many would.
        ("RUSHES_LIMIT_PEOPLE", "1000/4000".to_owned()),
        ("RUSHES_LIMIT_POLLS", "1000/4000".to_owned()),
        ("RUSHES_LIMIT_CALLS", "512".to_owned()),
        ("RUSHES_WATCH_HEARTBEAT", "5s".to_owned()),
    ];
    let cluster = Cluster::start(Plan { replicas: 1, logs: options.logs.clone(), more }).await?;
    let client = GoodClient::begin(&cluster).await.context("the good client")?;
    let memory = Memory::of(&cluster)?;
    // What the good client feels while nobody attacks, and what it costs.
    let quiet = async || {
        let burnt = Burnt::so_far();
        let window = client.window(tokio::time::sleep(lasting)).await;
        (window, Burnt::so_far().beyond(&burnt))
    };
    let mut before = quiet().await;
    let (mut rows, mut again, mut number) = (Vec::new(), 0, 0);
    for attack in attacks {
        if !short {
            before = quiet().await;
        }
        say(attack.name);
        let mut run = async || {
            number += 1;
            let attacker = Arc::new(Attacker::new(&cluster, number).await.context("the attacker")?);
            against(attack, &before, lasting, short, &client, &attacker, &memory).await
        };
        let mut row = run().await?;
        if !row.felt.is_empty() && row.broken.is_empty() && again < MAX_AGAIN {
            again += 1;
            say(&format!("{}: FELT ONCE, and run again: {}", attack.name, row.felt.join("; ")));
            calm(&client).await;
            row = Row { felt_before: row.felt, ..run().await? };
        }
        say(&format!("{}: {}", attack.name, if row.holds() { "holds" } else { "DOES NOT HOLD" }));
        rows.push(row);
    }
    client.end().await;
    if json {
        let attacks = rows.iter().map(object).collect::<Vec<_>>();
        out::print(format_args!("{}\n", json!({ "attacks": attacks })))?;
    } else {
        out::print(text(&rows))?;
    }
    Ok(if rows.iter().all(Row::holds) { Exit::Done } else { Exit::Failed })
}

/// The attacks that the options ask for.
fn chosen(options: &Options) -> Result<Vec<&'static Attack>> {
    let holds = |attack: &Attack, text: &String| attack.name.contains(text.as_str());
    if let Some(text) = options.only.iter().find(|text| !ATTACKS.iter().any(|attack| holds(attack, text))) {
        let names = ATTACKS.iter().map(|attack| attack.name).collect::<Vec<_>>();
        bail!("no attack's name holds {text:?}; there are {}", names.join(", "));
    }
    let wanted = |attack: &&Attack| options.only.is_empty() || options.only.iter().any(|text| holds(attack, text));
    Ok(ATTACKS.iter().filter(wanted).collect())
}

/// Waits until the good client has felt nothing for a while, or for so long that it will not come.
async fn calm(client: &GoodClient) {
    for _ in 0..MAX_CALM {
        if client.window(tokio::time::sleep(CALM)).await.errors.is_empty() {
            return;
        }
    }
}

/// Attacks, and lets as much be burnt again without an attack.
async fn against(
    attack: &'static Attack,
    (before, burnt_before): &(Window, Burnt),
    lasting: Duration,
    short: bool,
    client: &GoodClient,
    attacker: &Arc<Attacker>,
    memory: &Memory,
) -> Result<Row> {
    memory.forget()?;
    let burnt = Burnt::so_far();
    let until = Instant::now() + lasting;
    let attacking = async {
        let attack = attacker.machine.run((attack.run)(Arc::clone(attacker), until));
        tokio::time::timeout(lasting + GRACE, attack).await
    };
    let mut in_time = Ok(());
    let during = client.window(async { in_time = attacking.await }).await;
    let burnt = Burnt::so_far().beyond(&burnt).beyond(burnt_before);
    let peaks = memory.peaks();
    attacker.end().await?;
    let late = client.delivered(Duration::from_secs(30)).await;
    let control = match short {
        true => None,
        false => Some(client.window(control::burn(burnt, lasting, &attacker.machine)).await),
    };
    let (mut felt, mut broken) = (Vec::new(), Vec::new());
    felt.extend(in_time.is_err().then(|| "the attack did not end".to_owned()));
    felt.extend(during.errors.iter().map(|(error, count)| format!("{count} x {error}")));
    felt.extend(late.into_iter().map(|name| format!("{name} did not come home")));
    broken.extend(peaks.iter().filter(|peak| peak.bytes > peak.ceiling).map(|peak| {
        format!("{} took {} MB, its ceiling is {} MB", peak.service, peak.bytes >> 20, peak.ceiling >> 20)
    }));
    broken.extend(memory.ended().into_iter().map(|service| format!("{service} ended")));
    if let Some(control) = &control {
        let allowed = control.p99.max(before.p99).max(NOISE) * MAX_SLOWER;
        if JUDGES_P99 && during.p99 > allowed {
            felt.push(format!("p99 {:.0?}, beside the control {:.0?}", during.p99, control.p99));
        }
    }
    let answers = attacker.answers();
    Ok(Row { attack, before: before.clone(), during, control, peaks, answers, felt, broken, felt_before: Vec::new() })
}

fn object(row: &Row) -> serde_json::Value {
    let peaks = row.peaks.iter().map(|peak| (peak.service.to_owned(), json!(peak.bytes >> 20)));
    json!({
        "name": row.attack.name,
        "errors": row.during.errors.values().sum::<u64>(),
        "p99_before_ms": row.before.p99.as_millis(),
        "p99_during_ms": row.during.p99.as_millis(),
        "p99_control_ms": row.control.as_ref().map(|control| control.p99.as_millis()),
        "peak_mb": peaks.collect::<serde_json::Map<_, _>>(),
        "answers": row.answers,
        "felt": row.felt,
        "felt_before": row.felt_before,
        "broken": row.broken,
        "holds": row.holds(),
    })
}

fn text(rows: &[Row]) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    // Writing to a String does not fail.
    for row in rows {
        let holds = if row.holds() { "holds" } else { "DOES NOT HOLD" };
        let _ = write!(
            text,
            "{:<32} {holds}: {} calls, {} errors; p99 {:.0?} before, {:.0?} during",
            row.attack.name,
            row.during.calls,
            row.during.errors.values().sum::<u64>(),
            row.before.p99,
            row.during.p99,
        );
        if let Some(control) = &row.control {
            let _ = write!(text, ", {:.0?} beside the control", control.p99);
        }
        let peaks =
            row.peaks.iter().map(|peak| format!("{} {}/{}", peak.service, peak.bytes >> 20, peak.ceiling >> 20));
        let _ = writeln!(text, "\n    {}", row.attack.what);
        let slowest = row.during.slowest.iter().map(|(what, count)| format!("{count} x {what}"));
        let _ = writeln!(text, "    slowest during: {}", slowest.collect::<Vec<_>>().join(", "));
        let _ = writeln!(text, "    peak MB: {}", peaks.collect::<Vec<_>>().join(", "));
        for (answer, count) in &row.answers {
            let _ = writeln!(text, "    answered {count} x {answer}");
        }
        for felt in &row.felt_before {
            let _ = writeln!(text, "    felt when it ran for the first time: {felt}");
        }
        for broken in row.felt.iter().chain(&row.broken) {
            let _ = writeln!(text, "    BROKEN: {broken}");
        }
    }
    let held = rows.iter().filter(|row| row.holds()).count();
    let _ = writeln!(text, "{held} of {} attacks hurt only who made them", rows.len());
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Arguments {
        #[command(flatten)]
        options: Options,
    }

    fn chosen_by(arguments: &[&str]) -> Result<usize> {
        let arguments = ["siege"].iter().chain(arguments);
        Ok(chosen(&Arguments::try_parse_from(arguments)?.options)?.len())
    }

    #[test]
    fn all_are_chosen_or_those_that_are_named_and_a_name_that_is_none_is_an_error() {
        assert_eq!(chosen_by(&[]).ok(), Some(ATTACKS.len()));
        assert_eq!(chosen_by(&["--only", "jpeg-scans,watch-churn"]).ok(), Some(2));
        assert!(chosen_by(&["--only", "jpeg-scans,no-such-attack"]).is_err());
    }
}
