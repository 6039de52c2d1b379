//! generation-status: generations, their states, watches, the work protocol and credits.
//!
//! It is the only writer of `generations`, `credit_accounts`, `ledger`, `provider_calls` and the tables of webhooks, and keeps the
//! copy of each scene's latest generation and each project's completed cost. The invariants: an accepted generation ends or is visibly
//! queued; a user is charged once or not at all; and a worker whose lease was given to another changes nothing.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod apart;
mod block_reasons;
mod bulk;
mod cache;
pub mod config;
mod costs;
pub mod crash_points;
mod credits;
mod deletions;
pub mod erasures;
mod error;
mod events;
mod generations;
mod grpc;
mod live_catalogue;
mod margins;
pub mod metrics;
mod model;
mod models;
mod pages;
mod presenter;
mod progress;
mod queues;
mod reconciler;
pub mod retention;
mod secret_keys;
mod service;
mod serving;
mod starts;
mod store;
mod transitions;
mod usage;
mod watches;
mod webhooks;
mod work;

pub use config::Config;
pub use live_catalogue::LiveCatalogue;
pub use secret_keys::SecretKeys;
pub use service::{Bound, Service};
pub use watches::reread_resume_token;
