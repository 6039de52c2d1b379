//! How hard the caches lean on PostgreSQL, read from the services' own metrics, phase by phase.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::workload::Workload;
use crate::cluster::Cluster;
use crate::http;

/// What a phase of a script came to.
#[derive(Debug)]
pub(super) struct Phase {
    name: &'static str,
    seconds: f64,
    loads: f64,
    reads: u64,
    refused: u64,
    /// How long the writes that were refused waited for that, in order.
    waited: Vec<Duration>,
    at_work: f64,
}

impl fmt::Display for Phase {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{:<10} {:>5.0} s: {:>6.0} answers/s, {:>6.1} loads/s, {:>6.2} % refused, {:.1} backends of PostgreSQL at work on average",
            self.name,
            self.seconds,
            self.reads as f64 / self.seconds,
            self.loads / self.seconds,
            100.0 * self.refused as f64 / (self.reads + self.refused).max(1) as f64,
            self.at_work,
        )?;
        match self.waited.last() {
            Some(worst) => {
                let median = self.waited[self.waited.len() / 2];
                write!(
                    out,
                    "; {} writes refused, the median after {median:.0?}, the last after {worst:.0?}",
                    self.waited.len()
                )
            }
            None => Ok(()),
        }
    }
}

/// Reads the services' counters.
pub(super) struct Meter {
    cluster: Arc<Cluster>,
}

/// The counters at the beginning of a phase.
pub(super) struct Mark {
    name: &'static str,
    at: Instant,
    loads: f64,
    answers: u64,
    refused: u64,
}

impl Meter {
    pub(super) fn begin(cluster: Arc<Cluster>) -> Self {
        Self { cluster }
    }

    pub(super) async fn mark(&self, name: &'static str, workload: &Workload) -> Mark {
        let (answers, refused) = (workload.answers(), workload.errors());
        workload.waited();
        Mark { name, at: Instant::now(), loads: self.loads().await, answers, refused }
    }

    pub(super) async fn phase(&self, mark: Mark, workload: &Workload, at_work: f64) -> Phase {
        Phase {
            name: mark.name,
            seconds: mark.at.elapsed().as_secs_f64(),
            loads: self.loads().await - mark.loads,
            reads: workload.answers() - mark.answers,
            refused: workload.errors() - mark.refused,
            waited: {
                let mut waited = workload.waited();
                waited.sort_unstable();
                waited
            },
            at_work,
        }
    }

    /// Loads and validations of all caches so far.
    async fn loads(&self) -> f64 {
        let mut sum = 0.0;
        for node in &self.cluster.nodes {
            let Some((true, text)) = http::ask(node.admin, "GET", "/metrics", "").await else { continue };
            let counters = text.lines().filter(|line| {
                line.starts_with("rushes_cache_loads_total") || line.starts_with("rushes_cache_validations_total")
            });
            sum += counters.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>();
        }
        sum
    }
}
