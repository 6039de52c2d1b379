//! The price of an order: the terms that are frozen with it, and what they come to, before and after.
//!
//! Invariant: sums are exact, in 10⁻¹² credits, and rounded once, up, to a micro-credit; a capture is never more than the quote.

mod rule;

use domain::money::Micros;
use serde::{Deserialize, Serialize};

use crate::MediaKind;

pub use rule::{Facts, Row, Rule};

/// A decimal number of up to twelve places, exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Decimal(i128);

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

impl Serialize for Decimal {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl std::fmt::Display for Decimal {
    /// With as many places as needed: `8`, `38.8`, `0.168`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let magnitude = self.0.unsigned_abs();
        let (whole, places) = (magnitude / ONE.unsigned_abs(), magnitude % ONE.unsigned_abs());
        let sign = if self.0 < 0 { "-" } else { "" };
        let places = format!("{places:012}");
        match places.trim_end_matches('0') {
            "" => write!(f, "{sign}{whole}"),
            places => write!(f, "{sign}{whole}.{places}"),
        }
    }
}

/// One, in units of 10⁻¹².
const ONE: i128 = 1_000_000_000_000;

/// Why a text is no decimal number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a decimal number of at most twelve places, such as 0.168")]
pub struct NotDecimal;

impl std::str::FromStr for Decimal {
    type Err = NotDecimal;

    fn from_str(text: &str) -> Result<Self, NotDecimal> {
        let (whole, places) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(places) || whole.len() > 15 || places.len() > 12 {
            return Err(NotDecimal);
        }
        let number: i128 = format!("{whole}{places:0<12}").parse().map_err(|_| NotDecimal)?;
        Ok(Self(number))
    }
}
