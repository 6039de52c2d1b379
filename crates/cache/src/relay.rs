//! The relay's loop: whichever process has the lease drains the outbox, applies to Redis, publishes to everyone, and compacts.
//!
//! Invariant: after anything about a compaction is in doubt the leader ends its term. The next pass would otherwise publish the number
//! of this one again with other changes, and a window that received only the first would take it for both.

#[cfg(test)]
mod conformance;
mod store;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use chassis::postgres::Pool;
use chassis::telemetry::{self, attributes};
use tracing::Instrument as _;

use crate::checks::replica_probe;
use crate::inner::Inner;
use crate::metrics;
use crate::nats::{Message, invalidations, is_up};
use crate::redis::{Link, Names, Proof, Session, apply, prove};
use coherence::relay::{Drained, Pass, Redis};
use coherence::time::PgTime;
use store::Outbox;

/// How long the relay waits when it is woken: changes that come together travel together.
const GATHER: Duration = Duration::from_millis(3);

/// From the beginning of one pass to that of the next, however often the relay is woken: a pass costs PostgreSQL as much as a small change,
/// whatever number of changes it carries.
const SPACING: Duration = Duration::from_millis(20);

/// How old a proof may be, where nothing changes, before the next one goes out: a third of what it is good for, so that one may be lost. A
/// change goes out at once.
const REPEAT: Duration = Duration::from_millis(330);

/// How long nothing must have changed until the outbox is looked at only as often as a proof is due. Who writes as services do wakes the
/// relay, so this is for the first change that only the outbox knows of.
const QUIET: Duration = Duration::from_secs(2);

/// How often a process that does not lead tries to, and how old the last proof must be for that: while proofs come, somebody leads.
const TRY_TO_LEAD: Duration = Duration::from_millis(250);
const LED: Duration = Duration::from_millis(500);

/// The lease is renewed when this much of its 2 s has passed and no compaction has renewed it.
const RENEW: Duration = Duration::from_millis(500);

/// The term of a leader.
struct Term {
    epoch: i64,
    last_drain: PgTime,
    renewed: Instant,
    /// When the pass under way began, and the one whose proof went out last, if one did in this term.
    began: Instant,
    proven: Option<Instant>,
    /// When it last found a change, or its beginning.
    changed: Instant,
}

impl Term {
    /// From one pass to the next, where nothing wakes the relay.
    fn tick(&self, tick: Duration) -> Duration {
        after_change(self.changed.elapsed(), tick)
    }
}

/// How long the relay waits when it is woken so long after its last pass began.
fn after_wake(since: Duration) -> Duration {
    SPACING.saturating_sub(since).max(GATHER)
}

/// From one pass to the next, when nothing has changed for so long.
fn after_change(quiet: Duration, tick: Duration) -> Duration {
    if quiet < QUIET { tick } else { tick.max(REPEAT) }
}

/// Whether nobody leads, as far as a process can tell whose last proof is so old.
fn is_without_leader(proof_age: Option<Duration>) -> bool {
    proof_age.is_none_or(|age| age > LED)
}

/// Leads whenever it can until the cache is closed, then releases the lease.
pub(crate) async fn lead(inner: Arc<Inner>, pool: Pool, link: Option<Link>) {
    let owner = format!("{:032x}", fastrand::u128(..));
    let mut term: Option<Term> = None;
    while !inner.stop.is_cancelled() {
        if term.is_none() && is_without_leader(inner.proof_age()) {
            term = take_lease(&pool, &owner).await;
            set_leads(&inner, term.is_some());
        }
        let began = Instant::now();
        let wait = match &mut term {
            None => TRY_TO_LEAD,
            Some(current) => match pass(&inner, &pool, link.as_ref(), &owner, current).await {
                Ok(more) => {
                    if more {
                        Duration::ZERO
                    } else {
                        // From the beginning of one pass to that of the next: the time that a pass takes would otherwise be added
                        // to how long a change waits for it.
                        current.tick(inner.settings.tick).saturating_sub(began.elapsed()).max(GATHER)
                    }
                }
                Err(reason) => {
                    tracing::debug!(reason, "the relay's term ends");
                    term = None;
                    set_leads(&inner, false);
                    GATHER
                }
            },
        };
        tokio::select! {
            () = inner.stop.cancelled() => break,
            () = tokio::time::sleep(wait) => {}
            () = inner.wake.notified(), if term.is_some() => tokio::time::sleep(after_wake(began.elapsed())).await,
        }
    }
    if let Some(term) = term {
        // Best effort: a lease that is not released runs out by itself.
        let _ = store::release(&pool, term.epoch, &owner).await;
    }
    set_leads(&inner, false);
}

fn set_leads(inner: &Inner, leads: bool) {
    inner.leads.store(leads, Ordering::Relaxed);
    metrics::relay_leads(leads);
}

async fn take_lease(pool: &Pool, owner: &str) -> Option<Term> {
    // Random, not counted: two leaders draw different epochs even where PostgreSQL lost the first one's.
    let epoch = fastrand::i64(1..);
    match store::take(pool, epoch, owner).await {
        Ok(true) => {
            tracing::info!(epoch, "this process leads the relay");
            Some(Term {
                epoch,
                last_drain: PgTime::PAST,
                renewed: Instant::now(),
                began: Instant::now(),
                proven: None,
                changed: Instant::now(),
            })
        }
        Ok(false) => None,
        Err(error) => {
            tracing::debug!(%error, "the relay's lease cannot be asked for");
            metrics::relay_failed("lease");
            None
        }
    }
}

/// One pass; returns whether there is more to take at once. An error ends the term.
async fn pass(
    inner: &Arc<Inner>,
    pool: &Pool,
    link: Option<&Link>,
    owner: &str,
    term: &mut Term,
) -> Result<bool, &'static str> {
    term.began = Instant::now();
    let Ok((drained, outbox)) = store::drain(pool).await else {
        metrics::relay_failed("drain");
        // Nothing was claimed yet, so nothing is in doubt; whether the term goes on depends on the lease alone.
        return Ok(false);
    };
    // No span for a tick without changes: it comes many times a second and belongs to no request.
    if outbox.ids.is_empty() {
        return run(inner, pool, link, owner, term, &drained, outbox).await;
    }
    term.changed = term.began;
    let span = tracing::info_span!("cache.relay", { attributes::CHANGES } = outbox.ids.len());
    for trace in &outbox.traces {
        telemetry::link(&span, trace);
    }
    let changes = outbox.ids.len();
    let result = run(inner, pool, link, owner, term, &drained, outbox).instrument(span).await;
    metrics::relayed(changes, term.began.elapsed());
    result
}

async fn run(
    inner: &Arc<Inner>,
    pool: &Pool,
    link: Option<&Link>,
    owner: &str,
    term: &mut Term,
    drained: &Drained,
    outbox: Outbox,
) -> Result<bool, &'static str> {
    // After the drain: a server that restarts before this is seen under its new name, and one that restarts later fails the calls
    // of this session.
    let session = match link {
        Some(link) => link.session().await.map(|session| (link, session)),
        None => None,
    };
    let redis = session.as_ref().map_or(Redis::Unreachable, |(_, session)| Redis::Run(&session.run));
    let pass: Pass = Pass::plan(drained, term.epoch, term.last_drain, redis)
        .map_err(|_| "superseded, or PostgreSQL's clock went back")?;
    term.last_drain = drained.at;

    let is_quiet = !pass.notice().data && pass.compaction(true).is_none();
    // A proof that does not go out is to the others as one that was lost.
    let is_repetition = is_quiet && term.proven.is_some_and(|proven| term.began - proven < REPEAT);
    let applied = is_repetition || apply_and_prove(&inner.names, session.as_ref(), &pass, &outbox).await;
    let message = Message { notice: pass.notice(), changes: outbox.changes, traces: outbox.traces };
    if !is_repetition {
        publish(inner, &message).await;
        term.proven = Some(term.began);
    }
    // Without NATS: the leader's own L1 goes on when NATS is gone.
    inner.receive(&message.notice, &message.changes).await;
    replica_probe::follow(inner, &message.changes);

    // Last: a leader that dies before this leaves the rows, and its successor publishes them again under its own epoch.
    if let Some(compaction) = pass.compaction(applied) {
        match store::compact(pool, term.epoch, owner, &compaction, &outbox.ids).await {
            Ok(true) => term.renewed = Instant::now(),
            Ok(false) => return Err("superseded at the compaction"),
            Err(error) => {
                tracing::debug!(%error, "the compaction may or may not be committed");
                metrics::relay_failed("compact");
                return Err("a compaction in doubt");
            }
        }
    } else if term.renewed.elapsed() > RENEW {
        match store::renew(pool, term.epoch, owner).await {
            Ok(true) => term.renewed = Instant::now(),
            Ok(false) => return Err("superseded at the renewal"),
            // Not in doubt: a renewal changes no number. If the lease runs out, the next drain sees another epoch.
            Err(_) => metrics::relay_failed("renew"),
        }
    }
    Ok(!drained.complete)
}

/// Applies and then proves, each only after the one before was answered; returns whether every change is in Redis.
async fn apply_and_prove(names: &Names, session: Option<&(&Link, Session)>, pass: &Pass, outbox: &Outbox) -> bool {
    let Some((link, session)) = session else { return false };
    if let Some(space) = pass.applies() {
        let changes = outbox.changes.iter().map(|(key, version)| (&**key, Some(*version)));
        let applied = link
            .call("cache.apply", session, async |connection| apply(connection, names, Some(space), changes).await)
            .await;
        // Whether Redis took the changes is not known: the name space counts as dirty, and is never proven again.
        if applied.is_none() {
            return false;
        }
    }
    if let Some(space) = pass.proves(true) {
        let notice = pass.notice();
        let proof = Proof { epoch: notice.epoch, seq: notice.seq, at: notice.at, space };
        // Whether Redis took it does not matter: a proof that is not there is not believed.
        let _ = link.call("cache.prove", session, async |connection| prove(connection, names, proof).await).await;
    }
    true
}

/// Best effort: a message that does not arrive shows as a gap, or as a proof that ages.
async fn publish(inner: &Inner, message: &Message) {
    let Some(client) = inner.nats.as_ref().filter(|client| is_up(client)) else { return };
    let published = chassis::nats::publish(client, invalidations(&inner.settings.space), message.encode());
    // The client's own queue may be full, and the compaction must not wait for it.
    if !matches!(tokio::time::timeout(GATHER, published).await, Ok(Ok(()))) {
        metrics::relay_failed("publish");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_many_changes_goes_out_at_once_and_the_others_together() {
        assert_eq!(after_wake(Duration::from_secs(1)), GATHER);
        assert_eq!(after_wake(SPACING - GATHER), GATHER);
        assert_eq!(after_wake(Duration::ZERO), SPACING, "by the next pass");
    }

    #[test]
    fn a_quiet_relay_rests_and_whoever_hears_it_does_not_ask_for_the_lease() {
        let tick = Duration::from_millis(10);
        assert_eq!(after_change(QUIET - Duration::from_millis(1), tick), tick);
        assert_eq!(after_change(QUIET, tick), REPEAT);
        let slow = Duration::from_secs(1);
        assert_eq!(after_change(QUIET, slow), slow, "no setting is overtaken");
        // Followers hear a proof at least that often, a lost one included, unless the leader is gone.
        assert!(!is_without_leader(Some(REPEAT)) && is_without_leader(Some(2 * REPEAT)));
        assert!(is_without_leader(None), "nobody was heard at all");
    }
}
