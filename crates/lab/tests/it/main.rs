//! The laboratory as its commands have it.
#![allow(missing_docs)]

mod json;
