//! The service through its front door, against real servers.
#![allow(clippy::unwrap_used)]

mod cancels;
mod credits;
mod faults;
mod plans;
mod reads;
mod resumes;
mod round_trips;
mod starts;
mod traces;
mod watches;
mod work;
mod worker;
mod world;
