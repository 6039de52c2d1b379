//! The parser of the catalogue file, which an operator writes.
//!
//! Invariant: an error names the model's index and the field; a misspelt field is an error, never ignored.

use std::time::Duration;

use chassis::settings;
use domain::money::Micros;
use serde::Deserialize;

use crate::model::{BUILT_IN_MODEL, MAX_PROMPT_CHARACTERS, MAX_REFERENCE_ASSETS, Model};

/// The highest price: a billion credits.
const MAX_PRICE_MICROS: i64 = 1_000_000_000_000_000;
const MAX_ATTEMPTS: i32 = 20;
const MAX_DEADLINE: Duration = Duration::from_secs(30 * 24 * 3600);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    models: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: String,
    provider: String,
    /// Its name at the provider. Only workers read it, and check its form.
    #[serde(default)]
    model: String,
    price_micros: i64,
    #[serde(default = "default_prompt_characters")]
    prompt_characters: usize,
    #[serde(default)]
    reference_assets: usize,
    #[serde(default = "default_max_attempts")]
    max_attempts: i32,
    #[serde(default = "default_start_deadline")]
    start_deadline: String,
    #[serde(default = "default_total_deadline")]
    total_deadline: String,
}

fn default_prompt_characters() -> usize {
    MAX_PROMPT_CHARACTERS
}

fn default_max_attempts() -> i32 {
    3
}

fn default_start_deadline() -> String {
    "24h".to_owned()
}

fn default_total_deadline() -> String {
    "25h".to_owned()
}

/// The models of a file, in its order.
pub(super) fn parse_models(json: &str) -> Result<Vec<Model>, String> {
    let File { models } = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let mut read: Vec<Model> = Vec::with_capacity(models.len());
    for (at, entry) in models.into_iter().enumerate() {
        let model = entry.into_model().map_err(|(field, should)| format!("models[{at}].{field} must be {should}"))?;
        if read.iter().any(|other| other.id == model.id) {
            return Err(format!("models[{at}].id must be of one model only; {:?} is named twice", model.id));
        }
        read.push(model);
    }
    Ok(read)
}

impl Entry {
    fn into_model(self) -> Result<Model, (&'static str, String)> {
        let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
        if !(1..=63).contains(&self.id.len()) || !self.id.chars().all(word) {
            return Err(("id", "1 to 63 of a-z, 0-9, '-' and '.'".to_owned()));
        }
        let remote = match self.provider.as_str() {
            "local" if self.id == BUILT_IN_MODEL => false,
            "replicate" | "fal" => true,
            _ => return Err(("provider", format!("replicate or fal, or local for {BUILT_IN_MODEL}"))),
        };
        if remote == self.model.is_empty() {
            return Err(("model", "what the provider calls it; left out where that is local".to_owned()));
        }
        if !(0..=MAX_PRICE_MICROS).contains(&self.price_micros) {
            return Err(("price_micros", format!("0 to {MAX_PRICE_MICROS}")));
        }
        if !(1..=MAX_PROMPT_CHARACTERS).contains(&self.prompt_characters) {
            return Err(("prompt_characters", format!("1 to {MAX_PROMPT_CHARACTERS}")));
        }
        // Remote providers cannot read our assets.
        let max = if remote { 0 } else { MAX_REFERENCE_ASSETS };
        if self.reference_assets > max {
            return Err(("reference_assets", format!("at most {max} for this provider")));
        }
        if !(1..=MAX_ATTEMPTS).contains(&self.max_attempts) {
            return Err(("max_attempts", format!("1 to {MAX_ATTEMPTS}")));
        }
        let start_deadline = parse_deadline("start_deadline", &self.start_deadline)?;
        let total_deadline = parse_deadline("total_deadline", &self.total_deadline)?;
        if total_deadline < start_deadline {
            return Err(("total_deadline", "no shorter than start_deadline".to_owned()));
        }
        Ok(Model {
            id: self.id,
            provider: self.provider,
            price: Micros::new(self.price_micros),
            prompt_characters: self.prompt_characters,
            reference_assets: self.reference_assets,
            max_attempts: self.max_attempts,
            start_deadline,
            total_deadline,
        })
    }
}

fn parse_deadline(field: &'static str, text: &str) -> Result<Duration, (&'static str, String)> {
    settings::period(text)
        .filter(|time| !time.is_zero() && *time <= MAX_DEADLINE)
        .ok_or((field, "a time up to 720h, such as 90s, 30m or 24h".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(more: &str) -> String {
        format!(r#"{{"models": [{{"id": "one", "provider": "fal", "model": "a/b", "price_micros": 250000{more}}}]}}"#)
    }

    #[test]
    fn an_omitted_field_has_a_default() {
        let all = parse_models(&entry(r#", "start_deadline": "90s", "total_deadline": "30m""#)).unwrap();
        let (start, total) = (Duration::from_secs(90), Duration::from_secs(1_800));
        assert_eq!((all[0].start_deadline, all[0].total_deadline), (start, total));
        assert_eq!((all[0].max_attempts, all[0].prompt_characters, all[0].reference_assets), (3, 2_000, 0));
        assert_eq!(parse_models(&entry("")).unwrap()[0].total_deadline, Duration::from_secs(25 * 3_600));
    }

    #[test]
    fn a_wrong_field_is_named_in_the_error() {
        let whole = entry("");
        for (json, named) in [
            (entry(r#", "prize_micros": 3"#), "prize_micros"),
            (entry(r#", "reference_assets": 1"#), "models[0].reference_assets"),
            (entry(r#", "max_attempts": 0"#), "models[0].max_attempts"),
            (entry(r#", "prompt_characters": 2001"#), "models[0].prompt_characters"),
            (entry(r#", "start_deadline": "soon""#), "models[0].start_deadline"),
            (entry(r#", "total_deadline": "1s""#), "models[0].total_deadline"),
            (whole.replace("250000", "-1"), "models[0].price_micros"),
            (whole.replace("one", "One"), "models[0].id"),
            (whole.replace("fal", "luma"), "models[0].provider"),
            (whole.replace("a/b", ""), "models[0].model"),
            (whole.replace(r#""id": "one", "#, ""), "id"),
            ("[]".to_owned(), "File"),
        ] {
            let error = parse_models(&json).unwrap_err();
            assert!(error.contains(named), "{named}: {error}");
        }
        let one = r#"{"id": "local-sketch", "provider": "local", "price_micros": 1}"#;
        assert!(parse_models(&format!(r#"{{"models": [{one}, {one}]}}"#)).unwrap_err().contains("models[1].id"));
    }
}
