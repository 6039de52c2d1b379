//! Records and values that rules, wire and adapters all point down at; they know none of those.

mod failure;
mod order;
mod webhook;
mod work;

pub use failure::{Charge, Class, Evidence, Failure, NotSubmitted};
pub use order::{Abilities, Made, Order, OrderStatus, Reference, RemoteModel, RemoteProvider, Stopping};
pub use webhook::{Hinted, NotVerified, Webhook, WebhookEvent};
pub use work::{Completion, Lease, Outcome, Suspension, Video, Work};
