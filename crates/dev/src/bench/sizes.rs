//! What is shipped of each service: its program without the names of functions.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::progress::say;
use super::report::Row;
use super::services::USUAL;
use super::setup::Bench;

/// Megabytes of one program.
const GOAL: f64 = 25.0;
const STRIP: &str = "strip";

pub(super) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    if testkit::find_binary(STRIP).is_err() {
        say("no strip on this machine: the rows of sizes are left out");
        return Ok(Vec::new());
    }
    let here = std::env::current_exe().context("finding this program")?;
    let mut rows = Vec::new();
    for name in USUAL.into_iter().chain(["generation-worker"]) {
        let stripped = bench.database.folder().join(format!("{name}.stripped"));
        let status = Command::new(STRIP).arg("-o").arg(&stripped).arg(here.with_file_name(name)).status();
        ensure!(status.context("running strip")?.success(), "strip failed on {name}");
        let bytes = std::fs::metadata(&stripped)?.len() as f64;
        std::fs::remove_file(&stripped)?;
        let row = format!("binary_{}", name.replace('-', "_"));
        rows.push(Row::figure_goal(row, "MB", GOAL, "the figure aimed at", &[bytes / 1e6]));
    }
    Ok(rows)
}
