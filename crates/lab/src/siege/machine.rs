//! The attacker's machine: threads of its own that give way to the services and the good client.
//!
//! What an attacker does to attack costs time of another machine; here both have the same cores. Without this, gzip that an attacker makes
//! would keep the good client from reading the answers that it was given in time.

use anyhow::{Context, Result};
use tokio::runtime::{Builder, Runtime};

/// How far its threads give way; next to one of the services, such a thread has about a tenth of a core.
const NICE: i32 = 10;

/// Where attacks run.
pub(super) struct Machine {
    /// Is there until it is dropped.
    runtime: Option<Runtime>,
}

impl Machine {
    /// Makes it, with as many threads as the machine has cores.
    pub(super) fn new() -> Result<Self> {
        let give_way = || {
            // Of the thread that calls. Where it is refused the attacker is only stronger.
            let _ = rustix::process::setpriority_process(None, NICE);
        };
        let runtime = Builder::new_multi_thread().enable_all().on_thread_start(give_way).build();
        Ok(Self { runtime: Some(runtime.context("threads for the attacker")?) })
    }

    /// Runs `work` on it to its end; what is under way is ended with this future.
    pub(super) async fn run(&self, work: impl Future<Output = ()> + Send + 'static) {
        let Some(runtime) = &self.runtime else { return };
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn_on(work, runtime.handle());
        // An attack that panicked has ended too; what it did is seen by what was felt.
        let _ = tasks.join_next().await;
    }

    /// Runs `work`, which blocks, on one of its threads.
    pub(super) async fn block(&self, work: impl FnOnce() + Send + 'static) {
        let Some(runtime) = &self.runtime else { return };
        // As above.
        let _ = runtime.spawn_blocking(work).await;
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Waiting for its threads would block those of whoever drops it.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
