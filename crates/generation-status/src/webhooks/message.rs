//! The message of a webhook: its JSON body, and the signatures of Standard Webhooks.
//!
//! Invariant: the body of a delivery is the same in all its attempts; only the signed time differs.

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

use crate::error::Error;
use crate::model::Secret;

/// An event could not be encoded as JSON.
#[derive(Debug, thiserror::Error)]
#[error("an event cannot be encoded")]
struct Unencodable(#[source] Box<dyn StdError + Send + Sync>);

/// The operating system returned no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("no random bytes for a secret")]
struct NoRandomness;

/// Encodes events as protobuf's JSON; cheap to clone.
#[derive(Clone)]
pub(crate) struct EventEncoder {
    event: MessageDescriptor,
}

impl EventEncoder {
    /// An encoder that knows our messages and those of Google's that an error's details may be.
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
    pub(crate) fn encode(&self, event: &Event) -> Result<Vec<u8>, Error> {
        self.json(event).map_err(|error| Error::Failed(Failure::internal(Unencodable(error))))
    }

    fn json(&self, event: &Event) -> Result<Vec<u8>, Box<dyn StdError + Send + Sync>> {
        let message = DynamicMessage::decode(self.event.clone(), event.encode_to_vec().as_slice())?;
        let mut bytes = Vec::new();
        message.serialize_with_options(&mut serde_json::Serializer::new(&mut bytes), &SerializeOptions::new())?;
        Ok(bytes)
    }
}

/// A new random secret.
pub(super) fn generate_secret() -> Result<Secret, Error> {
    let mut secret = Secret([0; 32]);
    match SystemRandom::new().fill(&mut secret.0) {
        Ok(()) => Ok(secret),
        Err(_) => Err(Error::Failed(Failure::internal(NoRandomness))),
    }
}

/// A secret as its user is shown it.
pub(crate) fn encode_secret(secret: Secret) -> String {
    format!("whsec_{}", STANDARD.encode(secret.0))
}

/// The value of `webhook-signature`: one signature by each secret.
pub(super) fn sign(secrets: &[Secret], id: Uuid, time: i64, body: &[u8]) -> String {
    let mut signed = format!("{id}.{time}.").into_bytes();
    signed.extend_from_slice(body);
    let signature = |secret: &Secret| {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret.0), &signed);
        format!("v1,{}", STANDARD.encode(tag))
    };
    secrets.iter().map(signature).collect::<Vec<_>>().join(" ")
}
