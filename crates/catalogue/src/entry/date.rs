//! A day of the calendar, as an entry says when it was checked and when its model retires.

/// A day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date {
    /// Of the common era.
    pub year: u16,
    /// From 1.
    pub month: u8,
    /// From 1.
    pub day: u8,
}

impl Date {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('-').collect();
        let date = match parts[..] {
            [year, month, day] if [year.len(), month.len(), day.len()] == [4, 2, 2] => {
                match (year.parse(), month.parse(), day.parse()) {
                    (Ok(year), Ok(month), Ok(day)) => Some(Self { year, month, day }),
                    _ => None,
                }
            }
            _ => None,
        };
        date.filter(|date| (1..=12).contains(&date.month) && (1..=date.days_of_month()).contains(&date.day))
            .ok_or_else(|| "must be a day such as 2026-11-28".to_owned())
    }

    fn days_of_month(self) -> u8 {
        let leap = self.year.is_multiple_of(4) && (!self.year.is_multiple_of(100) || self.year.is_multiple_of(400));
        match self.month {
            4 | 6 | 9 | 11 => 30,
            2 if leap => 29,
            2 => 28,
            _ => 31,
        }
    }

    /// Its beginning in UTC, in seconds since 1970.
    #[must_use]
    pub fn unix_seconds(self) -> i64 {
        // Years begin in March here, so that a leap day is the last day of one.
        let (month, year) = (i64::from(self.month), i64::from(self.year));
        let year = if month <= 2 { year - 1 } else { year };
        let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + i64::from(self.day) - 1;
        let days = year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - 719_468;
        days * 86_400
    }
}

impl std::fmt::Display for Date {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_read_and_counted() {
        for (text, seconds) in [("1970-01-01", 0), ("2024-02-29", 1_709_164_800), ("2026-11-28", 1_795_824_000)] {
            let date = Date::parse(text).unwrap();
            assert_eq!((date.unix_seconds(), date.to_string()), (seconds, text.to_owned()));
        }
        for text in ["", "2026-02-29", "2026-13-01", "2026-1-1", "28.11.2026", "2026-11-28T00:00:00Z"] {
            assert!(Date::parse(text).is_err(), "{text}");
        }
    }
}
