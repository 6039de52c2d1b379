//! AssetService on the wire: parse, call the rules, convert.

use chassis::blobs::Name;
use chassis::caller::Caller;
use domain::id::AccountId;
use domain::name;
use prost_types::Timestamp;
use proto::assets::v1::asset_service_server::AssetService;
use proto::assets::v1::thumbnail::State;
use proto::assets::v1::upload_asset_request::Part;
use proto::assets::v1::{
    Asset, GetAssetRequest, RegisterOutputRequest, RegisterOutputResponse, RenderThumbnailRequest, Thumbnail,
    ThumbnailSpec, UploadAssetRequest, UploadMetadata,
};
use tonic::{Request, Response, Status, Streaming};

use crate::assets::{self, Assets};
use crate::error::Error;
use crate::pictures::Spec;
use crate::thumbnails::{Key, Standing};

/// The longest message that is read: a chunk of 1 MiB and what surrounds it.
pub(crate) const MAX_MESSAGE: usize = (1 << 20) + (64 << 10);

/// The service's methods.
pub(crate) struct Grpc {
    assets: Assets,
    public_url: String,
}

impl Grpc {
    /// Answers with `assets`; URLs begin with `public_url`, which has no slash at its end.
    #[must_use]
    pub(crate) fn new(assets: Assets, public_url: String) -> Self {
        Self { assets, public_url }
    }

    fn asset(&self, (asset, standing): (assets::Asset, Option<Standing>)) -> Asset {
        Asset {
            name: name::asset_name(&asset.sha256),
            mime_type: asset.mime_type,
            size_bytes: asset.bytes.cast_signed(),
            width: asset.width.cast_signed(),
            height: asset.height.cast_signed(),
            url: self.url(&asset.blob),
            thumbnail: standing.map(|standing| self.thumbnail(standing, Spec::default())),
            create_time: Some(Timestamp {
                seconds: asset.create_time.unix_timestamp(),
                nanos: asset.create_time.nanosecond().cast_signed(),
            }),
        }
    }

    fn thumbnail(&self, standing: Standing, spec: Spec) -> Thumbnail {
        let spec = ThumbnailSpec {
            width: spec.width.cast_signed(),
            height: spec.height.cast_signed(),
            quality: spec.quality.into(),
        };
        let mut thumbnail = Thumbnail { spec: Some(spec), ..Thumbnail::default() };
        match standing {
            Standing::Processing => thumbnail.set_state(State::Processing),
            Standing::Ready(blob) => {
                thumbnail.set_state(State::Ready);
                thumbnail.asset = name::asset_name(&blob.sha256());
                thumbnail.url = self.url(&blob);
            }
            Standing::Failed(reason) => {
                thumbnail.set_state(State::Failed);
                thumbnail.failure_reason = reason;
            }
        }
        thumbnail
    }

    fn url(&self, blob: &Name) -> String {
        format!("{}/assets/{blob}", self.public_url)
    }
}

#[tonic::async_trait]
impl AssetService for Grpc {
    async fn upload_asset(&self, request: Request<Streaming<UploadAssetRequest>>) -> Result<Response<Asset>, Status> {
        let account = account(&request)?;
        let mut parts = request.into_inner();
        let UploadMetadata { file_name, size_bytes } = metadata(parts.message().await?)?;
        let mut upload = self.assets.begin(&file_name, size_bytes)?;
        while let Some(message) = parts.message().await? {
            match message.part {
                Some(Part::Chunk(chunk)) => upload.push(&chunk)?,
                _ => return Err(Error::schema("part", "every message after the first carries a chunk").into()),
            }
        }
        let stored = self.assets.store(account, upload).await?;
        Ok(Response::new(self.asset(stored)))
    }

    async fn get_asset(&self, request: Request<GetAssetRequest>) -> Result<Response<Asset>, Status> {
        let account = account(&request)?;
        let asset = asset("name", &request.get_ref().name)?;
        let found = self.assets.get(account, asset).await?;
        Ok(Response::new(self.asset(found)))
    }

    async fn render_thumbnail(&self, request: Request<RenderThumbnailRequest>) -> Result<Response<Thumbnail>, Status> {
        let account = account(&request)?;
        let request = request.into_inner();
        let spec = spec(request.spec.unwrap_or_default())?;
        let key = Key { account, asset: asset("asset", &request.asset)?, spec };
        let thumbnails = &self.assets.thumbnails;
        let standing = if request.later { thumbnails.later(&key).await? } else { thumbnails.now(&key).await? };
        Ok(Response::new(self.thumbnail(standing, spec)))
    }

    async fn register_output(
        &self,
        request: Request<RegisterOutputRequest>,
    ) -> Result<Response<RegisterOutputResponse>, Status> {
        let account = account(&request)?;
        let request = request.into_inner();
        let blob = Name::new(asset("asset", &request.asset)?, extension(&request.extension)?);
        let (video, standing) = self.assets.register(account, blob).await?;
        let poster_missing_reason = match &standing {
            Some(Standing::Failed(reason)) => reason.clone(),
            _ => String::new(),
        };
        let duration_ms = i64::try_from(video.duration.as_millis()).unwrap_or_default();
        let asset = Some(self.asset((video, standing)));
        Ok(Response::new(RegisterOutputResponse { asset, duration_ms, poster_missing_reason }))
    }
}

fn account<T>(request: &Request<T>) -> Result<AccountId, Status> {
    Ok(AccountId(Caller::of(request)?.account))
}

fn metadata(first: Option<UploadAssetRequest>) -> Result<UploadMetadata, Error> {
    match first.and_then(|message| message.part) {
        Some(Part::Metadata(metadata)) => Ok(metadata),
        _ => Err(Error::schema("part", "the first message carries metadata")),
    }
}

fn asset(field: &'static str, text: &str) -> Result<[u8; 32], Error> {
    name::asset(text).map_err(|malformed| Error::schema(field, malformed.to_string()))
}

fn extension(text: &str) -> Result<&str, Error> {
    let plain = (1..=8).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if plain { Ok(text) } else { Err(Error::schema("extension", "one to eight letters and digits, such as mp4")) }
}

/// What is left at 0 has its default.
fn spec(spec: ThumbnailSpec) -> Result<Spec, Error> {
    let default = Spec::default();
    let side = |field, value: i32, default| match u32::try_from(value) {
        Ok(0) => Ok(default),
        Ok(side) if Spec::SIDES.contains(&side) => Ok(side),
        _ => Err(Error::schema(field, "from 16 to 1,024 pixels, or 0 for 256")),
    };
    let quality = match u8::try_from(spec.quality) {
        Ok(0) => default.quality,
        Ok(quality) if Spec::QUALITIES.contains(&quality) => quality,
        _ => return Err(Error::schema("spec.quality", "from 1 to 100, or 0 for 80")),
    };
    Ok(Spec {
        width: side("spec.width", spec.width, default.width)?,
        height: side("spec.height", spec.height, default.height)?,
        quality,
    })
}
