//! What every service means by an id, a credit, a state and a page. No I/O, no serde, no SQL: a wrong value cannot be
//! built, and whoever holds one need not check it again.

pub mod generation;
pub mod id;
pub mod money;
pub mod name;
pub mod page;
pub mod token;
