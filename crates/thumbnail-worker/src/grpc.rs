//! AssetService on the wire: parse, call the rules, present.

mod presenter;
mod request;

use std::time::Duration;

use chassis::links::AssetUrls;
use chassis::server::Timeouts;
use chassis::status::Failure;
use proto::assets::v1::asset_service_server::{AssetService, AssetServiceServer};
use proto::assets::v1::{
    Asset, DeleteAssetRequest, GetAssetRequest, GetStorageUseRequest, ListAssetsRequest, ListAssetsResponse,
    RegisterOutputRequest, RegisterOutputResponse, RenderThumbnailRequest, StorageUse, Thumbnail, UploadAssetRequest,
};
use tokio::time::timeout;
use tonic::codec::CompressionEncoding::Gzip;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use crate::assets::Assets;
use crate::error::Error;
use crate::model::Usage;
use crate::pages::Pages;
use presenter::Presenter;
use request::{
    parse_account, parse_chunk, parse_delete, parse_get, parse_list, parse_metadata, parse_register, parse_render,
};

/// The longest message that is read: a chunk of 1 MiB and what surrounds it.
const MAX_MESSAGE: usize = (1 << 20) + (64 << 10);

/// A video comes as slowly as its client sends.
const UPLOAD: Timeouts = Timeouts { default: Some(Duration::from_secs(600)), longest: Some(Duration::from_secs(600)) };
/// A registered video may need ffmpeg.
const SLOW: Timeouts = Timeouts { default: Some(Duration::from_secs(60)), longest: Some(Duration::from_secs(60)) };
/// A thumbnail of a video may need ffmpeg.
const RENDER: Timeouts = Timeouts { default: Some(Duration::from_secs(10)), longest: Some(Duration::from_secs(10)) };

/// The methods whose timeouts are not the server's.
pub(crate) const TIMEOUTS: [(&str, Timeouts); 3] = [
    ("/rushes.assets.v1.AssetService/UploadAsset", UPLOAD),
    ("/rushes.assets.v1.AssetService/RegisterOutput", SLOW),
    ("/rushes.assets.v1.AssetService/RenderThumbnail", RENDER),
];

/// AssetService, which answers with `assets`; their addresses are `urls`', the tokens of their pages `pages`', and an upload may send
/// nothing for `idle_timeout`.
pub(crate) fn routes(assets: Assets, urls: AssetUrls, pages: Pages, idle_timeout: Duration) -> Routes {
    let presenter = Presenter::new(urls, pages.clone());
    let api = AssetServiceServer::new(AssetsApi { assets, presenter, pages, idle_timeout })
        .accept_compressed(Gzip)
        .send_compressed(Gzip)
        .max_decoding_message_size(MAX_MESSAGE);
    Routes::new(api)
}

/// The next part of an upload, which comes within `idle_timeout`: what it has taken is given back then.
async fn next(
    parts: &mut Streaming<UploadAssetRequest>,
    idle_timeout: Duration,
) -> Result<Option<UploadAssetRequest>, Status> {
    timeout(idle_timeout, parts.message()).await.map_err(|_| Failure::deadline())?
}

struct AssetsApi {
    assets: Assets,
    presenter: Presenter,
    pages: Pages,
    idle_timeout: Duration,
}

#[tonic::async_trait]
impl AssetService for AssetsApi {
    async fn upload_asset(&self, request: Request<Streaming<UploadAssetRequest>>) -> Result<Response<Asset>, Status> {
        let account = parse_account(&request)?;
        let mut parts = request.into_inner();
        let stated = parse_metadata(next(&mut parts, self.idle_timeout).await?).map_err(Error::from)?;
        let mut upload = self.assets.begin_upload(account, stated).await?;
        while let Some(message) = next(&mut parts, self.idle_timeout).await? {
            upload.push(&parse_chunk(message).map_err(Error::from)?).await?;
        }
        let stored = self.assets.store(account, upload).await?;
        Ok(Response::new(self.presenter.asset_to_proto(account, stored)))
    }

    async fn get_asset(&self, request: Request<GetAssetRequest>) -> Result<Response<Asset>, Status> {
        let account = parse_account(&request)?;
        let sha256 = parse_get(request.get_ref()).map_err(Error::from)?;
        let stored = self.assets.get(account, sha256).await?;
        Ok(Response::new(self.presenter.asset_to_proto(account, stored)))
    }

    async fn list_assets(&self, request: Request<ListAssetsRequest>) -> Result<Response<ListAssetsResponse>, Status> {
        let account = parse_account(&request)?;
        let (filter, page) = parse_list(&self.pages, account, request.get_ref()).map_err(Error::from)?;
        let listed = self.assets.list(account, &filter, page).await?;
        Ok(Response::new(self.presenter.listed_to_proto(account, &filter, listed)))
    }

    async fn delete_asset(&self, request: Request<DeleteAssetRequest>) -> Result<Response<()>, Status> {
        let account = parse_account(&request)?;
        let sha256 = parse_delete(request.get_ref()).map_err(Error::from)?;
        match self.assets.delete(account, sha256).await {
            Err(Error::NotFound(_)) if request.get_ref().allow_missing => {}
            deleted => deleted?,
        }
        Ok(Response::new(()))
    }

    async fn get_storage_use(&self, request: Request<GetStorageUseRequest>) -> Result<Response<StorageUse>, Status> {
        let account = parse_account(&request)?;
        let Usage { used, quota } = self.assets.usage(account).await?;
        Ok(Response::new(StorageUse {
            bytes: used.bytes,
            max_bytes: quota.bytes,
            assets: used.objects,
            max_assets: quota.objects,
        }))
    }

    async fn render_thumbnail(&self, request: Request<RenderThumbnailRequest>) -> Result<Response<Thumbnail>, Status> {
        let account = parse_account(&request)?;
        let key = parse_render(account, request.get_ref()).map_err(Error::from)?;
        let thumbnails = &self.assets.thumbnails;
        let later = request.get_ref().later;
        let status = if later { thumbnails.enqueue(&key).await? } else { thumbnails.render(&key).await? };
        Ok(Response::new(self.presenter.thumbnail_to_proto(account, status, key.spec)))
    }

    async fn register_output(
        &self,
        request: Request<RegisterOutputRequest>,
    ) -> Result<Response<RegisterOutputResponse>, Status> {
        let account = parse_account(&request)?;
        let blob = parse_register(request.get_ref()).map_err(Error::from)?;
        let stored = self.assets.register(account, blob).await?;
        Ok(Response::new(self.presenter.output_to_proto(account, stored)))
    }
}
