//! The queue against a real PostgreSQL: what is promised of leases, fences, retries, fairness and dead letters.
#![allow(clippy::unwrap_used)]

extern crate rushes_jobs as jobs;

mod breakers;
mod cluster;
mod fairness;
mod keys;
mod leases;
mod limits;
mod notifier;
mod queue;
mod retries;
mod schedules;
mod states;
mod storm;
mod waits;
