//! generation-worker: claims leases from generation-status, has a provider make what was ordered, stores it, and reports.
//!
//! `worker` is the loop, `orders` the work of one lease, `outcomes` the table of what follows from what came of a call, `provider`
//! the trait of what makes outputs and `providers` who does, `order_keys` the keys that one order may be asked about with, `media` the files that go to them, `outputs` the way of what was made into our storage, `checks` what providers say of keys and models, `webhooks` what providers
//! send, `clients` the services beside this one. Invariant: everything that is said about the work of a lease carries its fence;
//! once the lease is another's, nothing more is said.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod checks;
mod clients;
pub mod config;
mod containers;
pub mod crash_points;
mod error;
mod events;
mod grpc;
pub mod hook_addresses;
mod media;
pub mod metrics;
pub mod model;
mod order_keys;
mod orders;
mod outcomes;
mod outputs;
pub mod provider;
pub mod providers;
mod retry_budget;
mod service;
pub mod signatures;
mod webhooks;
mod worker;

pub use config::Config;
pub use service::{Bound, Service};
