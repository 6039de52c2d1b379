//! What every Rushes service does alike: settings, telemetry, deadlines, errors on the wire, PostgreSQL pools, object
//! storage, NATS, gRPC clients and servers, the admin port and draining.
//!
//! It knows no business noun and holds no business SQL. The list of modules is closed: a helper that fits none of them
//! belongs to the crate that needs it.

pub mod admin;
pub mod blobs;
pub mod client;
pub mod crash;
pub mod drain;
pub mod egress;
pub mod encoded;
pub mod fields;
pub mod metrics;
pub mod nats;
pub mod postgres;
pub mod process;
pub mod request;
mod rpc;
pub mod server;
pub mod settings;
pub mod status;
pub mod telemetry;

// The modules of `request` under the paths and names that they had before.
#[doc(hidden)]
pub use request::caller;
#[doc(hidden)]
pub mod deadline {
    pub use crate::request::deadline::{within as scope, *};
}
#[doc(hidden)]
pub mod stale {
    pub use crate::request::staleness::{
        AGE_HEADER as TOLD, MAX_STALE as MOST, MAX_STALE_HEADER as ASKED, accepted as allowed, report_age as tell,
    };
}
#[doc(hidden)]
pub mod task {
    pub use crate::request::{carry, count_queries as counting, count_query, queries, spawn};
}
#[doc(hidden)]
pub mod token {
    pub use crate::request::token::{
        HEADER, LIFETIME as USEFUL, MAX_PER_REQUEST as MOST, is_expected as is_awaited, presented as brought,
        update_reply as tell,
    };
}
