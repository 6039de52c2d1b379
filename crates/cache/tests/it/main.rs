//! The cache against real PostgreSQL, Redis and NATS servers: what a service sees of it, with everything up, and with
//! parts of it gone.
#![allow(clippy::unwrap_used, missing_docs)]

// As the rest of the workspace names it.
extern crate rushes_cache as cache;

mod faults;
mod flights;
mod gateway;
mod invalidation;
mod observer;
mod own_writes;
mod relay;
mod scripts;
mod stand;
mod traces;
