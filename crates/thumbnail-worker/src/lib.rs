//! The service that stores pictures, videos and sounds, and renders thumbnails of what is to be seen; now or as a job.
//!
//! A request reads downward: `grpc` parses it; `assets` and `thumbnails` are the rules, and `runner` works off queued
//! thumbnails by the same ones; `pictures`, `formats`, `videos` and `media` know bytes and pixels only, each builds on those before it;
//! `decoder` is the process that they run in, `protocol` what it and its parent say to each other, `decode_pool` and `byte_budget` bound
//! what they cost; `orphans` are objects that nothing names; `store` has the only SQL; all of them share the records of `model`. Invariant: an upload that is not a whole file within
//! the limits is refused and leaves nothing behind.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod assets;
pub mod byte_budget;
mod children;
pub mod config;
mod confine;
pub mod decode_pool;
mod decoder;
pub mod decodings;
pub mod erasures;
mod error;
mod events;
pub mod ffmpeg;
mod formats;
mod grpc;
mod keyed_lock;
pub mod media;
pub mod metrics;
pub mod model;
pub mod orphans;
mod pages;
pub mod pictures;
mod posters;
mod protocol;
pub mod retention;
mod runner;
mod scratch;
mod service;
pub mod source;
pub mod stop;
pub mod store;
mod thumbnails;
pub mod videos;

pub use config::Config;
pub use decoder::run_as_child;
pub use service::{Bound, Service};
