//! Requests to start a generation, read from the wire.

use std::collections::BTreeMap;
use std::time::Duration;

use catalogue::{Catalogue, Length, Model, Role, Settings};
use chassis::fields::{Fields, Invalid, SCHEMA};
use chassis::text::is_blank;
use domain::id::AccountId;
use domain::money::Micros;
use domain::name::{self, SceneName};
use proto::generations::v1 as api;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::fields::MAX_END_USER_CHARACTERS;
use crate::error::Error;
use crate::model::{InputDetails, NamedMedium, StartRequest};
use crate::presenter::{model_name, parse_struct};

/// Of a prompt, whatever its model takes.
const MAX_PROMPT_CHARACTERS: usize = 50_000;
/// Of a text of the settings.
const MAX_SETTING_CHARACTERS: usize = 60;
/// How many media one input may have.
const MAX_MEDIA: usize = 64;
/// Of the name of a medium.
const MAX_NAME_CHARACTERS: usize = 200;
/// Of the parameters, as JSON.
const MAX_PARAMETERS_BYTES: usize = 64 * 1024;
/// How many generations one batch starts.
const MAX_STARTS: usize = 16;

/// A request to start a generation.
pub(super) fn parse_start(
    catalogue: &Catalogue,
    account: AccountId,
    request: &api::StartGenerationRequest,
) -> Result<StartRequest, Error> {
    let mut fields = Fields::default();
    let scene = fields.take("scene", SceneName::parse(&request.scene));
    let model = catalogue.find(&request.model).cloned().ok_or_else(|| {
        let known: Vec<_> = catalogue.all().iter().map(|model| model_name(&model.id)).collect();
        Invalid::field("model", SCHEMA, format_args!("must be one of {}, or empty", known.join(", ")))
    });
    let asked = request.input.clone().unwrap_or_default();
    let prompt = fields.text("input.prompt", asked.prompt.clone(), MAX_PROMPT_CHARACTERS);
    if is_blank(&asked.prompt) && !asked.prompt.is_empty() {
        fields.wrong("input.prompt", "must show something, not only spaces");
    }
    let seed = asked.seed;
    let input = parse_input(&mut fields, asked);
    if request.max_price_micros.is_some_and(|max| max < 0) {
        fields.wrong("max_price_micros", "must not be negative");
    }
    let labels = fields.labels("labels", request.labels.clone());
    let end_user = parse_end_user(&mut fields, &request.end_user);
    // A check starts nothing, so a repetition of it needs no id.
    let request_id = match request.request_id.as_str() {
        "" if request.validate_only => Some(uuid::Uuid::nil()),
        text => fields.required_request_id(text),
    };
    if api::start_generation_request::Priority::try_from(request.priority).is_err() {
        fields.wrong("priority", "must be NORMAL, BACKGROUND, or unset");
    }
    if fields.any_wrong() {
        match (&model, &prompt, &input) {
            (Ok(model), Some(prompt), Some(input)) => note_violations(&mut fields, model, prompt, seed, input),
            (Err(unknown), ..) => unknown.violations().for_each(|wrong| fields.wrong(&wrong.field, &wrong.should)),
            _ => {}
        }
    }
    let read = scene.zip(Some(model)).zip(prompt).zip(input).zip(labels).zip(end_user).zip(request_id);
    let ((((((scene, model), prompt), input), labels), end_user), request_id) = fields.done(read)?;
    let background = request.priority() == api::start_generation_request::Priority::Background;
    let mut start = StartRequest {
        account,
        scene,
        model,
        prompt,
        seed,
        drawn_seed: None,
        input,
        max_price: request.max_price_micros.map(Micros::new),
        labels,
        end_user,
        request_id,
        request_sha256: [0; 32],
        retried_from: None,
        background,
    };
    let model = match &start.model {
        Ok(model) => model.id.as_str(),
        // It was offered when the request came for the first time, if it is a repetition.
        Err(_) => request.model.trim_start_matches("models/"),
    };
    start.request_sha256 = hash(&start, model);
    Ok(start)
}

/// Requests to start generations, all or none, and whether they are only to be checked.
pub(super) fn parse_starts(
    catalogue: &Catalogue,
    account: AccountId,
    requests: &[api::StartGenerationRequest],
) -> Result<(Vec<StartRequest>, bool), Error> {
    let mut fields = Fields::default();
    let validate_only = requests.first().is_some_and(|request| request.validate_only);
    if requests.is_empty() || requests.len() > MAX_STARTS {
        fields.wrong("requests", format_args!("must hold 1 to {MAX_STARTS}; it holds {}", requests.len()));
        return Err(fields.done::<()>(None).err().map_or(Error::RequestIdReused, Error::from));
    }
    let mut starts: Vec<StartRequest> = Vec::with_capacity(requests.len());
    for (at, request) in requests.iter().enumerate() {
        let start =
            parse_start(catalogue, account, request).map_err(|error| error.within(format_args!("requests[{at}].")))?;
        if request.validate_only != validate_only {
            fields.wrong(format!("requests[{at}].validate_only"), "must be the same in all requests");
        }
        if !validate_only && starts.iter().any(|other| other.request_id == start.request_id) {
            fields.wrong(format!("requests[{at}].request_id"), "must be of one request only");
        }
        starts.push(start);
    }
    Ok((fields.done(Some(starts))?, validate_only))
}

/// Notes what the model says of a request that is refused anyway, as far as that can be said without its assets.
fn note_violations(fields: &mut Fields, model: &Model, prompt: &str, seed: Option<i64>, input: &InputDetails) {
    if !input.media.is_empty() {
        return;
    }
    let Ok(input) = input.with_assets(prompt.to_owned(), seed, |_| None) else { return };
    if model.asset_names(&input).is_empty()
        && let Err(violations) = model.resolve(&input, 0, &|_| None)
    {
        violations.into_iter().for_each(|violation| fields.wrong(violation.field, violation.message));
    }
}

fn parse_input(fields: &mut Fields, input: api::Input) -> Option<InputDetails> {
    let negative_prompt = match input.negative_prompt {
        None => Some(None),
        Some(text) => fields.text("input.negative_prompt", text, MAX_PROMPT_CHARACTERS).map(Some),
    };
    #[expect(deprecated, reason = "it is the same as media with its role")]
    let references = input.reference_assets;
    let media = parse_media(fields, &input.media, &references);
    let settings = parse_settings(fields, input.settings.unwrap_or_default());
    let parameters = input.parameters.map_or_else(|| Some(serde_json::Map::new()), parse_struct);
    let parameters = parameters.filter(|map| Value::Object(map.clone()).to_string().len() <= MAX_PARAMETERS_BYTES);
    if parameters.is_none() {
        let max = MAX_PARAMETERS_BYTES / 1024;
        fields.wrong("input.parameters", format_args!("must be at most {max} KiB of JSON, with numbers that JSON has"));
    }
    let (((negative_prompt, media), settings), parameters) =
        negative_prompt.zip(media).zip(settings).zip(parameters)?;
    Some(InputDetails { negative_prompt, media, settings, parameters })
}

fn parse_media(fields: &mut Fields, media: &[api::Media], references: &[String]) -> Option<Vec<NamedMedium>> {
    if media.len() + references.len() > MAX_MEDIA {
        fields.wrong("input.media", format_args!("must hold at most {MAX_MEDIA}"));
        return None;
    }
    let mut read = Vec::with_capacity(media.len() + references.len());
    let mut push = |fields: &mut Fields, field: String, medium: NamedMedium| match read.contains(&medium) {
        true => fields.wrong(field, "must not be named twice"),
        false => read.push(medium),
    };
    for (at, medium) in media.iter().enumerate() {
        let role = match medium.role() {
            api::media::Role::Unspecified => {
                let roles = "FIRST_FRAME, LAST_FRAME, REFERENCE, SOURCE, AUDIO or MASK";
                fields.wrong(format!("input.media[{at}].role"), format_args!("must be {roles}"));
                continue;
            }
            api::media::Role::FirstFrame => Role::FirstFrame,
            api::media::Role::LastFrame => Role::LastFrame,
            api::media::Role::Reference => Role::Reference,
            api::media::Role::Source => Role::Source,
            api::media::Role::Audio => Role::Audio,
            api::media::Role::Mask => Role::Mask,
        };
        let field = format!("input.media[{at}].asset");
        if let Some(asset) = parse_medium(fields, &field, &medium.asset, true) {
            push(fields, field, NamedMedium { role, asset });
        }
    }
    for (at, name) in references.iter().enumerate() {
        let field = format!("input.reference_assets[{at}]");
        if let Some(asset) = parse_medium(fields, &field, name, false) {
            push(fields, field, NamedMedium { role: Role::Reference, asset });
        }
    }
    (read.len() == media.len() + references.len()).then_some(read)
}

fn parse_medium(fields: &mut Fields, field: &str, name: &str, outputs: bool) -> Option<String> {
    if outputs && name.starts_with("generations/") && name.len() <= MAX_NAME_CHARACTERS {
        let parts: Vec<_> = name.split('/').collect();
        let whole = matches!(parts[..], [_, id, "outputs", at] if uuid::Uuid::try_parse(id).is_ok() && at.parse::<u8>().is_ok());
        if !whole {
            fields.wrong(field, "must be assets/{sha256} or generations/{generation}/outputs/{n}");
        }
        return whole.then(|| name.to_owned());
    }
    fields.take(field, name::asset(name)).map(|sha256| name::asset_name(&sha256))
}

fn parse_settings(fields: &mut Fields, settings: api::Settings) -> Option<Settings> {
    use api::settings::Length as Asked;
    let length = match settings.length {
        None | Some(Asked::AutoDuration(false)) => Some(None),
        Some(Asked::AutoDuration(true)) => Some(Some(Length::Auto)),
        Some(Asked::Duration(duration)) => {
            let duration =
                Duration::try_from(duration).ok().filter(|duration| duration.subsec_nanos() % 1_000_000 == 0);
            let ms = duration.and_then(|duration| u64::try_from(duration.as_millis()).ok()).filter(|ms| *ms > 0);
            if ms.is_none() {
                fields.wrong("input.settings.duration", "must be more than 0, in whole milliseconds");
            }
            ms.map(|ms| Some(Length::Milliseconds(ms)))
        }
    };
    let mut text = |field: &str, text: String| match text.is_empty() {
        true => Some(None),
        false => fields.line(&format!("input.settings.{field}"), text, MAX_SETTING_CHARACTERS).map(Some),
    };
    let aspect_ratio = text("aspect_ratio", settings.aspect_ratio);
    let resolution = text("resolution", settings.resolution);
    let size = text("size", settings.size);
    if settings.fps.is_some_and(|fps| !(fps.is_finite() && fps > 0.0)) {
        fields.wrong("input.settings.fps", "must be more than 0");
    }
    let outputs = match settings.outputs {
        None => Some(None),
        Some(count) => {
            let count = u32::try_from(count).ok().filter(|count| *count > 0);
            if count.is_none() {
                fields.wrong("input.settings.outputs", "must be more than 0");
            }
            count.map(Some)
        }
    };
    let ((((length, aspect_ratio), resolution), size), outputs) =
        length.zip(aspect_ratio).zip(resolution).zip(size).zip(outputs)?;
    Some(Settings { length, aspect_ratio, resolution, size, audio: settings.audio, fps: settings.fps, outputs })
}

fn parse_end_user(fields: &mut Fields, text: &str) -> Option<String> {
    match text {
        "" => Some(String::new()),
        text => fields.line("end_user", text.to_owned(), MAX_END_USER_CHARACTERS),
    }
}

/// The hash of all that a start asks for. Each part comes with its length, so that no two requests have the same bytes.
fn hash(start: &StartRequest, model: &str) -> [u8; 32] {
    let (scene, seed) = (start.scene.to_string(), start.seed.map(|seed| seed.to_string()).unwrap_or_default());
    let InputDetails { negative_prompt, media, settings, parameters } = &start.input;
    let media = media.iter().map(|medium| format!("{:?} {}", medium.role, medium.asset)).collect::<Vec<_>>().join("\n");
    let labels = start.labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join("\n");
    let parts = [
        scene,
        model.to_owned(),
        start.prompt.clone(),
        seed,
        negative_prompt.as_ref().map(|text| format!("not {text}")).unwrap_or_default(),
        media,
        format!("{settings:?}"),
        sorted(&Value::Object(parameters.clone())),
        labels,
        start.end_user.clone(),
        start.max_price.map(|max| max.get().to_string()).unwrap_or_default(),
        format!("background {}", start.background),
    ];
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

/// A value as text, with the keys of each object in order: two clients may write one request in two orders.
fn sorted(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let fields: BTreeMap<_, _> = map.iter().map(|(key, value)| (key, sorted(value))).collect();
            let fields: Vec<_> = fields.into_iter().map(|(key, value)| format!("{key:?}:{value}")).collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(values) => format!("[{}]", values.iter().map(sorted).collect::<Vec<_>>().join(",")),
        value => value.to_string(),
    }
}
