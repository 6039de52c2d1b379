//! A hit, and the truth after it.
//!
//! The truth is what the reader's own load returns: data and version of one snapshot of the primary, taken after the hit.
//! If nothing newer is in it, nothing newer was there when the hit was served, and its content must be the same. If
//! something newer is, the question is when that was committed. PostgreSQL's clock is not asked for that (a row's times
//! are those of its transaction's beginning): the relay's messages bound it between two of their times, and what was read
//! is known to be a second old a second later, when nothing may serve less.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use coherence::BOUND;
use coherence::time::Mono;

use super::servable;
use crate::hit::Loaded;
use crate::inner::Inner;
use crate::observer::{Age, Check, CommitTime, Comparison, Kind, Outcome, Served, Violation, age, compare, is_absent};

/// Compares what was served with the truth, in a task of its own that belongs to no request. `truth` returns one value for each.
pub(crate) fn begin<E>(
    inner: &Arc<Inner>,
    served: Vec<Served>,
    truth: impl Future<Output = Result<Vec<Loaded>, E>> + Send + 'static,
) where
    E: Send + 'static,
{
    let Ok(loading) = Arc::clone(&inner.observer.loading).try_acquire_owned() else {
        return count_all(inner, &served, Outcome::Skipped);
    };
    let inner = Arc::clone(inner);
    tokio::spawn(async move {
        let stop = inner.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = compare_all(&inner, served, truth, loading) => {}
        }
    });
}

async fn compare_all<E>(
    inner: &Arc<Inner>,
    served: Vec<Served>,
    truth: impl Future<Output = Result<Vec<Loaded>, E>>,
    loading: OwnedSemaphorePermit,
) {
    let Ok(truth) = truth.await else { return count_all(inner, &served, Outcome::Failed) };
    // All that the truth has was committed before this.
    let known = inner.now();
    drop(loading);
    let mut newer = Vec::new();
    for (served, truth) in served.into_iter().zip(truth) {
        match compare(&served, &truth) {
            Comparison::Same => inner.observer.count(Check::ShadowRead, Outcome::Current),
            Comparison::OtherContent => violated(inner, Kind::Content, &served, &truth, None),
            Comparison::Ahead => violated(inner, Kind::Ahead, &served, &truth, None),
            Comparison::Newer => newer.push((served, truth)),
        }
    }
    if newer.is_empty() {
        return;
    }
    let Ok(_followed) = Arc::clone(&inner.observer.followed).try_acquire_owned() else {
        return newer.iter().for_each(|_| inner.observer.count(Check::ShadowRead, Outcome::Skipped));
    };
    // By then the relay has published the newer version, if it can, and the older one may no longer be served.
    tokio::time::sleep(BOUND).await;
    for (served, truth) in newer {
        date(inner, &served, &truth, known).await;
    }
}

/// Counts how old an answer was of which the truth is newer.
async fn date(inner: &Arc<Inner>, served: &Served, truth: &Loaded, known: Mono) {
    // Which of the versions that were published was the first after an absence is not known: an absence has none.
    let first_newer = if is_absent(served.version, &served.body) {
        CommitTime::default()
    } else {
        inner.observer.records.first_newer(served.key.as_str(), served.version, served.begun)
    };
    let outcome = match age(served.begun, first_newer) {
        Age::Late(late) => return violated(inner, Kind::Bound, served, truth, Some(late)),
        Age::Within(max) => Outcome::Within(max),
        Age::Open => Outcome::Open,
    };
    // What would be served to a reader that begins now, more than the bound after the truth was read.
    let late = inner.now().since(known);
    if late > BOUND {
        let l1 = servable::l1(inner, served.key.text()).await;
        let redis = servable::redis(inner, served.key.as_str()).await;
        if [l1, redis].into_iter().flatten().any(|servable| servable.is_older(truth, served)) {
            return violated(inner, Kind::Bound, served, truth, Some(late));
        }
    }
    inner.observer.count(Check::ShadowRead, outcome);
}

fn violated(inner: &Inner, kind: Kind, served: &Served, truth: &Loaded, late: Option<Duration>) {
    let violation = Violation {
        key: served.key.as_str(),
        answer: served.version,
        answered_by: served.tier.label(),
        truth: truth.version,
        late,
    };
    inner.observer.violated(Check::ShadowRead, kind, &violation);
}

fn count_all(inner: &Inner, served: &[Served], outcome: Outcome) {
    for _ in served {
        inner.observer.count(Check::ShadowRead, outcome);
    }
}
