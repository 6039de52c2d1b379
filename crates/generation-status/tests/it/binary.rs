//! The service's own program, started as a process, with its log and its metrics.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use chassis::drain::Drain;
use serde_json::Value;
use testkit::{Process, eventually, free_port};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::cluster::{Cluster, Node};

/// Longer than a start takes on a crowded machine.
const START: Duration = Duration::from_secs(30);

/// A running program.
pub(crate) struct Binary {
    process: Process,
    pub(crate) address: SocketAddr,
    internal: SocketAddr,
    admin: SocketAddr,
    folder: PathBuf,
}

impl Binary {
    /// Starts the program on the cluster's database, with further settings.
    pub(crate) async fn start(cluster: &Cluster, settings: &[(&str, &str)]) -> Self {
        let folder = std::env::temp_dir().join(format!("rushes-generation-status-{}", Uuid::now_v7()));
        std::fs::create_dir(&folder).unwrap();
        let [address, internal, admin] =
            [free_port(), free_port(), free_port()].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_generation-status"));
        command
            .env("RUSHES_DATABASE_URL", &cluster.config.database.url)
            .env("RUSHES_PUBLIC_URL", "http://assets.test")
            .env("RUSHES_ASSET_URLS", "public")
            .env("RUSHES_INTERNAL_KEYS", testkit::INTERNAL_KEYS)
            .env("RUSHES_LISTEN", address.to_string())
            .env("RUSHES_INTERNAL_LISTEN", internal.to_string())
            .env("RUSHES_ADMIN_LISTEN", admin.to_string())
            .env("RUSHES_LOG_FORMAT", "json")
            // Tests crowd the machine.
            .env("RUSHES_DATABASE_UNRESPONSIVE_AFTER", "1s")
            .envs(settings.iter().copied());
        let process = Process::spawn("generation-status", command, &folder.join("log")).unwrap();
        eventually("the program listens", START, async || TcpStream::connect(address).await.ok()).await.unwrap();
        Self { process, address, internal, admin, folder }
    }

    /// Clients of this program.
    pub(crate) fn node(&self) -> Node {
        Node::connect(self.address, self.internal, Drain::default())
    }

    pub(crate) fn kill(&self) {
        self.process.kill();
    }

    /// Every line of the log that is JSON.
    pub(crate) fn log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.process.log()).unwrap();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The metrics as Prometheus scrapes them.
    pub(crate) async fn metrics(&self) -> String {
        self.admin("/metrics").await
    }

    /// What the admin port answers.
    pub(crate) async fn admin(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.admin).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await.unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).await.unwrap();
        page
    }
}

impl Drop for Binary {
    fn drop(&mut self) {
        self.process.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
