//! A provider that is none: it speaks four protocols on one port, keeps a bill, and goes wrong by seed.
//!
//! `double` is the port and `routes` its paths, `replicate`, `fal`, `openrouter` and `cog` are the protocols, `inputs` and `uploads` what comes with an order, `orders` decides what becomes of an
//! order, `bill` is the record on disk, `webhooks` what is sent; `receiver` is another third party, a customer whom webhooks
//! reach. Invariant: an order, a charge or a stop is on the bill before anybody hears of it, so that the bill says what a real
//! provider would want paid, whatever became of the answer.

mod admin;
mod bill;
mod chance;
mod cog;
mod double;
mod fal;
mod faults;
mod files;
mod injection;
mod inputs;
mod kinds;
mod openrouter;
mod order;
mod orders;
mod outages;
mod png;
mod presenters;
mod receiver;
mod refusals;
mod replicate;
mod routes;
mod safety;
mod server;
mod settings;
mod signing;
mod uploads;
mod video;
mod wav;
mod webhooks;
mod webm;
mod words;

pub use bill::{Event, Line, read as read_bill};
pub use double::Double;
pub use faults::Faults;
pub use order::{Given, Protocol};
pub use outages::{Outage, OutageKind};
pub use png::picture;
pub use presenters::{FAL_COST_MICROS, OPENROUTER_COST_MICROS};
pub use receiver::{Received, Receiver};
pub use settings::{MoreToken, Settings};
