//! The catalogue of models: entries as data, the input that each takes, the order that is sent to its provider, and its price.
//! No I/O: a caller hands in what files say, and keeps what comes out.
//!
//! A request goes through it once, at its start: an [`Input`] becomes a [`Resolved`] one, with the [`Order`] and the [`Terms`]
//! frozen, or a list of [`Violation`]s. What was made later is priced by the terms alone, whatever the catalogue says by then.

mod asset;
mod build;
mod built_in;
mod catalogue;
mod describe;
pub mod document;
pub mod drift;
mod entry;
mod fault;
pub mod import;
mod input;
mod kind;
mod model;
mod moderation;
mod order;
pub mod price;
mod resolve;
mod resolved;
mod schema;
mod setting_name;
mod settings;
mod shipped;
mod slot;
mod tree;
mod violation;

pub use asset::Asset;
pub use catalogue::Catalogue;
pub use describe::SettingDescription;
pub use document::Document;
pub use domain::provider::Provider;
pub use entry::{Date, FileLimits, LOCAL_SKETCH, LOCAL_STILL};
pub use fault::Fault;
pub use input::{Input, Length, Medium, Role, Settings};
pub use kind::{Kind, MediaKind};
pub use model::Model;
pub use moderation::{Effect, ModerationRule};
pub use order::{File, Order};
pub use price::{Decimal, Facts, Line, Made, MadeOutput, NotDecimal, Part, Per, Price, Row, Rule, Terms, Unpriced};
pub use resolve::MAX_VIOLATIONS;
pub use resolved::Resolved;
pub use schema::{Property, Schema};
pub use setting_name::SettingName;
pub use settings::Setting;
pub use slot::{Item, Slot};
pub use tree::Format;
pub use violation::Violation;
