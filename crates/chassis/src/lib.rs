//! What every Rushes service does alike: settings, telemetry, deadlines, errors on the wire, PostgreSQL pools, object
//! storage, NATS, gRPC clients and servers, the admin port and draining.
//!
//! It knows no business noun and holds no business SQL. The list of modules is closed: a helper that fits none of them
//! belongs to the crate that needs it.

pub mod admin;
mod admission;
pub mod blobs;
pub mod client;
pub mod crash;
pub mod drain;
pub mod egress;
pub mod encoded;
pub mod fields;
pub mod frames;
pub mod identity;
pub mod keyring;
pub mod links;
pub mod metrics;
pub mod nats;
pub mod postgres;
pub mod process;
mod profile;
pub mod request;
mod rpc;
pub mod server;
pub mod settings;
pub mod status;
pub mod telemetry;
pub mod text;
