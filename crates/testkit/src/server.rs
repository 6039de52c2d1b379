//! What PostgreSQL, Redis and NATS have in common here: a process, a port, a directory, and a question that tells when it
//! serves. Waiting is on a blocking thread and on the machine's clock, so it works under tokio's paused time too.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::home::Home;
use crate::port;
use crate::process::Process;
use crate::watchdog::Ending;

/// How long a server may take until it serves.
const START: Duration = Duration::from_secs(30);
/// How many ports are tried, since another process may take one between our look and the server's.
const PORTS: usize = 3;

/// The command that serves from a directory at a port.
type Serve = dyn Fn(&Home, u16) -> Result<Command> + Send + Sync;

/// How to run one kind of server.
pub(crate) struct Recipe {
    pub(crate) name: &'static str,
    pub(crate) home: Home,
    pub(crate) ending: Ending,
    /// The command that serves at a port.
    pub(crate) command: Box<Serve>,
    /// Whether the server at the address takes clients now.
    pub(crate) ready: fn(SocketAddr) -> bool,
}

/// Whether somebody listens at an address, where more cannot be asked.
pub(crate) fn listens(address: SocketAddr) -> bool {
    std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}

/// A running server; the last clone ends it.
#[derive(Clone)]
pub(crate) struct Server {
    inner: Arc<Inner>,
}

struct Inner {
    recipe: Recipe,
    port: u16,
    // Declared last and dropped by hand first: the process must be gone before its directory is.
    process: Mutex<Option<Process>>,
}

impl Server {
    pub(crate) async fn launch(recipe: Recipe) -> Result<Self> {
        blocking(move || {
            let mut last = None;
            for _ in 0..PORTS {
                let port = port::free();
                match start(&recipe, port) {
                    Ok(process) => {
                        let process = Mutex::new(Some(process));
                        return Ok(Self { inner: Arc::new(Inner { recipe, port, process }) });
                    }
                    Err(error) => last = Some(error),
                }
            }
            Err(last.context("no port was tried")?)
        })
        .await
    }

    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.inner.port).into()
    }

    /// Ends the server in an orderly way; its data stays.
    pub(crate) async fn stop(&self) -> Result<()> {
        let inner = self.inner.clone();
        blocking(move || {
            drop(inner.process().take());
            Ok(())
        })
        .await
    }

    /// Kills the server (SIGKILL); its data stays.
    pub(crate) async fn kill(&self) -> Result<()> {
        let inner = self.inner.clone();
        blocking(move || {
            if let Some(process) = inner.process().take() {
                process.kill();
            }
            Ok(())
        })
        .await
    }

    /// Starts the server again at the same port, with the same data; waits until it serves.
    pub(crate) async fn start(&self) -> Result<()> {
        let inner = self.inner.clone();
        blocking(move || {
            let mut process = inner.process();
            if process.is_none() {
                *process = Some(start(&inner.recipe, inner.port)?);
            }
            Ok(())
        })
        .await
    }

    /// The process; nothing while it is stopped.
    pub(crate) fn id(&self) -> Option<u32> {
        self.inner.process().as_ref().map(Process::id)
    }

    pub(crate) fn pause(&self) {
        if let Some(process) = self.inner.process().as_ref() {
            process.pause();
        }
    }

    pub(crate) fn resume(&self) {
        if let Some(process) = self.inner.process().as_ref() {
            process.resume();
        }
    }

    /// Why the server is not running; `None` while it is.
    pub(crate) fn trouble(&self) -> Option<String> {
        let process = self.inner.process();
        let Some(process) = process.as_ref() else { return Some(format!("{} is stopped", self.inner.recipe.name)) };
        process.ended().map(|status| format!("{} ended ({status}):\n{}", process.name(), process.tail(20)))
    }
}

impl Inner {
    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        drop(self.process().take());
    }
}

fn start(recipe: &Recipe, port: u16) -> Result<Process> {
    let command = (recipe.command)(&recipe.home, port)?;
    let process = Process::spawn_ending(recipe.name, command, recipe.home.log(), recipe.ending)?;
    let deadline = Instant::now() + START;
    let address = (Ipv4Addr::LOCALHOST, port).into();
    while !(recipe.ready)(address) {
        if let Some(status) = process.ended() {
            bail!("{} did not start ({status}); the end of its log:\n{}", recipe.name, process.tail(12));
        }
        if Instant::now() >= deadline {
            bail!("{} did not serve within {START:?}; the end of its log:\n{}", recipe.name, process.tail(12));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    // Whoever answered must be ours: ours would have ended had another held the port.
    if let Some(status) = process.ended() {
        bail!("{} did not start ({status}); the end of its log:\n{}", recipe.name, process.tail(12));
    }
    Ok(process)
}

/// Runs `work` where blocking is allowed.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.context("a blocking task of testkit panicked")?
}

/// Connects to `address` with short limits, for a question whether a server serves.
pub(crate) fn ask(address: SocketAddr, question: &[u8], answer: &mut [u8]) -> Option<usize> {
    use std::io::{Read, Write};
    let limit = Duration::from_millis(500);
    let mut stream = std::net::TcpStream::connect_timeout(&address, limit).ok()?;
    stream.set_read_timeout(Some(limit)).ok()?;
    stream.write_all(question).ok()?;
    stream.read(answer).ok().filter(|read| *read > 0)
}
