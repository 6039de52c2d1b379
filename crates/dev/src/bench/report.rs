//! The rows of a run, as a table for people and as one object for programs.
//!
//! Invariant: a row holds exactly when the median of its ratio is at most its goal. Where the goal is a figure and not a
//! baseline (one load, 45 ms, 50 MB), the figure stands beside and the ratio's goal is 1.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::database::BenchDatabase;
use super::plot::Plot;
use super::seed::Plan;

/// One measured figure beside its baseline.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    /// Its name, in snake case.
    pub(super) row: String,
    /// Median over the rounds, in `unit`.
    pub(super) ours: f64,
    /// The baseline's median over the rounds, in `unit`.
    pub(super) beside: f64,
    /// What the baseline is.
    pub(super) beside_what: String,
    /// Median over the rounds of ours divided by beside.
    pub(super) ratio: f64,
    /// At most this for `ratio`.
    pub(super) goal: f64,
    /// Whether `ratio` is at most `goal`.
    pub(super) holds: bool,
    /// The unit of `ours` and `beside`.
    pub(super) unit: &'static str,
    /// The smallest and the largest ratio of a round.
    pub(super) ratio_spread: [f64; 2],
    /// How many rounds.
    rounds: usize,
}

/// One round: ours and the baseline.
#[derive(Debug, Clone, Copy)]
pub(super) struct Round {
    pub(super) ours: f64,
    pub(super) beside: f64,
}

impl Row {
    /// A row from its rounds; there is at least one.
    pub(super) fn new(
        row: impl Into<String>,
        unit: &'static str,
        beside_what: impl Into<String>,
        goal: f64,
        rounds: &[Round],
    ) -> Self {
        let ratios = sorted(rounds.iter().map(|round| round.ours / round.beside));
        let ratio = middle(&ratios);
        Self {
            row: row.into(),
            ours: median(rounds.iter().map(|round| round.ours)),
            beside: median(rounds.iter().map(|round| round.beside)),
            beside_what: beside_what.into(),
            ratio,
            goal,
            holds: ratio <= goal,
            unit,
            ratio_spread: [ratios.first().copied().unwrap_or(f64::NAN), ratios.last().copied().unwrap_or(f64::NAN)],
            rounds: rounds.len(),
        }
    }

    /// A row whose goal is the figure `max`.
    pub(super) fn figure_goal(row: impl Into<String>, unit: &'static str, max: f64, what: &str, ours: &[f64]) -> Self {
        let rounds: Vec<Round> = ours.iter().map(|ours| Round { ours: *ours, beside: max }).collect();
        Self::new(row, unit, what, 1.0, &rounds)
    }
}

/// What a part of the benchmark found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) rows: Vec<Row>,
    pub(super) plots: Vec<Plot>,
}

impl From<Vec<Row>> for Findings {
    fn from(rows: Vec<Row>) -> Self {
        Self { rows, plots: Vec::new() }
    }
}

/// All rows of a run, and on what they were measured.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// What ran where, one fact a line.
    #[serde(skip)]
    about: Vec<String>,
    /// In the order in which they were measured.
    pub(super) rows: Vec<Row>,
    /// The curves behind them.
    pub(super) plots: Vec<Plot>,
    /// What could not be measured, and why.
    #[serde(skip)]
    pub(super) missing: Vec<String>,
}

impl Report {
    /// An empty report of a run on `database`, filled by `plan`.
    pub(super) async fn about(plan: &Plan, database: &BenchDatabase) -> Result<Self> {
        let about = vec![
            format!("{}, {}", database.today().await?, super::process::machine()),
            format!("{}, normal settings (fsync on)", database.version().await?),
            plan.to_string(),
        ];
        Ok(Self::of_facts(about))
    }

    /// An empty report with these facts.
    pub(super) fn of_facts(about: Vec<String>) -> Self {
        Self { about, rows: Vec::new(), plots: Vec::new(), missing: Vec::new() }
    }

    /// What ran where, and what one core carries by the rows of this run.
    pub(super) fn facts(&self) -> Vec<String> {
        let services = self.capacity(
            "one core of gateway and services",
            &[
                ("warm_dashboard", "opened dashboards a second"),
                ("warm_status", "polls a second"),
                ("warm_dashboard_kept", "opened dashboards that the gateway keeps"),
                ("warm_status_kept", "polls that the gateway keeps"),
                ("watch_idle_cpu_", "idle watches"),
            ],
        );
        let postgres = self.capacity(
            "one core of PostgreSQL",
            &[
                ("generation_postgres_cpu", "generations a second"),
                ("cold_dashboard_postgres_cpu", "dashboards that are read anew"),
            ],
        );
        self.about.iter().cloned().chain(services).chain(postgres).collect()
    }

    /// What such a core carries of each kind of load, where the run has measured what one takes.
    fn capacity(&self, core: &str, loads: &[(&str, &str)]) -> Option<String> {
        // The row, or the last one whose name begins so: that of the most watches.
        let is = |row: &Row, name: &str| row.row == name || (name.ends_with('_') && row.row.starts_with(name));
        let carried = loads.iter().filter_map(|(name, load)| {
            let row = self.rows.iter().rfind(|row| is(row, name)).filter(|row| row.ours > 0.0)?;
            let in_a_second = if row.unit == "ms" { 1e3 } else { 1e6 };
            Some(format!("{:.0} {load}", in_a_second / row.ours))
        });
        let carried: Vec<String> = carried.collect();
        (!carried.is_empty()).then(|| format!("{core} carries {}", carried.join(", or ")))
    }

    /// One JSON object on one line.
    pub(super) fn json(&self) -> Result<String> {
        Ok(serde_json::to_string(self)?)
    }

    /// A table in Markdown, so that it can be pasted into a page as it is.
    pub(super) fn table(&self) -> String {
        let head = ["row", "ours", "beside", "ratio (min to max)", "goal", "holds", "beside what"];
        let mut cells = vec![head.map(str::to_owned)];
        for row in &self.rows {
            let [min, max] = row.ratio_spread;
            cells.push([
                row.row.clone(),
                format!("{} {}", figure(row.ours), row.unit),
                format!("{} {}", figure(row.beside), row.unit),
                format!("{} ({} to {}, {} rounds)", figure(row.ratio), figure(min), figure(max), row.rounds),
                figure(row.goal),
                if row.holds { "yes" } else { "NO" }.to_owned(),
                row.beside_what.clone(),
            ]);
        }
        let width: Vec<usize> =
            (0..head.len()).map(|at| cells.iter().map(|row| row[at].chars().count()).max().unwrap_or(0)).collect();
        let mut text = self.facts().join("\n");
        text.push_str("\n\n");
        for (at, row) in cells.iter().enumerate() {
            for (cell, width) in row.iter().zip(&width) {
                let _ = write!(text, "| {cell:<width$} ");
            }
            text.push_str("|\n");
            if at == 0 {
                for width in &width {
                    let _ = write!(text, "|{}", "-".repeat(width + 2));
                }
                text.push_str("|\n");
            }
        }
        text.truncate(text.trim_end().len());
        text
    }
}

/// In milliseconds.
pub(super) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The median; not a number when there are no values.
pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    middle(&sorted(values))
}

/// The value that this share of the sorted ones is not above; nothing when there are none.
pub(super) fn percentile(sorted: &[Duration], share: f64) -> Duration {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

fn middle(sorted: &[f64]) -> f64 {
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// Three figures that mean something.
pub(super) fn figure(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v == v.trunc() => format!("{value:.0}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(pairs: &[(f64, f64)]) -> Vec<Round> {
        pairs.iter().map(|&(ours, beside)| Round { ours, beside }).collect()
    }

    #[test]
    fn a_row_holds_by_the_median_of_its_ratios() {
        let row = Row::new("x", "ms", "the baseline", 1.5, &rounds(&[(1.0, 1.0), (9.0, 1.0), (2.8, 2.0)]));
        assert!((row.ratio - 1.4).abs() < 1e-9);
        assert!(row.holds, "one bad round of three does not decide");
        assert_eq!(row.ratio_spread, [1.0, 9.0]);
        assert!(!Row::new("x", "ms", "the baseline", 1.3, &rounds(&[(2.8, 2.0)])).holds);
    }

    #[test]
    fn a_figure_aimed_at_is_a_ratio_of_one() {
        assert!(Row::figure_goal("x", "MB", 50.0, "the goal", &[50.0]).holds);
        assert!(!Row::figure_goal("x", "MB", 50.0, "the goal", &[50.1]).holds);
    }

    #[test]
    fn what_was_not_measured_does_not_hold() {
        assert!(!Row::new("x", "ms", "the baseline", 1.5, &[]).holds);
        assert!(!Row::new("x", "ms", "the baseline", 1.5, &rounds(&[(0.0, 0.0)])).holds);
    }

    #[test]
    fn what_one_core_carries_follows_from_the_rows() {
        let mut report = Report::of_facts(vec!["here".to_owned()]);
        assert_eq!(report.facts(), ["here"]);
        report.rows.push(Row::new("warm_status", "us", "bare", 1.3, &rounds(&[(200.0, 100.0)])));
        for (watches, micros) in [(1_000, 5.0), (10_000, 4.0)] {
            let row = format!("watch_idle_cpu_{watches}");
            report.rows.push(Row::figure_goal(row, "us", 4.0, "the goal", &[micros]));
        }
        let carried = "one core of gateway and services carries 5000 polls a second, or 250000 idle watches";
        assert_eq!(report.facts(), ["here", carried]);
        report.rows.push(Row::new("generation_postgres_cpu", "ms", "plain", 20.0, &rounds(&[(5.0, 0.3)])));
        assert_eq!(report.facts()[2..], ["one core of PostgreSQL carries 200 generations a second"]);
    }

    #[test]
    fn the_table_is_markdown() {
        let rows = vec![Row::figure_goal("x", "MB", 50.0, "the goal", &[25.0])];
        let table = Report { rows, ..Report::of_facts(vec!["here".to_owned()]) }.table();
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[2].starts_with("| row | ours    |"), "{table}");
        assert!(lines[3].starts_with("|-----|"), "{table}");
        assert!(lines[4].contains("0.500 (0.500 to 0.500, 1 rounds)"), "{table}");
    }
}
