//! A value's body, as the simulation has it.

use crate::time::Time;

/// Its content, when it was loaded, and how long it may be served after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Body {
    pub(crate) content: u64,
    pub(crate) loaded_at: Time,
    pub(crate) lifetime: Time,
}
