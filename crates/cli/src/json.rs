//! Messages as the JSON that protobuf defines for them: lowerCamelCase names, enum values by name, 64-bit numbers as text.

use std::sync::OnceLock;

use anyhow::{Context, Result};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde::Serialize;

use crate::out;

/// Prints `message`, whose full name is `name`, on several lines, its fields in the order of the `.proto` file.
pub(crate) fn print(name: &str, message: &impl Message) -> Result<()> {
    let mut bytes = Vec::new();
    dynamic(name, message)?
        .serialize_with_options(&mut serde_json::Serializer::pretty(&mut bytes), &SerializeOptions::new())?;
    bytes.push(b'\n');
    out::print(String::from_utf8(bytes)?)
}

/// Prints `message` on one line, for streams.
pub(crate) fn print_line(name: &str, message: &impl Message) -> Result<()> {
    let mut bytes = Vec::new();
    dynamic(name, message)?
        .serialize_with_options(&mut serde_json::Serializer::new(&mut bytes), &SerializeOptions::new())?;
    bytes.push(b'\n');
    out::print(String::from_utf8(bytes)?)
}

/// `message` on one line.
pub(crate) fn text(name: &str, message: &impl Message) -> Result<String> {
    Ok(serde_json::to_string(&dynamic(name, message)?)?)
}

/// `message` as JSON that can be added to.
pub(crate) fn value(name: &str, message: &impl Message) -> Result<serde_json::Value> {
    Ok(serde_json::to_value(&dynamic(name, message)?)?)
}

fn dynamic(name: &str, message: &impl Message) -> Result<DynamicMessage> {
    let descriptor = pool()?.get_message_by_name(name).with_context(|| format!("no message is called {name}"))?;
    Ok(DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())?)
}

/// The descriptions of all messages, read once.
fn pool() -> Result<DescriptorPool> {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    if let Some(pool) = POOL.get() {
        return Ok(pool.clone());
    }
    let pool = read_pool()?;
    Ok(POOL.get_or_init(|| pool).clone())
}

fn read_pool() -> Result<DescriptorPool> {
    let mut pool = DescriptorPool::decode(proto::DESCRIPTOR_SET)?;
    // An error's details are of Google's types, which our protos do not name.
    if pool.get_message_by_name("google.rpc.ErrorInfo").is_none() {
        let known = prost_types::FileDescriptorSet::decode(tonic_types::pb::FILE_DESCRIPTOR_SET)?;
        for file in known.file {
            let defined = |name: &str| pool.get_message_by_name(&format!("{}.{name}", file.package())).is_some();
            if !file.message_type.iter().any(|message| defined(message.name())) {
                pool.add_file_descriptor_proto(file)?;
            }
        }
    }
    Ok(pool)
}

/// Prints any value as JSON on several lines.
pub(crate) fn print_value(value: &impl Serialize) -> Result<()> {
    out::print(format_args!("{}\n", serde_json::to_string_pretty(value)?))
}

#[cfg(test)]
mod tests {
    use proto::generations::v1::{Generation, State};

    use super::*;

    #[test]
    fn states_are_names_and_large_numbers_are_text() {
        let generation = Generation { state: State::Completed.into(), version: 7, ..Generation::default() };
        let json = serde_json::to_value(dynamic("rushes.generations.v1.Generation", &generation).unwrap()).unwrap();
        assert_eq!(json, serde_json::json!({"state": "COMPLETED", "version": "7"}));
    }

    #[test]
    fn the_details_of_an_error_are_readable() {
        let info = tonic_types::pb::ErrorInfo { reason: "SAFETY_INPUT".to_owned(), ..Default::default() };
        let any = prost_types::Any {
            type_url: "type.googleapis.com/google.rpc.ErrorInfo".to_owned(),
            value: info.encode_to_vec(),
        };
        let error = proto::google::rpc::Status { code: 3, message: "no".to_owned(), details: vec![any] };
        let generation = Generation { error: Some(error), ..Generation::default() };
        let json = serde_json::to_value(dynamic("rushes.generations.v1.Generation", &generation).unwrap()).unwrap();
        assert_eq!(json["error"]["details"][0]["reason"], "SAFETY_INPUT");
    }
}
