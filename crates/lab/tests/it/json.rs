//! `--json` means one JSON object on standard output and nothing else; what is being done is said on standard error.

use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result};
use serde_json::Value;

/// Runs the laboratory on the programs that the tests of this workspace have built beside it.
async fn rushes(args: &'static [&'static str]) -> Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rushes-lab"));
    command.args(args).arg("--json").stdin(Stdio::null());
    Ok(tokio::task::spawn_blocking(move || command.output()).await??)
}

/// The object that a command prints, which is all that it prints there.
async fn object(args: &'static [&'static str]) -> Result<(Value, String)> {
    let output = rushes(args).await?;
    let said = String::from_utf8(output.stderr)?;
    let object: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("{args:?} printed {:?}\n{said}", String::from_utf8_lossy(&output.stdout)))?;
    assert!(object.is_object(), "{args:?}: {object}");
    Ok((object, said))
}

/// One after the other: each starts all services, and three at once starve one another.
#[tokio::test(flavor = "multi_thread")]
async fn each_run_prints_one_object() -> Result<()> {
    let (torture, said) = object(&["torture", "--minutes", "0.02"]).await?;
    assert!(torture["reads"].as_u64().is_some_and(|reads| reads > 0), "{torture}\n{said}");
    assert!(said.contains("starting two of each service"), "{said}");

    let (crash_points, said) = object(&["crash-points", "--point", "status.failure"]).await?;
    assert_eq!((&crash_points["points"], &crash_points["kills"]), (&1.into(), &1.into()), "{crash_points}\n{said}");
    assert!(said.contains("status.failure"), "{said}");

    let (nemesis, said) = object(&["nemesis", "--generations", "2"]).await?;
    assert_eq!(nemesis["generations"], 2, "{nemesis}\n{said}");
    assert!(said.contains("starting two of each service"), "{said}");
    Ok(())
}

#[tokio::test]
async fn the_simulator_prints_one_object_also_of_a_trace() -> Result<()> {
    let (runs, _) = object(&["sim", "--seeds", "2", "--mutants", "0"]).await?;
    assert_eq!(runs["seeds"], 2);
    let (trace, _) = object(&["sim", "--trace", "--seed", "1"]).await?;
    assert!(trace["trace"].as_array().is_some_and(|lines| !lines.is_empty()), "{trace}");
    Ok(())
}
