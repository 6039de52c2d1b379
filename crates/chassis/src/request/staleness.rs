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

use super::scope::{Scope, Staleness};
use crate::status::Failure;

/// The metadata of a request that takes an answer which is this many seconds old, 1 to 60, when no fresh one can be had.
pub const MAX_STALE_HEADER: &str = "rushes-max-stale";

/// The metadata of a reply which is not known to be fresh: it holds all that was committed this many seconds ago, rounded up.
pub const AGE_HEADER: &str = "rushes-stale-age";

/// The oldest answer that may be asked for.
pub const MAX_STALE: Duration = Duration::from_secs(60);

impl Staleness {
    /// How old an answer a request with these headers takes.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Option<Arc<Self>>, Failure> {
        let Some(asked) = headers.get(MAX_STALE_HEADER) else { return Ok(None) };
        let seconds = asked.to_str().ok().and_then(|text| text.parse().ok());
        match seconds.map(Duration::from_secs).filter(|max| !max.is_zero() && *max <= MAX_STALE) {
            Some(max) => Ok(Some(Arc::new(Self { max, age: AtomicU64::new(0) }))),
            None => {
                let should = format!("must be a whole number of seconds, 1 to {}", MAX_STALE.as_secs());
                Err(Failure::invalid(MAX_STALE_HEADER, "MAX_STALE_INVALID", should))
            }
        }
    }

    /// Writes into the reply's headers how old it is, if it is.
    pub(crate) fn write_reply(&self, headers: &mut HeaderMap) {
        let age = self.age.load(Ordering::Relaxed);
        if age > 0 {
            headers.insert(AGE_HEADER, HeaderValue::from(age.div_ceil(1000)));
        }
    }
}

/// How old the answer to the current request may be; nothing if it must be fresh.
#[must_use]
pub fn accepted() -> Option<Duration> {
    Scope::with(|scope| scope.staleness.as_ref().map(|staleness| staleness.max)).flatten()
}

/// Notes that something this old goes into the current call's answer.
pub fn report_age(age: Duration) {
    let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX).max(1);
    let _ =
        Scope::with(|scope| scope.staleness.as_ref().map(|staleness| staleness.age.fetch_max(age, Ordering::Relaxed)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(http::HeaderName::from_static(MAX_STALE_HEADER), HeaderValue::from_static(value))])
    }

    #[test]
    fn only_whole_seconds_of_a_minute_are_taken() {
        assert!(Staleness::of(&HeaderMap::new()).unwrap().is_none());
        for wrong in ["", "0", "61", "-1", "1.5", "1s", "true"] {
            assert!(Staleness::of(&asked(wrong)).is_err(), "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn the_age_of_the_oldest_part_goes_out_in_seconds_rounded_up() {
        assert_eq!(accepted(), None);
        for (parts, age) in [(vec![], None), (vec![1], Some("1")), (vec![1, 12_001, 3], Some("13"))] {
            let staleness = Staleness::of(&asked("60")).unwrap();
            let scope = Scope { staleness: staleness.clone(), ..Scope::default() };
            scope
                .run(async {
                    assert_eq!(accepted(), Some(MAX_STALE));
                    parts.into_iter().for_each(|age| report_age(Duration::from_millis(age)));
                })
                .await;
            let mut reply = HeaderMap::new();
            staleness.unwrap().write_reply(&mut reply);
            assert_eq!(reply.get(AGE_HEADER).map(|age| age.to_str().unwrap()), age);
        }
    }
}
