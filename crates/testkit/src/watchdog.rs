//! Ends what this process started, when this process ends without having done it.
//!
//! A shell holds the reading end of a pipe whose only writing end is ours (close-on-exec, so no child has it). It reads
//! what to watch, a line each; when the pipe ends, however this process died, it ends the groups that are left and removes
//! the temporary directories. It has a process group of its own, so that Ctrl-C at the terminal does not reach it first.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use anyhow::{Context, Result};

/// Lines: `+ GROUP:SIGNAL` watch, `- GROUP:SIGNAL` forget, `c PID` let it run on first (it was paused), `d PATH` remove.
const SCRIPT: &str = r#"
groups= paused= folders=
while read -r verb rest; do
  case $verb in
    +) groups="$groups $rest" ;;
    -) kept=; for g in $groups; do [ "$g" = "$rest" ] || kept="$kept $g"; done; groups=$kept ;;
    c) paused="$paused $rest" ;;
    d) folders="$folders$rest
" ;;
  esac
done
if [ -n "$groups" ]; then
  for p in $paused; do kill -s CONT "$p"; done
  for g in $groups; do kill -s CONT -- "-${g%:*}"; kill -s "${g#*:}" -- "-${g%:*}"; done
  for turn in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
    alive=
    for g in $groups; do kill -s 0 -- "-${g%:*}" && alive=1; done
    [ -n "$alive" ] || break
    sleep 0.1
  done
  for g in $groups; do kill -s KILL -- "-${g%:*}"; done
fi
printf %s "$folders" | while IFS= read -r folder; do rm -rf -- "$folder"; done
"#;

/// The signal that ends a group in an orderly way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// SIGTERM.
    Term,
    /// SIGINT: PostgreSQL's fast shutdown, which writes a checkpoint.
    Int,
    /// SIGQUIT: PostgreSQL's immediate shutdown, for data that nobody will read again.
    Quit,
}

impl Ending {
    fn name(self) -> &'static str {
        match self {
            Self::Term => "TERM",
            Self::Int => "INT",
            Self::Quit => "QUIT",
        }
    }
}

/// Ends process group `group` when this process is gone, until [`forget`] is called.
pub(crate) fn watch(group: u32, ending: Ending) -> Result<()> {
    tell(&format!("+ {group}:{}", ending.name()))
}

/// Stops watching `group`, which has ended.
pub(crate) fn forget(group: u32, ending: Ending) -> Result<()> {
    tell(&format!("- {group}:{}", ending.name()))
}

/// Says that `pid` was paused and must be let run before it can end.
pub(crate) fn paused(pid: u32) -> Result<()> {
    tell(&format!("c {pid}"))
}

/// Removes `folder` when this process is gone.
pub(crate) fn remove_at_end(folder: &Path) -> Result<()> {
    tell(&format!("d {}", folder.display()))
}

fn tell(line: &str) -> Result<()> {
    static PIPE: OnceLock<Mutex<Option<ChildStdin>>> = OnceLock::new();
    let mut pipe = PIPE.get_or_init(|| Mutex::new(None)).lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if pipe.is_none() {
        let mut shell = Command::new("sh")
            .arg("-c")
            .arg(SCRIPT)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting the shell that ends servers when this process is killed")?;
        *pipe = shell.stdin.take();
    }
    let pipe = pipe.as_mut().context("the watchdog has no pipe")?;
    pipe.write_all(format!("{line}\n").as_bytes()).context("the watchdog is gone")?;
    Ok(())
}
