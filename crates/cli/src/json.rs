//! Messages as the JSON that protobuf defines for them: lowerCamelCase names, enum values by name, 64-bit numbers as text.

use anyhow::{Context, Result};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde::Serialize;

/// `message`, whose full name is `name`, as a JSON value.
pub(crate) fn of(name: &str, message: &impl Message) -> Result<serde_json::Value> {
    let descriptor = pool()?.get_message_by_name(name).with_context(|| format!("no message is called {name}"))?;
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())?;
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::new(&mut bytes);
    dynamic.serialize_with_options(&mut serializer, &SerializeOptions::new())?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// Prints `message` on several lines.
pub(crate) fn print(name: &str, message: &impl Message) -> Result<()> {
    println!("{:#}", of(name, message)?);
    Ok(())
}

/// Prints `message` on one line, for streams.
pub(crate) fn print_line(name: &str, message: &impl Message) -> Result<()> {
    println!("{}", of(name, message)?);
    Ok(())
}

fn pool() -> Result<DescriptorPool> {
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
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use proto::generations::v1::{Generation, State};

    #[test]
    fn states_are_names_and_large_numbers_are_text() {
        let generation = Generation { state: State::Completed.into(), version: 7, ..Generation::default() };
        let json = super::of("rushes.generations.v1.Generation", &generation).unwrap();
        assert_eq!(json, serde_json::json!({"state": "COMPLETED", "version": "7"}));
    }

    #[test]
    fn the_details_of_an_error_are_readable() {
        use prost::Message;
        let info = tonic_types::pb::ErrorInfo { reason: "SAFETY_INPUT".to_owned(), ..Default::default() };
        let any = prost_types::Any {
            type_url: "type.googleapis.com/google.rpc.ErrorInfo".to_owned(),
            value: info.encode_to_vec(),
        };
        let error = proto::google::rpc::Status { code: 3, message: "no".to_owned(), details: vec![any] };
        let generation = Generation { error: Some(error), ..Generation::default() };
        let json = super::of("rushes.generations.v1.Generation", &generation).unwrap();
        assert_eq!(json["error"]["details"][0]["reason"], "SAFETY_INPUT");
    }
}
