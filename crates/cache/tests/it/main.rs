//! The cache on real PostgreSQL, Redis and NATS servers, as a service uses it: with everything up, and with parts of it down.
#![allow(clippy::unwrap_used, missing_docs)]

// As the rest of the workspace names it.
extern crate rushes_cache as cache;

mod cluster;
mod faults;
mod gateway;
mod invalidation;
mod loads;
mod observer;
mod own_writes;
mod relay;
mod scripts;
mod settings;
mod traces;
