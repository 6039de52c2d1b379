//! Compares an answer with the truth that was read after it.
//!
//! Invariant: a finding against the cache rests on instants of this process alone: the answer's reader had begun more
//! than the bound after a newer version was known here to be committed. What cannot be proven either way is left open.

use std::time::Duration;

use bytes::Bytes;

use coherence::BOUND;
use coherence::read::{Loaded, Tier};
use coherence::time::Mono;

use crate::key::Key;

/// A hit that is checked.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    pub(crate) key: Key,
    /// When its reader began.
    pub(crate) begun: Mono,
    pub(crate) version: i64,
    pub(crate) body: Bytes,
    pub(crate) tier: Tier,
}

/// How an answer compares with a truth that was read later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    /// Nothing newer was committed before the truth was read, so nothing was before the answer.
    Same,
    /// Equal version, other content.
    OtherContent,
    /// Something newer was committed, before the answer or after it.
    Newer,
    /// The answer has what the truth does not have yet.
    Ahead,
}

/// Compares what was served with what was loaded after it.
pub(crate) fn compare(served: &Served, truth: &Loaded<Bytes>) -> Comparison {
    // "Does not exist" has no place in the order of versions: to appear or to go is a change.
    if is_absent(served.version, &served.body) != is_absent(truth.version, &truth.body) {
        return Comparison::Newer;
    }
    match served.version.cmp(&truth.version) {
        std::cmp::Ordering::Less => Comparison::Newer,
        std::cmp::Ordering::Greater => Comparison::Ahead,
        std::cmp::Ordering::Equal if served.body == truth.body => Comparison::Same,
        std::cmp::Ordering::Equal => Comparison::OtherContent,
    }
}

pub(crate) fn is_absent(version: i64, body: &[u8]) -> bool {
    version == 0 && body.is_empty()
}

/// What a process or Redis would serve of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Servable {
    pub(crate) version: i64,
    pub(crate) absent: bool,
    /// A digest of the body.
    pub(crate) content: u64,
}

impl Servable {
    pub(crate) fn of(version: i64, body: &[u8]) -> Self {
        Self { version, absent: is_absent(version, body), content: digest(body) }
    }

    /// Whether this is older than `truth`, which was read in place of `served`.
    ///
    /// Of an absence this is not known: the row may have been deleted since.
    pub(crate) fn is_older(&self, truth: &Loaded<Bytes>, served: &Served) -> bool {
        if self.absent {
            return false;
        }
        if is_absent(truth.version, &truth.body) {
            self.version <= served.version
        } else {
            self.version < truth.version
        }
    }
}

/// FNV-1a: the same in every process of every build, which the standard library's hashes do not promise to be.
fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// When something was committed, as far as that is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CommitTime {
    /// Not before this.
    pub(crate) since: Option<Mono>,
    /// Before this.
    pub(crate) by: Option<Mono>,
}

/// What is known of an answer's age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Age {
    /// At most this, which the promise allows.
    Within(Duration),
    /// At least this, which it does not.
    Late(Duration),
    /// Neither is proven.
    Open,
}

/// How old the answer of a reader that began at `begun` was, when the first newer version was `committed`.
pub(crate) fn age(begun: Mono, committed: CommitTime) -> Age {
    if let Some(by) = committed.by
        && begun.since(by) > BOUND
    {
        return Age::Late(begun.since(by));
    }
    match committed.since {
        Some(since) if begun.since(since) <= BOUND => Age::Within(begun.since(since)),
        _ => Age::Open,
    }
}

#[cfg(test)]
mod tests {
    use coherence::asof::Asof;
    use coherence::lifetime::Lifetime;

    use super::*;

    fn served(version: i64, body: &'static str) -> Served {
        Served { key: Key::global("k", "a"), begun: at(0), version, body: body.into(), tier: Tier::L1 }
    }

    fn truth(version: i64, body: &'static str) -> Loaded<Bytes> {
        let asof = Asof { epoch: 1, seq: 1 };
        Loaded { version, asof, body: body.into(), lifetime: Lifetime::TERMINAL }
    }

    fn at(millis: i64) -> Mono {
        Mono(millis * 1_000_000)
    }

    #[test]
    fn an_answer_compares_with_the_truth_in_one_of_four_ways() {
        assert_eq!(compare(&served(3, "c"), &truth(3, "c")), Comparison::Same);
        assert_eq!(compare(&served(3, "c"), &truth(3, "x")), Comparison::OtherContent);
        assert_eq!(compare(&served(3, "c"), &truth(4, "d")), Comparison::Newer);
        assert_eq!(compare(&served(4, "d"), &truth(3, "c")), Comparison::Ahead);
    }

    #[test]
    fn to_be_created_or_deleted_is_a_change_and_no_contradiction() {
        assert_eq!(compare(&served(0, ""), &truth(0, "")), Comparison::Same);
        assert_eq!(compare(&served(0, ""), &truth(1, "a")), Comparison::Newer);
        assert_eq!(compare(&served(7, "g"), &truth(0, "")), Comparison::Newer);
        assert_eq!(compare(&served(0, "an aggregate that nobody bumped"), &truth(0, "")), Comparison::Newer);
    }

    #[test]
    fn what_is_servable_is_older_by_its_version_or_by_being_deleted_since() {
        let servable = |version, body: &str| Servable::of(version, body.as_bytes());
        assert!(servable(3, "c").is_older(&truth(4, "d"), &served(3, "c")));
        assert!(!servable(4, "d").is_older(&truth(4, "d"), &served(3, "c")));
        assert!(servable(3, "c").is_older(&truth(0, ""), &served(3, "c")), "it was deleted");
        assert!(!servable(0, "").is_older(&truth(4, "d"), &served(3, "c")), "it may have been deleted since");
        assert_ne!(servable(3, "c").content, servable(3, "x").content);
    }

    #[test]
    fn an_age_is_claimed_only_where_it_is_proven() {
        let committed = |since: Option<i64>, by: Option<i64>| CommitTime { since: since.map(at), by: by.map(at) };
        assert_eq!(age(at(5000), committed(Some(4800), Some(4900))), Age::Within(Duration::from_millis(200)));
        assert_eq!(age(at(5000), committed(Some(5100), Some(5200))), Age::Within(Duration::ZERO), "committed after it");
        assert_eq!(age(at(5000), committed(Some(3900), Some(4100))), Age::Open, "on either side of the bound");
        assert_eq!(age(at(5000), committed(None, Some(4000))), Age::Open, "the bound itself is kept");
        assert_eq!(age(at(5000), committed(None, Some(3999))), Age::Late(Duration::from_millis(1001)));
        assert_eq!(age(at(5000), CommitTime::default()), Age::Open);
    }
}
