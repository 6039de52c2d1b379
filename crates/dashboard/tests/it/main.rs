//! The service through its gRPC port, against real PostgreSQL, Redis and NATS.

mod accounts;
mod cluster;
mod dashboards;
mod deletion;
mod foreign;
mod labels;
mod notices;
mod operators;
mod own_writes;
mod plans;
mod projects;
mod refusals;
mod round_trips;
mod scenes;
mod watches;
