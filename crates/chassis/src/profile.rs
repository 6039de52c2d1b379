//! Where this process's CPU time goes, on demand: while somebody asks, what its threads do is looked at so many times in a second of CPU
//! time, and each stack that was seen is counted. While nobody asks it costs nothing.
//!
//! Invariant: one profile at a time, and for no longer than [`MAX_SECONDS`], so that whoever reaches the admin port cannot keep the
//! process busy with itself.

use std::{collections::BTreeMap, time::Duration};

use pprof::{ProfilerGuardBuilder, Report};
use tokio::{sync::Semaphore, task::spawn_blocking, time::sleep};

/// How often in a second of CPU time. No round number: timers are, and would be met in step.
const FREQUENCY: i32 = 99;
/// How long a profile takes at most.
pub(crate) const MAX_SECONDS: u64 = 60;

static ONE: Semaphore = Semaphore::const_new(1);

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Somebody else takes one.
    #[error("another profile is being taken; ask again when it has ended")]
    Busy,
    /// The profiler does not start.
    #[error("the profiler does not start: {0}")]
    Failed(#[from] pprof::Error),
    /// Naming the functions failed.
    #[error("the profile cannot be read")]
    Unread,
}

/// The stacks that were seen within `time`, one a line: its functions from the outermost to the innermost with `;` between them, a space,
/// and how often it was seen. Tools for flame graphs call these lines folded stacks.
pub(crate) async fn cpu(time: Duration) -> Result<String, Error> {
    let one = ONE.try_acquire().map_err(|_| Error::Busy)?;
    let profiler = ProfilerGuardBuilder::default().frequency(FREQUENCY).build()?;
    sleep(time).await;
    // Names are looked up in the program's file, which takes a while.
    let named = spawn_blocking(move || {
        // Until the profiler is gone, also where who asked has left.
        let _one = one;
        let profiler = profiler;
        Ok(stack_lines(&profiler.report().build()?))
    });
    named.await.unwrap_or(Err(Error::Unread))
}

fn stack_lines(report: &Report) -> String {
    let mut stacks = BTreeMap::<String, isize>::new();
    for (stack, count) in &report.data {
        let mut line = stack.thread_name.clone();
        // The innermost comes first, also of what was inlined into one.
        for symbol in stack.frames.iter().rev().flat_map(|inlined| inlined.iter().rev()) {
            line.push(';');
            // The length of an array is written with one.
            line.push_str(&symbol.name().replace(';', ","));
        }
        *stacks.entry(line).or_default() += count;
    }
    stacks.into_iter().map(|(stack, count)| format!("{stack} {count}\n")).collect()
}
