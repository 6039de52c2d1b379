//! Client commands as a user runs them, against the product.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use proto::generations::v1::CancelGenerationRequest;
use tokio::io::{AsyncBufReadExt as _, BufReader};
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
    let done = command(client, state)?.args(args).output().await?;
    let said = Said { out: String::from_utf8(done.stdout)?, err: String::from_utf8(done.stderr)? };
    ensure!(done.status.success(), "rushes {args:?}: {}: {}{}", done.status, said.out, said.err);
    Ok(said)
}

/// The program as the account of `client`, with a folder for its state.
fn command(client: &Client, state: &Path) -> Result<Command> {
    // The program that ships, which lies beside the services.
    let program = Path::new(env!("CARGO_BIN_EXE_rushes-dev")).with_file_name("rushes");
    ensure!(program.is_file(), "{} is not built: run `cargo build --workspace` first", program.display());
    let mut command = Command::new(program);
    command
        .env("RUSHES_ADDRESS", format!("http://{}", client.gateway))
        .env("RUSHES_API_KEY", client.key())
        .env("XDG_STATE_HOME", state)
        .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    Ok(command)
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

#[tokio::test(flavor = "multi_thread")]
async fn an_update_changes_what_was_given_and_without_anything_given_it_is_refused() -> Result<()> {
    let cluster = Cluster::start(Options::default()).await?;
    let client = cluster.client(0).await?;
    let state = std::env::temp_dir().join(format!("rushes-state-{}", uuid::Uuid::now_v7().simple()));
    let project = client.project("Kept").await?;
    let scene = client.scene(&project, "One").await?;
    for (kind, name) in [("projects", project.name.as_str()), ("scenes", scene.name.as_str())] {
        let refused = rushes(&client, &state, &[kind, "update", name]).await.err().context("it was not refused")?;
        assert!(refused.to_string().contains("exit status: 2"), "{refused}");
        assert!(refused.to_string().contains("nothing to change was given"), "{refused}");
    }
    let said = rushes(&client, &state, &["projects", "update", &project.name, "--description", "new"]).await?;
    assert!(said.out.contains("Kept") && said.out.contains("new"), "{}", said.out);
    let _ = std::fs::remove_dir_all(state);
    cluster.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_leaves_the_generation_at_work_and_says_how_to_go_on() -> Result<()> {
    let cluster = Cluster::start(Options { pace: "30", ..Options::default() }).await?;
    let client = cluster.client(10).await?;
    let scene = client.scene(&client.project("Long").await?, "One").await?;
    let mut command = command(&client, &std::env::temp_dir())?;
    let arguments = ["generate", "--scene", &scene.name, "--prompt", "a slow boat"];
    let mut generating = command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(generating.stderr.take().context("its errors")?).lines();
    // Behind the quote.
    let name = loop {
        let line = lines.next_line().await?.context("the generation's name")?;
        if line.starts_with("generations/") {
            break line;
        }
    };
    // The stream is open when the state is shown a second time.
    while let Some(line) = lines.next_line().await? {
        if line.contains("PROCESSING") {
            break;
        }
    }
    let id = generating.id().context("it runs")?;
    // The shell's own: a minimal system has no program of that name.
    assert!(std::process::Command::new("sh").args(["-c", &format!("kill -s INT {id}")]).status()?.success());
    assert_eq!(generating.wait().await?.code(), Some(130));
    let mut said = String::new();
    while let Some(line) = lines.next_line().await? {
        said += &line;
    }
    assert!(said.contains(&format!("rushes watch {name}")), "{said}");
    client.generations().cancel_generation(CancelGenerationRequest { name }).await?;
    cluster.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_are_set_up_tested_and_listed_by_commands() -> Result<()> {
    let cluster = Cluster::start(Options::default()).await?;
    let client = cluster.client(0).await?;
    let state = std::env::temp_dir();
    let run = async |args: &[&str]| anyhow::Ok(rushes(&client, &state, &[&["webhooks"], args].concat()).await?.out);
    // An address in here, which nothing is sent to.
    let url = "https://localhost:9/hook";
    let made = run(&["create", url, "--event", "generation.completed"]).await?;
    assert!(made.contains("whsec_") && made.contains("generation.completed"), "{made}");
    let name = made.split_whitespace().next().context("its name")?;
    let listed = run(&["list"]).await?;
    assert!(listed.contains(url) && !listed.contains("whsec_"), "{listed}");
    assert!(run(&["test", name]).await?.contains("webhook.test"));
    let failed = async || run(&["deliveries", name]).await.ok().filter(|page| page.contains("the last: "));
    let page = testkit::eventually("the test has failed", std::time::Duration::from_secs(20), failed).await?;
    assert!(page.contains("the last: UNREACHABLE"), "{page}");
    let delivery = page.split_whitespace().nth(2).context("the delivery's name")?;
    assert!(run(&["redeliver", delivery]).await?.contains(delivery));
    assert!(run(&["disable", name]).await?.contains("DISABLED: USER"));
    assert!(!run(&["enable", name]).await?.contains("DISABLED"));
    assert!(run(&["rotate", name]).await?.contains("whsec_"));
    run(&["delete", name]).await?;
    assert_eq!(run(&["list"]).await?, "");
    cluster.end().await
}
