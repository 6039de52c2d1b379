//! A private NATS server.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::binary;
use crate::certificate::Certificate;
use crate::home::Home;
use crate::server::{self, Recipe, Server, blocking};
use crate::watchdog::Ending;

/// A NATS server of our own, core publish and subscribe only; the last clone ends it.
///
/// It asks for no password, also when kept: what passes through it are hints, and nothing relies on them.
#[derive(Clone)]
pub struct Nats {
    server: Server,
}

impl Nats {
    /// Starts a server in a temporary directory.
    pub async fn launch() -> Result<Self> {
        Self::serve(blocking(|| Home::temporary("nats", None)).await?).await
    }

    /// Starts a server with its log beside `folder`.
    pub async fn keep(folder: &Path) -> Result<Self> {
        let folder = folder.to_owned();
        Self::serve(blocking(move || Home::kept(&folder, None)).await?).await
    }

    /// Starts a server that insists on TLS, under a certificate that must outlive it.
    pub async fn launch_tls(certificate: &Certificate) -> Result<Self> {
        let (file, key) = (certificate.certificate(), certificate.key());
        let more = vec!["--tls".into(), "--tlscert".into(), file.into(), "--tlskey".into(), key.into()];
        Self::serve_with(blocking(|| Home::temporary("nats", None)).await?, more).await
    }

    /// Starts a server that takes one user.
    pub async fn launch_for(user: &str, password: &str) -> Result<Self> {
        let more = vec!["--user".into(), user.into(), "--pass".into(), password.into()];
        Self::serve_with(blocking(|| Home::temporary("nats", None)).await?, more).await
    }

    async fn serve(home: Home) -> Result<Self> {
        Self::serve_with(home, Vec::new()).await
    }

    async fn serve_with(home: Home, more: Vec<OsString>) -> Result<Self> {
        let program = binary::find("nats-server")?;
        let command = move |home: &Home, port: u16| {
            let mut command = Command::new(&program);
            command.args(["--addr", "127.0.0.1", "--port"]).arg(port.to_string()).args(&more).current_dir(home.path());
            Ok(command)
        };
        let recipe = Recipe { name: "nats", home, ending: Ending::Term, command: Box::new(command), ready };
        Ok(Self { server: Server::launch(recipe).await? })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Its URL, `nats://…`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    /// Ends it; clients are disconnected.
    pub async fn stop(&self) -> Result<()> {
        self.server.stop().await
    }

    /// Kills it (SIGKILL).
    pub async fn kill(&self) -> Result<()> {
        self.server.kill().await
    }

    /// Starts it again at the same address.
    pub async fn start(&self) -> Result<()> {
        self.server.start().await
    }

    /// Freezes it: connections stay open and nothing is delivered, which clients notice late.
    pub fn pause(&self) {
        self.server.pause();
    }

    /// Ends a [`Nats::pause`].
    pub fn resume(&self) {
        self.server.resume();
    }

    /// Why it does not run; `None` while it does.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.server.trouble()
    }
}

/// A server that serves greets with its `INFO`.
fn ready(address: SocketAddr) -> bool {
    let mut answer = [0; 5];
    server::ask(address, b"", &mut answer).is_some() && answer == *b"INFO "
}
