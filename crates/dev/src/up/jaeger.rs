//! A Jaeger found on the PATH, on free ports, with nothing kept.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use testkit::{Process, find_binary, free_port};

/// A running Jaeger; it ends with this value.
pub(crate) struct Jaeger {
    /// Where spans are sent to.
    pub(crate) otlp: String,
    /// Where its pages are.
    pub(crate) pages: String,
    _process: Process,
}

impl Jaeger {
    /// Starts one when there is one: version 2 (`jaeger`) or version 1 (`jaeger-all-in-one`).
    pub(crate) async fn start(home: &Path) -> Result<Option<Self>> {
        let (grpc, http, pages, admin) = (free_port(), free_port(), free_port(), free_port());
        let at = |port: u16| format!("127.0.0.1:{port}");
        let mut command = if let Ok(program) = find_binary("jaeger") {
            let mut command = Command::new(program);
            command
                .arg(format!("--set=receivers.otlp.protocols.grpc.endpoint={}", at(grpc)))
                .arg(format!("--set=receivers.otlp.protocols.http.endpoint={}", at(http)))
                .arg(format!("--set=extensions.jaeger_query.http.endpoint={}", at(pages)));
            command
        } else if let Ok(program) = find_binary("jaeger-all-in-one") {
            let mut command = Command::new(program);
            command
                .arg("--collector.otlp.enabled=true")
                .arg(format!("--collector.otlp.grpc.host-port={}", at(grpc)))
                .arg(format!("--collector.otlp.http.host-port={}", at(http)))
                .arg(format!("--query.http-server.host-port={}", at(pages)))
                .arg(format!("--admin.http.host-port={}", at(admin)));
            command
        } else {
            return Ok(None);
        };
        command.current_dir(home);
        let log = home.join("logs/jaeger.log");
        std::fs::create_dir_all(home.join("logs"))?;
        std::fs::File::create(&log)?;
        let process = Process::spawn("jaeger", command, &log)?;
        let deadline = Instant::now() + Duration::from_secs(20);
        while tokio::net::TcpStream::connect(at(grpc)).await.is_err() {
            if let Some(status) = process.ended() {
                bail!("Jaeger ended ({status}); the end of its log:\n{}", process.tail(8));
            }
            if Instant::now() >= deadline {
                bail!("Jaeger takes no spans after 20 s; the end of its log:\n{}", process.tail(8));
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        let address = |port: u16| format!("http://{}", at(port));
        Ok(Some(Self { otlp: address(grpc), pages: address(pages), _process: process }))
    }
}
