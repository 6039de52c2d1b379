//! Requests taken apart. All of a request's fields are read before it is refused, so that a client sees all that is wrong at once.

use bytes::Bytes;
use chassis::blobs::Name;
use chassis::fields::{Fields, Invalid};
use chassis::request::caller::Caller;
use chassis::status::Failure;
use domain::id::AccountId;
use domain::page::Page;
use prost_types::Timestamp;
use proto::assets::v1::list_assets_request::Kind;
use proto::assets::v1::upload_asset_request::Part;
use proto::assets::v1::{
    DeleteAssetRequest, GetAssetRequest, ListAssetsRequest, RegisterOutputRequest, RenderThumbnailRequest,
    ThumbnailSpec, UploadAssetRequest, UploadMetadata,
};
use time::OffsetDateTime;
use tonic::Request;

use crate::model::{Filter, Spec, ThumbnailKey};
use crate::pages::Pages;

/// The longest name of a file, in characters.
const MAX_FILE_NAME: usize = 255;

/// The account that calls.
pub(super) fn parse_account<T>(request: &Request<T>) -> Result<AccountId, Failure> {
    Ok(AccountId(Caller::of(request)?.account))
}

/// The first message of an upload: the size that it states, 0 when it states none.
pub(super) fn parse_metadata(first: Option<UploadAssetRequest>) -> Result<u64, Invalid> {
    let mut fields = Fields::default();
    let Some(Part::Metadata(UploadMetadata { file_name, size_bytes })) = first.and_then(|message| message.part) else {
        fields.wrong("part", "must be metadata in the first message");
        return fields.done(None);
    };
    if file_name.chars().count() > MAX_FILE_NAME {
        fields.wrong("metadata.file_name", format_args!("must have at most {MAX_FILE_NAME} characters"));
    }
    let size = fields.take("metadata.size_bytes", u64::try_from(size_bytes).map_err(|_| "must not be below 0"));
    fields.done(size)
}

/// A later message of an upload.
pub(super) fn parse_chunk(message: UploadAssetRequest) -> Result<Bytes, Invalid> {
    let mut fields = Fields::default();
    let chunk = match message.part {
        Some(Part::Chunk(chunk)) => Ok(chunk),
        _ => Err("must be a chunk in every message after the first"),
    };
    let chunk = fields.take("part", chunk);
    fields.done(chunk)
}

pub(super) fn parse_get(request: &GetAssetRequest) -> Result<[u8; 32], Invalid> {
    let mut fields = Fields::default();
    let sha256 = fields.take("name", domain::name::asset(&request.name));
    fields.done(sha256)
}

/// The asset that is to be deleted.
pub(super) fn parse_delete(request: &DeleteAssetRequest) -> Result<[u8; 32], Invalid> {
    let mut fields = Fields::default();
    let sha256 = fields.take("name", domain::name::asset(&request.name));
    fields.done(sha256)
}

/// What is to be listed, and which page of it.
pub(super) fn parse_list(
    pages: &Pages,
    account: AccountId,
    request: &ListAssetsRequest,
) -> Result<(Filter, Page), Invalid> {
    let mut fields = Fields::default();
    let kind = match Kind::try_from(request.kind) {
        Ok(Kind::Unspecified) => Some(None),
        Ok(kind) => Some(Some(kind as i16)),
        Err(_) => fields.take("kind", Err("must be PICTURE, VIDEO or SOUND, or not set")),
    };
    let from = parse_time(&mut fields, "create_time_from", request.create_time_from.as_ref());
    let until = parse_time(&mut fields, "create_time_until", request.create_time_until.as_ref());
    let filter = kind.zip(from.zip(until)).map(|(kind, (from, until))| Filter { kind, from, until });
    // Without a listing there is none that a token could belong to.
    let token = if filter.is_some() { request.page_token.as_str() } else { "" };
    let listing = filter.map(|filter| filter.listing()).unwrap_or_default();
    let page = pages.parse(&mut fields, account, &listing, request.page_size, token);
    fields.done(filter.zip(page))
}

fn parse_time(fields: &mut Fields, field: &str, time: Option<&Timestamp>) -> Option<Option<OffsetDateTime>> {
    let Some(time) = time else { return Some(None) };
    let nanos = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
    let read = OffsetDateTime::from_unix_timestamp_nanos(nanos).ok().filter(|time| (2000..9999).contains(&time.year()));
    fields.take(field, read.map(Some).ok_or("must be a time between the years 2000 and 9999"))
}

/// The thumbnail that is asked for, in the next size that there is.
pub(super) fn parse_render(account: AccountId, request: &RenderThumbnailRequest) -> Result<ThumbnailKey, Invalid> {
    let mut fields = Fields::default();
    let asset = fields.take("asset", domain::name::asset(&request.asset));
    let ThumbnailSpec { width, height, quality } = request.spec.unwrap_or_default();
    let default = Spec::default();
    let width = fields.take("spec.width", parse_side(width, default.width));
    let height = fields.take("spec.height", parse_side(height, default.height));
    let quality = fields.take("spec.quality", parse_quality(quality, default.quality));
    let spec = width.zip(height).zip(quality).map(|((width, height), quality)| Spec { width, height, quality });
    fields.done(asset.zip(spec).map(|(asset, spec)| ThumbnailKey { account, asset, spec }))
}

/// The name in storage of the video that is to be registered.
pub(super) fn parse_register(request: &RegisterOutputRequest) -> Result<Name, Invalid> {
    let mut fields = Fields::default();
    let sha256 = fields.take("asset", domain::name::asset(&request.asset));
    let extension = fields.take("extension", parse_extension(&request.extension));
    fields.done(sha256.zip(extension).map(|(sha256, extension)| Name::new(sha256, extension)))
}

/// The ending of a stored object's name, without its dot.
fn parse_extension(text: &str) -> Result<&str, &'static str> {
    let plain = (1..=8).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if plain { Ok(text) } else { Err("must be one to eight lower-case letters and digits, such as mp4") }
}

const SIDE: &str = "must be 1 to 1,024 pixels, or 0 for 256";

fn parse_side(value: i32, default: u32) -> Result<u32, &'static str> {
    match u32::try_from(value) {
        Ok(0) => Ok(default),
        Ok(side) => Spec::side(side).ok_or(SIDE),
        Err(_) => Err(SIDE),
    }
}

fn parse_quality(value: i32, default: u8) -> Result<u8, &'static str> {
    match u8::try_from(value) {
        Ok(0) => Ok(default),
        Ok(quality @ 1..=100) => Ok(Spec::quality(quality)),
        _ => Err("must be 1 to 100, or 0 for 80"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wrong_field_is_named() {
        let account = AccountId::default();
        let spec = Some(ThumbnailSpec { width: -1, height: 1_025, quality: 101 });
        let request = RenderThumbnailRequest { asset: "assets/zz".into(), spec, later: false };
        let invalid = parse_render(account, &request).unwrap_err();
        let named: Vec<_> = invalid.violations().map(|violation| violation.field.as_str()).collect();
        assert_eq!(named, ["asset", "spec.width", "spec.height", "spec.quality"]);
    }
}
