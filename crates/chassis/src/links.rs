//! Signed addresses of stored objects, by which the gateway gives out what it would not give to anybody: an [asset's](AssetUrls),
//! which is in every answer about it, and a model's provider's [link](FetchLinks) to an input, which gets no key of ours.
//!
//! Invariant: an address says whose object until when and nothing else can be made of it: all of it is under one MAC, which is
//! compared in constant time. Both kinds are secrets, and no part of a log line or an attribute.

mod assets;
mod fetch;

use std::time::{SystemTime, UNIX_EPOCH};

pub use assets::{ASSETS, AssetAccess, AssetUrls};
pub use fetch::{FETCH, FetchLinks, verify_fetch};

/// Why an address leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is none of ours.
    #[error("there is nothing here")]
    Forged,
    /// It was one of ours.
    #[error("the link has run out")]
    Expired,
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
