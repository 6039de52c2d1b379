//! The rules of a suspension: what a generation shows while its provider works, or while it is not known whether it does.

use domain::generation::State;

use crate::model::{Basis, OrderPhase, Suspension, WaitReason};

/// The highest progress that is estimated: only the end is a hundred.
const MAX_ESTIMATE: i64 = 95;

/// What a generation shows of its progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    /// A number of [`WaitReason`]; 0 when it does not wait.
    pub(crate) wait_reason: i16,
    pub(crate) percent: i16,
    /// A number of [`Basis`].
    pub(crate) basis: i16,
    pub(crate) stage: String,
    pub(crate) queue_position: i32,
}

/// A generation when its lease ends, read under the locks of its job and its row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SuspendedFacts {
    pub(crate) state: State,
    pub(crate) order: Option<OrderPhase>,
    pub(crate) shown: Shown,
    /// Microseconds since the provider began; `None` where it has not.
    pub(crate) elapsed: Option<i64>,
    /// The microseconds that its model usually takes; `None` where that is not known.
    pub(crate) usual: Option<i64>,
}

/// What a suspension means for the generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SuspensionOutcome {
    /// The report contradicts what is recorded of the order.
    Refused,
    /// The generation shows what it showed.
    Unchanged,
    Changed(Shown),
}

/// What a generation shows while its attempt goes on without a lease.
pub(crate) fn suspended(facts: &SuspendedFacts, report: &Suspension) -> SuspensionOutcome {
    // Without a reference there is nothing to poll; with one the submission is not in doubt.
    let expected = if report.unconfirmed { OrderPhase::Intent } else { OrderPhase::Known };
    if facts.order != Some(expected) {
        return SuspensionOutcome::Refused;
    }
    if !matches!(facts.state, State::Submitting | State::Processing | State::Cancelling) {
        return SuspensionOutcome::Unchanged;
    }
    let wait_reason = match (report.unconfirmed, report.queue_position) {
        (true, _) => WaitReason::SubmissionUnconfirmed as i16,
        (false, 1..) => WaitReason::ProviderQueue as i16,
        (false, _) => 0,
    };
    let before = &facts.shown;
    let (percent, basis) = match (report.percent, estimate(facts.elapsed, facts.usual)) {
        (Some(reported), _) => (reported, Basis::Provider as i16),
        (None, Some(estimated)) => (estimated, Basis::Estimated as i16),
        (None, None) => (before.percent, before.basis),
    };
    let next = Shown {
        wait_reason,
        // Progress never falls.
        percent: percent.max(before.percent),
        basis,
        stage: if report.stage.is_empty() { before.stage.clone() } else { report.stage.clone() },
        queue_position: report.queue_position,
    };
    // A poll that finds nothing new changes no row, and so makes no version, no message and no work for vacuum.
    if next == *before { SuspensionOutcome::Unchanged } else { SuspensionOutcome::Changed(next) }
}

/// The progress of which the provider says nothing: the share of the usual time that has passed.
fn estimate(elapsed: Option<i64>, usual: Option<i64>) -> Option<i16> {
    let (elapsed, usual) = (i128::from(elapsed?), i128::from(usual?));
    if usual <= 0 {
        return None;
    }
    let share = (i128::from(MAX_ESTIMATE) * elapsed).div_euclid(usual).min(i128::from(MAX_ESTIMATE));
    i16::try_from(share).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jobs::Lease;
    use uuid::Uuid;

    use super::*;

    fn report() -> Suspension {
        Suspension {
            lease: Lease { job: Uuid::nil(), fence: 1 },
            poll_after: Some(Duration::from_secs(1)),
            unconfirmed: false,
            percent: None,
            stage: String::new(),
            queue_position: 0,
            message: String::new(),
        }
    }

    fn facts() -> SuspendedFacts {
        let shown = Shown { wait_reason: 0, percent: 40, basis: 1, stage: "renders".to_owned(), queue_position: 0 };
        SuspendedFacts { state: State::Processing, order: Some(OrderPhase::Known), shown, elapsed: None, usual: None }
    }

    #[test]
    fn a_report_that_contradicts_the_recorded_order_is_refused() {
        for (order, known, unconfirmed) in
            [(None, false, false), (Some(OrderPhase::Intent), false, true), (Some(OrderPhase::Known), true, false)]
        {
            let facts = SuspendedFacts { order, ..facts() };
            let refused =
                |unconfirmed| suspended(&facts, &Suspension { unconfirmed, ..report() }) == SuspensionOutcome::Refused;
            assert_eq!((refused(false), refused(true)), (!known, !unconfirmed), "{order:?}");
        }
    }

    #[test]
    fn only_submitting_processing_and_cancelling_show_what_a_suspension_reports() {
        let report = Suspension { percent: Some(60), ..report() };
        for state in State::ALL {
            let changed =
                matches!(suspended(&SuspendedFacts { state, ..facts() }, &report), SuspensionOutcome::Changed(_));
            let shows = matches!(state, State::Submitting | State::Processing | State::Cancelling);
            assert_eq!(changed, shows, "{state:?}");
        }
    }

    #[test]
    fn a_wait_is_for_the_providers_answer_or_for_its_queue() {
        let wait = |unconfirmed, queue_position| {
            let order = Some(if unconfirmed { OrderPhase::Intent } else { OrderPhase::Known });
            let report = Suspension { unconfirmed, queue_position, percent: Some(50), ..report() };
            match suspended(&SuspendedFacts { order, ..facts() }, &report) {
                SuspensionOutcome::Changed(shown) => (shown.wait_reason, shown.queue_position),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(wait(true, 0), (WaitReason::SubmissionUnconfirmed as i16, 0));
        assert_eq!(wait(true, 4), (WaitReason::SubmissionUnconfirmed as i16, 4));
        assert_eq!(wait(false, 4), (WaitReason::ProviderQueue as i16, 4));
        assert_eq!(wait(false, 0), (0, 0));
    }

    #[test]
    fn progress_is_reported_or_estimated_and_never_falls() {
        let (provider, estimated) = (Basis::Provider as i16, Basis::Estimated as i16);
        // Reported, elapsed and usual in seconds: percent and basis, from 40 % as the provider said.
        let cases = [
            (Some(60), None, None, 60, provider),
            (Some(30), None, None, 40, provider),
            (None, None, None, 40, provider),
            (None, Some(50), Some(100), 47, estimated),
            (None, Some(1), Some(100), 40, estimated),
            (None, Some(1000), Some(100), 95, estimated),
            (None, Some(50), None, 40, provider),
            (None, Some(50), Some(0), 40, provider),
            (Some(60), Some(90), Some(100), 60, provider),
        ];
        for (percent, elapsed, usual, expected, basis) in cases {
            let micros = |seconds: Option<i64>| seconds.map(|seconds| seconds * 1_000_000);
            let facts = SuspendedFacts { elapsed: micros(elapsed), usual: micros(usual), ..facts() };
            let next = match suspended(&facts, &Suspension { percent, ..report() }) {
                SuspensionOutcome::Changed(shown) => shown,
                SuspensionOutcome::Unchanged => facts.shown.clone(),
                SuspensionOutcome::Refused => panic!("refused"),
            };
            assert_eq!((next.percent, next.basis), (expected, basis), "{percent:?}, {elapsed:?} of {usual:?}");
            assert_eq!(next.stage, "renders", "an empty stage says nothing new");
        }
    }

    #[test]
    fn a_report_that_says_nothing_new_changes_nothing() {
        let same = Suspension { percent: Some(40), stage: "renders".to_owned(), ..report() };
        assert_eq!(suspended(&facts(), &same), SuspensionOutcome::Unchanged);
        let stage = Suspension { stage: "encodes".to_owned(), ..same };
        let SuspensionOutcome::Changed(shown) = suspended(&facts(), &stage) else { panic!("the stage is new") };
        assert_eq!(shown.stage, "encodes");
    }
}
