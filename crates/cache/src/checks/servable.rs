//! What this process's L1 and Redis would serve of a key now.
//!
//! Invariant: finding out changes nothing. It takes no lease, starts no load and counts as no hit.

use std::sync::Arc;

use coherence::BOUND;
use coherence::entry::{Freshness, freshness};

use crate::inner::Inner;
use crate::observer::Servable;
use crate::redis::probe;

/// What this process's L1 would serve.
pub(super) async fn l1(inner: &Inner, key: &Arc<str>) -> Option<Servable> {
    let begun = inner.now();
    let requirement = inner.shard(key).watermarks.requirement(key, begun);
    let entry = inner.l1.get(key).await?;
    let view = inner.view();
    match freshness(&entry, &view.window, &view.clock, requirement, begun) {
        Freshness::Proven(_) => Some(Servable::of(entry.version, &entry.body)),
        Freshness::Unproven | Freshness::TooOld => None,
    }
}

/// What Redis would serve to a process that knows nothing of the key.
pub(super) async fn redis(inner: &Inner, key: &str) -> Option<Servable> {
    let link = inner.redis.as_ref()?;
    let session = link.session().await?;
    let call = async |connection: &mut _| probe(connection, &inner.names, key).await;
    let (at, version, body) = link.call("cache.probe", &session, call).await??;
    let body = inner.seal.open(key, version, body)?;
    let now = inner.now();
    let fresh = inner.view().clock.instant(at, now)?;
    (fresh >= now - BOUND).then(|| Servable::of(version, &body))
}
