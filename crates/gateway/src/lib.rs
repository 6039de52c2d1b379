//! The gateway: the one public port of Rushes.
//!
//! It finds a method in the table made from the protos, authenticates the call by its API key, enforces limits and deadlines,
//! and forwards the HTTP/2 body as bytes. Beside that it serves assets over HTTP and takes model providers' webhooks.
//!
//! Invariants: no request reaches a service without an account that the gateway itself has put there, and no body is
//! decoded here but the last event of a watch that a drain ends, and what is asked of the gateway itself.

mod assets;
mod config;
mod error;
mod events;
mod forward;
mod hooks;
mod http_call;
mod ingress;
mod keys;
mod limit_service;
mod limits;
mod metrics;
mod model;
mod routes;
mod service;

pub use config::{Config, Origins, Upstreams};
pub use limits::{Bounds, Rate, Settings as Limits};
pub use metrics::ALL as METRICS;
pub use service::{Bound, Service};
