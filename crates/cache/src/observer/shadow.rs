//! A hit, and the truth after it.
//!
//! The truth is what the reader's own load returns: data and version of one snapshot of the primary, taken after the hit.
//! If nothing newer is in it, nothing newer was there when the hit was served, and its content must be the same. If
//! something newer is, the question is when that was committed. No clock of PostgreSQL's is asked for that (a row's times
//! are those of its transaction's beginning): the relay's messages tell it between two of their times, and what was read
//! is known to be a second old a second later, when nothing may serve less any more.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use coherence::BOUND;
use coherence::time::Mono;

use super::verdict::{Age, Placed, Seen, Served, age, compare, is_absent};
use super::{Check, Kind, Outcome, Violation, peek};
use crate::cache::Loaded;
use crate::inner::Inner;

/// Looks at what was served, in a task of its own that belongs to no request. `truth` gives one value for each.
pub(crate) fn look<E>(
    inner: &Arc<Inner>,
    served: Vec<Served>,
    truth: impl Future<Output = Result<Vec<Loaded>, E>> + Send + 'static,
) where
    E: Send + 'static,
{
    let Ok(asking) = Arc::clone(&inner.observer.asking).try_acquire_owned() else {
        return all(inner, &served, Outcome::Skipped);
    };
    let inner = Arc::clone(inner);
    tokio::spawn(async move {
        let stop = inner.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = compared(&inner, served, truth, asking) => {}
        }
    });
}

async fn compared<E>(
    inner: &Arc<Inner>,
    served: Vec<Served>,
    truth: impl Future<Output = Result<Vec<Loaded>, E>>,
    asking: OwnedSemaphorePermit,
) {
    let Ok(truth) = truth.await else { return all(inner, &served, Outcome::Failed) };
    // All that the truth shows was committed before this.
    let known = inner.now();
    drop(asking);
    let mut newer = Vec::new();
    for (served, truth) in served.into_iter().zip(truth) {
        match compare(&served, &truth) {
            Seen::Same => inner.observer.count(Check::Shadow, Outcome::Current),
            Seen::OtherContent => violated(inner, Kind::Content, &served, &truth, None),
            Seen::Ahead => violated(inner, Kind::Ahead, &served, &truth, None),
            Seen::Newer => newer.push((served, truth)),
        }
    }
    if newer.is_empty() {
        return;
    }
    let Ok(_followed) = Arc::clone(&inner.observer.followed).try_acquire_owned() else {
        return newer.iter().for_each(|_| inner.observer.count(Check::Shadow, Outcome::Skipped));
    };
    // By then the relay has told of it, if it can, and its time to be served is over.
    tokio::time::sleep(BOUND).await;
    for (served, truth) in newer {
        settle(inner, &served, &truth, known).await;
    }
}

async fn settle(inner: &Arc<Inner>, served: &Served, truth: &Loaded, known: Mono) {
    // Which of the versions told was the first after an absence is not known: it has none.
    let placed = if is_absent(served.version, &served.body) {
        Placed::default()
    } else {
        inner.observer.records.placed(served.key.as_str(), served.version, served.begun)
    };
    let outcome = match age(served.begun, placed) {
        Age::Late(late) => return violated(inner, Kind::Bound, served, truth, Some(late)),
        Age::Within(most) => Outcome::Within(most),
        Age::Open => Outcome::Open,
    };
    // What would be served to a reader who begins now, more than the bound after the truth was read.
    let late = inner.now().since(known);
    if late > BOUND {
        let l1 = peek::l1(inner, served.key.text()).await;
        let redis = peek::redis(inner, served.key.as_str()).await;
        if [l1, redis].into_iter().flatten().any(|holds| holds.is_older(truth, served)) {
            return violated(inner, Kind::Bound, served, truth, Some(late));
        }
    }
    inner.observer.count(Check::Shadow, outcome);
}

fn violated(inner: &Inner, kind: Kind, served: &Served, truth: &Loaded, late: Option<Duration>) {
    let of = Violation {
        key: served.key.as_str(),
        answer: served.version,
        answered: served.tier.label(),
        truth: truth.version,
        late,
    };
    inner.observer.violated(Check::Shadow, kind, &of);
}

fn all(inner: &Inner, served: &[Served], outcome: Outcome) {
    for _ in served {
        inner.observer.count(Check::Shadow, outcome);
    }
}
