//! The service's tests: bytes and pixels alone, and the service through its front door against a real PostgreSQL.
#![allow(clippy::unwrap_used, missing_docs)]

mod hostile;
mod jobs;
mod overload;
mod paint;
mod pictures;
mod posters;
mod service;
mod thumbnails;
mod uploads;
