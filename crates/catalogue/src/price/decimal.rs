//! A decimal number for money and counts. Arithmetic is exact, or rounds up where it says so, and never wraps.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A decimal number of up to twelve places, not negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Decimal(i128);

/// One, in units of 10⁻¹².
const ONE: i128 = 1_000_000_000_000;

/// Why a text is no decimal number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a decimal number of at most twelve places, such as 0.168")]
pub struct NotDecimal;

impl Decimal {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// One.
    pub const ONE: Self = Self(ONE);

    /// The largest number that can be written: beyond all that can be charged.
    pub const MAX: Self = Self(1_000_000_000_000_000 * ONE - 1);

    /// A whole number.
    #[must_use]
    pub const fn whole(number: u64) -> Self {
        Self(number as i128 * ONE)
    }

    /// So many thousandths: the seconds of a count of milliseconds.
    #[must_use]
    pub const fn thousandths(number: u64) -> Self {
        Self(number as i128 * (ONE / 1000))
    }

    /// The number as it is written in decimal: 23.976 is 23.976. `None` for one that is negative, too large or has more than twelve
    /// places.
    #[must_use]
    pub fn from_f64(number: f64) -> Option<Self> {
        number.to_string().parse().ok()
    }

    /// The number in units of 10⁻¹².
    #[must_use]
    pub const fn units(self) -> i128 {
        self.0
    }

    /// Whether it is nothing.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The sum, or `None` beyond what fits.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The product, rounded up to 10⁻¹², or `None` beyond what fits.
    #[must_use]
    pub fn checked_mul(self, other: Self) -> Option<Self> {
        // In parts, since the product of two numbers in units of 10⁻¹² is one in units of 10⁻²⁴.
        let (whole, places) = (self.0 / ONE, self.0 % ONE);
        let (other_whole, other_places) = (other.0 / ONE, other.0 % ONE);
        let small = div_up(places * other_places, ONE)?;
        whole.checked_mul(other.0)?.checked_add(places.checked_mul(other_whole)?)?.checked_add(small).map(Self)
    }

    /// So many times the number.
    #[must_use]
    pub fn times(self, count: u64) -> Option<Self> {
        self.0.checked_mul(i128::from(count)).map(Self)
    }

    /// The part of the number that is one of `count` equal ones, rounded up; of none, the number.
    #[must_use]
    pub fn share(self, count: u32) -> Self {
        div_up(self.0, i128::from(count.max(1))).map_or(self, Self)
    }

    /// `self × factor / divisor`, rounded up to 10⁻¹², or `None` beyond what fits.
    pub(super) fn scaled(self, factor: u64, divisor: u64) -> Option<Self> {
        div_up(self.0.checked_mul(i128::from(factor))?, i128::from(divisor)).map(Self)
    }

    /// The least multiple of `step` that is no less, or `None` beyond what fits; without a step the number.
    #[must_use]
    pub fn round_up(self, step: Option<Self>) -> Option<Self> {
        match step {
            Some(Self(step)) if step > 0 => div_up(self.0, step)?.checked_mul(step).map(Self),
            _ => Some(self),
        }
    }

    /// The greatest multiple of `step` that is no more.
    pub(super) fn round_down(self, step: Self) -> Self {
        if step.0 > 0 { Self(self.0 - self.0 % step.0) } else { self }
    }

    /// The difference, or nothing where `other` is more.
    pub(super) fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0).max(0))
    }

    /// In micro-credits, rounded up, of a number of credits.
    pub(super) fn micros_up(self) -> Option<i64> {
        i64::try_from(div_up(self.0, ONE / 1_000_000)?).ok()
    }
}

/// The quotient of two numbers that are not negative, rounded up.
fn div_up(number: i128, divisor: i128) -> Option<i128> {
    let whole = number.checked_div(divisor)?;
    if number % divisor == 0 { Some(whole) } else { whole.checked_add(1) }
}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for Decimal {
    /// With as many places as needed: `8`, `38.8`, `0.168`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, places) = (self.0 / ONE, self.0 % ONE);
        let places = format!("{places:012}");
        match places.trim_end_matches('0') {
            "" => write!(f, "{whole}"),
            places => write!(f, "{whole}.{places}"),
        }
    }
}

impl FromStr for Decimal {
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

#[cfg(test)]
mod tests {
    use super::Decimal;

    fn d(text: &str) -> Decimal {
        text.parse().expect("a decimal number")
    }

    #[test]
    fn reads_what_it_writes() {
        for text in ["0", "8", "38.8", "0.168", "0.000000000001", "999999999999999.999999999999"] {
            assert_eq!(d(text).to_string(), text);
        }
        for text in [
            "",
            ".",
            "1.",
            ".5",
            "-1",
            "+1",
            "1e3",
            "1_000",
            "0.0000000000001",
            "1000000000000000",
            "1.2.3",
            " 1",
            "NaN",
        ] {
            assert!(text.parse::<Decimal>().is_err(), "{text:?}");
        }
        assert_eq!(d("007.50").to_string(), "7.5");
    }

    #[test]
    fn multiplies_exactly_and_rounds_up_beyond_twelve_places() {
        assert_eq!(d("38.8").checked_mul(d("0.014")), Some(d("0.5432")));
        assert_eq!(d("0.000000000001").checked_mul(d("0.1")), Some(d("0.000000000001")));
        assert_eq!(d("123456.789").checked_mul(d("987.654321")), Some(d("121932631.112635269")));
        let largest = d("999999999999999.999999999999");
        assert_eq!(largest.checked_mul(largest), None);
        assert_eq!(largest.checked_mul(Decimal::ONE), Some(largest));
        assert_eq!(largest.times(u64::MAX), None);
    }

    #[test]
    fn rounds_up_to_a_step() {
        assert_eq!(d("5.72").round_up(Some(d("1"))), Some(d("6")));
        assert_eq!(d("6").round_up(Some(d("1"))), Some(d("6")));
        assert_eq!(d("0").round_up(Some(d("0.5"))), Some(d("0")));
        assert_eq!(d("5.72").round_up(None), Some(d("5.72")));
        assert_eq!(d("5.72").round_up(Some(d("0"))), Some(d("5.72")));
    }

    #[test]
    fn takes_a_float_as_it_is_written() {
        assert_eq!(Decimal::from_f64(23.976), Some(d("23.976")));
        assert_eq!(Decimal::from_f64(24.0), Some(d("24")));
        for number in [-1.0, f64::NAN, f64::INFINITY, 1e300, 1.0 / 3.0] {
            assert_eq!(Decimal::from_f64(number), None, "{number}");
        }
    }
}
