//! A model's own settings as flags: `--cfg-scale 0.5` becomes the parameter `cfg_scale`, in the type that the model's schema has.

use anyhow::Result;
use prost_reflect::prost::Message as _;
use proto::models::v1::Model;
use serde_json::{Map, Value};

use crate::failure::{Exit, Failure};
use crate::show::flag;

/// The parameters that `flags` give, in the types of the model's schema.
pub(super) fn parse(flags: &[String], model: &Model) -> Result<prost_types::Struct> {
    let schema: Value = serde_json::from_str(&model.parameters_schema).unwrap_or_default();
    let empty = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
    let mut given = Map::new();
    let mut flags = flags.iter();
    while let Some(flag) = flags.next() {
        let Some(flag) = flag.strip_prefix("--") else {
            return Err(usage(format!("{flag} is no flag"), model, properties));
        };
        let (name, inline) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        let key = name.replace('-', "_");
        let found = properties.get_key_value(&key).or_else(|| properties.get_key_value(name));
        let Some((key, property)) = found else {
            return Err(usage(format!("{} has no setting --{name}", model.name), model, properties));
        };
        let boolean = is_of(property, "boolean");
        let text = match inline {
            Some(text) => text,
            None if boolean => "true".to_owned(),
            None => flags.next().cloned().ok_or_else(|| usage(format!("--{name} needs a value"), model, properties))?,
        };
        given.insert(key.clone(), parse_value(&text, property));
    }
    let encoded = Value::Object(given).to_string();
    let pool = prost_reflect::DescriptorPool::global();
    let descriptor = pool.get_message_by_name("google.protobuf.Struct");
    let descriptor = descriptor.ok_or_else(|| Failure::new("this client does not know google.protobuf.Struct"))?;
    let mut reader = serde_json::Deserializer::from_str(&encoded);
    let message = prost_reflect::DynamicMessage::deserialize(descriptor, &mut reader)?;
    Ok(prost_types::Struct::decode(message.encode_to_vec().as_slice())?)
}

/// The value that a text stands for: as JSON where the schema wants something else than text and it is JSON, else the text. What is
/// wrong with it, the server says.
fn parse_value(text: &str, property: &Value) -> Value {
    let plain = || Value::String(text.to_owned());
    if is_of(property, "string") { plain() } else { serde_json::from_str(text).unwrap_or_else(|_| plain()) }
}

fn is_of(property: &Value, wanted: &str) -> bool {
    match property.get("type") {
        Some(Value::String(of)) => of == wanted,
        Some(Value::Array(types)) => types.iter().any(|of| of == wanted) && !types.iter().any(|of| of == "object"),
        // An enumeration without a type is of what its first value is.
        _ => wanted == "string" && property.pointer("/enum/0").is_some_and(Value::is_string),
    }
}

fn usage(what: String, model: &Model, properties: &Map<String, Value>) -> anyhow::Error {
    let flags: Vec<_> = properties.keys().map(|name| flag(name)).collect();
    let own = if flags.is_empty() {
        "it has none of its own".to_owned()
    } else {
        format!("its own are {}", flags.join(", "))
    };
    Failure::new(what).todo(format!("{own}; rushes models show {} explains them", model.name)).exit(Exit::Usage).into()
}

#[cfg(test)]
mod tests {
    use prost_types::value::Kind;

    use super::*;

    #[test]
    fn flags_have_the_types_of_the_schema() {
        let schema = r#"{"properties": {"cfg_scale": {"type": "number"}, "loop": {"type": "boolean"},
            "style": {"type": ["string", "null"]}, "shot_type": {"enum": ["wide", "close"]}, "ids": {"type": "array"}}}"#;
        let model = Model { name: "models/m".into(), parameters_schema: schema.into(), ..Model::default() };
        let flags = ["--cfg-scale", "0.5", "--loop", "--style=7", "--shot-type", "wide", "--ids", r#"["a"]"#];
        let parsed = parse(&flags.map(str::to_owned), &model).unwrap();
        let kind = |name: &str| parsed.fields[name].kind.clone().unwrap();
        assert_eq!(kind("cfg_scale"), Kind::NumberValue(0.5));
        assert_eq!(kind("loop"), Kind::BoolValue(true));
        assert_eq!(kind("style"), Kind::StringValue("7".into()));
        assert_eq!(kind("shot_type"), Kind::StringValue("wide".into()));
        assert!(matches!(kind("ids"), Kind::ListValue(list) if list.values.len() == 1));
        for wrong in [&["--unknown", "1"][..], &["bare"], &["--cfg-scale"]] {
            let wrong: Vec<_> = wrong.iter().map(|text| (*text).to_owned()).collect();
            let error = parse(&wrong, &model).unwrap_err().to_string();
            assert!(error.contains(wrong[0].trim_start_matches("--")), "{error}");
        }
    }
}
