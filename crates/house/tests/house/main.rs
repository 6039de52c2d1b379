//! The house's rules, which no compiler holds, over the sources of every crate.
#![allow(missing_docs)]

mod attributes;
mod circles;
mod metrics_page;
mod reasons;
mod shape;
mod sources;
mod words;
