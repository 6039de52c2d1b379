//! The service through its gRPC door, against real PostgreSQL, Redis and NATS.

mod accounts;
mod dashboards;
mod foreign;
mod notices;
mod own_writes;
mod plans;
mod projects;
mod refusals;
mod round_trips;
mod scenes;
mod stack;
mod watches;
