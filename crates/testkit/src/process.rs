//! One child process in a group of its own, ended with its whole group when dropped or when this process is killed.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};

use crate::watchdog::{self, Ending};

/// How long a process may take to end after it was asked to, before it is killed.
const GRACE: Duration = Duration::from_secs(10);

/// A running child, its output in a log file, leader of its own process group.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    group: u32,
    ending: Ending,
    /// Whether it was asked to end.
    asked: AtomicBool,
    child: Mutex<Child>,
}

impl Process {
    /// Starts `command` with its output appended to the file `log`; it is asked to end with SIGTERM.
    pub fn spawn(name: &str, command: Command, log: &Path) -> Result<Self> {
        Self::spawn_ending(name, command, log, Ending::Term)
    }

    /// Starts `command` with our own standard output and error; it has no log.
    pub fn spawn_attached(name: &str, command: Command) -> Result<Self> {
        Self::begin(name, command, PathBuf::new(), Ending::Term)
    }

    pub(crate) fn spawn_ending(name: &str, mut command: Command, log: &Path, ending: Ending) -> Result<Self> {
        let out = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("opening the log {}", log.display()))?;
        command.stdout(out.try_clone()?).stderr(out);
        Self::begin(name, command, log.to_owned(), ending)
    }

    fn begin(name: &str, mut command: Command, log: PathBuf, ending: Ending) -> Result<Self> {
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("starting {}", command.get_program().display()))?;
        let (group, child, asked) = (child.id(), Mutex::new(child), AtomicBool::new(false));
        let process = Self { name: name.to_owned(), log, group, ending, asked, child };
        watchdog::watch(process.group, ending)?;
        Ok(process)
    }

    /// The name given at the start.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process id, which is also its group's.
    pub fn id(&self) -> u32 {
        self.group
    }

    /// The log file; empty for a process that was started attached.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How it ended; `None` while it runs. What is left of its group is killed before its number can be used again.
    pub fn ended(&self) -> Option<ExitStatus> {
        let mut child = self.child();
        if self.has_exited() {
            self.signal_group(Signal::KILL);
        }
        child.try_wait().ok().flatten()
    }

    /// The last `lines` lines that it wrote.
    pub fn tail(&self, lines: usize) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Asks the group to end, without waiting for it.
    pub fn ask_to_end(&self) {
        if self.ended().is_none() {
            self.asked.store(true, Ordering::Relaxed);
            self.signal_group(Signal::CONT);
            match self.ending {
                // PostgreSQL's children are groups of their own, and its postmaster tells them.
                Ending::Int => self.signal_leader(Signal::INT),
                Ending::Quit => self.signal_leader(Signal::QUIT),
                Ending::Term => self.signal_group(Signal::TERM),
            }
        }
    }

    /// Ends the group in an orderly way and waits; after ten seconds it is killed. Blocks the thread.
    pub fn end(&self) {
        self.end_by(Instant::now() + GRACE);
    }

    /// Ends the group in an orderly way and waits; what still runs at `deadline` is killed. Blocks the thread.
    pub fn end_by(&self, deadline: Instant) {
        self.resume();
        // A second signal would cut short what it still does.
        if !self.asked.load(Ordering::Relaxed) {
            self.ask_to_end();
        }
        if !self.wait_until(deadline) {
            self.kill();
        }
        let _ = watchdog::forget(self.group, self.ending);
    }

    /// Kills the process and all its descendants at once (SIGKILL), and waits. Blocks the thread.
    pub fn kill(&self) {
        if self.ended().is_none() {
            let family = self.family();
            self.signal_group(Signal::KILL);
            for pid in &family {
                signal(*pid, Signal::KILL);
            }
            let _ = self.child().wait();
            // A PostgreSQL does not start while a backend of the one before it still has its memory.
            let until = Instant::now() + Duration::from_secs(2);
            while Instant::now() < until && family.iter().any(|pid| is_alive(*pid)) {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        let _ = watchdog::forget(self.group, self.ending);
    }

    /// Stops the process and all its descendants where they are (SIGSTOP): connections stay open and nobody answers.
    pub fn pause(&self) {
        // The leader first, so that it starts nobody else meanwhile.
        self.signal_leader(Signal::STOP);
        for pid in self.family() {
            let _ = watchdog::paused(pid);
            signal(pid, Signal::STOP);
        }
    }

    /// Lets everything that [`Process::pause`] stopped go on.
    pub fn resume(&self) {
        if self.ended().is_none() {
            for pid in self.family().into_iter().rev() {
                signal(pid, Signal::CONT);
            }
        }
    }

    fn wait_until(&self, deadline: Instant) -> bool {
        while self.ended().is_none() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }

    /// Whether the leader is dead and not waited for yet.
    fn has_exited(&self) -> bool {
        let Some(pid) = i32::try_from(self.group).ok().and_then(Pid::from_raw) else { return false };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        matches!(waitid(WaitId::Pid(pid), options), Ok(Some(_)))
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signal_leader(&self, what: Signal) {
        // Only while it is not waited for: its number cannot have gone to another process.
        if self.ended().is_none() {
            signal(self.group, what);
        }
    }

    fn signal_group(&self, what: Signal) {
        if let Some(group) = i32::try_from(self.group).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, what);
        }
    }

    /// The process and its descendants, parents first.
    fn family(&self) -> Vec<u32> {
        let parents = parents();
        let mut family = vec![self.group];
        let mut next = 0;
        while next < family.len() {
            let parent = family[next];
            family.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
            next += 1;
        }
        family
    }
}

/// Whether a process still runs; one that nobody has waited for does not.
fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.rsplit(") ").next().is_some_and(|state| state.starts_with('Z')))
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

fn signal(pid: u32, what: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, what);
    }
}

/// Every process with its parent: from `/proc` where there is one, else from `ps`.
fn parents() -> Vec<(u32, u32)> {
    if let Ok(entries) = std::fs::read_dir("/proc") {
        return entries
            .flatten()
            .filter_map(|entry| {
                let pid = entry.file_name().to_str()?.parse().ok()?;
                let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
                // The second field is the command in parentheses and may hold anything, parentheses included.
                let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
                Some((pid, parent))
            })
            .collect();
    }
    let Ok(output) = Command::new("ps").args(["-A", "-o", "pid=,ppid="]).output() else { return Vec::new() };
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
        })
        .collect()
}
