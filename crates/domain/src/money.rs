//! Money: integer micro-credits, so that sums are exact and the same in every language.

use std::fmt;

/// An amount in micro-credits; 1,000,000 are one credit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Micros(i64);

impl Micros {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// This many micro-credits.
    #[must_use]
    pub const fn new(micros: i64) -> Self {
        Self(micros)
    }

    /// The number of micro-credits.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The sum, or `None` beyond what 64 bits hold.
    #[must_use]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// The difference, or `None` beyond what 64 bits hold.
    #[must_use]
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(difference) => Some(Self(difference)),
            None => None,
        }
    }
}

impl fmt::Display for Micros {
    /// In credits, with as many places as needed and at least two: `0.05`, `1.25`, `0.000001`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let magnitude = self.0.unsigned_abs();
        let mut places = format!("{:06}", magnitude % 1_000_000);
        while places.len() > 2 && places.ends_with('0') {
            places.pop();
        }
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{}.{places}", magnitude / 1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::Micros;

    #[test]
    fn shows_credits() {
        for (micros, shown) in [
            (0, "0.00"),
            (50_000, "0.05"),
            (1_250_000, "1.25"),
            (1, "0.000001"),
            (-2_500_000, "-2.50"),
            (i64::MIN, "-9223372036854.775808"),
        ] {
            assert_eq!(Micros::new(micros).to_string(), shown);
        }
    }

    #[test]
    fn never_wraps() {
        assert_eq!(Micros::new(i64::MAX).checked_add(Micros::new(1)), None);
        assert_eq!(Micros::new(i64::MIN).checked_sub(Micros::new(1)), None);
    }
}
