//! What a caller is told of its rates, as draft-ietf-httpapi-ratelimit-headers has it: `ratelimit-policy` names each with what it takes
//! (`q` calls in `w` seconds), and `ratelimit` what is left (`r`) and the seconds until all of it is there again (`t`).

use std::fmt::Write as _;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Limit, Owner, bucket::Level};

/// Metadata with what is left.
pub(crate) const LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// Metadata with what may be used.
pub(crate) const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The rates that a call was counted by.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report(Vec<(Limit, Owner, Level)>);

impl Report {
    pub(super) fn note(&mut self, limit: Limit, owner: Owner, level: Level) {
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
        for (name, text) in [(LIMIT, limits), (POLICY, policies)] {
            if !text.is_empty()
                && let Ok(value) = HeaderValue::try_from(text)
            {
                headers.insert(name, value);
            }
        }
    }
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
        assert_eq!(headers[LIMIT], r#""polls";r=39;t=1, "polls-key";r=0;t=4"#);
        assert_eq!(headers[POLICY], r#""polls";q=40;w=4, "polls-key";q=20;w=4"#);
    }
}
