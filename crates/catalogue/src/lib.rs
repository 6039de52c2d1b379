//! The catalogue of models: entries as data, the input that each takes, the order that is sent to its provider, and its price.
//! No I/O: a caller hands in what files say, and keeps what comes out.
//!
//! A request goes through it once, at its start: an [`Input`] becomes a [`Resolved`] one, with the [`Order`] and the [`Terms`]
//! frozen, or a list of [`Violation`]s. What was made later is priced by the terms alone, whatever the catalogue says by then.

mod asset;
pub mod document;
pub mod drift;
pub mod import;
mod input;
mod kind;
mod order;
pub mod price;
mod resolved;
mod violation;

pub use asset::Asset;
pub use document::Document;
pub use input::{Input, Length, Medium, Role, Settings};
pub use kind::{Kind, MediaKind};
pub use order::{File, Order};
pub use price::{Decimal, Facts, Line, Made, MadeOutput, NotDecimal, Part, Per, Price, Row, Rule, Terms, Unpriced};
pub use resolved::Resolved;
pub use violation::Violation;
