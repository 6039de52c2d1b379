//! `rushes sim`: the cache's protocol under a seeded scheduler with every fault, and with each of its guards taken out in turn.

use std::fmt::Write as _;
use std::time::Instant;

use anyhow::Result;
use serde_json::json;
use sim::mutants::{self, Mutant};
use sim::run::{self, Mode, Runs};

use cli::failure::Exit;
use cli::out;

/// How many seeds, and which.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How many seeds to run; each is a history of 4 to 20 simulated seconds.
    #[arg(long, default_value_t = 20_000)]
    seeds: u64,
    /// The first one.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How many seeds to try to kill each mutant with; 0 makes none.
    #[arg(long, default_value_t = 30_000)]
    mutants: u64,
    /// Print everything that happens in the first seed, and run no other.
    #[arg(long)]
    trace: bool,
}

/// Runs the seeds and prints what they came to.
pub(crate) async fn run(options: Options, json: bool) -> Result<Exit> {
    // Nothing here waits for anything, and it takes all cores.
    tokio::task::spawn_blocking(move || simulate(&options, json)).await?
}

fn simulate(options: &Options, json: bool) -> Result<Exit> {
    if options.trace {
        return trace(options.seed, json);
    }
    let began = Instant::now();
    let runs = run::many(options.seed, options.seeds, &[]);
    let took = began.elapsed();
    let mutants = if options.mutants == 0 { Vec::new() } else { mutants::all(options.mutants) };
    let survivors = mutants.iter().filter(|mutant| mutant.survives()).count();
    if json {
        out::print(format_args!("{}\n", object(&runs, &mutants)))?;
    } else {
        out::print(format_args!("{}", table(&runs, &mutants, took.as_secs_f64())))?;
    }
    for (seed, violation) in runs.violations.iter().take(10) {
        out::warn(format_args!("seed {seed} broke \"{}\": {}", violation.promise, violation.what));
    }
    Ok(if runs.violations.is_empty() && survivors == 0 { Exit::Done } else { Exit::Failed })
}

fn trace(number: u64, json: bool) -> Result<Exit> {
    let seed = run::one(number, Mode { traced: true, ..Mode::default() });
    if json {
        let broken =
            seed.violation.as_ref().map(|violation| json!({"promise": violation.promise, "what": violation.what}));
        let object = json!({"seed": number, "trace": seed.trace, "reads": seed.reads, "broken": broken});
        out::print(format_args!("{object}\n"))?;
        return Ok(if seed.violation.is_none() { Exit::Done } else { Exit::Failed });
    }
    for line in &seed.trace {
        out::print(format_args!("{line}\n"))?;
    }
    let [l1, l2, validated, loaded] = seed.reads;
    out::print(format_args!("reads: {l1} from L1, {l2} from Redis, {validated} validated, {loaded} loaded\n"))?;
    Ok(match seed.violation {
        None => Exit::Done,
        Some(violation) => {
            out::warn(format_args!("broke \"{}\": {}", violation.promise, violation.what));
            Exit::Failed
        }
    })
}

fn object(runs: &Runs, mutants: &[Mutant]) -> serde_json::Value {
    let mutants: Vec<_> = mutants
        .iter()
        .map(|mutant| {
            json!({
                "guard": mutant.guard.name(),
                "killed": mutant.killed.is_some(),
                "seed": mutant.killed.map(|(seed, _)| seed),
                "equivalent": mutant.equivalent,
            })
        })
        .collect();
    json!({
        "seeds": runs.seeds,
        "reads": runs.reads.iter().sum::<u64>(),
        "violations": runs.violations.len(),
        "mutants": mutants,
    })
}

fn table(runs: &Runs, mutants: &[Mutant], seconds: f64) -> String {
    let mut text = String::new();
    let [l1, l2, validated, loaded] = runs.reads;
    let reads = l1 + l2 + validated + loaded;
    // Writing to a String does not fail.
    let _ = writeln!(
        text,
        "{} seeds in {seconds:.0} s: {reads} reads checked ({l1} from L1, {l2} from Redis, {validated} validated, {loaded} loaded; \
         {} joined another's load), {} violations",
        runs.seeds,
        runs.joined,
        runs.violations.len(),
    );
    if runs.violations.is_empty() && runs.seeds > 0 {
        let bound = 3.0 / runs.seeds as f64;
        let _ = writeln!(
            text,
            "rule of three: for this model and mix of faults, fewer than {bound:.1e} of all seeds break a promise (95 %)"
        );
    }
    if !mutants.is_empty() {
        let _ = writeln!(text, "\n{:<18} {:<24} without it", "guard", "asked in");
    }
    for mutant in mutants {
        let what = match (mutant.killed, mutant.equivalent) {
            (Some((seed, promise)), _) => format!("killed: seed {seed} breaks \"{promise}\""),
            (None, Some(why)) => format!("equivalent: {why}"),
            (None, None) => format!("SURVIVES {} seeds, and nobody knows why", mutant.seeds),
        };
        let _ = writeln!(text, "{:<18} {:<24} {what}", mutant.guard.name(), mutant.guard.place());
    }
    text
}
