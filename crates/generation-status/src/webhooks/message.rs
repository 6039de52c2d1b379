//! What is sent: the body, and the headers that sign it, by Standard Webhooks.
//!
//! Invariant: the body of a delivery is the same over all its attempts; only the time that is signed with it differs.

use std::error::Error as StdError;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chassis::status::Failure;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use prost_types::FileDescriptorSet;
use proto::webhooks::v1::Event;
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use uuid::Uuid;

use super::Secret;
use crate::error::Error;

/// An event could not be written as JSON.
#[derive(Debug, thiserror::Error)]
#[error("an event cannot be written")]
struct Unwritable(#[source] Box<dyn StdError + Send + Sync>);

/// The system has no randomness to give.
#[derive(Debug, thiserror::Error)]
#[error("no randomness for a secret")]
struct NoRandomness;

/// What bodies are made with; cheap to clone.
#[derive(Clone)]
pub(crate) struct Messages {
    event: MessageDescriptor,
}

impl Messages {
    /// Knows our messages, and those of Google's that the details of an error are.
    pub(crate) fn new() -> Result<Self, Box<dyn StdError + Send + Sync>> {
        let mut pool = DescriptorPool::decode(proto::DESCRIPTOR_SET)?;
        for file in FileDescriptorSet::decode(tonic_types::pb::FILE_DESCRIPTOR_SET)?.file {
            let defined = |name: &str| pool.get_message_by_name(&format!("{}.{name}", file.package())).is_some();
            if !file.message_type.iter().any(|message| defined(message.name())) {
                pool.add_file_descriptor_proto(file)?;
            }
        }
        let event = pool.get_message_by_name("rushes.webhooks.v1.Event").ok_or("there is no message of events")?;
        Ok(Self { event })
    }

    /// The JSON of an event.
    pub(crate) fn body(&self, event: &Event) -> Result<Vec<u8>, Error> {
        self.json(event).map_err(|error| Error::Failed(Failure::internal(Unwritable(error))))
    }

    fn json(&self, event: &Event) -> Result<Vec<u8>, Box<dyn StdError + Send + Sync>> {
        let message = DynamicMessage::decode(self.event.clone(), event.encode_to_vec().as_slice())?;
        let mut bytes = Vec::new();
        message.serialize_with_options(&mut serde_json::Serializer::new(&mut bytes), &SerializeOptions::new())?;
        Ok(bytes)
    }
}

/// A new secret.
pub(super) fn secret() -> Result<Secret, Error> {
    let mut secret = Secret([0; 32]);
    match SystemRandom::new().fill(&mut secret.0) {
        Ok(()) => Ok(secret),
        Err(_) => Err(Error::Failed(Failure::internal(NoRandomness))),
    }
}

/// A secret as its user is told it.
pub(crate) fn token(secret: Secret) -> String {
    format!("whsec_{}", STANDARD.encode(secret.0))
}

/// The value of `webhook-signature`: one signature by each secret.
pub(super) fn signatures(secrets: &[Secret], id: Uuid, time: i64, body: &[u8]) -> String {
    let mut signed = format!("{id}.{time}.").into_bytes();
    signed.extend_from_slice(body);
    let sign = |secret: &Secret| {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret.0), &signed);
        format!("v1,{}", STANDARD.encode(tag))
    };
    secrets.iter().map(sign).collect::<Vec<_>>().join(" ")
}
