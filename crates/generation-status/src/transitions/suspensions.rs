//! The rules of a suspension: what a generation shows while its provider works, or while it is not known whether it does.

use domain::generation::State;

use crate::model::{Basis, OrderPhase, Suspension, Trouble, WaitReason};

/// The highest progress that is estimated: only the end is a hundred.
const MAX_ESTIMATE: i64 = 95;
/// A provider that has not answered for so many microseconds is shown as unavailable.
const SHOWN_AFTER: i64 = 30_000_000;

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
    /// For how many microseconds the order was in the reported trouble before; `None` where it was not.
    pub(crate) troubled: Option<i64>,
}

/// What becomes of the clock of a trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// It goes on, or stands still.
    Keep,
    /// It begins, if it does not run.
    Start,
    /// It ends.
    Clear,
}

/// What a report means for the clock of each trouble, in the order of [`Trouble::ALL`]: whoever got so far has left the troubles
/// before it behind, and an order that is well has none.
pub(crate) fn marks(report: &Suspension) -> [Mark; 4] {
    Trouble::ALL.map(|trouble| match report.trouble {
        _ if report.unconfirmed => Mark::Keep,
        None => Mark::Clear,
        Some(reported) if reported == trouble => Mark::Start,
        Some(reported) if (trouble as u8) < reported as u8 => Mark::Clear,
        Some(_) => Mark::Keep,
    })
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
    let before = &facts.shown;
    let wait_reason = match (report.unconfirmed, report.trouble, report.queue_position) {
        (true, ..) => WaitReason::SubmissionUnconfirmed as i16,
        (false, Some(Trouble::Output | Trouble::Storage), _) => WaitReason::OutputDelayed as i16,
        // One poll that fails is nothing to be told of.
        (false, Some(Trouble::Poll | Trouble::Order), _) if facts.troubled < Some(SHOWN_AFTER) => before.wait_reason,
        (false, Some(Trouble::Poll | Trouble::Order), _) => WaitReason::ProviderUnavailable as i16,
        (false, None, 1..) => WaitReason::ProviderQueue as i16,
        (false, None, _) => 0,
    };
    match facts.state {
        State::Submitting | State::Processing | State::Cancelling => {}
        State::Finalizing if wait_reason != before.wait_reason => {
            return SuspensionOutcome::Changed(Shown { wait_reason, ..before.clone() });
        }
        _ => return SuspensionOutcome::Unchanged,
    }
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
            trouble: None,
            condition: None,
            key: String::new(),
        }
    }

    fn facts() -> SuspendedFacts {
        let shown = Shown { wait_reason: 0, percent: 40, basis: 1, stage: "renders".to_owned(), queue_position: 0 };
        let (state, order) = (State::Processing, Some(OrderPhase::Known));
        SuspendedFacts { state, order, shown, elapsed: None, usual: None, troubled: None }
    }

    #[test]
    fn each_trouble_starts_its_clock_and_stops_those_that_it_has_left_behind() {
        use Mark::{Clear, Keep, Start};
        for (trouble, expected) in [
            (None, [Clear, Clear, Clear, Clear]),
            (Some(Trouble::Poll), [Start, Keep, Keep, Keep]),
            (Some(Trouble::Order), [Clear, Start, Keep, Keep]),
            (Some(Trouble::Output), [Clear, Clear, Start, Keep]),
            (Some(Trouble::Storage), [Clear, Clear, Clear, Start]),
        ] {
            assert_eq!(marks(&Suspension { trouble, ..report() }), expected, "{trouble:?}");
        }
        // Of an unconfirmed submission nobody was asked.
        assert_eq!(marks(&Suspension { unconfirmed: true, ..report() }), [Keep; 4]);
    }

    #[test]
    fn a_trouble_that_lasts_is_shown_as_what_the_generation_waits_for() {
        let unavailable = WaitReason::ProviderUnavailable as i16;
        let delayed = WaitReason::OutputDelayed as i16;
        for (state, trouble, troubled, expected) in [
            (State::Processing, Trouble::Poll, None, 0),
            (State::Processing, Trouble::Poll, Some(SHOWN_AFTER - 1), 0),
            (State::Processing, Trouble::Poll, Some(SHOWN_AFTER), unavailable),
            (State::Processing, Trouble::Order, Some(SHOWN_AFTER), unavailable),
            (State::Cancelling, Trouble::Poll, Some(SHOWN_AFTER), unavailable),
            (State::Finalizing, Trouble::Poll, Some(SHOWN_AFTER), unavailable),
            (State::Finalizing, Trouble::Output, None, delayed),
            (State::Finalizing, Trouble::Storage, None, delayed),
        ] {
            let facts = SuspendedFacts { state, troubled, ..facts() };
            let report = Suspension { trouble: Some(trouble), ..report() };
            let shown = match suspended(&facts, &report) {
                SuspensionOutcome::Changed(shown) => {
                    assert_eq!((shown.percent, shown.stage.as_str()), (40, "renders"), "{trouble:?}");
                    shown.wait_reason
                }
                SuspensionOutcome::Unchanged => 0,
                SuspensionOutcome::Refused => panic!("{trouble:?}"),
            };
            assert_eq!(shown, expected, "{state:?} {trouble:?} {troubled:?}");
        }
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
