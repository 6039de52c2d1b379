//! Servers that are missing: installed from Debian's packages when we may, else one message that says how to get them.
//!
//! Invariant: an installation leaves no daemon running and none that would start by itself; it only brings programs.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use testkit::find_binary;

use crate::up::say::Say;
use cli::failure::{Exit, Failure};
use cli::out;

/// A server that the stack needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    Postgres,
    Redis,
    Nats,
}

impl Server {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Postgres, Self::Redis, Self::Nats];

    fn title(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::Redis => "Redis",
            Self::Nats => "NATS",
        }
    }

    fn debian(self) -> &'static str {
        match self {
            Self::Postgres => "postgresql",
            Self::Redis => "redis-server",
            Self::Nats => "nats-server",
        }
    }

    fn brew(self) -> &'static str {
        match self {
            Self::Postgres => "postgresql@17",
            Self::Redis => "redis",
            Self::Nats => "nats-server",
        }
    }

    fn docker(self) -> &'static str {
        match self {
            Self::Postgres => {
                "docker run -d --rm -p 127.0.0.1:5432:5432 -e POSTGRES_PASSWORD=rushes postgres:17 && \
                 export RUSHES_DATABASE_URL=postgres://postgres:rushes@127.0.0.1:5432/postgres"
            }
            Self::Redis => {
                "docker run -d --rm -p 127.0.0.1:6379:6379 redis:7 && export RUSHES_REDIS_URL=redis://127.0.0.1:6379"
            }
            Self::Nats => {
                "docker run -d --rm -p 127.0.0.1:4222:4222 nats:2 && export RUSHES_NATS_URL=nats://127.0.0.1:4222"
            }
        }
    }

    fn is_here(self) -> bool {
        match self {
            Self::Postgres => find_binary("postgres").is_ok() && find_binary("initdb").is_ok(),
            Self::Redis => find_binary("redis-server").is_ok() || find_binary("valkey-server").is_ok(),
            Self::Nats => find_binary("nats-server").is_ok(),
        }
    }
}

/// The script that installs packages given as its arguments. Services that they bring are neither started (policy-rc.d)
/// nor left enabled, and no database cluster is made, unless the machine had such settings before.
const SCRIPT: &str = r#"
set -eu
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
policy=/usr/sbin/policy-rc.d cluster=/etc/postgresql-common/createcluster.conf
made_policy= made_cluster=
undo() {
  [ -z "$made_policy" ] || rm -f "$policy"
  [ -z "$made_cluster" ] || cp /usr/share/postgresql-common/createcluster.conf "$cluster" 2>/dev/null || rm -f "$cluster"
}
trap undo EXIT
if [ ! -e "$policy" ]; then made_policy=1; printf '#!/bin/sh\nexit 101\n' >"$policy"; chmod 755 "$policy"; fi
if [ ! -e "$cluster" ]; then made_cluster=1; mkdir -p "${cluster%/*}"; echo 'create_main_cluster = false' >"$cluster"; fi
install() { apt-get install -y -qq --no-install-recommends "$@"; }
install "$@" || { apt-get update -qq && install "$@"; }
for package in "$@"; do
  ! command -v systemctl >/dev/null || systemctl disable --quiet "$package.service" || true
  ! command -v update-rc.d >/dev/null || update-rc.d "$package" disable || true
done
"#;

/// Makes sure that each of `needed` is on this machine.
pub(crate) async fn ensure(needed: &[Server], allowed: bool, say: &Say) -> Result<()> {
    let missing: Vec<Server> = needed.iter().copied().filter(|server| !server.is_here()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|server| server.debian()).collect();
    let Some(mut command) = allowed.then(root_shell).flatten() else { return Err(missing_failure(&missing).into()) };
    say.step(format!("installing {} (apt-get; programs only, nothing is started)", packages.join(", ")));
    command.arg("-c").arg(SCRIPT).arg("install").args(&packages);
    // On a thread of its own and to its end, also on Ctrl-C: a package half installed is worse than a few seconds.
    let output = tokio::task::spawn_blocking(move || {
        use std::os::unix::process::CommandExt;
        command.process_group(0).stdin(Stdio::null()).output()
    })
    .await?
    .context("running apt-get")?;
    let still: Vec<Server> = missing.into_iter().filter(|server| !server.is_here()).collect();
    if output.status.success() && still.is_empty() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let end: Vec<&str> = said.lines().rev().take(3).collect();
    out::warn(format_args!("apt-get: {}", end.into_iter().rev().collect::<Vec<_>>().join("\n         ")));
    Err(missing_failure(&still).into())
}

/// A shell that is root on a machine with apt-get; `None` when we cannot be.
fn root_shell() -> Option<Command> {
    if !Path::new("/usr/bin/apt-get").exists() {
        return None;
    }
    let quiet = |program: &str, args: &[&str]| {
        Command::new(program).args(args).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()
    };
    let id = quiet("id", &["-u"])?;
    if id.stdout.trim_ascii() == b"0" {
        return Some(Command::new("sh"));
    }
    // Only where it asks for no password.
    quiet("sudo", &["-n", "true"]).filter(|output| output.status.success())?;
    let mut command = Command::new("sudo");
    command.args(["-n", "sh"]);
    Some(command)
}

fn missing_failure(missing: &[Server]) -> Failure {
    let join = |name: fn(Server) -> &'static str, between: &str| {
        missing.iter().map(|server| name(*server)).collect::<Vec<_>>().join(between)
    };
    let titles = join(Server::title, " and ");
    let verb = if missing.len() == 1 { "is" } else { "are" };
    Failure::new(format!("{titles} {verb} not on this machine"))
        .todo(format!(
            "one of these, then try again\n    Debian:  sudo apt-get install --no-install-recommends {}\n    \
             macOS:   brew install {}\n    Docker:  {}",
            join(Server::debian, " "),
            join(Server::brew, " "),
            join(Server::docker, "\n             "),
        ))
        .exit(Exit::Failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_one_message_with_the_exact_commands() {
        let message = missing_failure(&[Server::Redis, Server::Nats]).to_string();
        assert!(message.starts_with("error: Redis and NATS are not on this machine\n"), "{message}");
        assert!(
            message.contains("sudo apt-get install --no-install-recommends redis-server nats-server\n"),
            "{message}"
        );
        assert!(message.contains("brew install redis nats-server\n"), "{message}");
        assert!(message.contains("export RUSHES_NATS_URL=nats://127.0.0.1:4222"), "{message}");
    }
}
