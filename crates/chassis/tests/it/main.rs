//! The chassis through its front door.

#![allow(clippy::unwrap_used)]

mod postgres;
