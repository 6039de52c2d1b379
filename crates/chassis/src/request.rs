//! The request that is being answered: its deadline, its caller, its read-your-writes tokens, how old an answer it takes, and
//! the count of its database round trips; and who acts by it.
//!
//! `scope` holds these for a task and carries them into others; each of the other modules reads or changes one of them.
//! Invariant: nothing in here outlives the request, and outside any request there is no limit, no token and no count.

pub mod actor;
pub mod caller;
pub mod deadline;
pub mod metadata;
mod scope;
pub mod staleness;
pub mod token;

pub(crate) use scope::{Scope, Staleness, Tokens, account};
pub use scope::{carry, count_queries, count_query, in_current_trace, queries, spawn};
