//! A change, and what every process and Redis would serve of its key some time after it.
//!
//! The process that relays the change asks. It knows the version to be committed, since it read it from the outbox; a
//! second later nobody may serve less. PostgreSQL is asked only when somebody would, and only for aggregates: a row's
//! version is the outbox's word. Invariant: a peek changes nothing; it takes no lease, starts no flight and counts as no
//! hit.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use coherence::BOUND;
use coherence::entry::{Verdict, judge};
use coherence::time::Mono;

pub(crate) use super::verdict::Holds;
use super::{Check, Kind, Outcome, Violation};
use crate::inner::Inner;
use crate::{nats, redis as link, store};

/// What this process's L1 would serve now.
pub(crate) async fn l1(inner: &Inner, key: &Arc<str>) -> Option<Holds> {
    let begun = inner.now();
    let demand = inner.shard(key).floors.demand(key, begun);
    let entry = inner.l1.get(key).await?;
    let sight = inner.sight();
    match judge(&entry, &sight.window, &sight.clock, demand, begun) {
        Verdict::Serve(_) => Some(Holds::of(entry.version, &entry.body)),
        Verdict::Unproven | Verdict::Useless => None,
    }
}

/// What Redis would serve now to a process that knows nothing of the key.
pub(super) async fn redis(inner: &Inner, key: &str) -> Option<Holds> {
    let link = inner.redis.as_ref()?;
    let session = link.session().await?;
    let peek = async |connection: &mut _| link::peek(connection, &inner.names, key).await;
    let (at, version, body) = link.call("cache.peek", &session, peek).await??;
    let now = inner.now();
    let fresh = inner.sight().clock.instant(at, now)?;
    (fresh >= now - BOUND).then(|| Holds::of(version, &body))
}

/// Follows some of the changes that this process has relayed, each in a task of its own.
pub(crate) fn follow(inner: &Arc<Inner>, changes: &[(Arc<str>, i64)]) {
    // All of them were committed before this.
    let known = inner.now();
    for (key, version) in changes.iter().filter(|_| inner.observer.picks()) {
        let Ok(followed) = Arc::clone(&inner.observer.followed).try_acquire_owned() else {
            inner.observer.count(Check::Peek, Outcome::Skipped);
            continue;
        };
        let (inner, key, version) = (Arc::clone(inner), Arc::clone(key), *version);
        tokio::spawn(async move {
            let _followed = followed;
            let stop = inner.stop.clone();
            tokio::select! {
                () = stop.cancelled() => {}
                () = looked_after(&inner, &key, version, known) => {}
            }
        });
    }
}

async fn looked_after(inner: &Inner, key: &Arc<str>, version: i64, known: Mono) {
    for after in inner.settings.peeks {
        tokio::time::sleep(after.max(BOUND).saturating_sub(inner.now().since(known))).await;
        look(inner, key, version, inner.now().since(known)).await;
    }
}

async fn look(inner: &Inner, key: &Arc<str>, version: i64, late: Duration) {
    let mut answers: Vec<(&str, Option<Holds>)> = match &inner.nats {
        Some(client) if nats::is_up(client) => {
            let answers = nats::peek::ask(client, &inner.settings.space, key, version).await;
            answers.into_iter().map(|holds| ("l1", holds)).collect()
        }
        _ => vec![("l1", l1(inner, key).await)],
    };
    if inner.redis.is_some() {
        answers.push(("redis", redis(inner, key).await));
    }
    let mut older = Vec::new();
    for (who, holds) in &answers {
        let outcome = match holds {
            None => Outcome::Nothing,
            // It may have gone since, and an absence has no version that says so.
            Some(holds) if holds.absent => Outcome::Open,
            Some(holds) if holds.version < version => {
                older.push((*who, holds.version));
                continue;
            }
            Some(_) => Outcome::Current,
        };
        inner.observer.count(Check::Peek, outcome);
    }
    if !older.is_empty() {
        // PostgreSQL may have lost the change itself.
        let lost = match &inner.pool {
            Some(pool) => store::aggregate(pool, key).await.ok().flatten().is_some_and(|truth| truth < version),
            None => false,
        };
        for (answered, answer) in older {
            if lost {
                inner.observer.count(Check::Peek, Outcome::Open);
            } else {
                let of = Violation { key, answer, answered, truth: version, late: Some(late) };
                inner.observer.violated(Check::Peek, Kind::Bound, &of);
            }
        }
    }
    contents(inner, key, &answers);
}

/// Equal version, equal content, whoever would serve it.
fn contents(inner: &Inner, key: &str, answers: &[(&str, Option<Holds>)]) {
    let mut contents = HashMap::new();
    for (answered, holds) in answers.iter().filter_map(|(who, holds)| holds.map(|holds| (*who, holds))) {
        let known = *contents.entry((holds.version, holds.absent)).or_insert(holds.content);
        if known != holds.content {
            let of = Violation { key, answer: holds.version, answered, truth: holds.version, late: None };
            inner.observer.violated(Check::Peek, Kind::Content, &of);
        }
    }
}

/// What this process answers to another one's question: what it would serve. If that is less than what the other knows to
/// be committed for more than the bound, it writes down here what was done with the key.
pub(crate) async fn answer(inner: &Inner, key: &Arc<str>, version: i64) -> Option<Holds> {
    let holds = l1(inner, key).await;
    if let Some(Holds { version: held, absent: false, .. }) = holds
        && held < version
    {
        let operations = inner.observer.records.tale(key);
        tracing::error!(key = &**key, answer = held, truth = version, operations, "would serve what is too old");
    }
    holds
}
