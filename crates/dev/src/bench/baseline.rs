//! The running bare chain (see `chain`): its two processes, from this very program.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use http::uri::PathAndQuery;
use testkit::Process;
use tonic::metadata::MetadataMap;

use super::chain;
use super::load::{Call, Target};

/// How long a process may take until it listens.
const LIMIT: Duration = Duration::from_secs(10);

/// A bare gateway before a bare server; ends when dropped.
pub(super) struct Baseline {
    gateway: Process,
    server: Process,
    address: SocketAddr,
    /// Where the server answers by itself.
    upstream: SocketAddr,
}

impl Baseline {
    /// Starts a chain that answers `size` bytes, with its logs in `folder`.
    pub(super) async fn start(folder: &Path, size: usize) -> Result<Self> {
        let (upstream, address) = (free(), free());
        let server = run(folder, "baseline-server", &["--listen", &upstream.to_string(), "--size", &size.to_string()])?;
        let gateway =
            run(folder, "baseline-gateway", &["--listen", &address.to_string(), "--upstream", &upstream.to_string()])?;
        for (process, address) in [(&server, upstream), (&gateway, address)] {
            let listens = async || tokio::net::TcpStream::connect(address).await.ok();
            testkit::eventually("the baseline listens", LIMIT, listens)
                .await
                .with_context(|| format!("the end of the log of {}:\n{}", process.name(), process.tail(12)))?;
        }
        Ok(Self { gateway, server, address, upstream })
    }

    /// The chain as the target of a load with requests of `request` bytes.
    pub(super) async fn target(&self, request: usize) -> Result<Target> {
        Target::connect(self.address, vec![self.gateway.id(), self.server.id()], vec![call(request)]).await
    }

    /// Its server alone, the same way.
    pub(super) async fn one_hop(&self, request: usize) -> Result<Target> {
        Target::connect(self.upstream, vec![self.server.id()], vec![call(request)]).await
    }
}

fn call(bytes: usize) -> Call {
    Call {
        path: PathAndQuery::from_static(chain::PATH),
        message: vec![0x2a; bytes].into(),
        metadata: MetadataMap::new(),
    }
}

fn run(folder: &Path, role: &str, arguments: &[&str]) -> Result<Process> {
    let mut command = Command::new(std::env::current_exe().context("finding this program")?);
    command.args(["bench", role]).args(arguments);
    Process::spawn(role, command, &folder.join(format!("{role}.log")))
}

fn free() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], testkit::free_port()))
}
