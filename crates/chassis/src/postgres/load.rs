//! How much each pool is used, and how much all may be.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use sqlx::PgPool;

use crate::{metrics, telemetry};

/// How many want a connection of a pool, and how many have one.
#[derive(Debug)]
pub(super) struct Load {
    waiting: AtomicUsize,
    held: AtomicUsize,
    _connections: Connections,
}

impl Load {
    /// The load of `pool`, whose gauges are kept current for as long as it is open.
    pub(super) fn of(name: &'static str, pool: &PgPool) -> Arc<Self> {
        let connections = Connections::reserve(pool.options().get_max_connections());
        let load =
            Arc::new(Self { waiting: AtomicUsize::new(0), held: AtomicUsize::new(0), _connections: connections });
        let (pool, seen) = (pool.clone(), Arc::clone(&load));
        telemetry::on_scrape(move || {
            let open = !pool.is_closed();
            let if_open = |value: f64| if open { value } else { 0.0 };
            metrics::POOL_SIZE.with([name]).set(if_open(f64::from(pool.size())));
            metrics::POOL_IDLE.with([name]).set(if_open(pool.num_idle() as f64));
            metrics::POOL_WAITING.with([name]).set(if_open(seen.waiting.load(Ordering::Relaxed) as f64));
            metrics::POOL_MAX.with([name]).set(if_open(f64::from(pool.options().get_max_connections())));
            open
        });
        load
    }

    /// Counts one that waits for a connection.
    pub(super) fn wait(&self) -> Count<'_> {
        Count::one(&self.waiting)
    }

    /// Counts one that has a connection.
    pub(super) fn hold(&self) -> Count<'_> {
        Count::one(&self.held)
    }

    /// How many have a connection.
    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

/// Connections that may be opened, counted into the process's sum for as long as this lives.
#[derive(Debug)]
pub(super) struct Connections(u32);

impl Connections {
    pub(super) fn reserve(max: u32) -> Self {
        metrics::CONNECTIONS_MAX.get().increment(max);
        Self(max)
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        metrics::CONNECTIONS_MAX.get().decrement(self.0);
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
