//! Stale answers, for a caller who would rather have one than none: how old it may be, and how old it is.
//!
//! The names and the unit are those of HTTP's `max-stale` and `Age`. Invariant: an answer that is not known to be fresh goes only
//! to a caller who asked for it, and says its age.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, HeaderValue};

use crate::{status::Failure, task::Scope};

/// The metadata of a request that takes an answer which is this many seconds old, 1 to 60, when no fresh one can be had.
pub const ASKED: &str = "rushes-max-stale";

/// The metadata of a reply which is not known to be fresh: it holds all that was committed this many seconds ago, rounded up.
pub const TOLD: &str = "rushes-stale-age";

/// The oldest answer that may be asked for.
pub const MOST: Duration = Duration::from_secs(60);

/// One call's leave to be answered with something old, and how old what it got is.
#[derive(Debug)]
pub(crate) struct Leave {
    most: Duration,
    /// Milliseconds; 0 for fresh.
    age: AtomicU64,
}

impl Leave {
    /// What a request with these headers takes.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Option<Arc<Self>>, Failure> {
        let Some(asked) = headers.get(ASKED) else { return Ok(None) };
        let seconds = asked.to_str().ok().and_then(|text| text.parse().ok());
        match seconds.map(Duration::from_secs).filter(|most| !most.is_zero() && *most <= MOST) {
            Some(most) => Ok(Some(Arc::new(Self { most, age: AtomicU64::new(0) }))),
            None => {
                let wrong = format!("must be a whole number of seconds, 1 to {}", MOST.as_secs());
                Err(Failure::invalid(ASKED, "MAX_STALE_INVALID", wrong))
            }
        }
    }

    /// Says in the reply's headers how old it is, if it is.
    pub(crate) fn close(&self, headers: &mut HeaderMap) {
        let age = self.age.load(Ordering::Relaxed);
        if age > 0 {
            headers.insert(TOLD, HeaderValue::from(age.div_ceil(1000)));
        }
    }
}

/// How old the answer to the current call may be; nothing if it must be fresh.
#[must_use]
pub fn allowed() -> Option<Duration> {
    Scope::with(|scope| scope.stale.as_ref().map(|leave| leave.most)).flatten()
}

/// Takes note that something this old goes into the current call's answer.
pub fn tell(age: Duration) {
    let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX).max(1);
    let _ = Scope::with(|scope| scope.stale.as_ref().map(|leave| leave.age.fetch_max(age, Ordering::Relaxed)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(http::HeaderName::from_static(ASKED), HeaderValue::from_static(value))])
    }

    #[test]
    fn only_whole_seconds_of_a_minute_are_taken() {
        assert!(Leave::of(&HeaderMap::new()).unwrap().is_none());
        for wrong in ["", "0", "61", "-1", "1.5", "1s", "true"] {
            assert!(Leave::of(&asked(wrong)).is_err(), "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn the_oldest_part_is_told_in_seconds_rounded_up() {
        assert_eq!(allowed(), None);
        for (parts, told) in [(vec![], None), (vec![1], Some("1")), (vec![1, 12_001, 3], Some("13"))] {
            let leave = Leave::of(&asked("60")).unwrap();
            let scope = Scope { stale: leave.clone(), ..Scope::default() };
            scope
                .run(async {
                    assert_eq!(allowed(), Some(MOST));
                    parts.into_iter().for_each(|age| tell(Duration::from_millis(age)));
                })
                .await;
            let mut reply = HeaderMap::new();
            leave.unwrap().close(&mut reply);
            assert_eq!(reply.get(TOLD).map(|age| age.to_str().unwrap()), told);
        }
    }
}
