//! The formats of files: which type one is of by its first bytes, where the index of MP4 lies in it, and why a file is not taken.
//!
//! Invariant: a file is read in places, and no frame or sound of it is looked at; `videos` and `media` build on this.

pub(crate) mod boxes;
mod container;
mod mp3_frame;
mod refused;
mod types;

pub(crate) use boxes::Index;
pub use container::Container;
pub(crate) use mp3_frame::Frame;
pub(crate) use refused::damaged;
pub use refused::{Error, Refused};
pub use types::{Class, Type};
