//! generation-worker: takes leases of work from generation-status, asks a provider for the video, brings the bytes home.
//!
//! Invariant: everything that it says about a piece of work carries the fence of its lease; once the lease is another's it lets
//! go without a word.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod providers;
