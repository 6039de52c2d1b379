//! What a killed test process leaves behind: nothing.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use testkit::{Nats, Postgres, Redis, eventually};

/// Set for the process that is to be killed; holds the file to write its servers' addresses to.
const VICTIM: &str = "RUSHES_TESTKIT_VICTIM";

#[test]
fn nothing_survives_a_killed_process() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if let Some(report) = std::env::var_os(VICTIM) {
        runtime.block_on(victim(Path::new(&report)));
    } else {
        runtime.block_on(observer());
    }
}

/// Starts one of each, one of them frozen, says where, and waits for its death.
async fn victim(report: &Path) {
    let (postgres, redis, nats) =
        (Postgres::launch().await.unwrap(), Redis::launch().await.unwrap(), Nats::launch().await.unwrap());
    redis.pause();
    let addresses = [postgres.address(), redis.address(), nats.address()].map(|address| address.to_string()).join("\n");
    let draft = report.with_extension("draft");
    std::fs::write(&draft, addresses).unwrap();
    std::fs::rename(&draft, report).unwrap();
    std::future::pending::<()>().await;
}

async fn observer() {
    let folder = std::env::temp_dir().join(format!("rushes-killed-{:x}", fastrand::u64(..)));
    std::fs::create_dir(&folder).unwrap();
    let report = folder.join("report");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killed::nothing_survives_a_killed_process"])
        .env(VICTIM, &report)
        // Its temporary directories are then in ours, where we see them go.
        .env("TMPDIR", &folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    let limit = Duration::from_secs(30);
    let addresses =
        eventually("the servers are up", limit, async || std::fs::read_to_string(&report).ok()).await.unwrap();
    assert_eq!(addresses.lines().count(), 3);
    assert!(std::net::TcpStream::connect(addresses.lines().next().unwrap()).is_ok());

    child.kill().unwrap();
    child.wait().unwrap();
    eventually("all ports are closed", limit, async || {
        addresses.lines().all(|address| std::net::TcpStream::connect(address).is_err()).then_some(())
    })
    .await
    .unwrap();
    eventually("the directories are gone", limit, async || {
        let names: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        (names == ["report"]).then_some(())
    })
    .await
    .unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
}
