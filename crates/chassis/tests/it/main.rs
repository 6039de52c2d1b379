//! The chassis through its front door: real sockets, a real PostgreSQL, real files.

#![allow(clippy::unwrap_used)]

mod blobs;
mod cancelled;
mod client;
mod doors;
mod messages;
mod nats;
mod pooler;
mod postgres;
mod probes;
mod process;
mod server;
mod telemetry;
mod wire;
