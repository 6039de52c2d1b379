//! The fair queue of one address: however many of its connections and requests can go on, a few of them do before others come to run.
//!
//! A runtime has one queue for all that can run. A client that opens thousands of streams at once would fill it, and whoever else
//! calls would wait behind all of these at each step of a call.
//!
//! Invariants: of one address no more runners stand in the runtime's queue than it has threads, and each goes to its end after each
//! step; a request takes a step whenever it was woken, once at a time; and one that panics ends alone.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use tokio::{runtime::Handle, task::yield_now};

/// Waits for something.
const IDLE: u8 = 0;
/// Stands in its address's queue.
const READY: u8 = 1;
/// Takes a step.
const RUNNING: u8 = 2;
/// Takes a step, and was woken meanwhile.
const WOKEN: u8 = 3;

/// The queue of one address; clones are the same one.
#[derive(Clone, Debug)]
pub(super) struct FairQueue(Arc<Queue>);

#[derive(Debug)]
struct Queue {
    runtime: Handle,
    max_runners: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    ready: VecDeque<Arc<Task>>,
    /// How many were begun. They last as long as the queue, since each step would otherwise begin one.
    runners: usize,
    /// Those that have nothing to run, by their number.
    idle: Vec<(usize, Waker)>,
}

/// One request on its way, or a connection.
struct Task {
    queue: Arc<Queue>,
    phase: AtomicU8,
    /// Nothing while it takes a step, and when it has ended.
    future: Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task").field("phase", &self.phase).finish_non_exhaustive()
    }
}

impl FairQueue {
    /// The turns of an address, which are taken in the runtime of the caller.
    pub(super) fn new() -> Self {
        let runtime = Handle::current();
        let max_runners = runtime.metrics().num_workers();
        Self(Arc::new(Queue { runtime, max_runners, state: Mutex::default() }))
    }

    /// Runs a request or a connection to its end, in turns.
    pub(super) fn spawn(&self, request: impl Future<Output = ()> + Send + 'static) {
        let (queue, phase) = (Arc::clone(&self.0), AtomicU8::new(READY));
        let task = Arc::new(Task { queue, phase, future: Mutex::new(Some(Box::pin(request))) });
        self.0.push(task);
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change of it is whole, so a panic elsewhere leaves it usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(self: &Arc<Self>, task: Arc<Task>) {
        let mut state = self.lock();
        state.ready.push_back(task);
        if let Some((_, idle)) = state.idle.pop() {
            drop(state);
            idle.wake();
        } else if state.runners < self.max_runners {
            let number = state.runners;
            state.runners += 1;
            drop(state);
            self.runtime.spawn(run(Arc::downgrade(self), number));
        }
    }

    /// The next that can go on. Without one the runner of this number is idle, which whoever pushes sees under the same lock.
    fn poll_next(&self, number: usize, context: &mut Context<'_>) -> Poll<Arc<Task>> {
        let mut state = self.lock();
        state.idle.retain(|(idle, _)| *idle != number);
        let next = state.ready.pop_front();
        if next.is_none() {
            state.idle.push((number, context.waker().clone()));
        }
        next.map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // Nothing else would ever wake them, and a runtime keeps a task until it has ended.
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        state.idle.drain(..).for_each(|(_, idle)| idle.wake());
    }
}

/// Runs what is ready, one step at a time, until the queue is gone.
async fn run(queue: Weak<Queue>, number: usize) {
    let mut next = |context: &mut Context<'_>| match queue.upgrade() {
        Some(queue) => queue.poll_next(number, context).map(Some),
        None => Poll::Ready(None),
    };
    while let Some(task) = poll_fn(&mut next).await {
        task.step();
        if queue.upgrade().is_some_and(|queue| !queue.lock().ready.is_empty()) {
            yield_now().await;
        }
    }
}

impl Task {
    fn lock(&self) -> MutexGuard<'_, Option<Pin<Box<dyn Future<Output = ()> + Send>>>> {
        self.future.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step(self: Arc<Self>) {
        self.phase.store(RUNNING, Ordering::Release);
        let Some(mut future) = self.lock().take() else { return };
        let waker = Waker::from(Arc::clone(&self));
        let poll = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut Context::from_waker(&waker))));
        if !matches!(poll, Ok(Poll::Pending)) {
            // A panic, of what it holds too, has been told by the process's hook; a runner outlives it, as a runtime's thread does.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(future)));
            return;
        }
        *self.lock() = Some(future);
        if self.phase.compare_exchange(RUNNING, IDLE, Ordering::AcqRel, Ordering::Acquire).is_err() {
            self.phase.store(READY, Ordering::Release);
            let queue = Arc::clone(&self.queue);
            queue.push(self);
        }
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        let woken = |phase| match phase {
            IDLE => Some(READY),
            RUNNING => Some(WOKEN),
            _ => None,
        };
        if self.phase.fetch_update(Ordering::AcqRel, Ordering::Acquire, woken) == Ok(IDLE) {
            let queue = Arc::clone(&self.queue);
            queue.push(self);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use tokio::sync::{Notify, Semaphore};

    use super::*;

    #[tokio::test]
    async fn a_thousand_requests_of_one_address_let_others_run_after_a_few_steps() {
        let steps = Arc::new(AtomicUsize::new(0));
        let fair = FairQueue::new();
        for _ in 0..1_000 {
            let steps = Arc::clone(&steps);
            fair.spawn(async move {
                for _ in 0..10 {
                    steps.fetch_add(1, Ordering::Relaxed);
                    // To be woken at once is to be able to go on.
                    std::future::poll_fn({
                        let mut woken = false;
                        move |context: &mut Context<'_>| {
                            let poll = if woken { Poll::Ready(()) } else { Poll::Pending };
                            woken = true;
                            context.waker().wake_by_ref();
                            poll
                        }
                    })
                    .await;
                }
            });
        }
        let mut others_steps = 0;
        while steps.load(Ordering::Relaxed) < 10_000 {
            let before = steps.load(Ordering::Relaxed);
            yield_now().await;
            let between = steps.load(Ordering::Relaxed) - before;
            // This runtime has one thread, so there is one runner.
            assert!(between <= 2, "{between} steps before another's");
            others_steps += 1;
        }
        assert!(others_steps >= 10_000 / 2, "{others_steps}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn every_request_ends_whoever_wakes_it_and_one_that_panics_ends_alone() {
        let (fair, done) = (FairQueue::new(), Arc::new(Semaphore::new(0)));
        let signals: Vec<Arc<Notify>> = (0..200).map(|_| Arc::default()).collect();
        for (number, signal) in signals.iter().cloned().enumerate() {
            let done = Arc::clone(&done);
            fair.spawn(async move {
                for _ in 0..50 {
                    signal.notified().await;
                }
                assert!(number % 10 != 0, "this one panics");
                done.add_permits(1);
            });
        }
        let rung = Arc::clone(&done);
        // A thread that is none of the runtime's, as a timer's or a resolver's may be.
        let ringing = std::thread::spawn(move || {
            while rung.available_permits() < 180 {
                signals.iter().for_each(|signal| signal.notify_one());
            }
        });
        let all = tokio::time::timeout(Duration::from_secs(60), done.acquire_many(180)).await;
        assert!(all.is_ok_and(|all| all.is_ok()), "{} of 180 ended", done.available_permits());
        // Whoever holds the permits keeps the thread going.
        ringing.join().unwrap();
    }

    #[tokio::test]
    async fn what_a_request_holds_is_dropped_with_it() {
        let (fair, held) = (FairQueue::new(), Arc::new(()));
        for panics in [false, true] {
            let held = Arc::clone(&held);
            fair.spawn(async move {
                let _held = held;
                yield_now().await;
                assert!(!panics, "this one panics");
            });
        }
        until("nothing is held", || Arc::strong_count(&held) == 1).await;
    }

    #[tokio::test]
    async fn runners_end_with_their_queue() {
        let alive = || Handle::current().metrics().num_alive_tasks();
        let (before, fair) = (alive(), FairQueue::new());
        for _ in 0..10 {
            fair.spawn(yield_now());
            yield_now().await;
        }
        assert_eq!(alive() - before, 1, "one runs all of them");
        until("the runner is idle", || fair.0.lock().idle.len() == 1).await;
        drop(fair);
        until("no runner is left", || alive() == before).await;
    }

    /// Lets others run until it is so, and fails when it never is.
    async fn until(what: &str, is_so: impl Fn() -> bool) {
        let waiting = async {
            while !is_so() {
                yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), waiting).await.expect(what);
    }
}
