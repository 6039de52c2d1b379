//! The wire: messages, clients and servers generated from `/proto`, the descriptor set, and the table of methods that the
//! gateway routes by. Nothing here is written by hand but the module tree and the table's types; the comments on generated
//! items are those of the `.proto` files.
#![allow(missing_docs, clippy::all, clippy::pedantic, clippy::derive_partial_eq_without_eq)]

mod method;
pub use method::{Class, METHODS, Method, Scope, callers, message_limits, method, places, scopes, services};

/// The compiled `/proto` with its comments and options, for reflection and for JSON.
pub static DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

pub mod google {
    pub mod rpc {
        tonic::include_proto!("google.rpc");
    }
}

pub mod rushes {
    pub mod accounts {
        pub mod v1 {
            tonic::include_proto!("rushes.accounts.v1");
        }
    }
    pub mod assets {
        pub mod v1 {
            tonic::include_proto!("rushes.assets.v1");
        }
    }
    pub mod audit {
        pub mod v1 {
            tonic::include_proto!("rushes.audit.v1");
        }
    }
    pub mod credits {
        pub mod v1 {
            tonic::include_proto!("rushes.credits.v1");
        }
    }
    pub mod dashboard {
        pub mod v1 {
            tonic::include_proto!("rushes.dashboard.v1");
        }
    }
    pub mod generations {
        pub mod v1 {
            tonic::include_proto!("rushes.generations.v1");
        }
    }
    pub mod limits {
        pub mod v1 {
            tonic::include_proto!("rushes.limits.v1");
        }
    }
    pub mod models {
        pub mod v1 {
            tonic::include_proto!("rushes.models.v1");
        }
    }
    pub mod options {
        pub mod v1 {
            tonic::include_proto!("rushes.options.v1");
        }
    }
    pub mod projects {
        pub mod v1 {
            tonic::include_proto!("rushes.projects.v1");
        }
    }
    pub mod queues {
        pub mod v1 {
            tonic::include_proto!("rushes.queues.v1");
        }
    }
    pub mod webhooks {
        pub mod v1 {
            tonic::include_proto!("rushes.webhooks.v1");
        }
    }
    pub mod work {
        pub mod v1 {
            tonic::include_proto!("rushes.work.v1");
        }
    }
}

pub use rushes::{
    accounts, assets, audit, credits, dashboard, generations, limits, models, options, projects, queues, webhooks, work,
};
