//! The service's tests: bytes and pixels alone, and the service through its front door against a real PostgreSQL.
#![allow(clippy::unwrap_used, missing_docs)]

mod ceiling;
mod clips;
mod cluster;
mod confined;
mod corpus;
mod endings;
mod film;
mod hostile;
mod jobs;
mod jpegs;
mod media;
mod metrics;
mod overload;
mod paint;
mod pictures;
mod posters;
mod profiles;
mod sounds;
mod storage;
mod thumbnails;
mod uploads;
mod videos;
