//! A thumbnail as a job: its kind, its key, and its payload.

use domain::id::AccountId;
use jobs::NewJob;
use prost::Message as _;
use uuid::Uuid;

use crate::model::{Spec, ThumbnailKey};

/// The kind of thumbnails' jobs.
pub const KIND: &str = "thumbnail";

/// A job's subject, as its payload has it; the account is the job's own.
#[derive(Clone, PartialEq, prost::Message)]
struct Payload {
    #[prost(bytes = "vec", tag = "1")]
    asset: Vec<u8>,
    #[prost(uint32, tag = "2")]
    width: u32,
    #[prost(uint32, tag = "3")]
    height: u32,
    #[prost(uint32, tag = "4")]
    quality: u32,
}

/// The job of a thumbnail. Its key is the content's hash and the spec, so that the same thumbnail is rendered once.
pub(super) fn job_of(key: &ThumbnailKey) -> NewJob {
    let Spec { width, height, quality } = key.spec;
    let payload = Payload { asset: key.asset.to_vec(), width, height, quality: quality.into() };
    let idem_key = format!("{}-{width}x{height}-q{quality}", hex::encode(key.asset));
    NewJob { payload: payload.encode_to_vec(), ..NewJob::new(key.account.0, KIND, idem_key) }
}

/// The thumbnail of a job; nothing when the payload is not one of ours.
pub(super) fn parse_payload(account: Uuid, payload: &[u8]) -> Option<ThumbnailKey> {
    let payload = Payload::decode(payload).ok()?;
    let spec = Spec { width: payload.width, height: payload.height, quality: payload.quality.try_into().ok()? };
    Some(ThumbnailKey { account: AccountId(account), asset: payload.asset.try_into().ok()?, spec })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_gives_back_its_thumbnail() {
        let spec = Spec { width: 320, height: 180, quality: 50 };
        let key = ThumbnailKey { account: AccountId(Uuid::from_u128(7)), asset: [9; 32], spec };
        let job = job_of(&key);
        assert_eq!(job.idempotency_key, format!("{}-320x180-q50", "09".repeat(32)));
        assert_eq!(parse_payload(job.account, &job.payload), Some(key));
        assert_eq!(parse_payload(job.account, b"another"), None);
    }
}
