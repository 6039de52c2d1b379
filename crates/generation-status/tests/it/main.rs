//! The service through its front door, against real servers.
#![allow(clippy::unwrap_used)]

mod cancels;
mod credits;
mod faults;
mod models;
mod own_writes;
mod plans;
mod queues;
mod reads;
mod reconciler;
mod resumes;
mod retries;
mod round_trips;
mod starts;
mod traces;
mod waits;
mod watches;
mod work;
mod worker;
mod world;
