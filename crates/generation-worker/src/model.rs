//! Records and values that rules, wire and adapters all point down at; they know none of those.

mod check;
mod evidence;
mod failure;
mod order;
mod trouble;
mod webhook;
mod work;

pub(crate) use check::{Finding, ModelCheck};
pub use evidence::{Charge, Evidence};
pub use failure::{Class, Condition, Failure, Reason};
pub use order::{
    Abilities, FileForms, Form, Input, InputFile, Made, MediaKind, ModelCost, Moderation, ModerationRule, Order,
    OrderStatus, Reference, RemoteModel, Stopping, Upload, Usage,
};
pub use trouble::{CallOutcome, Phase, Trouble};
pub use webhook::{Confirmation, Hinted, NotVerified, Webhook, WebhookEvent};
pub use work::{Clock, Clocks, Completion, Lease, Outcome, StoredFile, Suspension, Work};
