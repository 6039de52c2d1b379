//! testkit against the real servers of this machine.
#![allow(clippy::unwrap_used)]

mod servers;
