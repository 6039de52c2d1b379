//! The price of an order: the terms that are frozen with it, and what they come to, before and after.
//!
//! Invariant: a line is exact to 10⁻¹² credits; the sum of the lines is exact, and rounded once, up, to a micro-credit. A capture is
//! never more than the quote.

mod decimal;
pub mod openrouter;
mod rows;
mod rule;
mod terms;
#[cfg(test)]
mod tests;

use domain::money::Micros;
use serde::{Deserialize, Serialize};

use crate::MediaKind;

pub use decimal::{Decimal, NotDecimal};
pub use rows::unpriced;
pub use rule::{Facts, Row, Rule};
pub use terms::{Unpriced, terms};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// The order as a whole.
    Generation,
    /// Each output.
    Output,
    /// Each second that an output plays.
    Second,
    /// Each second that an input plays.
    InputSecond,
    /// Each picture of the input.
    InputImage,
    /// Each million pixels of a still.
    Megapixel,
    /// Each million pixels of a video, over all frames.
    VideoMegapixel,
    /// Each thousand tokens: width × height × frames / 1024.
    Kilotoken,
    /// Each second on the provider's machine.
    GpuSecond,
    /// Each character of the prompt.
    Character,
}

/// One part of a price, with everything that its count depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// What is counted.
    pub per: Per,
    /// Credits for one: the row whose conditions held, the margin included.
    pub rate: Decimal,
    /// The count at its maximum, which is held.
    pub max_quantity: Decimal,
    /// Over how many outputs the count goes, each of the same share; 1 where it is not of outputs.
    #[serde(default = "one")]
    pub outputs: u32,
    /// The count is rounded up to a multiple of this.
    pub step: Option<Decimal>,
    /// It costs no less than this, in credits.
    pub minimum: Option<Decimal>,
    /// Frames a second, where frames are counted and what was made does not tell them.
    pub fps: Option<Decimal>,
    /// Frames that are billed beside those of the length.
    #[serde(default)]
    pub extra_frames: u32,
}

/// The terms of an order: what it costs at most, and how its cost is found once it is made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Terms {
    /// The parts, whose sum is the price.
    pub parts: Vec<Part>,
    /// The parts of what its provider asks for it, in the provider's currency; none where the entry does not say. Never charged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cost: Vec<Part>,
}

/// What was made, as far as it is charged.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Made {
    /// Each output, as the stored file was probed.
    pub outputs: Vec<MadeOutput>,
    /// The time on the provider's machine, where the provider says it.
    pub run_ms: Option<u64>,
}

/// One output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MadeOutput {
    /// What it is.
    pub kind: MediaKind,
    /// In pixels; 0 where not known.
    pub width: u32,
    /// In pixels; 0 where not known.
    pub height: u32,
    /// How long it plays; 0 where not known.
    pub duration_ms: u64,
}

/// One line of a price, as people and the ledger see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// What is counted.
    pub per: Per,
    /// How many.
    pub quantity: Decimal,
    /// Credits for one.
    pub unit_price: Decimal,
    /// The line's own price, in credits.
    pub credits: Decimal,
}

/// A price with its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    /// The lines.
    pub lines: Vec<Line>,
    /// Their sum, rounded up.
    pub total: Micros,
}

const fn one() -> u32 {
    1
}

impl Per {
    /// The name in an entry, in the API and in the ledger.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Generation => "generation",
            Self::Output => "output",
            Self::Second => "second",
            Self::InputSecond => "input_second",
            Self::InputImage => "input_image",
            Self::Megapixel => "megapixel",
            Self::VideoMegapixel => "video_megapixel",
            Self::Kilotoken => "kilotoken",
            Self::GpuSecond => "gpu_second",
            Self::Character => "character",
        }
    }

    /// Whether each output adds to the count.
    const fn is_of_outputs(self) -> bool {
        matches!(self, Self::Output | Self::Second | Self::Megapixel | Self::VideoMegapixel | Self::Kilotoken)
    }
}
