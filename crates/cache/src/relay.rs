//! The relay's loop: whichever process holds the lease drains the outbox, tells Redis, tells everyone, and folds.
//!
//! Invariant: after anything about a fold is in doubt the leader gives its epoch up, since the next pass would
//! otherwise publish the number of this one again with other changes, and a window that saw only the first would
//! believe it has both.

#[cfg(test)]
mod conformance;
mod store;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use chassis::postgres::Pool;
use chassis::telemetry;
use tracing::Instrument as _;

use crate::inner::Inner;
use crate::meters;
use crate::nats::{Message, invalidations, is_up};
use crate::observer::peek;
use crate::redis::{Link, Names, Proof, Session, apply, fresh};
use coherence::relay::{Drained, Pass, Redis};
use coherence::time::PgTime;
use store::Outbox;

/// The least time between two passes, however often it is woken: changes that come together travel together.
const GATHER: Duration = Duration::from_millis(3);

/// How often a process that does not lead tries to.
const TRY: Duration = Duration::from_millis(250);

/// The lease is renewed when this much of its 2 s has passed and no fold has renewed it.
const RENEW: Duration = Duration::from_millis(500);

/// A leadership.
struct Reign {
    epoch: i64,
    before: PgTime,
    renewed: Instant,
}

/// Leads whenever it can until the cache is closed, then hands the lease over.
pub(crate) async fn lead(inner: Arc<Inner>, pool: Pool, link: Option<Link>) {
    let owner = format!("{:032x}", fastrand::u128(..));
    let mut reign: Option<Reign> = None;
    while !inner.stop.is_cancelled() {
        if reign.is_none() {
            reign = take_lease(&pool, &owner).await;
            lead_shown(&inner, reign.is_some());
        }
        let began = Instant::now();
        let wait = match &mut reign {
            None => TRY,
            Some(current) => match pass(&inner, &pool, link.as_ref(), &owner, current).await {
                Ok(more) => {
                    if more {
                        Duration::ZERO
                    } else {
                        // From pass to pass, so that the way through one is not added to how long a change waits for it.
                        inner.settings.tick.saturating_sub(began.elapsed()).max(GATHER)
                    }
                }
                Err(reason) => {
                    tracing::debug!(reason, "the relay gives its leadership up");
                    reign = None;
                    lead_shown(&inner, false);
                    GATHER
                }
            },
        };
        tokio::select! {
            () = inner.stop.cancelled() => break,
            () = tokio::time::sleep(wait) => {}
            () = inner.wake.notified(), if reign.is_some() => tokio::time::sleep(GATHER).await,
        }
    }
    if let Some(reign) = reign {
        // Best effort: a lease that is not handed over runs out by itself.
        let _ = store::release(&pool, reign.epoch, &owner).await;
    }
    lead_shown(&inner, false);
}

fn lead_shown(inner: &Inner, leads: bool) {
    inner.leads.store(leads, Ordering::Relaxed);
    meters::leading(leads);
}

async fn take_lease(pool: &Pool, owner: &str) -> Option<Reign> {
    let epoch = fastrand::i64(1..);
    match store::take(pool, epoch, owner).await {
        Ok(true) => {
            tracing::info!("this process relays changes now");
            Some(Reign { epoch, before: PgTime::PAST, renewed: Instant::now() })
        }
        Ok(false) => None,
        Err(error) => {
            tracing::debug!(%error, "can not ask for the relay's lease");
            meters::relay_failed("lease");
            None
        }
    }
}

/// One pass; says whether there is more to take at once. An error ends the leadership.
async fn pass(
    inner: &Arc<Inner>,
    pool: &Pool,
    link: Option<&Link>,
    owner: &str,
    reign: &mut Reign,
) -> Result<bool, &'static str> {
    let began = Instant::now();
    let Ok((drained, outbox)) = store::drain(pool).await else {
        meters::relay_failed("drain");
        // Nothing was claimed yet, so nothing is in doubt; the lease decides who goes on.
        return Ok(false);
    };
    if outbox.ids.is_empty() {
        return run(inner, pool, link, owner, reign, &drained, outbox).await;
    }
    let span =
        tracing::info_span!("cache.relay", otel.kind = "producer", messaging.batch.message_count = outbox.ids.len());
    for trace in &outbox.traces {
        telemetry::link(&span, trace);
    }
    let changes = outbox.ids.len();
    let result = run(inner, pool, link, owner, reign, &drained, outbox).instrument(span).await;
    meters::relayed(changes, began.elapsed());
    result
}

async fn run(
    inner: &Arc<Inner>,
    pool: &Pool,
    link: Option<&Link>,
    owner: &str,
    reign: &mut Reign,
    drained: &Drained,
    outbox: Outbox,
) -> Result<bool, &'static str> {
    let session = match link {
        Some(link) => link.session().await.map(|session| (link, session)),
        None => None,
    };
    let redis = session.as_ref().map_or(Redis::Away, |(_, session)| Redis::Run(&session.run));
    let pass: Pass =
        Pass::plan(drained, reign.epoch, reign.before, redis).map_err(|_| "deposed, or the clock went back")?;
    reign.before = drained.at;

    let applied = tell_redis(&inner.names, session.as_ref(), &pass, &outbox).await;
    let message = Message { notice: pass.notice(), changes: outbox.changes, traces: outbox.traces };
    publish(inner, &message).await;
    inner.receive(&message.notice, &message.changes).await;
    peek::follow(inner, &message.changes);

    if let Some(fold) = pass.fold(applied) {
        match store::fold(pool, reign.epoch, owner, &fold, &outbox.ids).await {
            Ok(true) => reign.renewed = Instant::now(),
            Ok(false) => return Err("deposed at the fold"),
            Err(error) => {
                tracing::debug!(%error, "the fold may or may not have happened");
                meters::relay_failed("fold");
                return Err("a fold in doubt");
            }
        }
    } else if reign.renewed.elapsed() > RENEW {
        match store::renew(pool, reign.epoch, owner).await {
            Ok(true) => reign.renewed = Instant::now(),
            Ok(false) => return Err("deposed at the renewal"),
            Err(_) => meters::relay_failed("renew"),
        }
    }
    Ok(!drained.complete)
}

/// Applies and proves, in this order and each only after the one before was answered; says whether every change is in
/// Redis.
async fn tell_redis(names: &Names, session: Option<&(&Link, Session)>, pass: &Pass, outbox: &Outbox) -> bool {
    let Some((link, session)) = session else { return false };
    if let Some(space) = pass.applies() {
        let changes = outbox.changes.iter().map(|(key, version)| (&**key, Some(*version)));
        let applied = link
            .call("cache.apply", session, async |connection| apply(connection, names, Some(space), changes).await)
            .await;
        if applied.is_none() {
            return false;
        }
    }
    if let Some(space) = pass.proves(true) {
        let notice = pass.notice();
        let proof = Proof { epoch: notice.epoch, seq: notice.seq, at: notice.at, space };
        // Whether it was taken is of no matter: a proof that is not there is not believed.
        let _ = link.call("cache.fresh", session, async |connection| fresh(connection, names, proof).await).await;
    }
    true
}

/// Best effort: a message that does not arrive shows as a gap or as silence.
async fn publish(inner: &Inner, message: &Message) {
    let Some(client) = inner.nats.as_ref().filter(|client| is_up(client)) else { return };
    let mut headers = HeaderMap::new();
    if !message.changes.is_empty()
        && let Some(parent) = telemetry::traceparent()
    {
        headers.insert("traceparent", parent);
    }
    let subject = invalidations(&inner.settings.space);
    let published = client.publish_with_headers(subject, headers, message.encode());
    // The client's own queue may be full; the fold must not wait for it.
    if !matches!(tokio::time::timeout(GATHER, published).await, Ok(Ok(()))) {
        meters::relay_failed("publish");
    }
}
