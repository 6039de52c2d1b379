//! The rules of deliveries: when an attempt is repeated, when an event no longer keeps back its successors, when an endpoint is
//! disabled, and how much of the sender an endpoint gets. Plain functions; the statements carry out what they decide.
//!
//! Invariant: nothing here reads a clock, draws a random number or asks the database, so that a table of cases is a proof.

use std::time::Duration;

use time::OffsetDateTime;

/// The pauses in seconds after the first attempts; one more attempt follows the last pause.
const RETRY_PAUSES: [u64; 9] = [5, 30, 120, 600, 3_600, 3 * 3_600, 6 * 3_600, 10 * 3_600, 14 * 3_600];
/// How many attempts a delivery has.
pub(crate) const MAX_DELIVERY_ATTEMPTS: i32 = RETRY_PAUSES.len() as i32 + 1;
/// An endpoint without a success for this long is disabled when it fails again.
const DISABLE_AFTER: Duration = Duration::from_secs(3 * 24 * 60 * 60);
/// An event that was refused so often is refused for good.
const REFUSALS_FOR_GOOD: i32 = 3;
/// So is one that failed so often, over some twelve minutes, while its endpoint took others.
const FAILURES_FOR_GOOD: i32 = 5;
/// An endpoint that keeps an attempt waiting this long is slow.
pub(crate) const SLOW_AFTER: Duration = Duration::from_secs(1);
/// How many tests an endpoint may get within [`TEST_WINDOW`].
pub(crate) const MAX_TESTS: i64 = 10;
/// The time over which tests are counted.
pub(crate) const TEST_WINDOW: Duration = Duration::from_secs(60);

/// What an answer means for its event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// 2xx.
    Accepted,
    /// Another attempt may succeed: nothing came, a fault of the endpoint, or "not now".
    Failed,
    /// The endpoint does not want this event: a 4xx that says nothing of time.
    Refused,
    /// 410: the endpoint will never be there again.
    Gone,
}

impl Answer {
    /// By the HTTP status, 0 where there was no answer.
    pub(crate) const fn of(http_status: u16) -> Self {
        match http_status {
            200..=299 => Self::Accepted,
            410 => Self::Gone,
            // Request Timeout, Too Early, Too Many Requests.
            408 | 425 | 429 => Self::Failed,
            400..=499 => Self::Refused,
            _ => Self::Failed,
        }
    }
}

/// How a delivery fared since it was made or last redelivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Failures {
    /// How many attempts failed.
    pub(crate) count: i32,
    /// How many of them were [`Answer::Refused`].
    pub(crate) refusals: i32,
    /// When the first failed.
    pub(crate) since: Option<OffsetDateTime>,
}

impl Failures {
    /// With one more, that ended `now`.
    pub(crate) fn and(self, answer: Answer, now: OffsetDateTime) -> Self {
        Self {
            count: self.count + 1,
            refusals: self.refusals + i32::from(answer == Answer::Refused),
            since: self.since.or(Some(now)),
        }
    }

    /// The pause before the next attempt; `None` after the last.
    pub(crate) fn pause(self) -> Option<Duration> {
        let at = usize::try_from(self.count - 1).unwrap_or_default();
        RETRY_PAUSES.get(at).map(|seconds| Duration::from_secs(*seconds))
    }

    /// Whether the event is refused for good. Then a newer one of its generation overtakes it: this one is given up.
    ///
    /// `endpoint_failing_since` is since when no attempt at the endpoint has succeeded. While that was so before this event first
    /// failed, nothing is known of the event: its endpoint is down, and its successors would fail as well.
    pub(crate) fn are_for_good(self, endpoint_failing_since: Option<OffsetDateTime>) -> bool {
        let took_others = match (self.since, endpoint_failing_since) {
            (Some(since), Some(endpoint)) => endpoint > since,
            (Some(_), None) => true,
            (None, _) => false,
        };
        self.refusals >= REFUSALS_FOR_GOOD || (self.count >= FAILURES_FOR_GOOD && took_others)
    }
}

/// Why an endpoint is disabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DisableReason {
    /// It answered 410.
    Gone,
    /// No attempt has succeeded for days.
    Failing,
}

impl DisableReason {
    /// The reason as the API and the database have it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Gone => "GONE",
            Self::Failing => "FAILING",
        }
    }

    /// What the account is told.
    pub(crate) const fn sentence(self) -> &'static str {
        match self {
            Self::Gone => "it answered 410 Gone",
            Self::Failing => "no attempt has succeeded for three days",
        }
    }
}

/// How an endpoint fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Health {
    /// Since when no attempt has succeeded.
    pub(crate) failing_since: Option<OffsetDateTime>,
    /// How fast it answered last.
    pub(crate) speed: AnswerSpeed,
}

impl Health {
    /// After an attempt that ended `now`, and why the attempt disables the endpoint.
    pub(crate) fn after(
        self,
        answer: Answer,
        speed: AnswerSpeed,
        now: OffsetDateTime,
    ) -> (Self, Option<DisableReason>) {
        let failing_since = match answer {
            Answer::Accepted => None,
            Answer::Failed | Answer::Refused | Answer::Gone => self.failing_since.or(Some(now)),
        };
        let disabled = match answer {
            Answer::Accepted => None,
            Answer::Gone => Some(DisableReason::Gone),
            Answer::Failed | Answer::Refused => {
                failing_since.filter(|since| now - *since > DISABLE_AFTER).map(|_| DisableReason::Failing)
            }
        };
        (Self { failing_since, speed }, disabled)
    }
}

/// How fast an endpoint answered last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnswerSpeed {
    /// It was never called.
    Unknown,
    /// Within [`SLOW_AFTER`].
    Prompt,
    /// Later, or not at all.
    Slow,
}

impl AnswerSpeed {
    /// As the database has it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Prompt => "prompt",
            Self::Slow => "slow",
        }
    }

    /// From what the database has.
    pub(crate) fn parse(text: &str) -> Self {
        match text {
            "prompt" => Self::Prompt,
            "slow" => Self::Slow,
            _ => Self::Unknown,
        }
    }

    /// By how long an attempt took; a refused connection is prompt, since it takes no slot's time.
    pub(crate) fn of(latency: Duration, timed_out: bool) -> Self {
        if timed_out || latency >= SLOW_AFTER { Self::Slow } else { Self::Prompt }
    }

    /// How many deliveries may be on their way to such an endpoint at once. One, until it has shown that it answers: each that does
    /// not keeps a slot for the whole timeout.
    pub(crate) const fn max_sending(self) -> i64 {
        match self {
            Self::Prompt => 4,
            Self::Unknown | Self::Slow => 1,
        }
    }

    /// The queue of the jobs of such an endpoint.
    pub(crate) const fn queue(self) -> &'static str {
        match self {
            Self::Unknown | Self::Prompt => PROMPT_QUEUE,
            Self::Slow => SLOW_QUEUE,
        }
    }
}

/// The queue of deliveries that are expected to take little time.
pub(crate) const PROMPT_QUEUE: &str = "";
/// The queue of deliveries to slow endpoints.
pub(crate) const SLOW_QUEUE: &str = "slow";

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOON: OffsetDateTime = datetime!(2026-11-28 12:00 UTC);
    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn an_answer_is_sorted_by_its_status() {
        for (status, answer) in [
            (200, Answer::Accepted),
            (204, Answer::Accepted),
            (0, Answer::Failed),
            (307, Answer::Failed),
            (500, Answer::Failed),
            (503, Answer::Failed),
            (408, Answer::Failed),
            (425, Answer::Failed),
            (429, Answer::Failed),
            (400, Answer::Refused),
            (401, Answer::Refused),
            (404, Answer::Refused),
            (422, Answer::Refused),
            (410, Answer::Gone),
        ] {
            assert_eq!(Answer::of(status), answer, "{status}");
        }
    }

    #[test]
    fn pauses_grow_over_hours_and_end() {
        let mut failures = Failures::default();
        for seconds in RETRY_PAUSES {
            failures = failures.and(Answer::Failed, NOON);
            assert_eq!(failures.pause(), Some(Duration::from_secs(seconds)));
        }
        assert!(RETRY_PAUSES.is_sorted());
        let last = failures.and(Answer::Failed, NOON);
        assert_eq!((last.count, last.pause()), (MAX_DELIVERY_ATTEMPTS, None));
    }

    #[test]
    fn an_event_refused_for_good_is_no_endpoint_that_is_down() {
        let failures = |count, refusals| Failures { count, refusals, since: Some(NOON) };
        let (down_before, up_since) = (Some(NOON - HOUR), Some(NOON + HOUR));
        for (failures, endpoint, for_good) in [
            (Failures::default(), None, false),
            (failures(1, 1), Some(NOON), false),
            (failures(2, 2), None, false),
            (failures(3, 3), Some(NOON), true),
            (failures(3, 3), down_before, true),
            (failures(4, 2), None, false),
            // Never taken, and nothing else either: the endpoint is down, however long.
            (failures(9, 0), down_before, false),
            (failures(9, 0), Some(NOON), false),
            // Others were taken meanwhile.
            (failures(4, 0), up_since, false),
            (failures(5, 0), up_since, true),
            (failures(5, 0), None, true),
        ] {
            assert_eq!(failures.are_for_good(endpoint), for_good, "{failures:?} {endpoint:?}");
        }
        let counted = Failures::default().and(Answer::Refused, NOON).and(Answer::Failed, NOON + HOUR);
        assert_eq!(counted, failures(2, 1));
    }

    #[test]
    fn an_endpoint_is_disabled_when_it_is_gone_or_fails_for_three_days() {
        let days = |days: u32| NOON - 24 * HOUR * days;
        for (failing_since, answer, after, disabled) in [
            (None, Answer::Accepted, None, None),
            (Some(days(9)), Answer::Accepted, None, None),
            (None, Answer::Failed, Some(NOON), None),
            (Some(days(2)), Answer::Failed, Some(days(2)), None),
            (Some(days(3)), Answer::Refused, Some(days(3)), None),
            (Some(days(4)), Answer::Refused, Some(days(4)), Some(DisableReason::Failing)),
            (None, Answer::Gone, Some(NOON), Some(DisableReason::Gone)),
            (Some(days(4)), Answer::Gone, Some(days(4)), Some(DisableReason::Gone)),
        ] {
            let health = Health { failing_since, speed: AnswerSpeed::Unknown };
            let expected = (Health { failing_since: after, speed: AnswerSpeed::Prompt }, disabled);
            assert_eq!(health.after(answer, AnswerSpeed::Prompt, NOON), expected, "{failing_since:?} {answer:?}");
        }
    }

    #[test]
    fn a_slow_endpoint_gets_less_than_a_prompt_one() {
        assert_eq!(AnswerSpeed::of(Duration::from_millis(999), false), AnswerSpeed::Prompt);
        assert_eq!(AnswerSpeed::of(SLOW_AFTER, false), AnswerSpeed::Slow);
        assert_eq!(AnswerSpeed::of(Duration::ZERO, true), AnswerSpeed::Slow);
        for speed in [AnswerSpeed::Unknown, AnswerSpeed::Prompt, AnswerSpeed::Slow] {
            assert_eq!(AnswerSpeed::parse(speed.as_str()), speed);
            assert_eq!(speed.queue() == SLOW_QUEUE, speed == AnswerSpeed::Slow);
        }
        assert!(AnswerSpeed::Prompt.max_sending() > AnswerSpeed::Slow.max_sending());
    }
}
