//! `rushes up` and the client commands as a user runs them, in a checkout of their own whose services are built already.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testkit::{Process, eventually};
use uuid::Uuid;

/// How long `up` may take; the machine may be busy compiling.
const LIMIT: Duration = Duration::from_secs(90);

/// A directory that looks like a checkout, with what runs in it.
struct Checkout {
    folder: PathBuf,
}

impl Checkout {
    fn new() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("rushes-up-{}", Uuid::now_v7().simple()));
        std::fs::create_dir_all(folder.join("crates/dev"))?;
        for file in ["Cargo.toml", "crates/dev/Cargo.toml"] {
            std::fs::write(folder.join(file), "")?;
        }
        Ok(Self { folder })
    }

    fn rushes(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rushes-dev"));
        command.args(args).current_dir(&self.folder).env("CARGO", "true").env("RUSHES_LOCAL_PACE", "0");
        for name in ["DATABASE_URL", "REDIS_URL", "NATS_URL", "BLOBS_URL", "ADDRESS", "API_KEY"] {
            command.env_remove(format!("RUSHES_{name}"));
        }
        command.env_remove("OTEL_EXPORTER_OTLP_ENDPOINT");
        command
    }

    /// Starts `up` and waits until it says that all is up.
    async fn up(&self, log: &str, args: &[&str]) -> Result<Process> {
        let args = [&["up", "--no-install"], args].concat();
        let process = Process::spawn("up", self.rushes(&args), &self.folder.join(log))?;
        let said = async || process.tail(200).contains("Rushes is up").then_some(());
        eventually("`rushes up` is up", LIMIT, async || match process.ended() {
            Some(status) => Some(Err(anyhow::anyhow!("it ended: {status}"))),
            None => said().await.map(Ok),
        })
        .await
        .and_then(|up| up)
        .with_context(|| process.tail(200))?;
        Ok(process)
    }

    /// Runs a client command.
    async fn client(&self, args: &[&str]) -> Result<Output> {
        let mut command = self.rushes(args);
        Ok(tokio::task::spawn_blocking(move || command.output()).await??)
    }

    /// The JSON that a client command prints, which must succeed.
    async fn json(&self, args: &[&str]) -> Result<Value> {
        let output = self.client(args).await?;
        ensure!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// The file that client commands find what runs by.
    fn file(&self) -> PathBuf {
        cli::stack::path_in(&self.folder)
    }

    fn running(&self) -> Result<Value> {
        Ok(serde_json::from_str(&std::fs::read_to_string(self.file())?)?)
    }
}

impl Drop for Checkout {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Every port that `up` has published: its services' and its servers'.
fn ports(running: &Value, log: &str) -> Vec<String> {
    let services = running["services"].as_object().unwrap().values();
    let services = services.map(|url| url.as_str().unwrap().trim_start_matches("http://").to_owned());
    let servers = log.lines().find(|line| line.contains("PostgreSQL at")).unwrap();
    let servers = servers.split_whitespace().filter(|word| word.starts_with("127.0.0.1:"));
    services.chain(servers.map(|word| word.trim_end_matches(',').to_owned())).collect()
}

async fn all_closed(ports: &[String]) -> Result<()> {
    eventually("every port is closed", Duration::from_secs(15), async || {
        ports.iter().all(|port| std::net::TcpStream::connect(port).is_err()).then_some(())
    })
    .await
}

/// What the terminal does on Ctrl-C: SIGINT to the whole group.
fn ctrl_c(process: &Process) -> Result<()> {
    let status = Command::new("sh").args(["-c", &format!("kill -s INT -- -{}", process.id())]).status()?;
    ensure!(status.success());
    Ok(())
}

async fn end(process: &Process) -> Result<std::process::ExitStatus> {
    eventually("`rushes up` has ended", Duration::from_secs(30), async || process.ended()).await
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn up_serves_clients_ends_with_ctrl_c_and_keeps_its_data() -> Result<()> {
    let checkout = Checkout::new()?;
    let up = checkout.up("first", &[]).await?;
    let running = checkout.running()?;
    let ports = ports(&running, &up.tail(200));
    assert_eq!(ports.len(), 8, "{ports:?}");
    assert_eq!(mode(&checkout.file()), 0o600);
    for file in ["demo.json", "postgres.password"] {
        assert_eq!(mode(&checkout.folder.join(".rushes").join(file)), 0o600, "{file}");
    }

    // The client finds the gateway by itself and sees the demo's videos.
    let dashboard = checkout.json(&["dashboard", "--json"]).await?;
    let first = &dashboard["projects"][1]["scenes"][0];
    assert_eq!(first["latest"]["state"], "COMPLETED");
    let scene = first["name"].as_str().unwrap();
    let made = checkout.json(&["generate", "--scene", scene, "--prompt", "a paper boat in the rain", "--json"]).await?;
    assert_eq!((&made["state"], &made["input"]["prompt"]), (&"COMPLETED".into(), &"a paper boat in the rain".into()));

    // Its trace begins with this program and ends in the worker.
    let name = made["name"].as_str().unwrap();
    let spans = eventually("the worker's spans are there", LIMIT, async || {
        let spans = checkout.json(&["trace", name, "--json"]).await.ok()?;
        spans["spans"].as_array()?.iter().any(|span| span["service"] == "generation-worker").then_some(spans)
    })
    .await?;
    let root = spans["spans"].as_array().unwrap().iter().find(|span| span["parent"].is_null()).unwrap();
    assert_eq!((&root["service"], &root["name"]), (&"rushes".into(), &"rushes generate".into()));

    for (args, code) in [
        (vec!["get", "generations/01a1fd71-7eb1-762a-9e86-d4430cc323af"], 3),
        (vec!["--api-key", "rsk_wrong", "credits"], 4),
        (vec!["--address", "http://127.0.0.1:1", "--api-key", "rsk_wrong", "credits"], 5),
        (vec!["generate", "--scene", scene, "--prompt", ""], 2),
        (vec!["generate"], 2),
    ] {
        let output = checkout.client(&args).await?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.starts_with("error: "), "{args:?}: {said}");
    }
    // A reader that has gone (`| head`) is no error.
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let mut unread = checkout.rushes(&["dashboard", "--json"]);
    let output = tokio::task::spawn_blocking(move || unread.stdout(writer).stderr(Stdio::piped()).output()).await??;
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr)), (Some(0), "".into()));

    let second = checkout.client(&["up"]).await?;
    assert!(String::from_utf8_lossy(&second.stderr).contains("already runs"), "{second:?}");

    ctrl_c(&up)?;
    assert!(end(&up).await?.success(), "{}", up.tail(200));
    all_closed(&ports).await?;
    assert!(checkout.running().is_err(), "the file is still there");
    let alone = checkout.client(&["dashboard"]).await?;
    assert!(String::from_utf8_lossy(&alone.stderr).contains("no local stack runs"), "{alone:?}");

    // A second `up` has the same account, and makes nothing again.
    let again = checkout.up("second", &[]).await?;
    assert_eq!(checkout.running()?["api_key"], running["api_key"]);
    assert!(!again.tail(200).contains("generating"), "{}", again.tail(200));
    assert_eq!(checkout.json(&["get", name, "--json"]).await?["state"], "COMPLETED");
    Ok(())
}

#[tokio::test]
async fn a_service_that_dies_ends_all_with_its_last_words() -> Result<()> {
    let checkout = Checkout::new()?;
    let up = checkout.up("log", &["--no-demo"]).await?;
    let ports = ports(&checkout.running()?, &up.tail(200));
    let children = format!(
        "for s in /proc/[0-9]*/stat; do read -r pid comm state parent rest <$s && \
         [ \"$parent $comm\" = '{} (thumbnail-worke)' ] && kill -s KILL $pid; done; true",
        up.id()
    );
    assert!(Command::new("sh").args(["-c", &children]).status()?.success());
    assert_eq!(end(&up).await?.code(), Some(1));
    let said = up.tail(200);
    assert!(said.contains("thumbnail-worker ended by itself (signal: 9"), "{said}");
    assert!(said.contains("the end of its log:"), "{said}");
    all_closed(&ports).await
}
