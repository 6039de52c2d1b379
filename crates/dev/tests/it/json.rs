//! `--json` means one JSON object on standard output and nothing else, also for a refusal. (crates/lab has the tests of its runs.)

use std::process::{Command, Stdio};

use anyhow::Result;
use serde_json::Value;

#[tokio::test]
async fn up_and_test_have_no_object_to_print() -> Result<()> {
    for command in ["up", "test"] {
        let mut run = Command::new(env!("CARGO_BIN_EXE_rushes-dev"));
        run.args([command, "--json"]).stdin(Stdio::null());
        let output = tokio::task::spawn_blocking(move || run.output()).await??;
        let refusal: Value = serde_json::from_slice(&output.stdout)?;
        let said = String::from_utf8(output.stderr)?;
        assert!(refusal["error"]["message"].is_string() && said.is_empty(), "{refusal}\n{said}");
    }
    Ok(())
}
