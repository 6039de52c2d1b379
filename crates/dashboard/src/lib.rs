//! The service that owns accounts, API keys, projects, scenes and notices, and answers with the dashboard.
//!
//! A request reads downward: `grpc` parses it; `projects`, `scenes`, `dashboards`, `watches`, `notices`, `accounts` and `audit`
//! are the rules; `cache` keeps what is read often; `store` has the only SQL; `presenter` makes the messages of the answer, `pages` the
//! tokens of pages; and all of them share the records of `model`.

mod accounts;
mod audit;
mod cache;
mod config;
mod dashboards;
mod erasures;
mod error;
mod etag;
mod events;
mod grpc;
mod idempotency;
mod metrics;
mod model;
mod notices;
mod pages;
mod presenter;
mod projects;
mod scenes;
mod service;
mod store;
mod watches;

pub use config::{Config, Dashboards, Database, Erasures};
pub use metrics::ALL as METRICS;
pub use service::{Bound, Service};
pub use store::read_pool_url;
