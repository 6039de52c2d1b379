//! The double over HTTP: the program as the laboratory starts it, and every fault in both protocols.
#![allow(clippy::unwrap_used, missing_docs)]

mod client;
mod files;
mod polls;
mod submissions;
mod webhooks;

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_provider-double"))
}

#[test]
fn without_settings_it_ends_and_says_what_it_wants() {
    for (arguments, sentence) in [(&[][..], "JSON file of settings"), (&["/nowhere.json"], "reading /nowhere.json")] {
        let output = program().args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(sentence), "{said}");
    }
}

#[test]
fn it_says_where_it_listens() {
    let folder = std::env::temp_dir().join(format!("provider-double-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("settings.json");
    let settings = serde_json::json!({
        "listen": "127.0.0.1:0", "bill": folder.join("bill"), "seed": 1, "token": "t", "secret": "whsec_c2VjcmV0",
        "waits": [0, 0], "renders": [0, 0], "keys": false, "faults": {},
    });
    std::fs::write(&file, settings.to_string()).unwrap();
    let mut double = program().arg(&file).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(double.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let _ = double.kill();
    let said = std::io::read_to_string(double.stderr.take().unwrap()).unwrap();
    double.wait().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(line.starts_with("listening at 127.0.0.1:"), "{line:?}, {said:?}");
}
