//! Decoders as their parent has them: started from the service's own program, used again, and killed.
//!
//! Invariant: a decoder that did not end its work as it should is never used again, and one whose owner goes is killed. Before each
//! work the kernel is told how much memory it may have, so that an estimate that is wrong ends the decoder and not the service.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;
use tokio::process::{Child as Process, Command};

use crate::confine::Confinement;
use crate::metrics;
use crate::protocol::{Answer, BEGIN, DECODE, Hello, MAX_ANSWER, Order, Said, framed, send_file};

/// How long a decoder may take to start.
const START: Duration = Duration::from_secs(10);
/// How long a decoder works before another takes its place: the kernel ends one after two minutes of CPU time.
const MAX_BUSY: Duration = Duration::from_secs(60);

/// A file that is to be decoded; clones share it.
#[derive(Clone, Debug)]
pub enum Input {
    /// Its bytes.
    Bytes(Bytes),
    /// An open file, and its length in bytes.
    File(Arc<std::fs::File>, u64),
}

impl Input {
    /// Its length in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(_, length) => *length,
        }
    }
}

/// Decoders that have nothing to do, and how others are started.
#[derive(Debug)]
pub(crate) struct Children {
    program: PathBuf,
    /// The most memory that any of them may ever have, in bytes beyond what it has at its start.
    max_memory: u64,
    idle: Mutex<Vec<Child>>,
    reported: AtomicBool,
}

/// One decoder.
#[derive(Debug)]
pub(crate) struct Child {
    process: Process,
    socket: UnixStream,
    /// Bytes of data that it had at its start.
    data: u64,
    max_memory: u64,
    confinement: Confinement,
    pub(crate) busy: Duration,
}

/// How a decoder ended that was to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It had no memory left.
    Memory,
    /// It crashed, or was killed from outside.
    Crash(String),
}

impl Children {
    /// None yet; they are started from `program`.
    pub(crate) fn new(program: PathBuf, max_memory: u64) -> Self {
        Self { program, max_memory, idle: Mutex::default(), reported: AtomicBool::new(false) }
    }

    /// A decoder without work.
    pub(crate) async fn take(&self) -> io::Result<Child> {
        loop {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            match idle {
                // Else somebody killed it meanwhile.
                Some(mut child) => {
                    if matches!(child.process.try_wait(), Ok(None)) {
                        return Ok(child);
                    }
                }
                None => return self.start().await,
            }
        }
    }

    /// Takes back a decoder that has answered.
    pub(crate) fn give_back(&self, child: Child) {
        if child.busy < MAX_BUSY {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(child);
        }
    }

    /// A decoder that has done nothing yet.
    pub(crate) async fn start(&self) -> io::Result<Child> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let process = Command::new(&self.program)
            .arg(DECODE)
            .arg(self.max_memory.to_string())
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let confinement = Confinement::default();
        let mut child = Child {
            confinement,
            process,
            socket: UnixStream::from_std(ours)?,
            data: 0,
            max_memory: self.max_memory,
            busy: Duration::ZERO,
        };
        let said = tokio::time::timeout(START, child.next()).await.map_err(io::Error::from)?;
        let Ok(Said::Hello(hello)) = said else {
            let end = child.end().await;
            return Err(io::Error::other(format!("{} is no decoder: {end:?}", self.program.display())));
        };
        child.data = hello.data;
        let Hello { opens_files, reaches_network, starts_programs, inherited_files, inherited_environment, .. } = hello;
        child.confinement =
            Confinement { opens_files, reaches_network, starts_programs, inherited_files, inherited_environment };
        self.report(child.confinement);
        metrics::decoder_started();
        Ok(child)
    }

    /// Says once how decoders are confined.
    fn report(&self, confinement: Confinement) {
        if self.reported.swap(true, Ordering::Relaxed) {
            return;
        }
        match confinement.missing() {
            missing if missing.is_empty() => tracing::info!("decoders are confined"),
            missing => tracing::warn!(missing = missing.join(", "), "this kernel confines decoders in part only"),
        }
    }
}

impl Child {
    /// What it found that it could do at its start.
    pub(crate) fn confinement(&self) -> Confinement {
        self.confinement
    }

    /// Gives it an order and its file.
    pub(crate) async fn send(&mut self, order: &Order, input: &Input) -> io::Result<()> {
        self.socket.write_all(&framed(order)).await?;
        match input {
            Input::Bytes(bytes) => self.socket.write_all(bytes).await,
            Input::File(file, _) => {
                let socket = &self.socket;
                socket.async_io(Interest::WRITABLE, || send_file(socket, file)).await
            }
        }
    }

    /// Its next message.
    pub(crate) async fn next(&mut self) -> io::Result<Said> {
        let length = self.socket.read_u32().await? as usize;
        if length > MAX_ANSWER {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut bytes = vec![0; length];
        self.socket.read_exact(&mut bytes).await?;
        let answer = Answer::decode(&bytes[..]).map_err(io::Error::other)?;
        answer.said.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Lets it have so much memory beyond what it had at its start.
    pub(crate) fn allow(&self, bytes: u64) -> io::Result<()> {
        let pid = self.process.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        let pid = pid.ok_or(io::ErrorKind::NotFound)?;
        let max = self.data + self.max_memory;
        let limit = Rlimit { current: Some((self.data + bytes).min(max)), maximum: Some(max) };
        prlimit(Some(pid), Resource::Data, limit)?;
        Ok(())
    }

    /// Lets weighed work begin, or not.
    pub(crate) async fn begin(&mut self, is_admitted: bool) -> io::Result<()> {
        self.socket.write_all(&[if is_admitted { BEGIN } else { 0 }]).await
    }

    /// Kills it, and waits until its memory is free again.
    pub(crate) async fn kill(mut self) {
        if let Err(error) = self.process.kill().await {
            tracing::warn!(%error, "a decoder cannot be killed");
        }
    }

    /// How it ended; kills it where it did not.
    pub(crate) async fn end(mut self) -> End {
        // It closed its socket, so it ends, unless it was taken over.
        let waited = tokio::time::timeout(Duration::from_secs(1), self.process.wait()).await;
        match waited {
            // Rust's answer to memory that is not given.
            Ok(Ok(status)) if status.signal() == Some(libc::SIGABRT) => End::Memory,
            Ok(Ok(status)) => End::Crash(status.to_string()),
            Ok(Err(error)) => End::Crash(error.to_string()),
            Err(_) => End::Crash("it stopped answering".to_owned()),
        }
    }
}
