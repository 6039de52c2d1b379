//! How long a request may still take. The deadline arrives as `grpc-timeout`, lives in the task,
//! and leaves with every outgoing call, smaller by what has passed and by a margin for the hop itself, so that the
//! caller hears of an expiry from the callee while it can still answer.

use std::{future::Future, time::Duration};

use http::HeaderValue;
use tokio::time::Instant;

use super::metadata::unlike_others;
use super::scope::Scope;
use crate::status::Failure;

/// The gRPC header that carries the time left.
pub const HEADER: &str = "grpc-timeout";

/// What each hop keeps for itself.
pub const HOP: Duration = Duration::from_millis(5);

/// The work did not end before the request's deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the deadline passed")]
pub struct Expired;

impl From<Expired> for Failure {
    fn from(_: Expired) -> Self {
        Self::deadline()
    }
}

/// The time left to the current request; zero when it has passed, `None` when there is no limit.
#[must_use]
pub fn remaining() -> Option<Duration> {
    at().map(|at| at.saturating_duration_since(Instant::now()))
}

/// The moment at which the current request expires, if it does.
#[must_use]
pub fn at() -> Option<Instant> {
    Scope::with(|scope| scope.deadline).flatten()
}

/// Runs `future` with the deadline `at`, or with the one already set if that is earlier.
/// It stops nothing: work that should end at the deadline goes through [`bound`].
pub async fn within<F: Future>(at: impl Into<Instant>, future: F) -> F::Output {
    let mut scope = Scope::current();
    let at = at.into();
    scope.deadline = Some(scope.deadline.map_or(at, |earlier| earlier.min(at)));
    scope.run(future).await
}

/// Runs `future` and gives it up when the current deadline passes; without a deadline it just runs.
///
/// # Errors
/// [`Expired`] when the deadline came first.
pub async fn bound<F: Future>(future: F) -> Result<F::Output, Expired> {
    match at() {
        Some(at) => tokio::time::timeout_at(at, future).await.map_err(|_| Expired),
        None => Ok(future.await),
    }
}

/// Reads a `grpc-timeout`: at most eight digits and a unit (`H`, `M`, `S`, `m`, `u`, `n`); `None` if malformed.
#[must_use]
pub fn parse(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Writes a `grpc-timeout`, rounding down, in the finest unit that fits eight digits.
#[must_use]
pub fn format(left: Duration) -> HeaderValue {
    const LIMIT: u128 = 100_000_000;
    let text = if left.as_micros() < LIMIT {
        format!("{}u", left.as_micros())
    } else if left.as_millis() < LIMIT {
        format!("{}m", left.as_millis())
    } else {
        format!("{}S", left.as_secs().min(99_999_999))
    };
    unlike_others(text).unwrap_or(HeaderValue::from_static("0u"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        let read = |text: &str| parse(&HeaderValue::from_str(text).unwrap());
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        assert_eq!(read("2S"), Some(Duration::from_secs(2)));
        assert_eq!(read("1H"), Some(Duration::from_secs(3_600)));
        assert_eq!(read("99999999H"), Some(Duration::from_secs(359_999_996_400)));
        for wrong in ["", "S", "2", "123456789S", "-1S", "2 S", "2x", "2é"] {
            let value = HeaderValue::from_bytes(wrong.as_bytes()).unwrap();
            assert_eq!(parse(&value), None, "{wrong:?}");
        }
    }

    #[test]
    fn what_is_written_is_read_back_and_never_longer() {
        for left in [0, 1, 1_999, 2_000_000, 10_000_000, 99_999_999_000, 1 << 50] {
            let left = Duration::from_micros(left);
            let back = parse(&format(left)).unwrap();
            assert!(back <= left, "{left:?} became {back:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_inner_deadline_only_shortens() {
        let now = Instant::now();
        within(now + Duration::from_secs(2), async {
            within(now + Duration::from_secs(9), async {
                assert_eq!(remaining(), Some(Duration::from_secs(2)));
            })
            .await;
            let slow = tokio::time::sleep(Duration::from_secs(3));
            assert_eq!(bound(slow).await, Err(Expired));
            assert_eq!(remaining(), Some(Duration::ZERO));
        })
        .await;
        assert_eq!(remaining(), None);
    }
}
