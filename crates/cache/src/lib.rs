//! A coherent two-tier cache: moka in each process (L1), Redis beside them (L2), PostgreSQL as the truth.
//!
//! Invariant: a tier answers without PostgreSQL only while it holds a proof, at most [`coherence::BOUND`] old, that
//! every change committed before a time has been applied to it. Lifetimes are the second guard; NATS and Redis make it
//! fast and are not trusted for safety. The protocol's rules are in the crate [`coherence`], without I/O; all modules here are thin
//! shells around them. The README has the protocol on one page.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod cache;
mod changes;
mod checks;
mod clock;
mod hit;
mod in_flight;
mod inner;
mod key;
mod l1;
mod load;
pub mod metrics;
mod miss;
mod nats;
mod observer;
pub mod outbox;
mod own_writes;
mod redis;
mod relay;
pub mod remote;
mod seal;
mod settings;
mod store;
mod unresponsive;
pub mod watch;

pub use crate::cache::{Cache, Error};
pub use crate::changes::{Change, Changes, Signal};
pub use crate::hit::{Hit, Loaded};
pub use crate::key::{Class, Key};
pub use crate::observer::{Checked, Observed};
pub use crate::own_writes::{WrittenThrough, required};
pub use crate::settings::Settings;
pub use coherence::asof::Asof;
pub use coherence::lifetime::Lifetime;
pub use coherence::read::Tier;
pub use coherence::token::Token;
pub use coherence::window::Cause;
