//! The service through its front door, against real servers.
#![allow(clippy::unwrap_used)]

mod cancels;
mod credits;
mod faults;
mod reads;
mod starts;
mod watches;
mod work;
mod worker;
mod world;
