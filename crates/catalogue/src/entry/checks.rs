//! What the fields of an entry have to be, whatever the schema says.

use std::time::Duration;

use domain::provider::Provider;

use super::fields::Fields;
use super::form::{Entry, LOCAL_SKETCH, LOCAL_STILL, MAX_PROMPT_CHARACTERS, PLAIN_PROMPT_CHARACTERS};

pub(super) const START_DEADLINE: Duration = Duration::from_secs(24 * 3600);
pub(super) const TOTAL_DEADLINE: Duration = Duration::from_secs(25 * 3600);

/// The highest price: a billion credits.
const MAX_PRICE_MICROS: i64 = 1_000_000_000_000_000;
const MAX_ATTEMPTS: i32 = 20;
const MAX_DEADLINE: Duration = Duration::from_secs(30 * 24 * 3600);
const MAX_REMOTE_NAME_CHARACTERS: usize = 200;
const MAX_MODERATION: usize = 8;
const MAX_REFUSALS: usize = 50;
/// How long a pattern of a refusal is, in characters: a shorter one would be found in words that refuse nothing.
const REFUSAL_CHARACTERS: std::ops::RangeInclusive<usize> = 4..=200;
const MAX_POINTER_CHARACTERS: usize = 200;
/// How many pictures the built-in model takes.
const MAX_REFERENCE_ASSETS: u32 = 4;
const FORMS: [&str; 3] = ["data", "upload", "url"];

pub(super) fn check(entry: &Entry, fields: &mut Fields<'_, '_>) {
    for (field, id) in std::iter::once(("id", &entry.id)).chain(entry.aliases.iter().map(|alias| ("aliases", alias))) {
        let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
        if !(1..=63).contains(&id.len()) || !id.chars().all(word) {
            fields.fault(field, "must be 1 to 63 of a-z, 0-9, '-' and '.'".to_owned());
        }
    }
    let local = entry.provider == Provider::Local;
    if local && ![LOCAL_SKETCH, LOCAL_STILL].contains(&entry.id.as_str()) {
        let others: Vec<_> =
            Provider::ALL.into_iter().filter(|other| *other != Provider::Local).map(Provider::as_str).collect();
        let others = others.join(", ");
        fields.fault("provider", format!("must be one of {others}, or local for {LOCAL_SKETCH} and {LOCAL_STILL}"));
    } else if let Err(should) = remote_name(entry.provider, &entry.remote_name) {
        fields.fault("model", format!("must be {should}"));
    }
    if entry.price_micros.is_some_and(|price| !(0..=MAX_PRICE_MICROS).contains(&price)) {
        fields.fault("price_micros", format!("must be 0 to {MAX_PRICE_MICROS}"));
    }
    let max = if entry.schema.is_some() { MAX_PROMPT_CHARACTERS } else { PLAIN_PROMPT_CHARACTERS };
    if entry.prompt_characters.is_some_and(|limit| !(1..=max).contains(&limit)) {
        fields.fault("prompt_characters", format!("must be 1 to {max}"));
    }
    // A remote model without a schema has no place for a picture.
    let max = if local { MAX_REFERENCE_ASSETS } else { 0 };
    if entry.reference_assets.is_some_and(|count| count > max) {
        fields.fault("reference_assets", format!("must be at most {max} for this provider"));
    }
    if !(1..=MAX_ATTEMPTS).contains(&entry.max_attempts) {
        fields.fault("max_attempts", format!("must be 1 to {MAX_ATTEMPTS}"));
    }
    if entry.total_deadline < entry.start_deadline {
        fields.fault("total_deadline", "must be no shorter than start_deadline".to_owned());
    }
    check_answers(entry, local, fields);
    for (n, media) in entry.media.iter().enumerate() {
        if media.forms.iter().any(|form| !FORMS.contains(&form.as_str())) {
            fields.fault(&format!("media[{n}].forms"), format!("must be of {}", FORMS.join(", ")));
        }
    }
}

fn check_answers(entry: &Entry, local: bool, fields: &mut Fields<'_, '_>) {
    let usable = |text: &String| text.trim() == text && REFUSAL_CHARACTERS.contains(&text.chars().count());
    if local && !entry.refusals.is_empty() {
        fields.fault("refusals", "must be left out, since the provider is local".to_owned());
    } else if entry.refusals.len() > MAX_REFUSALS || !entry.refusals.iter().all(usable) {
        let (min, max) = (REFUSAL_CHARACTERS.start(), REFUSAL_CHARACTERS.end());
        let should =
            format!("must be at most {MAX_REFUSALS} texts of {min} to {max} characters, without spaces around them");
        fields.fault("refusals", should);
    }
    check_moderation(entry, local, fields);
    match &entry.output.at {
        Some(_) if local => fields.fault("output", "must be left out, since the provider is local".to_owned()),
        Some(at) if !pointer_is_valid(at) => {
            fields.fault("output", "must be a JSON pointer such as /video/url or /1".to_owned());
        }
        _ => {}
    }
}

fn check_moderation(entry: &Entry, local: bool, fields: &mut Fields<'_, '_>) {
    if local && !entry.moderation.is_empty() {
        fields.fault("moderation", "must be left out, since the provider is local".to_owned());
    } else if entry.moderation.len() > MAX_MODERATION {
        fields.fault("moderation", format!("must have at most {MAX_MODERATION} places"));
    }
    for (n, rule) in entry.moderation.iter().enumerate() {
        if !pointer_is_valid(&rule.at) {
            fields
                .fault(&format!("moderation[{n}].at"), "must be a JSON pointer such as /has_nsfw_concepts".to_owned());
        }
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        if !(1..=60).contains(&rule.category.len()) || !rule.category.chars().all(plain) {
            fields.fault(&format!("moderation[{n}].category"), "must be 1 to 60 of a-z, 0-9, '-' and '_'".to_owned());
        }
        if rule.contains.as_ref().is_some_and(|text| !REFUSAL_CHARACTERS.contains(&text.chars().count())) {
            let (min, max) = (REFUSAL_CHARACTERS.start(), REFUSAL_CHARACTERS.end());
            fields.fault(&format!("moderation[{n}].contains"), format!("must be a text of {min} to {max} characters"));
        }
    }
}

/// Whether a text is a JSON pointer by RFC 6901: a tilde only before 0, for itself, and before 1, for a slash.
pub(crate) fn pointer_is_valid(text: &str) -> bool {
    let escaped = text.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
    text.starts_with('/') && escaped && text.chars().count() <= MAX_POINTER_CHARACTERS
}

/// Whether a provider can call a model so, and what its name has to be.
fn remote_name(provider: Provider, name: &str) -> Result<(), &'static str> {
    let printable = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_graphic() && !"?#%".contains(c));
    let parts: Vec<&str> = name.split('/').collect();
    let whole = name.len() <= MAX_REMOTE_NAME_CHARACTERS && parts.iter().all(|part| printable(part));
    match provider {
        Provider::Local if name.is_empty() => Ok(()),
        Provider::Local => Err("left out, since the provider is local"),
        // What comes before the version is in the path, and the version in the body.
        Provider::Replicate if whole && parts.len() == 2 && name.split(':').all(|part| !part.is_empty()) => Ok(()),
        Provider::Replicate => Err("owner/model or owner/model:version"),
        Provider::Fal if whole && parts.len() >= 2 => Ok(()),
        Provider::Fal => Err("owner/app or owner/app/endpoint"),
        Provider::OpenRouter if whole && parts.len() == 2 => Ok(()),
        Provider::OpenRouter => Err("author/model, as OpenRouter lists it"),
        Provider::Cog if whole => Ok(()),
        Provider::Cog => Err("the name of the box, or of a model on it"),
    }
}

pub(super) fn deadline(text: &str) -> Result<Duration, String> {
    period(text)
        .filter(|time| !time.is_zero() && *time <= MAX_DEADLINE)
        .ok_or_else(|| "must be a time up to 720h, such as 90s, 30m or 24h".to_owned())
}

/// A time written as `250ms`, `90s`, `30m` or `24h`, as in every setting.
fn period(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let number: u64 = number.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3_600).map(Duration::from_secs),
        _ => None,
    }
}
