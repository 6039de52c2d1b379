//! The service through its front door, against real servers.
#![allow(clippy::unwrap_used)]

mod binary;
mod bulk;
mod cancels;
mod cluster;
mod credits;
mod deletion;
mod end_users;
mod endpoints;
mod events;
mod faults;
mod filters;
mod mended_entries;
mod models;
mod orders;
mod own_writes;
mod plans;
mod provider_health;
mod queues;
mod reads;
mod receiver;
mod reconciler;
mod restores;
mod resumes;
mod retries;
mod round_trips;
mod starts;
mod submissions;
mod traces;
mod usage;
mod watches;
mod webhook_fairness;
mod webhooks;
mod work;
mod worker;
