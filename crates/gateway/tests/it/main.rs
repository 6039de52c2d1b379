//! The gateway through its public port, in front of small services that implement the protos, with real files behind
//! the assets.

#![allow(clippy::unwrap_used)]

mod account_limits;
mod assets;
mod calls;
mod cluster;
mod door;
mod floods;
mod hooks;
mod keys;
mod limits;
mod metadata;
mod probes;
mod traces;
mod upstream;
mod watches;
mod web;
