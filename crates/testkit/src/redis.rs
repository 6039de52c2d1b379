//! A private Redis server (or Valkey, which serves the same protocol).

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::binary;
use crate::certificate::Certificate;
use crate::home::{self, Home};
use crate::server::{self, Recipe, Server, blocking};
use crate::watchdog::Ending;

/// A Redis server of our own; the last clone ends it. It holds a cache, so nothing is written to disk.
#[derive(Clone)]
pub struct Redis {
    server: Server,
    password: Option<String>,
}

impl Redis {
    /// Starts an empty server in a temporary directory.
    pub async fn launch() -> Result<Self> {
        let home = blocking(|| Home::temporary("redis", None)).await?;
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

    /// Starts an empty server that speaks nothing but TLS, under a certificate that must outlive it.
    pub async fn launch_tls(certificate: &Certificate) -> Result<Self> {
        let program = binary::find("redis-server")?;
        let home = blocking(|| Home::temporary("redis", None)).await?;
        let (file, key, authority) = (certificate.certificate(), certificate.key(), certificate.authority());
        let command = move |home: &Home, port: u16| {
            let mut command = Command::new(&program);
            command.args(["--bind", "127.0.0.1", "--port", "0", "--save", "", "--tls-auth-clients", "no"]);
            command.arg("--tls-port").arg(port.to_string()).arg("--tls-cert-file").arg(&file);
            command.arg("--tls-key-file").arg(&key).arg("--tls-ca-cert-file").arg(&authority);
            command.current_dir(home.path());
            Ok(command)
        };
        let ready = server::listens;
        let recipe = Recipe { name: "redis", home, ending: Ending::Term, command: Box::new(command), ready };
        Ok(Self { server: Server::launch(recipe).await?, password: None })
    }

    async fn serve(home: Home, password: Option<String>) -> Result<Self> {
        let program =
            binary::find("redis-server").or_else(|missing| binary::find("valkey-server").map_err(|_| missing))?;
        let secret = password.clone();
        let command = move |home: &Home, port: u16| {
            let mut settings = format!("bind 127.0.0.1\nport {port}\nsave \"\"\nappendonly no\ndaemonize no\n");
            if let Some(secret) = &secret {
                settings.push_str(&format!("requirepass {secret}\n"));
            }
            // In a file, not in the arguments, which everybody on the machine can read.
            let file = home.write_secret("redis.conf", &settings, None)?;
            let mut command = Command::new(&program);
            command.arg(file).current_dir(home.path());
            Ok(command)
        };
        let recipe = Recipe { name: "redis", home, ending: Ending::Term, command: Box::new(command), ready };
        Ok(Self { server: Server::launch(recipe).await?, password })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Its URL, `redis://…`.
    #[must_use]
    pub fn url(&self) -> String {
        let password = self.password.as_ref().map(|password| format!(":{password}@")).unwrap_or_default();
        format!("redis://{password}{}", self.address())
    }

    /// The process; nothing while it is stopped.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.server.id()
    }

    /// Ends it; everything in it is lost.
    pub async fn stop(&self) -> Result<()> {
        self.server.stop().await
    }

    /// Kills it (SIGKILL).
    pub async fn kill(&self) -> Result<()> {
        self.server.kill().await
    }

    /// Starts it again, empty, at the same address.
    pub async fn start(&self) -> Result<()> {
        self.server.start().await
    }

    /// Freezes it: connections stay open and nobody answers.
    pub fn pause(&self) {
        self.server.pause();
    }

    /// Ends a [`Redis::pause`].
    pub fn resume(&self) {
        self.server.resume();
    }

    /// Why it does not run; `None` while it does.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.server.trouble()
    }
}

/// A server that serves says `+PONG`, or `-NOAUTH` when it wants a password first; one that still loads says `-LOADING`.
fn ready(address: SocketAddr) -> bool {
    let mut answer = [0; 7];
    server::ask(address, b"PING\r\n", &mut answer)
        .is_some_and(|read| answer[..read].starts_with(b"+PONG") || answer[..read].starts_with(b"-NOAUTH"))
}
