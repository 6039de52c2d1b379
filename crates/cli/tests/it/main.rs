//! The program that ships, by itself: what it can do, what it says when it cannot, and what is not in it. `crates/dev/tests/it`
//! drives it against the product.
#![allow(missing_docs, clippy::unwrap_used)]

mod models;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use testkit::Database;

/// Runs the program, away from any stack of this checkout.
fn rushes(args: &[&str]) -> Output {
    rushes_in(&std::env::temp_dir(), args, &[])
}

/// Runs the program in a folder, with some settings and none of whoever runs the tests.
fn rushes_in(folder: &Path, args: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rushes"));
    for name in
        ["DATABASE_URL", "ADDRESS", "API_KEY", "REPLICATE_TOKEN", "REPLICATE_URL", "FAL_KEY", "COG_URL", "COG_TOKEN"]
    {
        command.env_remove(format!("RUSHES_{name}"));
    }
    command.envs(environment.iter().copied());
    command.args(args).current_dir(folder).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn its_commands_are_the_client_and_the_migrator() {
    let help = String::from_utf8(rushes(&["--help"]).stdout).unwrap();
    let list = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let commands: BTreeSet<_> = list.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let expected = "migrate dashboard projects scenes generate watch get list cancel delete upload assets thumbnail models credits usage \
                    end-users webhooks trace profile limits audit account key queue resolve help";
    assert_eq!(commands, expected.split_whitespace().collect(), "{help}");
}

#[test]
fn nothing_that_breaks_measures_or_starts_the_product_is_compiled_in() {
    let mut tree = Command::new(env!("CARGO"));
    tree.args([
        "tree",
        "--offline",
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--format",
        "{p}",
        "--package",
        "rushes-cli",
    ]);
    let tree = tree.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).unwrap();
    let used: BTreeSet<_> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(used.contains("rushes-proto") && used.contains("rushes-schema"), "{used:?}");
    for unwanted in [
        "rushes-testkit",
        "rushes-lab",
        "rushes-dev",
        "rushes-sim",
        "rushes-coherence",
        "provider-double",
        "jpeg-encoder",
    ] {
        assert!(!used.contains(unwanted), "{unwanted} would ship");
    }
}

#[test]
fn the_exit_code_says_what_went_wrong() {
    for (args, code) in [
        (&["--address", "http://127.0.0.1:1", "--api-key", "rsk_any", "credits"][..], 5),
        (&["--address", "127.0.0.1:1", "--api-key", "rsk_any", "credits"], 2),
        (&["--address", "http://127.0.0.1:1", "credits"], 4),
        (&["migrate", "--database-url", "postgres://127.0.0.1:1/none"], 1),
        (&["up"], 2),
    ] {
        let output = rushes(args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.starts_with("error: ") && output.stdout.is_empty(), "{args:?}: {said}");
    }
}

#[tokio::test]
async fn migrate_says_where_the_database_is() {
    let database = Database::fresh().await.unwrap();
    let url = database.url();
    let output = tokio::task::spawn_blocking(move || rushes(&["migrate", "--database-url", &url])).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let expected = format!("the database is at migration {}\n", schema::newest().unwrap());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
}
