//! What a listing of generations is restricted to.

use std::collections::BTreeMap;

use domain::generation::State;
use domain::id::GenerationId;
use time::OffsetDateTime;

use super::Generation;

/// Restrictions, all of which hold; by default there are none.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Filter {
    /// In one of these; empty: in any.
    pub(crate) states: Vec<State>,
    pub(crate) model: Option<String>,
    /// Started then or later.
    pub(crate) from: Option<OffsetDateTime>,
    /// Started before.
    pub(crate) until: Option<OffsetDateTime>,
    /// With all of these.
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) end_user: Option<String>,
}

impl Filter {
    /// The number of the one terminal state that is asked for, or 0 where open ones alone are.
    pub(crate) fn end_state(&self) -> Option<i16> {
        match self.states[..] {
            [state] if state.is_terminal() => Some(state.number()),
            [] => None,
            _ => self.states.iter().all(|state| !state.is_terminal()).then_some(0),
        }
    }
}

/// A page of generations that were filtered.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) generations: Vec<Generation>,
    /// Where the next page begins; `None` on the last one.
    pub(crate) next: Option<GenerationId>,
}
