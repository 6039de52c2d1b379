//! How much an account, and each key of it, may ask of all gateways together, and what one gateway takes of that.

use std::{num::NonZeroU32, str::FromStr};

use chassis::settings::{Error, Source};
use proto::limits::v1 as api;

/// Calls that may come at a steady pace, and in one burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Calls a second.
    pub per_second: NonZeroU32,
    /// Calls at once after a pause.
    pub burst: NonZeroU32,
}

impl Rate {
    /// # Panics
    /// When one of them is zero; in a constant, at compile time.
    #[must_use]
    pub const fn new(per_second: u32, burst: u32) -> Self {
        match (NonZeroU32::new(per_second), NonZeroU32::new(burst)) {
            (Some(per_second), Some(burst)) => Self { per_second, burst },
            _ => panic!("a rate of nothing"),
        }
    }

    /// The seconds after which an empty burst is full again, rounded up.
    pub(super) fn window(self) -> u32 {
        self.burst.get().div_ceil(self.per_second.get())
    }

    /// `percent` hundredths of it, and never nothing.
    pub(super) fn percent(self, percent: u32) -> Self {
        Self { per_second: part(self.per_second, percent), burst: part(self.burst, percent) }
    }
}

impl FromStr for Rate {
    type Err = ();

    /// `100/400`: 100 a second, 400 at once.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (per_second, burst) = text.split_once('/').ok_or(())?;
        let number = |text: &str| text.trim().parse().map_err(|_| ());
        Ok(Self { per_second: number(per_second)?, burst: number(burst)? })
    }
}

fn part(whole: NonZeroU32, percent: u32) -> NonZeroU32 {
    let part = u64::from(whole.get()) * u64::from(percent) / 100;
    u32::try_from(part).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN)
}

/// What one account may ask of all gateways together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Calls that somebody waits for.
    pub people: Rate,
    /// Calls of programs that ask again and again.
    pub polls: Rate,
    /// Calls that nobody waits for.
    pub background: Rate,
    /// Tests of webhook endpoints, each of which makes a delivery.
    pub endpoint_tests: Rate,
    /// Calls at once, watches apart.
    pub calls: NonZeroU32,
    /// Uploads at once.
    pub uploads: NonZeroU32,
}

impl Bounds {
    /// The same, with what was set for one account in the place of what is every account's.
    pub(super) fn with(self, own: Option<api::Limits>) -> Self {
        let Some(own) = own else { return self };
        let rate = |default: Rate, own: Option<api::Rate>| {
            let own = own.and_then(|own| NonZeroU32::new(own.per_second).zip(NonZeroU32::new(own.burst)));
            own.map_or(default, |(per_second, burst)| Rate { per_second, burst })
        };
        let number = |default, own: Option<u32>| own.and_then(NonZeroU32::new).unwrap_or(default);
        Self {
            people: rate(self.people, own.people),
            polls: rate(self.polls, own.polls),
            background: rate(self.background, own.background),
            endpoint_tests: rate(self.endpoint_tests, own.endpoint_tests),
            calls: number(self.calls, own.calls),
            uploads: number(self.uploads, own.uploads),
        }
    }

    /// What one key of the account may have of it.
    pub(super) fn percent(self, percent: u32) -> Self {
        Self {
            people: self.people.percent(percent),
            polls: self.polls.percent(percent),
            background: self.background.percent(percent),
            endpoint_tests: self.endpoint_tests.percent(percent),
            calls: part(self.calls, percent),
            uploads: part(self.uploads, percent),
        }
    }
}

/// Ten times what a busy product asks for, and a fraction of what a gateway answers.
const DEFAULT: Settings = Settings {
    account: Bounds {
        people: Rate::new(1_000, 4_000),
        polls: Rate::new(1_000, 4_000),
        background: Rate::new(100, 400),
        endpoint_tests: Rate::new(1, 60),
        calls: NonZeroU32::new(512).unwrap(),
        uploads: NonZeroU32::new(16).unwrap(),
    },
    key_percent: 50,
    gateways: NonZeroU32::MIN,
};

/// The limits of accounts that have none of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What an account may ask of all gateways together.
    pub account: Bounds,
    /// How many hundredths of that one key may have.
    pub key_percent: u32,
    /// How many gateways share the limits as long as they cannot count each other.
    pub gateways: NonZeroU32,
}

impl Default for Settings {
    fn default() -> Self {
        DEFAULT
    }
}

impl Settings {
    /// Reads every `RUSHES_LIMIT_…`.
    ///
    /// # Errors
    /// One sentence about the first that cannot be read.
    pub fn read(source: &Source) -> Result<Self, Error> {
        let Bounds { people, polls, background, endpoint_tests, calls, uploads } = DEFAULT.account;
        let rate = |name, default| source.or(name, default, "calls a second and at once, such as 1000/4000");
        let percent = "a number from 1 to 100";
        let key_percent = source.or("RUSHES_LIMIT_KEY_PERCENT", DEFAULT.key_percent, percent)?;
        if !(1..=100).contains(&key_percent) {
            return Err(Error::wrong("RUSHES_LIMIT_KEY_PERCENT", percent));
        }
        Ok(Self {
            account: Bounds {
                people: rate("RUSHES_LIMIT_PEOPLE", people)?,
                polls: rate("RUSHES_LIMIT_POLLS", polls)?,
                background: rate("RUSHES_LIMIT_BACKGROUND", background)?,
                endpoint_tests: rate("RUSHES_LIMIT_ENDPOINT_TESTS", endpoint_tests)?,
                calls: source.or("RUSHES_LIMIT_CALLS", calls, "a number of calls at once")?,
                uploads: source.or("RUSHES_LIMIT_UPLOADS", uploads, "a number of uploads at once")?,
            },
            key_percent,
            gateways: source.or("RUSHES_LIMIT_GATEWAYS", DEFAULT.gateways, "a number of gateways, at least 1")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_two_numbers_above_zero() {
        assert_eq!("100/400".parse(), Ok(Rate::new(100, 400)));
        assert_eq!(Rate::new(100, 450).window(), 5);
        for wrong in ["", "100", "0/1", "1/0", "-1/2", "1/2/3", "a/b"] {
            assert_eq!(wrong.parse::<Rate>(), Err(()), "{wrong}");
        }
    }

    #[test]
    fn a_wrong_setting_is_named_and_a_key_has_its_part_and_never_nothing() {
        assert_eq!(Settings::read(&Source::of(&[])).unwrap(), Settings::default());
        for name in [
            "RUSHES_LIMIT_PEOPLE",
            "RUSHES_LIMIT_POLLS",
            "RUSHES_LIMIT_BACKGROUND",
            "RUSHES_LIMIT_ENDPOINT_TESTS",
            "RUSHES_LIMIT_CALLS",
            "RUSHES_LIMIT_UPLOADS",
            "RUSHES_LIMIT_KEY_PERCENT",
            "RUSHES_LIMIT_GATEWAYS",
        ] {
            let error = Settings::read(&Source::of(&[(name, "0")])).unwrap_err().to_string();
            assert!(error.starts_with(name), "{error}");
        }
        let key = DEFAULT.account.percent(50);
        assert_eq!((key.people, key.calls.get()), (Rate::new(500, 2_000), 256));
        assert_eq!(key.endpoint_tests, Rate::new(1, 30), "half of one is one");
    }
}
