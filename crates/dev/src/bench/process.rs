//! What the kernel says of processes: CPU time and resident memory, and what machine this is.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// The CPU time that a process has used so far, all its living threads together.
///
/// From `schedstat`, which counts nanoseconds; `stat` counts hundredths of a second.
pub(super) fn cpu(pid: u32) -> Result<Duration> {
    let tasks = format!("/proc/{pid}/task");
    let mut nanos = 0;
    for task in std::fs::read_dir(&tasks).with_context(|| format!("reading {tasks}"))? {
        // A thread may end between the listing and the reading.
        let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) else { continue };
        nanos += first(&text).context("schedstat of a thread has no number")?;
    }
    Ok(Duration::from_nanos(nanos))
}

/// The same of one thread, a directory of `/proc`.
pub(super) fn cpu_of_thread(task: &Path) -> Result<Duration> {
    let path = task.join("schedstat");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    Ok(Duration::from_nanos(first(&text).context("schedstat of a thread has no number")?))
}

/// CPU time of a process and of those that it has started and that still run.
pub(super) fn cpu_with_children(pid: u32) -> Result<Duration> {
    let mut all = cpu(pid)?;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))?.filter_map(Result::ok) {
        let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        all += children.split_whitespace().filter_map(|child| cpu(child.parse().ok()?).ok()).sum::<Duration>();
    }
    Ok(all)
}

/// CPU time of the programs that this one has started and that have ended, in steps of a hundredth of a second.
pub(super) fn cpu_of_ended_children() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").context("reading /proc/self/stat")?;
    // The second field is a name in brackets; `cutime` and `cstime` are the 14th and 15th after it.
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields).unwrap_or_default().split_whitespace();
    let ticks: Vec<u64> = fields.skip(13).take(2).filter_map(|ticks| ticks.parse().ok()).collect();
    ensure!(ticks.len() == 2, "/proc/self/stat has no times of children");
    Ok(Duration::from_millis(ticks.iter().sum::<u64>() * 10))
}

/// The memory of a process that is in RAM, in bytes, pages that it shares with others included.
pub(super) fn resident(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")).with_context(|| format!("no VmRSS in {path}"))?;
    Ok(first(line).with_context(|| format!("no number after VmRSS in {path}"))? * 1024)
}

/// How many files and connections a process has open.
pub(super) fn descriptors(pid: u32) -> Result<usize> {
    let path = format!("/proc/{pid}/fd");
    Ok(std::fs::read_dir(&path).with_context(|| format!("reading {path}"))?.count())
}

/// Processor, cores, memory and load of this machine.
pub(super) fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let (cpus, memory, load) = (read("/proc/cpuinfo"), read("/proc/meminfo"), read("/proc/loadavg"));
    let model = cpus.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let gibibytes = memory.lines().find_map(|line| first(line.strip_prefix("MemTotal:")?)).unwrap_or(0) >> 20;
    format!(
        "{} ({cores} cores), {gibibytes} GiB, load average {} before the measuring",
        model.map_or("unknown processor", |(_, model)| model.trim()),
        load.split(' ').next().unwrap_or("unknown"),
    )
}

fn first(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}
