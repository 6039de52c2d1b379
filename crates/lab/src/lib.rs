//! The laboratory: the product on real processes and servers while everything is cut, stopped and killed, and the checks of what
//! came of it.
//!
//! `cluster` is what all of it runs on. `torture` checks all that clients were answered. `crash_points` aborts a process at each
//! crash point in turn and `nemesis` kills all at random, beside a simulated `provider` from which a `customer` orders; then
//! `audit` joins the provider's bill with the books. `walk` shows what operators see of each mishap. `siege` attacks from some
//! accounts and looks at what another feels. Invariants: what is checked is what others hold (clients, the provider, the database);
//! the laboratory runs what lies built beside the program that contains it, and builds and installs nothing itself.

mod audit;
mod calls;
mod cluster;
pub mod crash_points;
mod customer;
mod folder;
mod http;
pub mod nemesis;
mod notifications;
mod provider;
mod report;
mod rescue;
pub mod siege;
pub mod torture;
pub mod walk;

/// Takes a sentence about what is being done, for whoever waits; it is no part of the result.
pub type Progress<'a> = &'a dyn Fn(&str);
