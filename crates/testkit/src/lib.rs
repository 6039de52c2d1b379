//! What tests and the local stack run against: private PostgreSQL, Redis and NATS servers, a fault proxy, a counter of
//! database round trips, a collector of spans, a codec of bare bytes, and what code logs.
//!
//! Invariants: only binaries found on the machine are run, on loopback, on free ports and in directories of their own; a
//! system's own servers are never touched; and whatever was started ends with the process that started it, even when that
//! process is killed.

mod as_bytes;
mod binary;
mod certificate;
mod collector;
mod config;
mod database;
mod doors;
mod eventually;
mod home;
mod logs;
mod nats;
mod owner;
mod port;
mod postgres;
mod process;
mod proxy;
mod redis;
mod round_trips;
mod server;
mod signals;
mod watchdog;

pub use as_bytes::AsBytes;
pub use binary::{Missing, find as find_binary};
pub use certificate::Certificate;
pub use collector::Spans;
pub use database::Database;
pub use doors::{Doors, INTERNAL_KEYS, KEY};
pub use eventually::eventually;
pub use home::{kept_secret, secret};
pub use logs::logged;
pub use nats::Nats;
pub use port::free as free_port;
pub use postgres::Postgres;
pub use process::Process;
pub use proxy::{Direction, Proxy};
pub use redis::Redis;
pub use round_trips::RoundTrips;
pub use schema::{ACCOUNT_TABLES, Erased, Exported, MIGRATOR, Service};
pub use signals::{Signals, unless_ended};
pub use spans::{Kind, Recorded, Span, Tree};
