//! What calls are counted by, and what a caller is told of it: `ratelimit-policy` names each rate with what it takes (`q` calls in `w`
//! seconds), and `ratelimit` what is left (`r`) and the seconds until all of it is there again (`t`), as
//! draft-ietf-httpapi-ratelimit-headers has them.

use std::fmt::Write as _;
use std::time::Duration;

use chassis::request::metadata::unlike_others;
use chassis::status::Failure;
use http::{HeaderMap, HeaderName, HeaderValue};
use proto::Class;

/// Metadata with what is left.
pub(crate) const REMAINING_HEADER: HeaderName = HeaderName::from_static("ratelimit");
/// Metadata with what may be used.
pub(crate) const POLICY_HEADER: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The rates that a call was counted by.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report(Vec<(Limit, Owner, Level)>);

impl Report {
    pub(crate) fn note(&mut self, limit: Limit, owner: Owner, level: Level) {
        self.0.push((limit, owner, level));
    }

    /// Writes both headers.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        let (mut limits, mut policies) = (String::with_capacity(64), String::with_capacity(64));
        for (at, (limit, owner, level)) in self.0.iter().enumerate() {
            let (comma, name) = (if at > 0 { ", " } else { "" }, limit.as_str());
            let of_key = if *owner == Owner::Key { "-key" } else { "" };
            let Level { quota, window, remaining, reset } = level;
            // A string takes whatever is written into it.
            let _ = write!(policies, r#"{comma}"{name}{of_key}";q={quota};w={window}"#);
            let _ = write!(limits, r#"{comma}"{name}{of_key}";r={remaining};t={reset}"#);
        }
        if !limits.is_empty()
            && let (Some(limits), Ok(policies)) = (unlike_others(limits), HeaderValue::try_from(policies))
        {
            headers.insert(REMAINING_HEADER, limits);
            headers.insert(POLICY_HEADER, policies);
        }
    }
}

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Calls of [`Class::People`] a second.
    People,
    /// Calls of [`Class::Polls`] a second.
    Polls,
    /// Calls of [`Class::Background`] a second.
    Background,
    /// Tests of webhook endpoints a second.
    EndpointTests,
    /// Calls at once, watches apart.
    Calls,
    /// Uploads at once.
    Uploads,
}

impl Limit {
    /// Its name in errors, headers and metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::People => Class::People.as_str(),
            Self::Polls => Class::Polls.as_str(),
            Self::Background => Class::Background.as_str(),
            Self::EndpointTests => "endpoint-tests",
            Self::Calls => "calls",
            Self::Uploads => "uploads",
        }
    }
}

/// Whose limit it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// All keys of an account together.
    Account,
    /// One key.
    Key,
}

impl Owner {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Key => "key",
        }
    }
}

/// What an account and a key may ask for, and how much of it is used.
#[derive(Debug, Default)]
pub(crate) struct Uses {
    pub(crate) rates: Vec<RateUse>,
    pub(crate) places: Vec<PlaceUse>,
    /// How many gateways share it.
    pub(crate) gateways: u32,
}

/// One rate over all gateways, and what is left of it at this one.
#[derive(Debug)]
pub(crate) struct RateUse {
    pub(crate) limit: Limit,
    pub(crate) owner: Owner,
    pub(crate) per_second: u32,
    pub(crate) burst: u32,
    pub(crate) level: Level,
}

/// What this gateway lets be there at a time, and what is.
#[derive(Debug)]
pub(crate) struct PlaceUse {
    pub(crate) limit: Limit,
    pub(crate) owner: Owner,
    pub(crate) max: u32,
    pub(crate) in_use: u32,
}

/// A call that is one too many.
#[derive(Clone, Debug, thiserror::Error)]
#[error("over the limit {} of its {}", limit.as_str(), owner.as_str())]
pub(crate) struct Exceeded {
    pub(crate) limit: Limit,
    pub(crate) owner: Owner,
    pub(crate) retry_after: Duration,
    pub(crate) report: Report,
}

impl From<Exceeded> for Failure {
    fn from(Exceeded { limit, owner, retry_after, .. }: Exceeded) -> Self {
        let (name, owner) = (limit.as_str(), owner.as_str());
        let message = match limit {
            Limit::People | Limit::Polls | Limit::Background => {
                format!("this {owner} sends more calls of the class `{name}` than it may; send them more slowly")
            }
            Limit::EndpointTests => format!("this {owner} tests its endpoints more often than it may; wait"),
            Limit::Calls | Limit::Uploads => {
                format!("this {owner} has as many {name} at once as it may; wait until some have ended")
            }
        };
        Self::exhausted("LIMIT_EXCEEDED", message, retry_after).and_metadata("limit", name).and_metadata("of", owner)
    }
}

/// A bucket as one gateway sees it, after a call was taken or refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Level {
    /// The calls that this gateway takes at once, and in `window`.
    pub(crate) quota: u32,
    /// The seconds in which an empty bucket fills.
    pub(crate) window: u32,
    /// The calls that are left now.
    pub(crate) remaining: u32,
    /// The seconds until it is full, rounded up.
    pub(crate) reset: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rate_is_an_item_of_a_structured_list() {
        let mut report = Report::default();
        let mut headers = HeaderMap::new();
        report.write(&mut headers);
        assert!(headers.is_empty());
        report.note(Limit::Polls, Owner::Account, Level { quota: 40, window: 4, remaining: 39, reset: 1 });
        report.note(Limit::Polls, Owner::Key, Level { quota: 20, window: 4, remaining: 0, reset: 4 });
        report.write(&mut headers);
        assert_eq!(headers[REMAINING_HEADER], r#""polls";r=39;t=1, "polls-key";r=0;t=4"#);
        assert_eq!(headers[POLICY_HEADER], r#""polls";q=40;w=4, "polls-key";q=20;w=4"#);
    }
}
