//! Every rule over every state: tables of cases, and what must hold of all of them.

use std::collections::BTreeMap;

use catalogue::{Facts as PriceFacts, Per, Row, Rule};
use domain::generation::State;
use domain::money::Micros;
use jobs::{Cause, Retry, RetryDecision};
use time::OffsetDateTime;

use super::deadlines::{DeadlineAction, JobFacts, Settlement, enforce, settle};
use super::*;
use crate::model::{Code, Resolution};

const ORDERS: [Option<OrderPhase>; 3] = [None, Some(OrderPhase::Intent), Some(OrderPhase::Known)];

fn facts(state: State) -> Facts {
    Facts { state, cancelled: false, overdue: false, no_time_left: false, order: None }
}

/// Every combination of what is known of a generation.
fn all_facts() -> impl Iterator<Item = Facts> {
    State::ALL.into_iter().flat_map(|state| {
        ORDERS.into_iter().flat_map(move |order| {
            [(false, false), (false, true), (true, false), (true, true)].map(|(cancelled, overdue)| Facts {
                state,
                cancelled,
                overdue,
                no_time_left: false,
                order,
            })
        })
    })
}

fn failed(retry: Retry, wait_reason: WaitReason) -> FailedAttempt {
    FailedAttempt {
        outdated: false,
        job: jobs::Failure { retry, cause: "BROKEN".to_owned(), detail: "it broke".to_owned() },
        failure: Failure::new(Code::Unavailable, "BROKEN", "it broke"),
        wait_reason,
        provider_charge: None,
        condition: None,
        key: String::new(),
    }
}

fn reason(end: &End) -> Option<&str> {
    end.failure.as_ref().map(|failure| failure.reason.as_str())
}

#[test]
fn claims_submissions_and_releases_move_each_state_as_the_table_says() {
    use State::*;
    // State: after a claim, after a submission, after a release without an order, after one with an order.
    let table = [
        (Queued, Some(Submitting), None, None, None),
        (Submitting, Some(Submitting), Some(Processing), Some(Queued), Some(Submitting)),
        (Processing, Some(Processing), Some(Processing), Some(Processing), Some(Processing)),
        (Finalizing, Some(Finalizing), Some(Finalizing), Some(Finalizing), Some(Finalizing)),
        (Cancelling, Some(Cancelling), Some(Cancelling), Some(Cancelling), Some(Cancelling)),
        (Completed, None, None, None, None),
        (Failed, None, None, None, None),
        (Cancelled, None, None, None, None),
        (Expired, None, None, None, None),
    ];
    assert_eq!(table.map(|row| row.0), State::ALL);
    for (state, claim, submission, release, release_ordered) in table {
        assert_eq!((claimed(state), submitted(state)), (claim, submission), "{state:?}");
        assert_eq!(released(state, None), release, "{state:?}");
        for phase in [OrderPhase::Intent, OrderPhase::Known] {
            assert_eq!(released(state, Some(phase)), release_ordered, "{state:?} with {phase:?}");
        }
        for next in [claim, submission, release, release_ordered].into_iter().flatten() {
            assert!(next == state || state.may_become(next), "{state:?} to {next:?}");
        }
    }
}

#[test]
fn a_charge_that_nobody_reported_is_unknown_where_an_order_may_exist() {
    for (order, charge) in [
        (None, ProviderCharge::NotCharged),
        (Some(OrderPhase::Intent), ProviderCharge::Unknown),
        (Some(OrderPhase::Known), ProviderCharge::Unknown),
        (Some(OrderPhase::Over), ProviderCharge::NotCharged),
    ] {
        assert_eq!(concluded_charge(order), charge);
        let end = |reported| End::without_output(State::Failed, None, order, reported).provider_charge;
        assert_eq!(end(None), charge);
        for reported in [ProviderCharge::NotCharged, ProviderCharge::Charged, ProviderCharge::Unknown] {
            assert_eq!(end(Some(reported)), reported, "what a worker reports goes first");
        }
    }
}

fn of_output() -> Rule {
    Rule {
        per: Per::Output,
        rows: vec![],
        step: None,
        minimum: None,
        of: None,
        max_seconds: None,
        fps: None,
        extra_frames: 0,
    }
}

#[test]
fn a_completion_charges_its_cost_and_every_other_end_nothing() {
    let output = Output {
        sha256: [7; 32],
        extension: "mp4".to_owned(),
        size_bytes: 1,
        mime_type: "video/mp4".to_owned(),
        width: 1,
        height: 1,
        duration_ms: 1,
        poster: None,
        poster_missing_reason: String::new(),
        moderation: None,
        pictures: None,
    };
    let rule = Rule { rows: vec![Row { when: BTreeMap::new(), credits: "0.000005".parse().unwrap() }], ..of_output() };
    let terms = catalogue::price::terms(&[rule], &PriceFacts { outputs: 1, ..PriceFacts::default() }).unwrap();
    let end = completed(std::slice::from_ref(&output), &terms, None);
    assert_eq!((end.state, end.captured, end.entry()), (State::Completed, Micros::new(5), EntryKind::Capture));
    assert_eq!((end.provider_charge, &end.failure, end.outputs), (ProviderCharge::Charged, &None, vec![output]));
    assert_eq!(end.lines.map(|lines| lines.len()), Some(1));
    let end = cancelled_in_queue();
    assert_eq!((end.state, end.captured, end.entry()), (State::Cancelled, Micros::ZERO, EntryKind::Release));
    assert_eq!((end.provider_charge, end.failure, end.outputs), (ProviderCharge::NotCharged, None, vec![]));
}

#[test]
fn a_generation_that_was_to_be_stopped_ends_as_its_user_or_its_deadline_said() {
    // Cancelled by its user, overdue: state and reason.
    for (cancelled, overdue, state, why) in [
        (true, false, State::Cancelled, None),
        (true, true, State::Cancelled, None),
        (false, true, State::Failed, Some("TOTAL_DEADLINE")),
        (false, false, State::Cancelled, None),
    ] {
        let facts = Facts { cancelled, overdue, ..facts(State::Cancelling) };
        let failed = failed(Retry::Counted { after: None }, WaitReason::Backoff);
        let AttemptOutcome::Stopped(end) = attempt_failed(&facts, true, &failed) else { panic!("{facts:?}") };
        assert_eq!((end.state, reason(&end)), (state, why), "{facts:?}");
    }
}

#[test]
fn a_failed_attempt_is_tried_again_unless_it_was_finished_and_unwanted() {
    let after = None;
    for state in State::ALL.into_iter().filter(|state| !state.is_terminal() && *state != State::Cancelling) {
        for cancel_requested in [false, true] {
            for (retry, wait, busy) in [
                (Retry::Counted { after }, WaitReason::Backoff, false),
                (Retry::Uncounted { after }, WaitReason::ProviderThrottled, true),
                (Retry::Uncounted { after }, WaitReason::Backoff, false),
                (Retry::WhenAvailable, WaitReason::ProviderUnavailable, false),
                (Retry::Never, WaitReason::Backoff, false),
            ] {
                let outcome = attempt_failed(&facts(state), cancel_requested, &failed(retry, wait));
                let AttemptOutcome::Failed { job, throttle } = outcome else { panic!("{state:?}") };
                let unwanted = cancel_requested && state == State::Finalizing;
                assert_eq!(job.retry, if unwanted { Retry::Never } else { retry }, "{state:?}");
                assert_eq!(throttle.is_some(), busy && !unwanted, "{state:?} {retry:?}");
            }
        }
    }
}

#[test]
fn the_jobs_decision_queues_or_ends_the_generation() {
    let failed = failed(Retry::Counted { after: None }, WaitReason::Backoff);
    let facts = Facts { order: Some(OrderPhase::Known), ..facts(State::Processing) };
    let retry = RetryDecision::Retry(OffsetDateTime::UNIX_EPOCH);
    assert!(matches!(attempt_decided(retry, &facts, &failed), AttemptEnd::Requeue(WaitReason::Backoff)));
    for decision in [RetryDecision::Failed, RetryDecision::Dead] {
        let AttemptEnd::End(end) = attempt_decided(decision, &facts, &failed) else { panic!("{decision:?}") };
        assert_eq!((end.state, reason(&end)), (State::Failed, Some("BROKEN")));
        assert_eq!(end.provider_charge, ProviderCharge::Unknown);
    }
}

#[test]
fn a_dead_letter_ends_its_generation_by_state_and_cause() {
    let end = |state, cause| dead_lettered(&facts(state), cause, 3);
    for cause in [Cause::LeaseExpired, Cause::AttemptsExhausted, Cause::StartDeadline] {
        for state in State::ALL {
            let expected = match state {
                State::Completed | State::Failed | State::Cancelled | State::Expired => None,
                State::Cancelling => Some((State::Cancelled, None)),
                State::Queued if cause == Cause::StartDeadline => Some((State::Expired, Some("START_DEADLINE"))),
                _ => Some((State::Failed, Some("ATTEMPTS_EXHAUSTED"))),
            };
            let found = end(state, cause);
            assert_eq!(found.as_ref().map(|end| (end.state, reason(end))), expected, "{state:?} {cause:?}");
        }
    }
}

#[test]
fn a_generation_without_an_open_job_ends() {
    for state in State::ALL {
        for job in jobs::State::ALL.into_iter().map(Some).chain([None]) {
            let end = job_lost(&facts(state), job);
            let alive = matches!(job, Some(jobs::State::Queued | jobs::State::Leased | jobs::State::Waiting));
            let expected = match state {
                _ if alive || state.is_terminal() => None,
                State::Cancelling => Some((State::Cancelled, None)),
                _ => Some((State::Failed, Some("ATTEMPTS_EXHAUSTED"))),
            };
            assert_eq!(end.as_ref().map(|end| (end.state, reason(end))), expected, "{state:?} {job:?}");
        }
    }
}

fn job(state: jobs::State, stop_ignored: bool) -> JobFacts {
    JobFacts { state, stop_ignored, unconfirmed: state == jobs::State::Waiting }
}

#[test]
fn a_deadline_stops_what_can_be_asked_and_ends_what_cannot() {
    use jobs::State::{Leased, Queued, Waiting};
    let (intent, known) = (Some(OrderPhase::Intent), Some(OrderPhase::Known));
    let keep = ("keep", None);
    let stop = ("stop", None);
    let late = ("fail", Some("TOTAL_DEADLINE"));
    let unknown = ("fail", Some("SUBMISSION_OUTCOME_UNKNOWN"));
    // State, live order, job, whether the stop was ignored: what is done.
    let table = [
        (State::Queued, None, Queued, false, late),
        (State::Queued, None, Leased, false, late),
        (State::Submitting, None, Queued, false, late),
        (State::Submitting, None, Leased, false, stop),
        (State::Submitting, intent, Leased, false, stop),
        (State::Submitting, intent, Queued, false, stop),
        (State::Submitting, intent, Waiting, false, unknown),
        (State::Processing, known, Leased, false, stop),
        (State::Processing, known, Waiting, false, stop),
        (State::Processing, known, Queued, false, stop),
        (State::Processing, None, Queued, false, late),
        (State::Finalizing, known, Leased, true, keep),
        (State::Finalizing, None, Queued, true, keep),
        (State::Cancelling, known, Leased, false, keep),
        (State::Cancelling, known, Leased, true, keep),
        (State::Cancelling, known, Waiting, false, keep),
        (State::Cancelling, known, Waiting, true, late),
        (State::Cancelling, known, Queued, true, late),
        (State::Cancelling, intent, Waiting, false, unknown),
        (State::Cancelling, intent, Leased, true, keep),
        (State::Completed, None, jobs::State::Done, true, keep),
        (State::Failed, None, jobs::State::Failed, true, keep),
        (State::Cancelled, None, jobs::State::Cancelled, true, keep),
        (State::Expired, None, jobs::State::Dead, true, keep),
    ];
    for (state, order, job_state, ignored, expected) in table {
        let facts = Facts { overdue: true, order, ..facts(state) };
        let case = format!("{state:?}, {order:?}, {job_state:?}, ignored {ignored}");
        let shown = |facts: &Facts| match enforce(facts, &job(job_state, ignored)) {
            DeadlineAction::Keep => ("keep", None),
            DeadlineAction::Stop => ("stop", None),
            DeadlineAction::End(end, jobs::Resolution::Fail) => ("fail", end.failure.map(|failure| failure.reason)),
            DeadlineAction::End(end, jobs::Resolution::Cancel) => ("cancel", end.failure.map(|failure| failure.reason)),
            DeadlineAction::End(_, jobs::Resolution::Requeue) => panic!("{case}"),
        };
        let expected = (expected.0, expected.1.map(str::to_owned));
        assert_eq!(shown(&facts), expected, "{case}");
        assert_eq!(shown(&Facts { overdue: false, ..facts }), ("keep", None), "{case}, in time");
        let of_user = if expected.0 == "fail" { ("cancel", None) } else { expected };
        assert_eq!(shown(&Facts { cancelled: true, ..facts }), of_user, "{case}, cancelled by its user");
    }
}

/// Its worker is lost, and the one that takes the order over has not yet tried to find out.
#[test]
fn a_submission_whose_worker_was_lost_is_not_unconfirmed_yet() {
    let job = JobFacts { unconfirmed: false, ..job(jobs::State::Waiting, false) };
    let (state, order) = (State::Submitting, Some(OrderPhase::Intent));
    let facts = Facts { overdue: true, order, ..facts(state) };
    assert_eq!(enforce(&facts, &job), DeadlineAction::Stop);
    assert_eq!(enforce(&Facts { state: State::Cancelling, ..facts }, &job), DeadlineAction::Keep);
    for resolution in [Resolution::Reference("r".to_owned()), Resolution::Requeue] {
        assert_eq!(settle(&facts, &job, &resolution), None, "{resolution:?}");
    }
}

#[test]
fn an_operator_settles_only_what_is_unconfirmed() {
    let reference = Resolution::Reference("r".to_owned());
    let charged = Resolution::Failed(ProviderCharge::Charged);
    for facts in all_facts() {
        for state in jobs::State::ALL {
            let job = job(state, false);
            let unconfirmed = state == jobs::State::Waiting && facts.order == Some(OrderPhase::Intent);
            for resolution in [&reference, &Resolution::Requeue] {
                let settlement = settle(&facts, &job, resolution);
                assert_eq!(settlement.is_some(), unconfirmed, "{facts:?} {job:?}");
            }
            // That an order comes to nothing may be said of one that is known, too.
            let waits = state == jobs::State::Waiting && facts.order.is_some();
            assert_eq!(settle(&facts, &job, &charged).is_some(), waits, "{facts:?} {job:?}");
            if unconfirmed {
                assert_eq!(settle(&facts, &job, &reference), Some(Settlement::Poll("r".to_owned())));
                let requeue = Some(Settlement::Requeue(WaitReason::Capacity));
                assert_eq!(settle(&facts, &job, &Resolution::Requeue), requeue);
                let Some(Settlement::End(end)) = settle(&facts, &job, &charged) else { panic!("{facts:?}") };
                assert_eq!((end.state, end.provider_charge), (State::Failed, ProviderCharge::Charged));
                assert_eq!(reason(&end), Some("SUBMISSION_OUTCOME_UNKNOWN"));
            }
        }
    }
}

/// Too late for another order is said of what ordered nothing; what was ordered fails as its worker said.
#[test]
fn an_attempt_that_came_too_late_is_the_last_one() {
    let after = None;
    for retry in [Retry::Counted { after }, Retry::Uncounted { after }, Retry::WhenAvailable, Retry::Never] {
        for (no_time_left, order, is_late) in
            [(true, None, true), (false, None, false), (true, Some(OrderPhase::Intent), false)]
        {
            let facts = Facts { no_time_left, order, ..facts(State::Submitting) };
            let uncharged = FailedAttempt {
                provider_charge: Some(ProviderCharge::NotCharged),
                ..failed(retry, WaitReason::Backoff)
            };
            let AttemptOutcome::Failed { job, .. } = attempt_failed(&facts, false, &uncharged) else {
                panic!("{facts:?}")
            };
            assert_eq!(job.retry, if is_late { Retry::Never } else { retry }, "{facts:?} {retry:?}");
            let AttemptEnd::End(end) = attempt_decided(RetryDecision::Failed, &facts, &uncharged) else {
                panic!("{facts:?}")
            };
            let expected = if is_late { "TOTAL_DEADLINE" } else { "BROKEN" };
            assert_eq!((reason(&end), end.provider_charge), (Some(expected), ProviderCharge::NotCharged), "{facts:?}");
        }
    }
}

/// Whatever its worker asks for, there is no other order while the one before may have been made or charged.
#[test]
fn what_may_have_been_charged_is_not_ordered_again() {
    let after = None;
    let retries = [Retry::Counted { after }, Retry::Uncounted { after }, Retry::WhenAvailable, Retry::Never];
    let charges =
        [None, Some(ProviderCharge::NotCharged), Some(ProviderCharge::Charged), Some(ProviderCharge::Unknown)];
    for facts in all_facts().filter(|facts| !facts.state.is_terminal() && facts.state != State::Cancelling) {
        for retry in retries {
            for provider_charge in charges {
                let failed = FailedAttempt { provider_charge, ..failed(retry, WaitReason::Backoff) };
                let AttemptOutcome::Failed { job, .. } = attempt_failed(&facts, false, &failed) else {
                    panic!("{facts:?}")
                };
                let settled = match provider_charge {
                    Some(charge) => charge == ProviderCharge::NotCharged,
                    None => facts.order.is_none(),
                };
                let expected = if settled { retry } else { Retry::Never };
                assert_eq!(job.retry, expected, "{facts:?} {retry:?} {provider_charge:?}");
            }
        }
    }
}

/// Whatever ends a generation charges nobody for it, and only the states that the domain's table allows follow.
#[test]
fn no_end_without_output_charges_or_leaves_the_table_of_states() {
    for facts in all_facts() {
        let mut ends = Vec::new();
        for cause in [Cause::LeaseExpired, Cause::AttemptsExhausted, Cause::StartDeadline] {
            ends.extend(dead_lettered(&facts, cause, 1));
        }
        ends.extend(job_lost(&facts, None));
        if let AttemptOutcome::Stopped(end) = attempt_failed(&facts, true, &failed(Retry::Never, WaitReason::Backoff)) {
            ends.push(end);
        }
        for state in jobs::State::ALL {
            match enforce(&facts, &job(state, true)) {
                // CANCELLING is where a user's request leads, so that no other open state that ends here has one.
                DeadlineAction::End(..) if facts.cancelled && facts.state != State::Cancelling => {}
                DeadlineAction::End(end, _) => ends.push(end),
                DeadlineAction::Keep | DeadlineAction::Stop => {}
            }
        }
        for end in ends {
            assert!(facts.state.may_become(end.state), "{facts:?} to {:?}", end.state);
            assert_eq!((end.captured, end.entry(), end.outputs), (Micros::ZERO, EntryKind::Release, vec![]));
        }
    }
}
