//! Requests taken apart, each field checked.

use bytes::Bytes;
use chassis::caller::Caller;
use chassis::status::Failure;
use domain::id::AccountId;
use proto::assets::v1::upload_asset_request::Part;
use proto::assets::v1::{ThumbnailSpec, UploadAssetRequest, UploadMetadata};
use tonic::Request;

use crate::error::Error;
use crate::model::Spec;

/// The account that calls.
pub(super) fn parse_account<T>(request: &Request<T>) -> Result<AccountId, Failure> {
    Ok(AccountId(Caller::of(request)?.account))
}

/// The first message of an upload.
pub(super) fn parse_metadata(first: Option<UploadAssetRequest>) -> Result<UploadMetadata, Error> {
    match first.and_then(|message| message.part) {
        Some(Part::Metadata(metadata)) => Ok(metadata),
        _ => Err(Error::schema("part", "must be metadata in the first message")),
    }
}

/// A later message of an upload.
pub(super) fn parse_chunk(message: UploadAssetRequest) -> Result<Bytes, Error> {
    match message.part {
        Some(Part::Chunk(chunk)) => Ok(chunk),
        _ => Err(Error::schema("part", "must be a chunk in every message after the first")),
    }
}

/// `assets/{sha256}` in `field`.
pub(super) fn parse_asset_name(field: &'static str, text: &str) -> Result<[u8; 32], Error> {
    let should = "must have the form `assets/{sha256}`, the SHA-256 in 64 lower-case hexadecimal digits";
    domain::name::asset(text).map_err(|_| Error::schema(field, should))
}

/// The ending of a stored object's name, without its dot.
pub(super) fn parse_extension(text: &str) -> Result<&str, Error> {
    let plain = (1..=8).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let should = "must be one to eight lower-case letters and digits, such as mp4";
    if plain { Ok(text) } else { Err(Error::schema("extension", should)) }
}

/// A thumbnail's looks; a number that is left at 0 has its default.
pub(super) fn parse_spec(spec: ThumbnailSpec) -> Result<Spec, Error> {
    let default = Spec::default();
    let side = |field, value: i32, default| match u32::try_from(value) {
        Ok(0) => Ok(default),
        Ok(side) if Spec::SIDES.contains(&side) => Ok(side),
        _ => Err(Error::schema(field, "must be 16 to 1,024 pixels, or 0 for 256")),
    };
    let quality = match u8::try_from(spec.quality) {
        Ok(0) => default.quality,
        Ok(quality) if Spec::QUALITIES.contains(&quality) => quality,
        _ => return Err(Error::schema("spec.quality", "must be 1 to 100, or 0 for 80")),
    };
    Ok(Spec {
        width: side("spec.width", spec.width, default.width)?,
        height: side("spec.height", spec.height, default.height)?,
        quality,
    })
}
