//! Client commands as a user runs them, against the product.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::client::Client;
use crate::cluster::{Cluster, Options};

/// What a command said, on standard output and on standard error.
pub(crate) struct Said {
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs a command as the account of `client`, with a folder for its state, and expects it to be done.
pub(crate) async fn rushes(client: &Client, state: &Path, args: &[&str]) -> Result<Said> {
    // The program that ships, which lies beside the services.
    let program = Path::new(env!("CARGO_BIN_EXE_rushes-dev")).with_file_name("rushes");
    ensure!(program.is_file(), "{} is not built: run `cargo build --workspace` first", program.display());
    let mut command = Command::new(program);
    command
        .args(args)
        .env("RUSHES_ADDRESS", format!("http://{}", client.gateway))
        .env("RUSHES_API_KEY", client.key())
        .env("XDG_STATE_HOME", state)
        .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let done = command.output().await?;
    let said = Said { out: String::from_utf8(done.stdout)?, err: String::from_utf8(done.stderr)? };
    ensure!(done.status.success(), "rushes {args:?}: {}: {}{}", done.status, said.out, said.err);
    Ok(said)
}

/// The files below a folder.
fn files(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_of_what_a_command_wrote_is_there_for_the_next() -> Result<()> {
    let cluster = Cluster::start(Options::default()).await?;
    let client = cluster.client(0).await?;
    let state = std::env::temp_dir().join(format!("rushes-state-{}", uuid::Uuid::now_v7().simple()));
    std::fs::create_dir_all(&state)?;

    rushes(&client, &state, &["dashboard"]).await?;
    assert!(files(&state)?.is_empty(), "who only reads has nothing to keep");
    rushes(&client, &state, &["projects", "create", "--title", "First"]).await?;
    let first = files(&state)?;
    assert_eq!(first.len(), 1);
    let token = std::fs::read(&first[0])?;
    let said = rushes(&client, &state, &["dashboard"]).await?;
    assert!(said.out.contains("First"), "{}", said.out);

    // The second write's token has the first's place, since it demands all that it did.
    rushes(&client, &state, &["projects", "create", "--title", "Second"]).await?;
    let second = files(&state)?;
    assert!(second.len() == 1 && second != first);
    assert_ne!(std::fs::read(&second[0])?, token);
    // Another account's are its own.
    let other = cluster.client(0).await?;
    rushes(&other, &state, &["projects", "create", "--title", "Theirs"]).await?;
    assert_eq!(files(&state)?.len(), 2);

    std::fs::write(&second[0], b"\xff not a token")?;
    let said = rushes(&client, &state, &["dashboard"]).await.context("what cannot be read is passed over")?;
    assert!(said.out.contains("Second") && !said.out.contains("Theirs"), "{}", said.out);
    std::fs::remove_dir_all(state)?;
    cluster.end().await
}
