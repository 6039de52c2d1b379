//! The worker's tests. Its providers alone, and the work protocol: the two services beside it are one scripted node here, since
//! no service uses another's crate; `crates/dev/tests/it` drives the real ones.
#![allow(clippy::unwrap_used, missing_docs)]

mod adapters;
mod checks;
mod cluster;
mod conformance;
mod downloads;
mod failures;
mod fake_provider;
mod media;
mod node;
mod polls;
mod protocol;
mod provider_keys;
mod sketch;
mod starts;
mod telemetry;
mod webhooks;
