//! How much each pool is used, and how much all may be.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::connections::Connections;
use super::reserved::Reserved;
use crate::{metrics, telemetry};

/// How many want a connection of a pool.
#[derive(Debug)]
pub(super) struct Load {
    waiting: AtomicUsize,
    _reserved: Reserved,
}

impl Load {
    /// The load of a pool, whose gauges are kept current for as long as it is open.
    pub(super) fn of(name: &'static str, connections: &Arc<Connections>) -> Arc<Self> {
        let max = connections.max();
        let reserved = Reserved::of(max);
        let load = Arc::new(Self { waiting: AtomicUsize::new(0), _reserved: reserved });
        let (connections, seen) = (Arc::downgrade(connections), Arc::clone(&load));
        telemetry::on_scrape(move || {
            let open = connections.upgrade().filter(|connections| !connections.is_closed());
            let if_open = |value: f64| if open.is_some() { value } else { 0.0 };
            metrics::POOL_SIZE.with([name]).set(open.as_ref().map_or(0.0, |open| f64::from(open.size())));
            metrics::POOL_IDLE.with([name]).set(open.as_ref().map_or(0.0, |open| open.idle() as f64));
            metrics::POOL_WAITING.with([name]).set(if_open(seen.waiting.load(Ordering::Relaxed) as f64));
            metrics::POOL_MAX.with([name]).set(if_open(f64::from(max)));
            open.is_some()
        });
        load
    }

    /// Counts one that waits for a connection.
    pub(super) fn wait(&self) -> Count<'_> {
        Count::one(&self.waiting)
    }
}

/// One more, for as long as it lives.
pub(super) struct Count<'a>(&'a AtomicUsize);

impl<'a> Count<'a> {
    fn one(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Count<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
