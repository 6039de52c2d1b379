//! A private PostgreSQL server.
//!
//! Invariant: a temporary one trades durability for speed (no fsync) and is thrown away; a kept one is durable as shipped
//! and asks for a password, since it stands on loopback where other users of the machine could reach it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::binary;
use crate::home::{self, Home};
use crate::owner::Owner;
use crate::server::{self, Recipe, Server, blocking};
use crate::watchdog::Ending;

/// The superuser of a private server.
const USER: &str = "rushes";

/// A PostgreSQL server of our own; the last clone ends it.
#[derive(Clone)]
pub struct Postgres {
    server: Server,
    password: Option<String>,
}

impl Postgres {
    /// Starts an empty server in a temporary directory, without fsync: for tests only.
    pub async fn launch() -> Result<Self> {
        let owner = Owner::other_than_root()?;
        let home = blocking(move || Home::temporary("postgres", owner)).await?;
        Self::serve(home, owner, None, Ending::Quit, &["fsync=off", "full_page_writes=off", "max_connections=400"])
            .await
    }

    /// Starts the server whose data is in `folder`, making it when there is none. Its password lies beside it.
    pub async fn keep(folder: &Path) -> Result<Self> {
        let owner = Owner::other_than_root()?;
        let folder = folder.to_owned();
        let (home, password) = blocking(move || {
            let home = Home::kept(&folder, owner)?;
            let password = home::kept_secret(&folder.with_extension("password"))?;
            Ok((home, password))
        })
        .await?;
        Self::serve(home, owner, Some(password), Ending::Int, &["max_connections=300"]).await
    }

    /// Removes all data that a [`Postgres::keep`] of `folder` made. No server may run there.
    pub async fn forget(folder: &Path) -> Result<()> {
        let folder = folder.to_owned();
        blocking(move || Home::kept(&folder, Owner::other_than_root()?)?.remove()).await
    }

    async fn serve(
        home: Home,
        owner: Option<Owner>,
        password: Option<String>,
        ending: Ending,
        settings: &'static [&'static str],
    ) -> Result<Self> {
        let postgres = binary::find("postgres")?;
        let secret = password.clone();
        let home = blocking(move || {
            if !home.path().join("data/PG_VERSION").exists() {
                initialize(&home, owner, secret.as_deref())?;
            }
            Ok(home)
        })
        .await?;
        let command = move |home: &Home, port: u16| {
            let mut command = run_as(&postgres, owner, home);
            command.arg("-D").arg(home.path().join("data")).arg("-p").arg(port.to_string());
            for setting in
                ["listen_addresses=127.0.0.1", "unix_socket_directories=", "timezone=UTC"].iter().chain(settings)
            {
                command.arg("-c").arg(setting);
            }
            Ok(command)
        };
        let recipe = Recipe { name: "postgres", home, ending, command: Box::new(command), ready };
        Ok(Self { server: Server::launch(recipe).await?, password })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The URL of its database `postgres`, as superuser.
    #[must_use]
    pub fn url(&self) -> String {
        let password = self.password.as_ref().map(|password| format!(":{password}")).unwrap_or_default();
        format!("postgres://{USER}{password}@{}/postgres", self.address())
    }

    /// Ends it; connections are cut. The data stays.
    pub async fn stop(&self) -> Result<()> {
        self.server.stop().await
    }

    /// Kills it (SIGKILL), as a crash would. The data stays and is recovered at the next start.
    pub async fn kill(&self) -> Result<()> {
        self.server.kill().await
    }

    /// Starts it again at the same address and waits until it takes connections.
    pub async fn start(&self) -> Result<()> {
        self.server.start().await
    }

    /// Freezes it with all its backends: connections stay open and nobody answers.
    pub fn pause(&self) {
        self.server.pause();
    }

    /// Ends a [`Postgres::pause`].
    pub fn resume(&self) {
        self.server.resume();
    }

    /// Why it does not run; `None` while it does.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.server.trouble()
    }
}

/// Makes an empty cluster in `home/data`. An attempt that was cut short leaves no `PG_VERSION` and is made again.
fn initialize(home: &Home, owner: Option<Owner>, password: Option<&str>) -> Result<()> {
    let initdb = binary::find("initdb")?;
    let data = home.path().join("data");
    if data.exists() {
        std::fs::remove_dir_all(&data).with_context(|| format!("clearing the unfinished {}", data.display()))?;
    }
    let mut command = run_as(&initdb, owner, home);
    command.args(["--username", USER, "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"]);
    command.arg("-D").arg(&data);
    let file = password.map(|password| home.write_secret("password", password, owner)).transpose()?;
    if let Some(file) = &file {
        // `password` and not `scram-sha-256`: the client's 4,096 rounds cost 80 ms a connection in a development build,
        // and whoever can read loopback can read the memory of both ends too.
        command.arg("--auth=password").arg("--pwfile").arg(file);
    } else {
        command.arg("--auth=trust");
    }
    let output = command.output().with_context(|| format!("running {}", initdb.display()))?;
    if let Some(file) = file {
        std::fs::remove_file(file)?;
    }
    ensure!(output.status.success(), "initdb failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// A command that runs as `owner`, in a directory that it can be in, and without `PG…` settings meant for another server.
fn run_as(program: &Path, owner: Option<Owner>, home: &Home) -> Command {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(program);
    command.current_dir(home.path()).env_clear().env("LC_ALL", "C").env("PATH", "/usr/bin:/bin");
    if let Some(Owner { uid, gid }) = owner {
        command.uid(uid).gid(gid);
    }
    command
}

/// Sends a startup packet: a server that takes connections asks for authentication (`R`), one that still recovers says no.
fn ready(address: SocketAddr) -> bool {
    let mut packet = vec![0, 0, 0, 0, 0, 3, 0, 0];
    packet.extend_from_slice(format!("user\0{USER}\0database\0postgres\0\0").as_bytes());
    let length = u32::try_from(packet.len()).unwrap_or_default();
    packet[..4].copy_from_slice(&length.to_be_bytes());
    let mut answer = [0];
    server::ask(address, &packet, &mut answer).is_some() && answer[0] == b'R'
}
