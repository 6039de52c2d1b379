//! What every service means by an id, an API key, a network, a credit, a provider, a state and a page. No I/O and no SQL: a wrong value cannot be
//! built, and whoever holds one need not check it again. Of the types here a provider alone can be serialized: it is a word of
//! the catalogue and of an order.

pub mod api_key;
pub mod generation;
pub mod id;
pub mod money;
pub mod name;
pub mod network;
pub mod page;
pub mod provider;
