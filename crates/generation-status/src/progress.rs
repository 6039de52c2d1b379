//! Batches progress reports: all that arrive during one write go into the next, the furthest report of each lease.
//!
//! Invariant: a report is acknowledged after the commit of the write that it is in, and with that write's outcome; state
//! changes and money never pass through here.

use std::collections::HashMap;
use std::time::Duration;

use chassis::telemetry::{self, attributes};
use jobs::Lease;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::{Instrument as _, Span};

use crate::error::Error;
use crate::generations::Generations;
use crate::model::ProgressReport;
use crate::store::Store;

/// The minimum time from one write to the next: reports that come meanwhile share the next one.
const WRITE_INTERVAL: Duration = Duration::from_millis(100);
/// How many reports one write takes at most.
const MAX_BATCH: usize = 500;
/// How many reports wait at most; further reporters wait to be heard.
const QUEUE_CAPACITY: usize = 4_096;

struct Pending {
    report: ProgressReport,
    /// Of the request that it came by.
    trace: Option<String>,
    answer: oneshot::Sender<Result<bool, Error>>,
}

/// Takes reports; cheap to clone. The writer ends with the last clone.
#[derive(Clone)]
pub(crate) struct Progress {
    reports: mpsc::Sender<Pending>,
}

impl Progress {
    /// The reports' inlet, and the writer, which the caller spawns.
    pub(crate) fn new(store: Store, generations: Generations) -> (Self, impl Future<Output = ()> + Send) {
        let (reports, inbox) = mpsc::channel(QUEUE_CAPACITY);
        (Self { reports }, write(store, generations, inbox))
    }

    /// Records a report; returns, after the commit, whether the work is to be stopped.
    pub(crate) async fn report(&self, report: ProgressReport) -> Result<bool, Error> {
        let (answer, answered) = oneshot::channel();
        let trace = telemetry::traceparent();
        self.reports.send(Pending { report, trace, answer }).await.map_err(|_| Error::Draining)?;
        answered.await.map_err(|_| Error::Draining)?
    }
}

async fn write(store: Store, generations: Generations, mut inbox: mpsc::Receiver<Pending>) {
    let mut pending = Vec::new();
    while inbox.recv_many(&mut pending, MAX_BATCH).await > 0 {
        let began = Instant::now();
        let span = span(&pending);
        let (reports, answers) = gather(pending.drain(..));
        let mut outcome = store.write_progress(&reports).instrument(span.clone()).await;
        if outcome.as_ref().is_err_and(Error::is_conflict) {
            outcome = store.write_progress(&reports).instrument(span).await;
        }
        match outcome {
            Ok((statuses, changed)) => {
                for generation in &changed {
                    generations.publish(generation).await;
                }
                for (status, answers) in statuses.into_iter().zip(answers) {
                    let answer = status.held.map(|held| held.cancel_requested).ok_or(Error::StaleFence);
                    answer_all(answers, &answer);
                }
            }
            Err(error) => answers.into_iter().for_each(|answers| answer_all(answers, &Err(error.clone()))),
        }
        tokio::time::sleep_until(began + WRITE_INTERVAL).await;
    }
}

/// The span of one write belongs to the trace of the first request and is linked to those of the others.
fn span(pending: &[Pending]) -> Span {
    let span = tracing::info_span!("write_progress", { attributes::REPORTS } = pending.len());
    let mut traces = pending.iter().filter_map(|pending| pending.trace.as_deref());
    if let Some(first) = traces.next() {
        telemetry::set_parent(&span, first);
    }
    traces.for_each(|trace| telemetry::link(&span, trace));
    span
}

type Answers = Vec<oneshot::Sender<Result<bool, Error>>>;

/// The furthest report of each lease, in the order in which the leases first came, and who waits for it.
fn gather(pending: impl Iterator<Item = Pending>) -> (Vec<ProgressReport>, Vec<Answers>) {
    let mut indexes: HashMap<Lease, usize> = HashMap::new();
    let (mut reports, mut answers): (Vec<ProgressReport>, Vec<Answers>) = (Vec::new(), Vec::new());
    for Pending { report, answer, .. } in pending {
        let index = *indexes.entry(report.lease).or_insert(reports.len());
        if index == reports.len() {
            reports.push(report);
            answers.push(vec![answer]);
            continue;
        }
        answers[index].push(answer);
        if report.percent >= reports[index].percent {
            reports[index] = report;
        }
    }
    (reports, answers)
}

fn answer_all(answers: Answers, answer: &Result<bool, Error>) {
    for waiting in answers {
        // A receiver that is gone stopped waiting.
        let _ = waiting.send(answer.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn pending(job: u128, percent: i16, stage: &str) -> Pending {
        let lease = Lease { job: Uuid::from_u128(job), fence: 1 };
        Pending {
            report: ProgressReport { lease, percent, stage: stage.to_owned() },
            trace: None,
            answer: oneshot::channel().0,
        }
    }

    #[test]
    fn the_furthest_report_of_each_lease_is_written_once() {
        let all = [pending(1, 10, "a"), pending(2, 5, "x"), pending(1, 30, "b"), pending(1, 20, "late")];
        let (reports, answers) = gather(all.into_iter());
        let written: Vec<_> = reports.iter().map(|report| (report.percent, report.stage.as_str())).collect();
        assert_eq!(written, [(30, "b"), (5, "x")]);
        assert_eq!(answers.iter().map(Vec::len).collect::<Vec<_>>(), [3, 1]);
    }
}
