//! The rules of the queue: what becomes of a job when its lease ends badly, is given back, or when nobody claims it in time.
//! Plain functions from what the row says to a [`Transition`]; the statements carry it out.
//!
//! Invariant: nothing here reads a clock, draws a random number or asks the database, so that a table of cases is a proof.

use std::time::Duration;

use crate::job::{Failure, Resolution, Retry};
use crate::state::{Cause, State};

/// So many leases that expire one after another make a dead letter: the job kills its workers. An attempt that goes on elsewhere, and is
/// paid for there, is not given up for that: it is polled ever more rarely, until its owner's deadline ends it.
pub const MAX_EXPIRED_IN_ROW: i32 = 3;

/// The longest pause before a poll whose predecessors killed their workers.
const MAX_POLL_PAUSE: Duration = Duration::from_secs(600);

/// The longest back-off after a failed attempt.
const MAX_BACK_OFF: Duration = Duration::from_secs(300);

/// What a row says of its job, as far as a rule asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The lease is for a poll.
    pub(crate) polling: bool,
    /// The attempt of the lease was begun elsewhere, and goes on there whatever becomes of its worker.
    pub(crate) elsewhere: bool,
    /// The attempts that count, the present one included.
    pub(crate) attempt: i32,
    pub(crate) max_attempts: i32,
    /// Every claim there was, those included that did not count as attempts.
    pub(crate) claims: i32,
    /// The leases that expired since a worker last ended one.
    pub(crate) expired_in_row: i32,
    /// The worker that has the lease, or had the last.
    pub(crate) worker: Option<String>,
    pub(crate) cause: Option<String>,
    pub(crate) detail: Option<String>,
}

/// What a job becomes. Its lease, if it has one, ends with that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transition {
    pub(crate) from: State,
    pub(crate) to: State,
    pub(crate) attempt: i32,
    pub(crate) expired_in_row: i32,
    /// The count of polls starts again.
    pub(crate) reset_polls: bool,
    pub(crate) run_at: RunAt,
    pub(crate) cause: Option<String>,
    pub(crate) detail: Option<String>,
}

/// When a job may next be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunAt {
    /// The time stays as it is.
    Unchanged,
    /// `after`, and a random part of `jitter` later.
    In { after: Duration, jitter: Duration },
}

impl RunAt {
    const NOW: Self = Self::In { after: Duration::ZERO, jitter: Duration::ZERO };
}

/// The worker is gone: its lease expired. Returns the cause as well, for whoever counts.
pub(crate) fn lease_expired(facts: &Facts) -> (Transition, Cause) {
    let expired_in_row = facts.expired_in_row + 1;
    let goes_on = facts.polling || facts.elsewhere;
    let (to, cause) = if goes_on {
        // The attempt goes on elsewhere, whatever became of its worker: what is due is a poll, which no pause, no limit and no
        // breaker keeps back.
        (State::Waiting, Cause::LeaseExpired)
    } else if expired_in_row >= MAX_EXPIRED_IN_ROW {
        (State::Dead, Cause::LeaseExpired)
    } else if facts.attempt >= facts.max_attempts {
        (State::Dead, Cause::AttemptsExhausted)
    } else {
        (State::Queued, Cause::LeaseExpired)
    };
    let next = Transition {
        from: State::Leased,
        to,
        attempt: facts.attempt,
        expired_in_row,
        reset_polls: false,
        run_at: if goes_on {
            RunAt::In { after: poll_pause(expired_in_row), jitter: Duration::ZERO }
        } else {
            RunAt::NOW
        },
        cause: Some(cause.as_str().to_owned()),
        detail: Some(format!("the lease of {} ran out", facts.worker.as_deref().unwrap_or("?"))),
    };
    (next, cause)
}

/// How long after its lease expired a poll is due again: at once, until so many did that the job may be why.
fn poll_pause(expired_in_row: i32) -> Duration {
    let beyond = u32::try_from(expired_in_row - MAX_EXPIRED_IN_ROW).ok();
    let doubled = beyond.map(|beyond| 30_u64.saturating_mul(2_u64.saturating_pow(beyond)));
    doubled.map_or(Duration::ZERO, Duration::from_secs).min(MAX_POLL_PAUSE)
}

/// Nobody claimed a queued job by its start deadline. Returns the cause as well, for whoever counts.
pub(crate) fn start_deadline_passed(facts: &Facts) -> (Transition, Cause) {
    let cause = Cause::StartDeadline;
    let next = Transition {
        from: State::Queued,
        to: State::Dead,
        attempt: facts.attempt,
        expired_in_row: facts.expired_in_row,
        reset_polls: false,
        run_at: RunAt::Unchanged,
        cause: Some(cause.as_str().to_owned()),
        detail: None,
    };
    (next, cause)
}

/// The worker says that its attempt failed.
pub(crate) fn attempt_failed(facts: &Facts, failure: &Failure) -> Transition {
    let (to, attempt, run_at) = match failure.retry {
        Retry::Never => (State::Failed, facts.attempt, RunAt::Unchanged),
        Retry::Counted { .. } if facts.attempt >= facts.max_attempts => (State::Dead, facts.attempt, RunAt::Unchanged),
        Retry::Counted { after } => (State::Queued, facts.attempt, back_off(facts.claims, after)),
        Retry::Uncounted { after } => (State::Queued, facts.attempt - 1, back_off(facts.claims, after)),
        // Its breaker holds it back; a back-off that has grown for an hour would go on when that is over.
        Retry::WhenAvailable => (State::Queued, facts.attempt - 1, back_off(1, None)),
    };
    Transition {
        from: State::Leased,
        to,
        attempt,
        expired_in_row: 0,
        reset_polls: true,
        run_at,
        cause: Some(failure.cause.clone()),
        detail: Some(failure.detail.clone()),
    }
}

/// The back-off before the next claim: random between nothing and `min(5 min, 1 s * 2^(claims - 1))`, so that jobs that failed
/// together do not come back together, and after the other side's Retry-After where it gave one. It grows with the claims and
/// not with the attempts, which stand still while the other side is only busy.
fn back_off(claims: i32, after: Option<Duration>) -> RunAt {
    let exponent = u32::try_from(claims - 1).unwrap_or_default();
    let jitter = 2_u64.checked_pow(exponent).map_or(MAX_BACK_OFF, Duration::from_secs).min(MAX_BACK_OFF);
    RunAt::In { after: after.unwrap_or_default(), jitter }
}

/// The worker gives its lease back unused.
pub(crate) fn released(facts: &Facts) -> Transition {
    let transition = Transition {
        from: State::Leased,
        to: State::Queued,
        attempt: facts.attempt - 1,
        expired_in_row: 0,
        reset_polls: false,
        run_at: RunAt::NOW,
        cause: Some(Cause::Released.as_str().to_owned()),
        detail: None,
    };
    match (facts.polling, facts.elsewhere) {
        // A poll was no attempt, and why the job waits is still true.
        (true, _) => Transition {
            to: State::Waiting,
            attempt: facts.attempt,
            cause: facts.cause.clone(),
            detail: facts.detail.clone(),
            ..transition
        },
        // The attempt was used, and goes on.
        (false, true) => Transition { to: State::Waiting, attempt: facts.attempt, ..transition },
        (false, false) => transition,
    }
}

/// What a resolution makes of a job, and the states in which it applies: a lease is never taken from its worker.
pub(crate) fn resolved(resolution: Resolution) -> (State, &'static [State]) {
    match resolution {
        // A queued job is where a requeue would bring it.
        Resolution::Requeue => (State::Queued, &[State::Waiting]),
        Resolution::Fail => (State::Failed, &[State::Waiting, State::Queued]),
        Resolution::Cancel => (State::Cancelled, &[State::Waiting, State::Queued]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first attempt of three, claimed once.
    fn facts() -> Facts {
        Facts {
            polling: false,
            elsewhere: false,
            attempt: 1,
            max_attempts: 3,
            claims: 1,
            expired_in_row: 0,
            worker: Some("w".to_owned()),
            cause: Some("WAITS".to_owned()),
            detail: Some("for the provider".to_owned()),
        }
    }

    #[test]
    fn an_expired_lease_brings_back_what_goes_on_elsewhere_and_the_rest_until_three_or_its_attempts_are_gone() {
        // Polling or begun elsewhere, attempt of three, expired in a row before: state and cause.
        let cases = [
            (false, 1, 0, State::Queued, Cause::LeaseExpired),
            (false, 2, 1, State::Queued, Cause::LeaseExpired),
            (false, 1, 2, State::Dead, Cause::LeaseExpired),
            (false, 3, 0, State::Dead, Cause::AttemptsExhausted),
            (false, 3, 2, State::Dead, Cause::LeaseExpired),
            (true, 1, 0, State::Waiting, Cause::LeaseExpired),
            (true, 3, 1, State::Waiting, Cause::LeaseExpired),
            (true, 1, 2, State::Waiting, Cause::LeaseExpired),
            (true, 3, 200, State::Waiting, Cause::LeaseExpired),
        ];
        let kinds = [(false, false), (true, false), (false, true), (true, true)];
        let cases = cases.into_iter().flat_map(|case| kinds.map(|kind| (kind, case)));
        for ((polling, elsewhere), (goes_on, attempt, expired_in_row, state, cause)) in cases {
            if goes_on != (polling || elsewhere) {
                continue;
            }
            let (next, named) = lease_expired(&Facts { polling, elsewhere, attempt, expired_in_row, ..facts() });
            let case = format!("polling {polling}, {elsewhere}, attempt {attempt}, {expired_in_row} in a row");
            assert_eq!((next.to, next.cause.as_deref(), named), (state, Some(cause.as_str()), cause), "{case}");
            assert_eq!((next.attempt, next.expired_in_row), (attempt, expired_in_row + 1), "{case}");
            let pause = if goes_on { poll_pause(expired_in_row + 1) } else { Duration::ZERO };
            let run_at = RunAt::In { after: pause, jitter: Duration::ZERO };
            assert_eq!((next.run_at, next.reset_polls), (run_at, false), "{case}");
            assert_eq!(next.detail.as_deref(), Some("the lease of w ran out"), "{case}");
        }
        let (nameless, _) = lease_expired(&Facts { worker: None, ..facts() });
        assert_eq!(nameless.detail.as_deref(), Some("the lease of ? ran out"));
    }

    #[test]
    fn a_poll_that_may_kill_its_workers_comes_ever_more_rarely() {
        let seconds = [1, 2, 3, 4, 5, 6, 7, 8, 200, i32::MAX].map(|in_row| poll_pause(in_row).as_secs());
        assert_eq!(seconds, [0, 0, 30, 60, 120, 240, 480, 600, 600, 600]);
    }

    #[test]
    fn a_start_deadline_makes_a_dead_letter_and_changes_nothing_else() {
        let (next, cause) = start_deadline_passed(&Facts { attempt: 2, expired_in_row: 1, ..facts() });
        let expected = Transition {
            from: State::Queued,
            to: State::Dead,
            attempt: 2,
            expired_in_row: 1,
            reset_polls: false,
            run_at: RunAt::Unchanged,
            cause: Some("START_DEADLINE".to_owned()),
            detail: None,
        };
        assert_eq!((next, cause), (expected, Cause::StartDeadline));
    }

    #[test]
    fn a_failed_attempt_is_retried_while_attempts_that_count_are_left() {
        let after = Some(Duration::from_secs(7));
        // Retry, attempt of three: state, attempt, whether the time is new.
        let cases = [
            (Retry::Counted { after }, 1, State::Queued, 1, true),
            (Retry::Counted { after }, 2, State::Queued, 2, true),
            (Retry::Counted { after }, 3, State::Dead, 3, false),
            (Retry::Counted { after }, 4, State::Dead, 4, false),
            (Retry::Uncounted { after }, 1, State::Queued, 0, true),
            (Retry::Uncounted { after }, 3, State::Queued, 2, true),
            (Retry::WhenAvailable, 3, State::Queued, 2, true),
            (Retry::Never, 1, State::Failed, 1, false),
            (Retry::Never, 3, State::Failed, 3, false),
        ];
        for (retry, attempt, state, counted, later) in cases {
            let failure = Failure { retry, cause: "BROKEN".to_owned(), detail: "it broke".to_owned() };
            let next = attempt_failed(&Facts { attempt, expired_in_row: 2, ..facts() }, &failure);
            let run_at = if retry == Retry::WhenAvailable {
                RunAt::In { after: Duration::ZERO, jitter: Duration::from_secs(1) }
            } else if later {
                RunAt::In { after: Duration::from_secs(7), jitter: Duration::from_secs(1) }
            } else {
                RunAt::Unchanged
            };
            let expected = Transition {
                from: State::Leased,
                to: state,
                attempt: counted,
                expired_in_row: 0,
                reset_polls: true,
                run_at,
                cause: Some("BROKEN".to_owned()),
                detail: Some("it broke".to_owned()),
            };
            assert_eq!(next, expected, "{retry:?} at attempt {attempt}");
        }
    }

    #[test]
    fn the_back_off_doubles_with_each_claim_up_to_five_minutes() {
        let jitter = |claims| match back_off(claims, None) {
            RunAt::In { after: Duration::ZERO, jitter } => jitter.as_secs(),
            other => panic!("{other:?}"),
        };
        assert_eq!([1, 2, 3, 8, 9, 10, 64, 65, i32::MAX].map(jitter), [1, 2, 4, 128, 256, 300, 300, 300, 300]);
    }

    #[test]
    fn a_released_attempt_does_not_count_and_a_released_poll_waits_on() {
        let facts = Facts { attempt: 2, expired_in_row: 1, ..facts() };
        let attempt = released(&facts);
        assert_eq!((attempt.to, attempt.attempt, attempt.expired_in_row), (State::Queued, 1, 0));
        assert_eq!((attempt.cause.as_deref(), attempt.detail.as_deref()), (Some("RELEASED"), None));
        let begun = released(&Facts { elsewhere: true, ..facts.clone() });
        assert_eq!((begun.to, begun.attempt, begun.cause.as_deref()), (State::Waiting, 2, Some("RELEASED")));
        let poll = released(&Facts { polling: true, elsewhere: true, ..facts.clone() });
        assert_eq!((poll.to, poll.attempt, poll.expired_in_row), (State::Waiting, 2, 0));
        assert_eq!((poll.cause, poll.detail), (facts.cause, facts.detail));
        assert_eq!((attempt.run_at, attempt.reset_polls), (poll.run_at, poll.reset_polls));
        assert_eq!((poll.run_at, poll.reset_polls), (RunAt::NOW, false));
    }

    #[test]
    fn a_resolution_takes_no_lease_from_a_worker() {
        for resolution in [Resolution::Requeue, Resolution::Fail, Resolution::Cancel] {
            let (next, from) = resolved(resolution);
            assert!(!from.contains(&State::Leased) && !from.iter().any(|state| state.is_finished()), "{resolution:?}");
            assert!(!from.contains(&next), "{resolution:?} changes something");
        }
    }
}
