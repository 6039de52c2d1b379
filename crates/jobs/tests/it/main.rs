//! The queue against a real PostgreSQL: what is promised of leases, fences, retries, fairness and dead letters.
#![allow(clippy::unwrap_used)]

extern crate rushes_jobs as jobs;

mod fairness;
mod leases;
mod limits;
mod queue;
mod retries;
mod schedules;
mod stage;
mod storm;
mod waits;
mod wake;
