//! The product as its users meet it: every service as a process, the command line as a program, and the rules of the
//! workspace itself.
#![allow(missing_docs, clippy::unwrap_used)]

mod accounts;
mod answers;
mod bad_input;
mod client;
mod cluster;
mod commands;
mod doors;
mod faults;
mod http;
mod json;
mod main_job;
mod reconciler;
mod statements;
mod traces;
mod up;
mod watches;
mod workspace;
