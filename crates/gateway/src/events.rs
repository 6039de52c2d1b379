//! The events of the gateway that operators read: for each its one log line and its counter.
//!
//! Invariant: nothing of a credential is logged, neither a key nor its hash; a key that exists is named by its resource name.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Refusal;
use crate::metrics;

/// At most one line about refusals with one reason is written in this time: a client that tries keys by the million must not fill the
/// log. The counter has every one.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// A call was refused with the key that it shows; `key` is the name of the key, if it is one that exists. A key that is used from where it
/// may not be is perhaps a stolen one, so its line says from where.
pub(crate) fn authentication_refused(refusal: Refusal, key: Option<&str>, address: IpAddr) {
    static SAMPLERS: [Sampler; Refusal::ALL.len()] = [const { Sampler::new() }; Refusal::ALL.len()];
    metrics::AUTHENTICATIONS_REFUSED.with([refusal.as_str()]).increment(1);
    let Some(unlogged) = SAMPLERS[refusal as usize].admit(Instant::now()) else { return };
    let address = (refusal == Refusal::Address).then(|| tracing::field::display(address));
    tracing::info!(reason = refusal.as_str(), api_key = key, address, unlogged, "authentication refused");
}

/// Admits one event in each interval and counts those in between.
struct Sampler(Mutex<State>);

struct State {
    last: Option<Instant>,
    unlogged: u64,
}

impl Sampler {
    const fn new() -> Self {
        Self(Mutex::new(State { last: None, unlogged: 0 }))
    }

    /// How many events were not admitted since the last one that was; `None` if this one is not admitted either.
    fn admit(&self, now: Instant) -> Option<u64> {
        // The state is whole at each step, so a panic elsewhere leaves it usable.
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last.is_some_and(|last| now.duration_since(last) < LOG_INTERVAL) {
            state.unlogged += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.unlogged))
    }
}

#[cfg(test)]
mod tests {
    use testkit::logged;

    use super::*;

    #[test]
    fn a_flood_of_refusals_is_one_line_for_each_reason() {
        let key = "accounts/a/apiKeys/k";
        let lines = logged(|| {
            for _ in 0..100 {
                authentication_refused(Refusal::Missing, None, [192, 0, 2, 1].into());
                authentication_refused(Refusal::Revoked, Some(key), [192, 0, 2, 1].into());
                authentication_refused(Refusal::Address, Some(key), [192, 0, 2, 1].into());
            }
        });
        // One more where a second ends in between.
        assert!((3..=6).contains(&lines.len()), "{lines:?}");
        for (line, reason) in lines.iter().zip(["missing", "revoked", "address"]) {
            assert_eq!(line["level"], "INFO");
            assert_eq!(line["fields"]["message"], "authentication refused");
            assert_eq!(line["fields"]["reason"], reason);
        }
        assert_eq!(lines[0]["fields"].get("api_key"), None);
        assert_eq!(lines[1]["fields"]["api_key"], key);
        assert_eq!(lines[1]["fields"].get("address"), None);
        assert_eq!(lines[2]["fields"]["address"], "192.0.2.1");
    }

    #[test]
    fn one_event_of_an_interval_is_logged_and_the_others_are_counted() {
        let (sampler, start) = (Sampler::new(), Instant::now());
        assert_eq!(sampler.admit(start), Some(0));
        for _ in 0..3 {
            assert_eq!(sampler.admit(start + LOG_INTERVAL / 2), None);
        }
        assert_eq!(sampler.admit(start + LOG_INTERVAL), Some(3));
        assert_eq!(sampler.admit(start + LOG_INTERVAL), None);
        assert_eq!(sampler.admit(start + LOG_INTERVAL * 9), Some(1));
    }

    #[test]
    fn every_reason_has_a_sampler_of_its_own() {
        for (at, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, at);
        }
    }
}
