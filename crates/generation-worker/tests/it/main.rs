//! The worker's tests. Its providers alone, and its protocol: the two services beside it are played by scripts here, since no
//! service uses another's crate; `crates/dev/tests/it` drives the real ones.
#![allow(clippy::unwrap_used, missing_docs)]

mod adapters;
mod conformance;
mod doubts;
mod hooks;
mod peers;
mod protocol;
mod scripted;
mod sketch;
mod waits;
