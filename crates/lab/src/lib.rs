//! The laboratory: the product on real processes and servers while everything is cut, stopped and killed, and the checks of what
//! came of it.
//!
//! `stage` is the cluster that all of it runs on, `torture` checks all that clients were answered, `work` joins the provider's
//! bill with the books. Invariant: it runs what lies built beside the program that contains it, and builds and installs nothing
//! itself.

mod stage;
pub mod torture;
pub mod work;

/// Hears what is being done.
pub type Progress<'a> = &'a dyn Fn(&str);
