//! The worker's tests: its providers alone, and its protocol against a real generation-status.
#![allow(clippy::unwrap_used, missing_docs)]

mod sketch;
