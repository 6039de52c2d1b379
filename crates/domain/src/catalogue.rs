//! The catalogue of video models: what each takes and costs, and the one parser of the file in which an operator lists them.
//!
//! Every service reads that file through [`parse`], so that none starts with what another refuses. Invariant: a [`Model`] that
//! it returns has been checked whole; an error names the entry and the field; and a misspelt field is an error, never ignored.

use std::time::Duration;

use serde::Deserialize;

use crate::money::Micros;

/// The id of the model that every installation has.
pub const BUILT_IN_MODEL: &str = "local-sketch";
/// No model takes a longer prompt, in characters.
pub const MAX_PROMPT_CHARACTERS: usize = 2_000;
/// No model takes more reference pictures.
pub const MAX_REFERENCE_ASSETS: usize = 4;

/// The highest price: a billion credits.
const MAX_PRICE_MICROS: i64 = 1_000_000_000_000_000;
const MAX_ATTEMPTS: i32 = 20;
const MAX_DEADLINE: Duration = Duration::from_secs(30 * 24 * 3600);
const MAX_REMOTE_NAME_CHARACTERS: usize = 200;
const MAX_REFUSALS: usize = 50;
/// How long a pattern of a refusal is, in characters: a shorter one would be found in words that refuse nothing.
const REFUSAL_CHARACTERS: std::ops::RangeInclusive<usize> = 4..=200;
const MAX_POINTER_CHARACTERS: usize = 200;

/// Whoever makes a model's videos.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// The worker itself.
    Local,
    /// <https://replicate.com>
    Replicate,
    /// <https://fal.ai>
    Fal,
}

impl Provider {
    /// The name in the catalogue and in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Replicate => "replicate",
            Self::Fal => "fal",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Local, Self::Replicate, Self::Fal].into_iter().find(|provider| provider.as_str() == text)
    }

    /// Whether `name` can be what this provider calls a model, and what it has to be.
    fn check_name(self, name: &str) -> Result<(), &'static str> {
        let printable =
            |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_graphic() && !"?#%".contains(c));
        let parts: Vec<&str> = name.split('/').collect();
        let whole = name.len() <= MAX_REMOTE_NAME_CHARACTERS && parts.iter().all(|part| printable(part));
        match self {
            Self::Local if name.is_empty() => Ok(()),
            Self::Local => Err("left out, since the provider is local"),
            // What comes before the version is in the path, and the version in the body.
            Self::Replicate if whole && parts.len() == 2 && name.split(':').all(|part| !part.is_empty()) => Ok(()),
            Self::Replicate => Err("owner/model or owner/model:version"),
            Self::Fal if whole && parts.len() >= 2 => Ok(()),
            Self::Fal => Err("owner/app or owner/app/endpoint"),
        }
    }
}

/// A video model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// The last part of `models/{model}`; also the queue of its jobs.
    pub id: String,
    /// Who makes its videos.
    pub provider: Provider,
    /// What the provider calls it; nothing for the built-in model.
    pub remote_name: String,
    /// The price of one generation: held at its start, and its cost at most.
    pub price: Micros,
    /// The longest prompt, in characters.
    pub prompt_characters: usize,
    /// The maximum number of reference pictures.
    pub reference_assets: usize,
    /// Whether it takes a seed. One that does not is sent none.
    pub seed: bool,
    /// How many attempts may fail.
    pub max_attempts: i32,
    /// How long a generation may wait for a worker before it expires.
    pub start_deadline: Duration,
    /// How long after its start a generation that has not ended is stopped.
    pub total_deadline: Duration,
    /// Substrings of the provider's error by which it refuses for safety, beside those that its adapter knows. No patterns.
    pub refusals: Vec<String>,
    /// Where in the provider's result (Replicate's `output`, fal's whole result) the video's address lies, as a JSON pointer (RFC
    /// 6901); `None`: the first address of a video in it.
    pub output: Option<String>,
}

impl Model {
    /// The model that needs no key and no network.
    #[must_use]
    pub fn built_in() -> Self {
        Self {
            id: BUILT_IN_MODEL.to_owned(),
            provider: Provider::Local,
            remote_name: String::new(),
            price: Micros::new(50_000),
            prompt_characters: MAX_PROMPT_CHARACTERS,
            reference_assets: MAX_REFERENCE_ASSETS,
            seed: true,
            max_attempts: 5,
            start_deadline: Duration::from_secs(24 * 3600),
            total_deadline: Duration::from_secs(25 * 3600),
            refusals: Vec::new(),
            output: None,
        }
    }
}

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
    #[serde(default)]
    model: String,
    price_micros: i64,
    #[serde(default = "default_prompt_characters")]
    prompt_characters: usize,
    #[serde(default)]
    reference_assets: usize,
    #[serde(default = "default_seed")]
    seed: bool,
    #[serde(default = "default_max_attempts")]
    max_attempts: i32,
    #[serde(default = "default_start_deadline")]
    start_deadline: String,
    #[serde(default = "default_total_deadline")]
    total_deadline: String,
    #[serde(default)]
    refusals: Vec<String>,
    #[serde(default)]
    output: Option<String>,
}

fn default_prompt_characters() -> usize {
    MAX_PROMPT_CHARACTERS
}

const fn default_seed() -> bool {
    true
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

/// The models of a catalogue file, in its order.
///
/// # Errors
/// One sentence about the first entry that is wrong.
pub fn parse(json: &str) -> Result<Vec<Model>, String> {
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
        let provider = Provider::parse(&self.provider)
            .filter(|provider| *provider != Provider::Local || self.id == BUILT_IN_MODEL)
            .ok_or_else(|| ("provider", format!("replicate or fal, or local for {BUILT_IN_MODEL}")))?;
        provider.check_name(&self.model).map_err(|should| ("model", should.to_owned()))?;
        if !(0..=MAX_PRICE_MICROS).contains(&self.price_micros) {
            return Err(("price_micros", format!("0 to {MAX_PRICE_MICROS}")));
        }
        if !(1..=MAX_PROMPT_CHARACTERS).contains(&self.prompt_characters) {
            return Err(("prompt_characters", format!("1 to {MAX_PROMPT_CHARACTERS}")));
        }
        // Remote providers cannot read our assets.
        let max = if provider == Provider::Local { MAX_REFERENCE_ASSETS } else { 0 };
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
        check_refusals(provider, &self.refusals)?;
        check_output(provider, self.output.as_deref())?;
        Ok(Model {
            id: self.id,
            provider,
            remote_name: self.model,
            price: Micros::new(self.price_micros),
            prompt_characters: self.prompt_characters,
            reference_assets: self.reference_assets,
            seed: self.seed,
            max_attempts: self.max_attempts,
            start_deadline,
            total_deadline,
            refusals: self.refusals,
            output: self.output,
        })
    }
}

fn check_refusals(provider: Provider, refusals: &[String]) -> Result<(), (&'static str, String)> {
    if provider == Provider::Local && !refusals.is_empty() {
        return Err(("refusals", "left out, since the provider is local".to_owned()));
    }
    let usable = |text: &String| text.trim() == text && REFUSAL_CHARACTERS.contains(&text.chars().count());
    if refusals.len() > MAX_REFUSALS || !refusals.iter().all(usable) {
        let (min, max) = (REFUSAL_CHARACTERS.start(), REFUSAL_CHARACTERS.end());
        let should = format!("at most {MAX_REFUSALS} texts of {min} to {max} characters, without spaces around them");
        return Err(("refusals", should));
    }
    Ok(())
}

fn check_output(provider: Provider, output: Option<&str>) -> Result<(), (&'static str, String)> {
    let Some(pointer) = output else { return Ok(()) };
    if provider == Provider::Local {
        return Err(("output", "left out, since the provider is local".to_owned()));
    }
    // RFC 6901: a tilde stands only for itself, as ~0, and for a slash, as ~1.
    let escaped = pointer.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
    if pointer.starts_with('/') && escaped && pointer.chars().count() <= MAX_POINTER_CHARACTERS {
        Ok(())
    } else {
        Err(("output", "a JSON pointer such as /video/url or /1".to_owned()))
    }
}

fn parse_deadline(field: &'static str, text: &str) -> Result<Duration, (&'static str, String)> {
    period(text)
        .filter(|time| !time.is_zero() && *time <= MAX_DEADLINE)
        .ok_or((field, "a time up to 720h, such as 90s, 30m or 24h".to_owned()))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(more: &str) -> String {
        format!(r#"{{"models": [{{"id": "one", "provider": "fal", "model": "a/b", "price_micros": 250000{more}}}]}}"#)
    }

    #[test]
    fn an_omitted_field_has_a_default() {
        let all = parse(&entry(r#", "start_deadline": "90s", "total_deadline": "30m""#)).unwrap();
        let (start, total) = (Duration::from_secs(90), Duration::from_secs(1_800));
        assert_eq!((all[0].start_deadline, all[0].total_deadline), (start, total));
        assert_eq!((all[0].max_attempts, all[0].prompt_characters, all[0].reference_assets), (3, 2_000, 0));
        assert_eq!((all[0].refusals.len(), &all[0].output), (0, &None));
        assert_eq!(parse(&entry("")).unwrap()[0].total_deadline, Duration::from_secs(25 * 3_600));
    }

    #[test]
    fn what_a_provider_answers_with_can_be_described() {
        let more = r#", "refusals": ["flagged as sensitive", "moderated"], "output": "/videos/1/a~1b~0""#;
        let model = parse(&entry(more)).unwrap().remove(0);
        assert_eq!(model.refusals, ["flagged as sensitive", "moderated"]);
        assert_eq!(model.output.as_deref(), Some("/videos/1/a~1b~0"));
    }

    #[test]
    fn a_wrong_field_is_named_in_the_error() {
        let whole = entry("");
        let many = format!(r#", "refusals": [{}"long enough"]"#, r#""long enough", "#.repeat(50));
        for (json, named) in [
            (entry(r#", "prize_micros": 3"#), "prize_micros"),
            (entry(r#", "reference_assets": 1"#), "models[0].reference_assets"),
            (entry(r#", "max_attempts": 0"#), "models[0].max_attempts"),
            (entry(r#", "prompt_characters": 2001"#), "models[0].prompt_characters"),
            (entry(r#", "start_deadline": "soon""#), "models[0].start_deadline"),
            (entry(r#", "start_deadline": "999999999999999999999h""#), "models[0].start_deadline"),
            (entry(r#", "total_deadline": "1s""#), "models[0].total_deadline"),
            (entry(r#", "refusals": ["no"]"#), "models[0].refusals"),
            (entry(r#", "refusals": [" flagged"]"#), "models[0].refusals"),
            (entry(&many), "models[0].refusals"),
            (entry(r#", "output": """#), "models[0].output"),
            (entry(r#", "output": "video.url""#), "models[0].output"),
            (entry(r#", "output": "/a~2""#), "models[0].output"),
            (entry(r#", "output": "/a~""#), "models[0].output"),
            (whole.replace("250000", "-1"), "models[0].price_micros"),
            (whole.replace("one", "One"), "models[0].id"),
            (whole.replace("one", "t/o"), "models[0].id"),
            (whole.replace("fal", "luma"), "models[0].provider"),
            (whole.replace("fal", "local"), "models[0].provider"),
            (whole.replace(r#""id": "one", "#, ""), "id"),
            ("[]".to_owned(), "File"),
        ] {
            let error = parse(&json).unwrap_err();
            assert!(error.contains(named), "{named}: {error}");
        }
        let one = r#"{"id": "local-sketch", "provider": "local", "price_micros": 1}"#;
        let file = |entries: &str| format!(r#"{{"models": [{entries}]}}"#);
        assert!(parse(&file(one)).is_ok());
        assert!(parse(&file(&format!("{one}, {one}"))).unwrap_err().contains("models[1].id"));
        for more in [r#", "model": "a/b"}"#, r#", "refusals": ["moderated"]}"#, r#", "output": "/video"}"#] {
            assert!(
                parse(&file(&one.replace('}', more))).unwrap_err().contains("since the provider is local"),
                "{more}"
            );
        }
    }

    #[test]
    fn a_models_name_has_the_form_of_its_provider() {
        for (provider, name, right) in [
            ("replicate", "acme/video", true),
            ("replicate", "acme/video:5c7d5dc6", true),
            ("replicate", "acme/video/extra", false),
            ("replicate", "acme/video:", false),
            ("replicate", "acme", false),
            ("replicate", "", false),
            ("fal", "acme/video", true),
            ("fal", "workflows/acme/video/text", true),
            ("fal", "acme", false),
            ("fal", "acme//video", false),
            ("fal", "acme/video?x=1", false),
            ("fal", "acme/a video", false),
        ] {
            let json = entry("").replace("fal", provider).replace("a/b", name);
            let read = parse(&json);
            assert_eq!(read.is_ok(), right, "{provider} {name}: {read:?}");
            assert!(right || read.unwrap_err().starts_with("models[0].model must be owner/"));
        }
    }
}
