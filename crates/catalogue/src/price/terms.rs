//! From rules and an order's facts to its terms, and from the terms to a price: before, at the maximum, and after, by what was made.
//!
//! Invariant: each count of a capture is at most that of the quote, so that the capture is, too.

use domain::money::Micros;

use super::rows::{self, Gap};
use super::{Decimal, Facts, Line, Made, MadeOutput, Part, Per, Price, Rule, Terms};
use crate::{MediaKind, Role};

/// Why an order has no price. It is not placed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unpriced {
    /// There are no rules.
    #[error("the model has no price")]
    NoRules,
    /// No row is for the order.
    #[error("rule {rule} of the price (per {}) has no row for {values}", per.as_str())]
    NoRow {
        /// Its number, from 1.
        rule: usize,
        /// What it counts.
        per: Per,
        /// The values: `audio true, resolution 1080p`.
        values: String,
    },
    /// What the price depends on is open.
    #[error("rule {rule} of the price (per {}) needs {what}, which the order leaves open", per.as_str())]
    Unknown {
        /// Its number, from 1.
        rule: usize,
        /// What it counts.
        per: Per,
        /// What is not known: `resolution`.
        what: String,
    },
    /// More than can be charged.
    #[error("the price is beyond what can be charged")]
    TooLarge,
}

/// The terms of an order: of each rule the row that is for it, and the count at its maximum.
///
/// Where a fact has several possible values, the dearest row of them is taken.
///
/// # Errors
/// [`Unpriced`], where a rule has no row for the order, or what it counts is not known: an order is never free by omission.
pub fn terms(rules: &[Rule], facts: &Facts) -> Result<Terms, Unpriced> {
    if rules.is_empty() {
        return Err(Unpriced::NoRules);
    }
    let parts = rules.iter().enumerate().map(|(index, rule)| part(index + 1, rule, facts)).collect::<Result<_, _>>()?;
    let terms = Terms { parts, cost: Vec::new() };
    terms.priced(|part| part.max_quantity).ok_or(Unpriced::TooLarge)?;
    Ok(terms)
}

fn part(number: usize, rule: &Rule, facts: &Facts) -> Result<Part, Unpriced> {
    let unknown = |what: &str| Unpriced::Unknown { rule: number, per: rule.per, what: what.to_owned() };
    let rate = rows::dearest(rule, &facts.values).map_err(|gap| match gap {
        Gap::Unknown(what) => unknown(&what),
        Gap::NoRow(values) => Unpriced::NoRow { rule: number, per: rule.per, values },
        Gap::TooMany => Unpriced::TooLarge,
    })?;
    let outputs = facts.outputs.max(1);
    let fps = facts.fps.or(rule.fps);
    let seconds = || facts.seconds.ok_or_else(|| unknown("the length"));
    let size = || facts.size.ok_or_else(|| unknown("the size in pixels"));
    let frames = || {
        let fps = fps.ok_or_else(|| unknown("the frames a second"))?;
        let frames =
            seconds()?.checked_mul(fps).and_then(|frames| frames.checked_add(Decimal::whole(rule.extra_frames.into())));
        frames.ok_or(Unpriced::TooLarge)
    };
    // The count for one output, where each output is counted; else for the order.
    let one = match rule.per {
        Per::Generation | Per::Output => Some(Decimal::ONE),
        Per::Second => Some(seconds()?),
        Per::InputSecond => input_seconds(rule.of, facts),
        Per::InputImage => Some(Decimal::whole(input_images(rule.of, facts))),
        Per::Megapixel => pixels(size()?, Decimal::ONE, rule.per),
        Per::VideoMegapixel | Per::Kilotoken => pixels(size()?, frames()?, rule.per),
        Per::GpuSecond => Some(rule.max_seconds.ok_or_else(|| unknown("the longest run"))?),
        Per::Character => Some(Decimal::whole(facts.characters.into())),
    };
    let one = one.and_then(|one| one.round_up(rule.step));
    let count = if rule.per.is_of_outputs() { outputs } else { 1 };
    let max_quantity = one.and_then(|one| one.times(count.into())).ok_or(Unpriced::TooLarge)?;
    Ok(Part {
        per: rule.per,
        rate,
        max_quantity,
        outputs: count,
        step: rule.step,
        minimum: rule.minimum,
        fps,
        extra_frames: rule.extra_frames,
    })
}

/// The seconds of the input's files with this role, or of all.
fn input_seconds(of: Option<Role>, facts: &Facts) -> Option<Decimal> {
    let of_role = |role: &Role| of.is_none_or(|of| of == *role);
    facts
        .media
        .iter()
        .filter(|(role, _)| of_role(role))
        .try_fold(Decimal::ZERO, |sum, (_, (_, seconds))| sum.checked_add(*seconds))
}

/// The pictures of the input with this role, or of all.
fn input_images(of: Option<Role>, facts: &Facts) -> u64 {
    let counts = |role: &Role| of.map_or(*role != Role::Audio, |of| of == *role);
    facts.media.iter().filter(|(role, _)| counts(role)).map(|(_, (pictures, _))| u64::from(*pictures)).sum()
}

/// Pixels over frames, in the unit that is counted.
fn pixels((width, height): (u32, u32), frames: Decimal, per: Per) -> Option<Decimal> {
    let divisor = if per == Per::Kilotoken { 1024 * 1000 } else { 1_000_000 };
    frames.scaled(u64::from(width) * u64::from(height), divisor)
}

impl Terms {
    /// What the order costs at most, which is held.
    #[must_use]
    pub fn quote(&self) -> Price {
        self.priced(|part| part.max_quantity).unwrap_or_else(Price::beyond)
    }

    /// What the provider should have asked for what was made, in millionths of its currency; `None` where the entry does not say.
    #[must_use]
    pub fn expected_cost(&self, made: &Made) -> Option<Micros> {
        if self.cost.is_empty() || made.outputs.is_empty() {
            return None;
        }
        sum(&self.cost, |part| part.made(made)).map(|price| price.total)
    }

    /// What the order costs, by what was made: never more than the quote, and nothing where nothing was made.
    ///
    /// Outputs count as their stored files are. Where a file does not tell its length or size, or the provider not its time, what
    /// was ordered counts.
    #[must_use]
    pub fn capture(&self, made: &Made) -> Price {
        if made.outputs.is_empty() {
            return Price { lines: Vec::new(), total: Micros::ZERO };
        }
        self.priced(|part| part.made(made)).unwrap_or_else(Price::beyond)
    }

    /// The terms at so many times their rates and minimums, each rounded up to 10⁻¹² credits: a model's markup, an account's margin.
    ///
    /// # Errors
    /// [`Unpriced::TooLarge`], beyond what can be charged.
    pub fn with_margin(&self, factor: Decimal) -> Result<Self, Unpriced> {
        let times = |credits: Decimal| credits.checked_mul(factor).ok_or(Unpriced::TooLarge);
        let part = |part: &Part| {
            Ok(Part { rate: times(part.rate)?, minimum: part.minimum.map(times).transpose()?, ..part.clone() })
        };
        let terms = Self { parts: self.parts.iter().map(part).collect::<Result<_, _>>()?, cost: self.cost.clone() };
        terms.priced(|part| part.max_quantity).ok_or(Unpriced::TooLarge)?;
        Ok(terms)
    }

    /// The longest run on the provider's machine that is paid for, in milliseconds, where that is what is counted.
    #[must_use]
    pub fn max_run_ms(&self) -> Option<u64> {
        let longest =
            self.parts.iter().filter(|part| part.per == Per::GpuSecond).map(|part| part.max_quantity).min()?;
        u64::try_from(longest.units() / Decimal::thousandths(1).units()).ok()
    }

    /// The price with these counts, or `None` beyond what can be charged.
    fn priced(&self, quantity: impl Fn(&Part) -> Decimal) -> Option<Price> {
        sum(&self.parts, quantity)
    }
}

/// The sum of parts with these counts, or `None` beyond what can be charged.
fn sum(parts: &[Part], quantity: impl Fn(&Part) -> Decimal) -> Option<Price> {
    let mut lines = Vec::with_capacity(parts.len());
    let mut total = Decimal::ZERO;
    for part in parts {
        let quantity = quantity(part);
        if quantity.is_zero() {
            continue;
        }
        let credits = part.rate.checked_mul(quantity)?.max(part.minimum.unwrap_or_default());
        total = total.checked_add(credits)?;
        lines.push(Line { per: part.per, quantity, unit_price: part.rate, credits });
    }
    Some(Price { lines, total: Micros::new(total.micros_up()?) })
}

impl Price {
    /// More than any account has; nobody can start an order at it.
    fn beyond() -> Self {
        Self { lines: Vec::new(), total: Micros::new(i64::MAX) }
    }
}

impl Part {
    /// The count by what was made, at most that which was held.
    fn made(&self, made: &Made) -> Decimal {
        let quantity = match self.per {
            Per::Generation | Per::InputSecond | Per::InputImage | Per::Character => None,
            Per::Output => u64::try_from(made.outputs.len()).ok().map(Decimal::whole),
            Per::GpuSecond => made.run_ms.and_then(|ms| Decimal::thousandths(ms).round_up(self.step)),
            Per::Second | Per::Megapixel | Per::VideoMegapixel | Per::Kilotoken => self.measured(&made.outputs),
        };
        quantity.map_or(self.max_quantity, |quantity| quantity.min(self.max_quantity))
    }

    /// The sum over the outputs that are of the kind that is counted, each at most what was ordered of one.
    fn measured(&self, outputs: &[MadeOutput]) -> Option<Decimal> {
        let counted = |output: &&MadeOutput| match self.per {
            Per::Megapixel => output.kind == MediaKind::Image,
            Per::Second => output.kind != MediaKind::Image,
            _ => output.kind == MediaKind::Video,
        };
        let ordered = self.max_quantity.share(self.outputs);
        // A model may answer a poster beside its video; but an animated picture where a video was ordered is charged as one.
        let all = !outputs.iter().any(|output| counted(&output));
        outputs.iter().filter(|output| all || counted(output)).try_fold(Decimal::ZERO, |sum, output| {
            sum.checked_add(self.measure(output).unwrap_or(ordered).min(ordered))
        })
    }

    /// The count of one output, where its file tells it.
    fn measure(&self, output: &MadeOutput) -> Option<Decimal> {
        let size = || (output.width > 0 && output.height > 0).then_some((output.width, output.height));
        let seconds = || (output.duration_ms > 0).then(|| Decimal::thousandths(output.duration_ms));
        match self.per {
            // A file of so many seconds is a frame or two longer than they are, which are no further second.
            Per::Second => seconds()?.saturating_sub(self.frame_beyond()).round_up(self.step),
            Per::Megapixel => pixels(size()?, Decimal::ONE, self.per)?.round_up(self.step),
            _ => pixels(size()?, self.frames(seconds()?)?, self.per)?.round_up(self.step),
        }
    }

    /// How much longer than a multiple of the step a file may be without counting as the next one: a tenth of the step, and at most a
    /// tenth of a second. Nothing without a step.
    fn frame_beyond(&self) -> Decimal {
        self.step.map_or(Decimal::ZERO, |step| step.share(10).min(Decimal::thousandths(100)))
    }

    /// The frames of a file of this length. A provider that bills frames beside those of the length (97 for four seconds at 24) puts
    /// them into the file, as a rule, so that the file's own frames count; but of whole seconds no fewer than it bills.
    fn frames(&self, seconds: Decimal) -> Option<Decimal> {
        let fps = self.fps?;
        let frames = seconds.checked_mul(fps)?;
        // A probe tells milliseconds: what is within one of a whole frame is that frame (97.008 of 4.042 s are 97).
        let nearest = frames.checked_add(Decimal::thousandths(500))?.round_down(Decimal::ONE);
        let millisecond = fps.share(1000);
        let apart = frames.saturating_sub(nearest).max(nearest.saturating_sub(frames));
        let frames = if apart <= millisecond { nearest } else { frames };
        let billed = frames.round_down(fps).checked_add(Decimal::whole(self.extra_frames.into()))?;
        Some(frames.max(billed))
    }
}
