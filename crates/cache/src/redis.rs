//! Redis, the second tier: a link that fails fast, and the scripts.
//!
//! Invariant: nothing here decides what may be served; an answer is passed on together with the proof that Redis had in the same
//! step.

mod breaker;
mod client;
mod link;
mod scripts;

pub(crate) use client::{check, open};
pub(crate) use link::{Link, Session};
pub(crate) use scripts::{Names, Proof, apply, fill, get, probe, prove};
