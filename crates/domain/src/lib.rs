//! What every service means by an id, a credit, a model, a state and a page. No I/O and no SQL: a wrong value cannot be
//! built, and whoever holds one need not check it again. No type here can be serialized; the one file that is parsed here is
//! the catalogue's, which every service has to read alike.

pub mod catalogue;
pub mod generation;
pub mod id;
pub mod money;
pub mod name;
pub mod page;
pub mod provider;
pub mod token;
