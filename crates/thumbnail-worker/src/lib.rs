//! thumbnail-worker: stores pictures, renders thumbnails of pictures and posters of videos, now or later.
//!
//! `pictures` and `videos` know bytes and pixels only; `pool` bounds what they cost. Invariant: what is not a whole picture
//! within the limits is refused and leaves nothing behind.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod pictures;
pub mod pool;
pub mod videos;
