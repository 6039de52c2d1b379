//! The tool behind `cargo rushes`.
