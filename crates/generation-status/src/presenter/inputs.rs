//! Inputs between the API and the catalogue: the same things under two roofs.

use std::collections::BTreeMap;

use catalogue::{Length, Role, Settings};
use prost_types::value::Kind;
use prost_types::{Duration, ListValue, Struct};
use proto::generations::v1 as api;
use serde_json::{Map, Number, Value};

use crate::model::InputDetails;

/// An input as its user sees it.
pub(super) fn to_proto(prompt: &str, seed: Option<i64>, details: &InputDetails) -> api::Input {
    let media = details.media.iter();
    let media = media.map(|medium| api::Media { role: role_to_proto(medium.role).into(), asset: medium.asset.clone() });
    let settings = (details.settings != Settings::default()).then(|| settings_to_proto(&details.settings));
    let parameters = (!details.parameters.is_empty()).then(|| struct_to_proto(&details.parameters));
    api::Input {
        prompt: prompt.to_owned(),
        seed,
        negative_prompt: details.negative_prompt.clone(),
        media: media.collect(),
        settings,
        parameters,
        ..api::Input::default()
    }
}

/// A role as the API has it.
pub(crate) const fn role_to_proto(role: Role) -> api::media::Role {
    match role {
        Role::FirstFrame => api::media::Role::FirstFrame,
        Role::LastFrame => api::media::Role::LastFrame,
        Role::Reference => api::media::Role::Reference,
        Role::Source => api::media::Role::Source,
        Role::Audio => api::media::Role::Audio,
        Role::Mask => api::media::Role::Mask,
    }
}

fn settings_to_proto(settings: &Settings) -> api::Settings {
    use api::settings::Length as Sent;
    api::Settings {
        length: settings.length.map(|length| match length {
            Length::Auto => Sent::AutoDuration(true),
            Length::Milliseconds(ms) => Sent::Duration(duration(ms)),
        }),
        aspect_ratio: settings.aspect_ratio.clone().unwrap_or_default(),
        resolution: settings.resolution.clone().unwrap_or_default(),
        size: settings.size.clone().unwrap_or_default(),
        audio: settings.audio,
        fps: settings.fps,
        outputs: settings.outputs.map(|count| i32::try_from(count).unwrap_or(i32::MAX)),
    }
}

fn duration(ms: u64) -> Duration {
    std::time::Duration::from_millis(ms).try_into().unwrap_or_default()
}

fn struct_to_proto(map: &Map<String, Value>) -> Struct {
    Struct { fields: map.iter().map(|(key, value)| (key.clone(), value_to_proto(value))).collect() }
}

fn value_to_proto(value: &Value) -> prost_types::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(values) => Kind::ListValue(ListValue { values: values.iter().map(value_to_proto).collect() }),
        Value::Object(map) => Kind::StructValue(struct_to_proto(map)),
    };
    prost_types::Value { kind: Some(kind) }
}

/// Parameters as JSON. `None` for a number that JSON has not.
pub(crate) fn parse_struct(message: Struct) -> Option<Map<String, Value>> {
    let fields: BTreeMap<_, _> = message.fields;
    fields.into_iter().map(|(key, value)| Some((key, parse_value(value)?))).collect()
}

fn parse_value(value: prost_types::Value) -> Option<Value> {
    Some(match value.kind.unwrap_or(Kind::NullValue(0)) {
        Kind::NullValue(_) => Value::Null,
        Kind::BoolValue(value) => Value::Bool(value),
        // Every number of a Struct is a double: an integral one is what a client wrote as an integer.
        Kind::NumberValue(number) => Value::Number(parse_number(number)?),
        Kind::StringValue(text) => Value::String(text),
        Kind::ListValue(list) => Value::Array(list.values.into_iter().map(parse_value).collect::<Option<_>>()?),
        Kind::StructValue(map) => Value::Object(parse_struct(map)?),
    })
}

fn parse_number(number: f64) -> Option<Number> {
    // Beyond 2^53 a double does not tell neighbouring integers apart.
    const MAX_EXACT: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() <= MAX_EXACT {
        #[expect(clippy::cast_possible_truncation, reason = "it is a whole number within the range")]
        return Some(Number::from(number as i64));
    }
    Number::from_f64(number)
}
