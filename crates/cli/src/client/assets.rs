//! `rushes upload` and `rushes thumbnail`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use bytes::Bytes;
use proto::assets::v1::asset_service_client::AssetServiceClient;
use proto::assets::v1::thumbnail::State;
use proto::assets::v1::upload_asset_request::Part;
use proto::assets::v1::{Asset, RenderThumbnailRequest, Thumbnail, ThumbnailSpec, UploadAssetRequest, UploadMetadata};

use crate::client::session::Session;
use crate::failure::{Exit, Failure};
use crate::show;

/// How much of a file goes into one message.
const CHUNK: usize = 256 * 1024;

/// Uploads a picture.
#[derive(Debug, clap::Args)]
pub struct Upload {
    /// A JPEG, PNG or WebP of at most 20 MiB.
    file: PathBuf,
}

/// Renders a thumbnail.
#[derive(Debug, clap::Args)]
pub struct Render {
    /// assets/… of a picture or a video.
    asset: String,
    /// 16 to 1,024 pixels.
    #[arg(long, default_value_t = 256)]
    width: i32,
    /// 16 to 1,024 pixels.
    #[arg(long, default_value_t = 256)]
    height: i32,
    /// WebP quality, 1 to 100.
    #[arg(long, default_value_t = 80)]
    quality: i32,
    /// Do not wait for it.
    #[arg(long)]
    later: bool,
}

impl Upload {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit> {
        session.show("rushes.assets.v1.Asset", &upload(session, &self.file).await?, text)
    }
}

/// Uploads a file.
pub(crate) async fn upload(session: &Session, file: &Path) -> Result<Asset> {
    let bytes = tokio::fs::read(file)
        .await
        .map_err(|error| Failure::new(format!("{} cannot be read: {error}", file.display())).exit(Exit::Usage))?;
    let file_name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let size_bytes = i64::try_from(bytes.len())?;
    let metadata = Part::Metadata(UploadMetadata { file_name, size_bytes });
    let bytes = Bytes::from(bytes);
    let chunks = (0..bytes.len()).step_by(CHUNK).map(move |at| {
        let end = bytes.len().min(at + CHUNK);
        Part::Chunk(bytes.slice(at..end))
    });
    let parts = std::iter::once(metadata).chain(chunks).map(|part| UploadAssetRequest { part: Some(part) });
    let mut client = AssetServiceClient::new(session.gateway()?);
    let answer = client.upload_asset(session.request(futures::stream::iter(parts))?).await;
    Ok(answer.map_err(|status| session.failed(&status))?.into_inner())
}

impl Render {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit> {
        let spec = Some(ThumbnailSpec { width: self.width, height: self.height, quality: self.quality });
        let request = RenderThumbnailRequest { asset: self.asset, spec, later: self.later };
        let mut client = AssetServiceClient::new(session.gateway()?);
        let answer = client.render_thumbnail(session.request(request)?).await;
        let answer = answer.map_err(|status| session.failed(&status))?;
        session.show("rushes.assets.v1.Thumbnail", answer.get_ref(), |thumbnail| format!("{}\n", line(thumbnail)))
    }
}

fn text(asset: &Asset) -> String {
    let (width, height, size) = (asset.width, asset.height, show::bytes(asset.size_bytes));
    let mut out = format!("{}\n  {}, {width}x{height}, {size}\n  {}\n", asset.name, asset.mime_type, asset.url);
    if let Some(thumbnail) = &asset.thumbnail {
        let _ = writeln!(out, "  thumbnail {}", line(thumbnail));
    }
    out
}

fn line(thumbnail: &Thumbnail) -> String {
    match State::try_from(thumbnail.state) {
        Ok(State::Ready) => thumbnail.url.clone(),
        Ok(State::Failed) => format!("cannot be made: {}", thumbnail.failure_reason),
        Ok(State::Processing) => "is being made; ask again shortly".to_owned(),
        Ok(State::Unspecified) | Err(_) => "is in a state that this client does not know".to_owned(),
    }
}
