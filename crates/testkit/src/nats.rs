//! A private NATS server.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::binary;
use crate::home::{self, Home};
use crate::server::{self, Recipe, Server, blocking};
use crate::watchdog::Ending;

/// A NATS server of our own, core publish and subscribe only; the last clone ends it.
#[derive(Clone)]
pub struct Nats {
    server: Server,
    password: Option<String>,
}

impl Nats {
    /// Starts a server in a temporary directory.
    pub async fn launch() -> Result<Self> {
        let home = blocking(|| Home::temporary("nats", None)).await?;
        Self::serve(home, None).await
    }

    /// Starts a server with its files in `folder` and a password that lies beside it.
    pub async fn keep(folder: &Path) -> Result<Self> {
        let folder = folder.to_owned();
        let (home, password) = blocking(move || {
            let home = Home::kept(&folder, None)?;
            let password = home::kept_secret(&folder.with_extension("password"))?;
            Ok((home, password))
        })
        .await?;
        Self::serve(home, Some(password)).await
    }

    async fn serve(home: Home, password: Option<String>) -> Result<Self> {
        let program = binary::find("nats-server")?;
        let secret = password.clone();
        let command = move |home: &Home, port: u16| {
            let mut settings = format!("host: \"127.0.0.1\"\nport: {port}\n");
            if let Some(secret) = &secret {
                settings.push_str(&format!("authorization: {{ user: rushes, password: \"{secret}\" }}\n"));
            }
            // In a file, not in the arguments, which everybody on the machine can read.
            let file = home.write_secret("nats.conf", &settings, None)?;
            let mut command = Command::new(&program);
            command.arg("-c").arg(file).current_dir(home.path());
            Ok(command)
        };
        let recipe = Recipe { name: "nats", home, ending: Ending::Term, command: Box::new(command), ready };
        Ok(Self { server: Server::launch(recipe).await?, password })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Its URL, `nats://…`.
    #[must_use]
    pub fn url(&self) -> String {
        let password = self.password.as_ref().map(|password| format!("rushes:{password}@")).unwrap_or_default();
        format!("nats://{password}{}", self.address())
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
