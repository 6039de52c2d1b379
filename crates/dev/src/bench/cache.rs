//! What the coherent cache's protocol costs: a warm read beside a bare moka hit, a commit's way into every replica's L1
//! beside a bare NATS round trip, and how much of a Zipf-like traffic each tier keeps away from the next.
//!
//! Measured by a program of the `cache` crate, which is built as the services are; see `crates/cache/src/bin/cache-cost`.

use std::collections::HashMap;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use super::progress::say;
use super::report::{Round, Row, median};
use super::setup::Bench;

/// What a warm read may cost above a bare moka hit, in nanoseconds.
const ABOVE: f64 = 300.0;
/// How often the relay polls the outbox, in milliseconds.
const TICK: f64 = 50.0;
/// What may go past L1, past L1 and Redis, and to a load, in percent.
const PAST: [(&str, &str, f64); 3] =
    [("zipf_past_l1", "past_l1", 40.0), ("zipf_past_redis", "past_l2", 15.0), ("zipf_loaded", "loaded", 10.0)];

/// One printed round: a figure for each name.
type Figures = HashMap<String, f64>;

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let database = bench.database.another("rushes_bench_cache").await?;
    let run = async |what| run(bench, &database, what).await;

    say("a warm read through the cache, and a bare moka hit");
    let rounds = run("reads").await?;
    let moka = median(of(&rounds, "moka")?.into_iter());
    say(&format!("a bare moka hit takes {moka:.0} ns"));
    let baseline = "a bare moka hit and the 300 ns aimed at";
    let mut rows =
        vec![Row::new("warm_read", "ns", baseline, 1.0, &pairs(&rounds, "read", "moka", |moka| moka + ABOVE)?)];

    say("from a commit to the L1 of three replicas, and a bare NATS round trip");
    let rounds = run("propagation").await?;
    for (way, name) in [("notified", "commit_to_l1"), ("by_outbox", "commit_to_l1_by_outbox")] {
        for part in ["p50", "p99"] {
            let (ours, trip) = (format!("{way}_{part}"), format!("trip_{part}"));
            let pairs = pairs(&rounds, &ours, &trip, |trip| 2.0 * trip + TICK)?;
            let baseline = "twice a bare NATS round trip (same percentile) and one tick of 50 ms";
            rows.push(Row::new(format!("{name}_{part}"), "ms", baseline, 1.0, &pairs));
        }
    }
    for part in ["trip_p50", "trip_p99"] {
        let trip = median(of(&rounds, part)?.into_iter());
        say(&format!("a bare NATS round trip takes {trip:.3} ms ({part})"));
    }

    say("Zipf-like traffic with 5 % writes through two replicas");
    let rounds = run("shares").await?;
    for (row, name, max) in PAST {
        rows.push(Row::figure_goal(row, "%", max, "the share of reads aimed at", &of(&rounds, name)?));
    }
    Ok(rows)
}

/// Runs the program; it ends with this future.
async fn run(bench: &Bench, database: &str, what: &str) -> Result<Vec<Figures>> {
    let program = std::env::current_exe().context("finding this program")?.with_file_name("cache-cost");
    ensure!(program.is_file(), "{} is not built", program.display());
    let output = Command::new(program)
        .args([what, &bench.options.rounds.to_string()])
        .env("RUSHES_DATABASE_URL", database)
        .env("RUSHES_REDIS_URL", bench.database.redis.url())
        .env("RUSHES_NATS_URL", bench.database.nats.url())
        .env("RUSHES_INTERNAL_KEYS", super::services::INTERNAL_KEYS)
        .env("RUSHES_CACHE_SPACE", "cost")
        .env("RUSHES_LOG", "warn")
        // On a machine that has other things to do a slow PostgreSQL is not a silent one.
        .env("RUSHES_DATABASE_UNRESPONSIVE_AFTER", "1s")
        .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output()
        .await
        .context("running cache-cost")?;
    ensure!(output.status.success(), "cache-cost {what} failed ({})", output.status);
    let rounds: Vec<Figures> = String::from_utf8(output.stdout)?.lines().map(figures).collect::<Result<_>>()?;
    ensure!(!rounds.is_empty(), "cache-cost {what} printed nothing");
    Ok(rounds)
}

/// A line of `name=value`.
fn figures(line: &str) -> Result<Figures> {
    let figure = |word: &str| {
        let (name, value) = word.split_once('=')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    line.split(' ').map(figure).collect::<Option<_>>().with_context(|| format!("not figures: {line}"))
}

fn of(rounds: &[Figures], name: &str) -> Result<Vec<f64>> {
    rounds.iter().map(|round| round.get(name).copied().with_context(|| format!("no figure {name}"))).collect()
}

fn pairs(rounds: &[Figures], ours: &str, beside: &str, baseline: impl Fn(f64) -> f64) -> Result<Vec<Round>> {
    let pairs = of(rounds, ours)?.into_iter().zip(of(rounds, beside)?);
    Ok(pairs.map(|(ours, beside)| Round { ours, beside: baseline(beside) }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_read_by_its_names() {
        let rounds = [figures("read=250.5 moka=100").unwrap(), figures("read=300 moka=90").unwrap()];
        assert_eq!(of(&rounds, "moka").unwrap(), [100.0, 90.0]);
        let pairs = pairs(&rounds, "read", "moka", |moka| moka + ABOVE).unwrap();
        assert_eq!((pairs[0].ours, pairs[0].beside), (250.5, 400.0));
        assert!(of(&rounds, "another").is_err());
        assert!(figures("read=quick").is_err() && figures("").is_err());
    }
}
