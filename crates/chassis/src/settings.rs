//! Where settings come from. The environment is read once, here; every subsystem has a struct that is built from a
//! [`Source`] at the start and by struct literal in tests.
//!
//! Invariant: a wrong or missing setting is one sentence that names the variable and says what it should be, and never
//! repeats a value that may hold a secret.

use std::{collections::BTreeMap, fmt, path::PathBuf, str::FromStr, time::Duration};

/// A fixed set of named values, usually the process's environment at its start.
#[derive(Clone, Default)]
pub struct Source {
    values: BTreeMap<String, String>,
}

/// A setting that is missing or cannot be read; its display is the whole sentence for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

impl Error {
    /// An error about `name`, for checks that span more than one variable.
    #[must_use]
    pub fn wrong(name: &str, what: &str) -> Self {
        Self(format!("{name} should be {what}"))
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

impl Source {
    /// The environment of this process. Names or values that are not UTF-8 are left out.
    #[must_use]
    pub fn process() -> Self {
        let values = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self { values }
    }

    /// Exactly these values, for tests and tools.
    #[must_use]
    pub fn of(values: &[(&str, &str)]) -> Self {
        let values = values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { values }
    }

    /// The value of `name`; `what` completes the sentence "NAME should be …".
    ///
    /// # Errors
    /// When it is unset, empty, or does not parse.
    pub fn required<T: FromStr>(&self, name: &str, what: &str) -> Result<T, Error> {
        self.optional(name, what)?.ok_or_else(|| Error(format!("{name} is not set; it should be {what}")))
    }

    /// The value of `name`, or `default` when it is unset or empty.
    ///
    /// # Errors
    /// When it does not parse.
    pub fn or<T: FromStr>(&self, name: &str, default: T, what: &str) -> Result<T, Error> {
        Ok(self.optional(name, what)?.unwrap_or(default))
    }

    /// The value of `name`, if it is set and not empty.
    ///
    /// # Errors
    /// When it does not parse.
    pub fn optional<T: FromStr>(&self, name: &str, what: &str) -> Result<Option<T>, Error> {
        let Some(text) = self.values.get(name).filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        text.parse().map(Some).map_err(|_| {
            if secret(name) {
                Error(format!("{name} cannot be read; it should be {what}"))
            } else {
                Error(format!("{name} is {text:?}; it should be {what}"))
            }
        })
    }

    /// The duration in `name`, written as `250ms`, `2s`, `5m` or `1h`; `default` when unset.
    ///
    /// # Errors
    /// When it does not parse.
    pub fn duration(&self, name: &str, default: Duration, what: &str) -> Result<Duration, Error> {
        let what = format!("{what}, such as 250ms, 2s or 5m");
        Ok(self.optional(name, &what)?.map_or(default, |Period(d)| d))
    }

    /// The pause between two rounds of something, read as [`Source::duration`] does; never zero, which would be no pause.
    ///
    /// # Errors
    /// When it does not parse, or is zero.
    pub fn interval(&self, name: &'static str, default: Duration) -> Result<Duration, Error> {
        let interval = self.duration(name, default, "a time")?;
        if interval.is_zero() { Err(Error::wrong(name, "more than 0")) } else { Ok(interval) }
    }

    /// What `parse` reads in the file that `name` names, if it is set; `what` is what the file should be.
    ///
    /// # Errors
    /// When the file cannot be read, or with what `parse` says is wrong in it.
    pub fn file<T>(
        &self,
        name: &str,
        what: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Error> {
        let Some(path) = self.optional::<PathBuf>(name, what)? else { return Ok(None) };
        let text = std::fs::read_to_string(&path).map_err(|error| error.to_string());
        text.and_then(|text| parse(&text))
            .map(Some)
            .map_err(|why| Error::wrong(name, &format!("{what}; {} is none: {why}", path.display())))
    }

    /// Every set value whose name starts with `prefix`, names in lower case.
    pub fn starting(&self, prefix: &str) -> impl Iterator<Item = (String, String)> {
        self.values
            .iter()
            .filter(move |(name, value)| name.starts_with(prefix) && !value.is_empty())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.clone()))
    }
}

/// Whether the value of this variable may hold a password or a key.
fn secret(name: &str) -> bool {
    ["_URL", "_KEY", "_SECRET", "_TOKEN", "_PASSWORD"].iter().any(|end| name.ends_with(end))
}

/// A duration written as `250ms`, `2s`, `5m` or `1h`.
#[must_use]
pub fn period(text: &str) -> Option<Duration> {
    text.parse().ok().map(|Period(duration)| duration)
}

struct Period(Duration);

impl FromStr for Period {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or(())?;
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| ())?;
        let milliseconds = match unit {
            "ms" => Some(number),
            "s" => number.checked_mul(1_000),
            "m" => number.checked_mul(60_000),
            "h" => number.checked_mul(3_600_000),
            _ => None,
        };
        milliseconds.map(|ms| Self(Duration::from_millis(ms))).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_logged_of_settings_has_names_and_no_values() {
        let shown = format!("{:?}", Source::of(&[("RUSHES_FAL_KEY", "a-secret")]));
        assert!(shown.contains("RUSHES_FAL_KEY") && !shown.contains("a-secret"), "{shown}");
    }

    #[test]
    fn an_interval_is_never_zero() {
        let read = |text: &str| Source::of(&[("RUSHES_X", text)]).interval("RUSHES_X", Duration::from_secs(15));
        assert_eq!(read("2s").unwrap(), Duration::from_secs(2));
        assert_eq!(read("").unwrap(), Duration::from_secs(15));
        assert!(read("0s").unwrap_err().to_string().contains("more than 0"));
    }

    #[test]
    fn a_wrong_value_is_one_sentence_that_names_the_variable() {
        let source = Source::of(&[("RUSHES_MAX", "many"), ("RUSHES_DATABASE_URL", "x:secret@")]);
        let error = source.or("RUSHES_MAX", 5_u32, "a count of connections");
        assert_eq!(error.unwrap_err().to_string(), "RUSHES_MAX is \"many\"; it should be a count of connections");
        let error = source.required::<u16>("RUSHES_DATABASE_URL", "a URL");
        assert!(!error.unwrap_err().to_string().contains("secret"));
        let error = source.required::<u16>("RUSHES_NONE", "a port");
        assert_eq!(error.unwrap_err().to_string(), "RUSHES_NONE is not set; it should be a port");
    }

    #[test]
    fn an_empty_value_counts_as_unset() {
        let source = Source::of(&[("RUSHES_MAX", "")]);
        assert_eq!(source.or("RUSHES_MAX", 5_u32, "a count").unwrap(), 5);
    }

    #[test]
    fn durations_have_units() {
        let source = Source::of(&[("A", "250ms"), ("B", "5m"), ("C", "7"), ("D", "s")]);
        let read = |name| source.duration(name, Duration::ZERO, "a wait");
        assert_eq!(read("A").unwrap(), Duration::from_millis(250));
        assert_eq!(read("B").unwrap(), Duration::from_secs(300));
        assert!(read("C").is_err() && read("D").is_err());
    }
}
