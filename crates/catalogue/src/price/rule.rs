//! The price of a model as its entry has it, and what of a request it depends on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Decimal, Per};
use crate::Role;

/// One part of a model's price.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What is counted.
    pub per: Per,
    /// The first row whose conditions hold has the rate. None that holds is an error, never free.
    pub rows: Vec<Row>,
    /// The count is rounded up to a multiple of this.
    #[serde(default)]
    pub step: Option<Decimal>,
    /// It costs no less than this, in credits.
    #[serde(default)]
    pub minimum: Option<Decimal>,
    /// Whose seconds or pictures are counted, of an input.
    #[serde(default)]
    pub of: Option<Role>,
    /// The longest time on the provider's machine, in seconds.
    #[serde(default)]
    pub max_seconds: Option<Decimal>,
    /// Frames a second, where frames are counted and no setting says it.
    #[serde(default)]
    pub fps: Option<Decimal>,
    /// Frames that are billed beside those of the length.
    #[serde(default)]
    pub extra_frames: u32,
}

/// A rate and when it holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// By setting, role in lower case or parameter: the values for which it holds; all must hold.
    #[serde(default)]
    pub when: BTreeMap<String, Vec<String>>,
    /// Credits for one.
    pub credits: Decimal,
}

/// What of a request its price depends on, each at its maximum where the request leaves it open.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// By setting, role in lower case or parameter, its value as text: `720p`, `true`; of a role `present` or `absent`. Several where
    /// the model may still choose; the dearest of them is held.
    pub values: BTreeMap<String, Vec<String>>,
    /// How long an output plays, in seconds.
    pub seconds: Option<Decimal>,
    /// The frame's size in pixels.
    pub size: Option<(u32, u32)>,
    /// Frames a second.
    pub fps: Option<Decimal>,
    /// How many outputs are made.
    pub outputs: u32,
    /// How many pictures of each role there are, and how many seconds its other files play together.
    pub media: BTreeMap<Role, (u32, Decimal)>,
    /// The prompt's length.
    pub characters: u32,
}

impl Rule {
    /// The rule at so many times its rates and minimum, each rounded up to 10⁻¹² credits as [`super::Terms::with_margin`] does; those that
    /// are beyond what can be charged stay beyond it.
    #[must_use]
    pub fn with_margin(&self, factor: Decimal) -> Self {
        let times = |credits: Decimal| credits.checked_mul(factor).unwrap_or(Decimal::MAX);
        let row = |row: &Row| Row { when: row.when.clone(), credits: times(row.credits) };
        Self { rows: self.rows.iter().map(row).collect(), minimum: self.minimum.map(times), ..self.clone() }
    }
}
