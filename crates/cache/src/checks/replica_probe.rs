//! A change, and what every process and Redis would serve of its key some time after it.
//!
//! The process that relays the change asks. It knows the version to be committed, since it read it from the outbox; a
//! second later nobody may serve less. PostgreSQL is asked only when somebody would, and only for aggregates: a row's
//! version is the outbox's.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;

use coherence::BOUND;
use coherence::time::Mono;

use super::servable;
use crate::inner::Inner;
use crate::observer::{Check, Kind, Outcome, Servable, Violation};
use crate::{nats, store};

/// Follows some of the changes that this process has relayed, each in a task of its own.
pub(crate) fn follow(inner: &Arc<Inner>, changes: &[(Arc<str>, i64)]) {
    // All of them were committed before this.
    let known = inner.now();
    for (key, version) in changes.iter().filter(|_| inner.observer.picks()) {
        let Ok(followed) = Arc::clone(&inner.observer.followed).try_acquire_owned() else {
            inner.observer.count(Check::ReplicaProbe, Outcome::Skipped);
            continue;
        };
        let (inner, key, version) = (Arc::clone(inner), Arc::clone(key), *version);
        tokio::spawn(async move {
            let _followed = followed;
            let stop = inner.stop.clone();
            tokio::select! {
                () = stop.cancelled() => {}
                () = probe_after(&inner, &key, version, known) => {}
            }
        });
    }
}

async fn probe_after(inner: &Inner, key: &Arc<str>, version: i64, known: Mono) {
    for after in inner.settings.probe_after {
        tokio::time::sleep(after.max(BOUND).saturating_sub(inner.now().since(known))).await;
        probe(inner, key, version, inner.now().since(known)).await;
    }
}

async fn probe(inner: &Inner, key: &Arc<str>, version: i64, late: Duration) {
    let mut answers: Vec<(&str, Option<Servable>)> = match &inner.nats {
        Some(client) if nats::is_up(client) => {
            let answers = nats::probe::ask(client, &inner.settings.space, key, version).await;
            answers.into_iter().map(|servable| ("l1", servable)).collect()
        }
        _ => vec![("l1", servable::l1(inner, key).await)],
    };
    if inner.redis.is_some() {
        answers.push(("redis", servable::redis(inner, key).await));
    }
    let mut older = Vec::new();
    for (answered_by, servable) in &answers {
        let outcome = match servable {
            None => Outcome::Nothing,
            // The row may have been deleted since, and an absence has no version that says so.
            Some(servable) if servable.absent => Outcome::Open,
            Some(servable) if servable.version < version => {
                older.push((*answered_by, servable.version));
                continue;
            }
            Some(_) => Outcome::Current,
        };
        inner.observer.count(Check::ReplicaProbe, outcome);
    }
    if !older.is_empty() {
        // PostgreSQL may have lost the change itself.
        let lost = match &inner.pool {
            Some(pool) => store::aggregate(pool, key).await.ok().flatten().is_some_and(|truth| truth < version),
            None => false,
        };
        for (answered_by, answer) in older {
            if lost {
                inner.observer.count(Check::ReplicaProbe, Outcome::Open);
            } else {
                let violation = Violation { key, answer, answered_by, truth: version, late: Some(late) };
                inner.observer.violated(Check::ReplicaProbe, Kind::Bound, &violation);
            }
        }
    }
    compare_contents(inner, key, &answers);
}

/// Equal version, equal content, whoever would serve it.
fn compare_contents(inner: &Inner, key: &str, answers: &[(&str, Option<Servable>)]) {
    let mut contents = HashMap::new();
    for (answered_by, servable) in answers.iter().filter_map(|(by, servable)| Some((*by, (*servable)?))) {
        let first = *contents.entry((servable.version, servable.absent)).or_insert(servable.content);
        if first != servable.content {
            let version = servable.version;
            let violation = Violation { key, answer: version, answered_by, truth: version, late: None };
            inner.observer.violated(Check::ReplicaProbe, Kind::Content, &violation);
        }
    }
}

/// Answers the probes of other processes until the cache is closed.
pub(crate) async fn serve(inner: Arc<Inner>, client: Client) {
    let answer = |key: Arc<str>, version| {
        let inner = Arc::clone(&inner);
        async move { answer(&inner, &key, version).await }
    };
    nats::probe::serve(&client, &inner.settings.space, &inner.stop, answer).await;
}

/// What this process would serve. If that is less than what the other knows to be committed for more than the bound, it logs
/// here what was done with the key: the process that asks does not know.
async fn answer(inner: &Inner, key: &Arc<str>, version: i64) -> Option<Servable> {
    let servable = servable::l1(inner, key).await;
    if let Some(Servable { version: answer, absent: false, .. }) = servable
        && answer < version
    {
        let operations = inner.observer.records.trace(key);
        tracing::error!(key = &**key, answer, truth = version, operations, "this process would serve what is too old");
    }
    servable
}
