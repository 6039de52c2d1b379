//! What processes take, as the kernel counts it: the highest resident size of each service with its children, and the processor time
//! of all that runs here, PostgreSQL, Redis and NATS included, and of this program, which attacks.

use std::time::Duration;

use anyhow::{Context, Result};
use testkit::Process;

use crate::cluster::{Cluster, SERVICES};

/// The limits that the services are deployed with are the ceilings that they promise.
const MANIFESTS: [(&str, &str); 5] = [
    ("dashboard", include_str!("../../../../deploy/kubernetes/base/dashboard.yaml")),
    ("generation-status", include_str!("../../../../deploy/kubernetes/base/generation-status.yaml")),
    ("thumbnail-worker", include_str!("../../../../deploy/kubernetes/base/thumbnail-worker.yaml")),
    ("generation-worker", include_str!("../../../../deploy/kubernetes/base/generation-worker.yaml")),
    ("gateway", include_str!("../../../../deploy/kubernetes/base/gateway.yaml")),
];
/// The kernel's unit of processor time in `/proc`, in a second.
const TICKS: u64 = 100;

/// The highest size of one service.
#[derive(Debug)]
pub(super) struct Peak {
    pub(super) service: &'static str,
    pub(super) bytes: u64,
    pub(super) ceiling: u64,
}

/// The processes that are measured.
pub(super) struct Memory {
    services: Vec<Measured>,
}

struct Measured {
    service: &'static str,
    pid: u32,
    ceiling: u64,
}

impl Memory {
    /// Measures the first replica of each service.
    pub(super) fn of(cluster: &Cluster) -> Result<Self> {
        let services = SERVICES.map(|service| {
            let pid = cluster.node(0, service).with(Process::id).with_context(|| format!("{service} does not run"))?;
            let ceiling = ceiling(service).with_context(|| format!("{service} declares no limit of memory"))?;
            Ok(Measured { service, pid, ceiling })
        });
        Ok(Self { services: services.into_iter().collect::<Result<_>>()? })
    }

    /// Lets the highest sizes be counted anew.
    pub(super) fn forget(&self) -> Result<()> {
        for pid in self.services.iter().flat_map(|measured| family(measured.pid)) {
            // A child may have ended meanwhile; a service that has is told by `ended`.
            let _ = std::fs::write(format!("/proc/{pid}/clear_refs"), "5");
        }
        Ok(())
    }

    /// The highest sizes since they were forgotten.
    pub(super) fn peaks(&self) -> Vec<Peak> {
        let peak = |measured: &Measured| Peak {
            service: measured.service,
            bytes: family(measured.pid).into_iter().filter_map(highest).sum(),
            ceiling: measured.ceiling,
        };
        self.services.iter().map(peak).collect()
    }

    /// The services that do not run any more.
    pub(super) fn ended(&self) -> Vec<&'static str> {
        let ended = |measured: &&Measured| highest(measured.pid).is_none();
        self.services.iter().filter(ended).map(|measured| measured.service).collect()
    }
}

/// Processor time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Burnt {
    /// Of all that this program started: services, PostgreSQL, Redis and NATS.
    pub(super) started: Duration,
    /// Of this program, which attacks.
    pub(super) own: Duration,
}

impl Burnt {
    /// What has been burnt so far.
    pub(super) fn so_far() -> Self {
        let time = |ticks: u64| Duration::from_millis(ticks * 1_000 / TICKS);
        let own = std::process::id();
        let started = family(own).into_iter().filter(|&pid| pid != own);
        Self { started: time(started.filter_map(ticks).sum()), own: time(ticks(own).unwrap_or_default()) }
    }

    /// How much more this is.
    pub(super) fn beyond(&self, other: &Self) -> Self {
        Self { started: self.started.saturating_sub(other.started), own: self.own.saturating_sub(other.own) }
    }
}

/// A process and all its descendants.
fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut next = 0;
    while let Some(&pid) = all.get(next) {
        next += 1;
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        for task in tasks {
            let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
    }
    all
}

/// The highest resident size; none for a process that has ended.
fn highest(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
}

/// User's and system's time, with that of children that have ended.
fn ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; what follows it are numbers, of which these are the 12th to the 15th.
    let (_, numbers) = stat.rsplit_once(')')?;
    Some(numbers.split_whitespace().skip(11).take(4).filter_map(|number| number.parse::<u64>().ok()).sum())
}

/// The limit in a service's manifest, in bytes.
fn ceiling(service: &str) -> Option<u64> {
    let (_, manifest) = MANIFESTS.iter().find(|(name, _)| *name == service)?;
    let limits = manifest.lines().find(|line| line.trim_start().starts_with("limits:"))?;
    let (_, memory) = limits.split_once("memory: ")?;
    let memory = memory.trim_end_matches('}').trim();
    let (number, shift) = match memory.strip_suffix("Mi") {
        Some(number) => (number, 20),
        None => (memory.strip_suffix("Gi")?, 30),
    };
    number.parse::<u64>().ok().map(|number| number << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_service_declares_a_limit() {
        for service in SERVICES {
            assert!(ceiling(service).is_some_and(|bytes| bytes >= 64 << 20), "{service}");
        }
    }

    #[test]
    fn this_process_is_measured() {
        let own = std::process::id();
        assert!(family(own).contains(&own));
        assert!(highest(own).is_some_and(|bytes| bytes > 1 << 20));
        assert!(ticks(own).is_some());
        // The kernel counts in hundredths of a second.
        let until = std::time::Instant::now() + Duration::from_secs(10);
        while Burnt::so_far().own == Duration::ZERO {
            assert!(std::time::Instant::now() < until, "what this thread burns is not counted");
        }
        assert_eq!(highest(u32::MAX), None);
    }
}
