//! The keys of open watches, which are looked at again while their watches are open: each once for all its watches of one address, since
//! a timer for each watch would wake it, and the stream that it is, several times a second.
//!
//! Invariant: who waits hears of a refusal however long ago it began to wait.

use std::{
    collections::{HashMap, hash_map},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use futures::StreamExt as _;
use tokio::sync::watch;

use super::known::Hash;
use crate::error::Refusal;

/// How often each key is looked at again; mostly that reads this process's memory.
const INTERVAL: Duration = Duration::from_millis(400);
/// How many are looked at, at a time: dashboard may have to be asked about each.
const CHECKS_AT_ONCE: usize = 64;

/// A key, and from where it is used.
pub(super) type Use = (Hash, IpAddr);

/// All keys that watches are open with; clones are the same ones.
#[derive(Clone, Debug, Default)]
pub(super) struct WatchedKeys(Arc<Mutex<Uses>>);

#[derive(Debug, Default)]
struct Uses {
    /// Of each, what its watches wait for.
    refusals: HashMap<Use, watch::Sender<Option<Refusal>>>,
    is_checked: bool,
}

impl WatchedKeys {
    fn lock(&self) -> MutexGuard<'_, Uses> {
        // Each change of it is whole, so a panic elsewhere leaves it usable.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ready when `key` is refused, by what `check` says of it now and then.
    pub(super) fn refused<C, F>(&self, key: Use, check: C) -> impl Future<Output = Refusal> + Send + use<C, F>
    where
        C: Fn(Use) -> F + Send + Sync + 'static,
        F: Future<Output = Option<Refusal>> + Send + 'static,
    {
        let mut uses = self.lock();
        let mut refusal = uses.refusals.entry(key).or_default().subscribe();
        if !std::mem::replace(&mut uses.is_checked, true) {
            tokio::spawn(check_all(Arc::downgrade(&self.0), check));
        }
        drop(uses);
        async move {
            match refusal.wait_for(Option::is_some).await.map(|refusal| *refusal) {
                Ok(Some(refusal)) => refusal,
                // Nobody looks at it any more: this process ends.
                _ => std::future::pending().await,
            }
        }
    }

    /// Those that have a watch still; without any, nobody checks from now on.
    fn in_use(&self) -> Vec<Use> {
        let mut uses = self.lock();
        uses.refusals.retain(|_, refusal| refusal.receiver_count() > 0);
        uses.is_checked = !uses.refusals.is_empty();
        uses.refusals.keys().copied().collect()
    }

    fn refuse(&self, key: Use, refusal: Refusal) {
        // The next watch, which will hardly come, has a new one.
        if let hash_map::Entry::Occupied(waiting) = self.lock().refusals.entry(key) {
            waiting.remove().send_replace(Some(refusal));
        }
    }
}

/// Looks at all of them again and again, until there are none.
async fn check_all<C, F>(keys: Weak<Mutex<Uses>>, check: C)
where
    C: Fn(Use) -> F,
    F: Future<Output = Option<Refusal>>,
{
    loop {
        tokio::time::sleep(INTERVAL).await;
        let Some(keys) = keys.upgrade().map(WatchedKeys) else { return };
        let in_use = keys.in_use();
        if in_use.is_empty() {
            return;
        }
        let check_one = async |key| {
            // One that takes longer is not waited for, since all others would be: what it finds is known to the next look.
            if let Ok(Some(refusal)) = tokio::time::timeout(INTERVAL, check(key)).await {
                keys.refuse(key, refusal);
            }
        };
        futures::stream::iter(in_use).for_each_concurrent(CHECKS_AT_ONCE, check_one).await;
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::*;

    const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn key(number: u8) -> Use {
        ([number; 32], ADDRESS)
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_checked_once_for_all_its_watches_and_not_without_any() {
        let (keys, checks) = (WatchedKeys::default(), Arc::new(AtomicUsize::new(0)));
        let check = {
            let checks = Arc::clone(&checks);
            move |_| {
                checks.fetch_add(1, Ordering::Relaxed);
                std::future::ready(None)
            }
        };
        let watches: Vec<_> = (0..100).map(|number| keys.refused(key(number % 2), check.clone())).collect();
        tokio::time::sleep(INTERVAL * 10 + INTERVAL / 2).await;
        assert_eq!(checks.swap(0, Ordering::Relaxed), 2 * 10);
        drop(watches);
        tokio::time::sleep(INTERVAL * 10).await;
        assert_eq!(checks.load(Ordering::Relaxed), 0);
        // And again, as soon as there is one.
        let _watch = keys.refused(key(1), check);
        tokio::time::sleep(INTERVAL * 2 + INTERVAL / 2).await;
        assert_eq!(checks.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn all_watches_of_a_refused_key_hear_of_it_and_those_of_others_do_not() {
        let (keys, revoked) = (WatchedKeys::default(), Arc::new(AtomicBool::new(false)));
        let check = {
            let revoked = Arc::clone(&revoked);
            move |(hash, _): Use| {
                let refused = hash == key(1).0 && revoked.load(Ordering::Relaxed);
                std::future::ready(refused.then_some(Refusal::Revoked))
            }
        };
        let mut watches: Vec<_> = (0..3).map(|_| Box::pin(keys.refused(key(1), check.clone()))).collect();
        let mut other = Box::pin(keys.refused(key(2), check.clone()));
        tokio::time::sleep(INTERVAL * 2).await;
        assert!(futures::poll!(&mut watches[0]).is_pending());
        revoked.store(true, Ordering::Relaxed);
        tokio::time::sleep(INTERVAL * 2).await;
        for watch in &mut watches {
            assert_eq!(tokio::time::timeout(INTERVAL, watch).await, Ok(Refusal::Revoked));
        }
        assert!(futures::poll!(&mut other).is_pending());
        assert_eq!(keys.refused(key(1), check).await, Refusal::Revoked, "one that was opened meanwhile");
    }
    #[tokio::test(start_paused = true)]
    async fn a_check_that_does_not_end_keeps_no_other_key_waiting() {
        let (keys, checks) = (WatchedKeys::default(), Arc::new(AtomicUsize::new(0)));
        let check = move |(hash, _): Use| {
            let checks = Arc::clone(&checks);
            async move {
                if hash == key(1).0 {
                    return std::future::pending().await;
                }
                (checks.fetch_add(1, Ordering::Relaxed) == 2).then_some(Refusal::Revoked)
            }
        };
        let _hangs = keys.refused(key(1), check.clone());
        let other = keys.refused(key(2), check);
        assert_eq!(tokio::time::timeout(INTERVAL * 10, other).await, Ok(Refusal::Revoked));
    }
}
