//! Progress reports, gathered: whatever arrives while one write is under way goes into the next, one step for each lease.
//!
//! Invariant: a report is acknowledged after the commit of the write that it is in, and with that write's outcome; state
//! changes and money never pass through here.

use std::collections::HashMap;
use std::time::Duration;

use chassis::telemetry;
use jobs::Lease;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::{Instrument as _, Span};

use crate::error::Error;
use crate::generations::Generations;
use crate::store::{Step, Store};

/// No more than one write in this time: reports that come meanwhile share the next one.
const WINDOW: Duration = Duration::from_millis(100);
/// The most steps in one write.
const STEPS: usize = 500;
/// The most reports that wait; more make their reporters wait.
const WAITING: usize = 4_096;

struct Reported {
    step: Step,
    /// Of the request that it came by.
    trace: Option<String>,
    answer: oneshot::Sender<Result<bool, Error>>,
}

/// Takes reports; cheap to clone. The writer ends with the last clone.
#[derive(Clone)]
pub(crate) struct Progress {
    reports: mpsc::Sender<Reported>,
}

impl Progress {
    /// A desk for reports, and the writer to be spawned.
    pub(crate) fn new(store: Store, generations: Generations) -> (Self, impl Future<Output = ()> + Send) {
        let (reports, taken) = mpsc::channel(WAITING);
        (Self { reports }, write(store, generations, taken))
    }

    /// Writes how far a piece of work is; returns, after the commit, whether it is to be stopped.
    pub(crate) async fn report(&self, step: Step) -> Result<bool, Error> {
        let (answer, answered) = oneshot::channel();
        let trace = telemetry::traceparent();
        self.reports.send(Reported { step, trace, answer }).await.map_err(|_| Error::Draining)?;
        answered.await.map_err(|_| Error::Draining)?
    }
}

async fn write(store: Store, generations: Generations, mut taken: mpsc::Receiver<Reported>) {
    let mut reports = Vec::new();
    while taken.recv_many(&mut reports, STEPS).await > 0 {
        let began = Instant::now();
        let span = span(&reports);
        let (steps, answers) = gather(reports.drain(..));
        let mut outcome = store.progress(&steps).instrument(span.clone()).await;
        if outcome.as_ref().is_err_and(Error::is_conflict) {
            outcome = store.progress(&steps).instrument(span).await;
        }
        match outcome {
            Ok((statuses, records)) => {
                for record in &records {
                    generations.tell(record).await;
                }
                for (status, answers) in statuses.into_iter().zip(answers) {
                    let answer = status.held.map(|held| held.cancel_requested).ok_or(Error::StaleFence);
                    tell(answers, &answer);
                }
            }
            Err(error) => answers.into_iter().for_each(|answers| tell(answers, &Err(error.clone()))),
        }
        tokio::time::sleep_until(began + WINDOW).await;
    }
}

/// One write has one trace: that of the request that came first. To the other requests it is linked.
fn span(reports: &[Reported]) -> Span {
    let span = tracing::info_span!("write_progress", reports = reports.len());
    let mut traces = reports.iter().filter_map(|report| report.trace.as_deref());
    if let Some(first) = traces.next() {
        telemetry::set_parent(&span, first);
    }
    traces.for_each(|trace| telemetry::link(&span, trace));
    span
}

type Answers = Vec<oneshot::Sender<Result<bool, Error>>>;

/// The furthest step of each lease, in the order in which the leases first came, and who waits for it.
fn gather(reports: impl Iterator<Item = Reported>) -> (Vec<Step>, Vec<Answers>) {
    let mut places: HashMap<Lease, usize> = HashMap::new();
    let (mut steps, mut answers): (Vec<Step>, Vec<Answers>) = (Vec::new(), Vec::new());
    for Reported { step, answer, .. } in reports {
        let place = *places.entry(step.lease).or_insert(steps.len());
        if place == steps.len() {
            steps.push(step);
            answers.push(vec![answer]);
            continue;
        }
        answers[place].push(answer);
        if step.percent >= steps[place].percent {
            steps[place] = step;
        }
    }
    (steps, answers)
}

fn tell(answers: Answers, answer: &Result<bool, Error>) {
    for waiting in answers {
        // Whoever gave up waiting does not need to know.
        let _ = waiting.send(answer.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn reported(job: u128, percent: i16, stage: &str) -> Reported {
        let lease = Lease { job: Uuid::from_u128(job), fence: 1 };
        Reported { step: Step { lease, percent, stage: stage.to_owned() }, trace: None, answer: oneshot::channel().0 }
    }

    #[test]
    fn the_furthest_step_of_each_lease_is_written_once() {
        let reports = [reported(1, 10, "a"), reported(2, 5, "x"), reported(1, 30, "b"), reported(1, 20, "late")];
        let (steps, answers) = gather(reports.into_iter());
        let written: Vec<_> = steps.iter().map(|step| (step.percent, step.stage.as_str())).collect();
        assert_eq!(written, [(30, "b"), (5, "x")]);
        assert_eq!(answers.iter().map(Vec::len).collect::<Vec<_>>(), [3, 1]);
    }
}
